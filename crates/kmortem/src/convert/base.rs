//! The base of archives: what every dump of one kernel build has, kept once in a file of its own.
//!
//! That is the kernel's image: text, read-only data (kallsyms, BTF, unwind rules), initialised
//! data. KASLR moves it, so that addresses within it differ from boot to boot in two bytes of
//! each; the rest is the same, and a dump is packed against any boot's.
//!
//! The file is named by the kernel's build id. It is raw content of a zstd dictionary: 4096 bytes
//! that say what it is, then the image's pages, those that the dump lacks left out. At most 32 MiB
//! of it, which is what `zstd -D` takes.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use kmortem_kernel::Kernel;
use kmortem_vmcore::MappedFile;

use super::target::Target;
use crate::error::CliError;

const PAGE: u64 = 4096;
/// `zstd -D` takes no larger ones.
const MOST: u64 = 32 << 20;

/// A base that is there.
pub(super) struct BaseFile {
    pub(super) name: String,
    /// Its folder as seen from the archive's.
    pub(super) dir: Option<String>,
    pub(super) file: MappedFile,
    /// Whether it was made just now.
    pub(super) is_new: bool,
}

/// Finds the base of this kernel in `dir`, or makes it of this dump.
pub(super) fn prepare(dir: &Path, kernel: &Kernel, archive: &Path) -> Result<BaseFile, CliError> {
    let build_id = build_id(kernel).ok_or_else(|| {
        CliError::Base(
            "the dump does not say the kernel's build id, by which bases are named".into(),
        )
    })?;
    let name = format!("{build_id}.kmortem-base");
    let path = dir.join(&name);
    let failed = |error| CliError::Create { path: path.clone(), error };
    let is_new = !path.exists();
    if is_new {
        fs::create_dir_all(dir).map_err(failed)?;
        let (target, mut file) = Target::create(&path, false).map_err(failed)?;
        fill(&mut file, kernel, &build_id).map_err(failed)?;
        target.commit(&file, false).map_err(failed)?;
    }
    let file = MappedFile::open(&path).map_err(failed)?;
    Ok(BaseFile { dir: seen_from(archive, dir), name, file, is_new })
}

/// Out of VMCOREINFO, or the notes of the kernel's image.
fn build_id(kernel: &Kernel) -> Option<String> {
    let noted = kernel.vmcoreinfo().and_then(|info| info.build_id()).map(str::to_owned);
    let is_id =
        |id: &String| (8..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_hexdigit());
    noted.filter(is_id).or_else(|| {
        const NT_GNU_BUILD_ID: u32 = 3;
        let at = |name| symbol(kernel, name);
        let (start, end) = (at("__start_notes")?, at("__stop_notes")?);
        let len = end.checked_sub(start).filter(|len| *len <= 1 << 16)?;
        let (notes, _) = kmortem_vmcore::elf_note::parse(&kernel.read_bytes(start, len).ok()?);
        let note = notes.iter().find(|n| n.name == "GNU" && n.kind == NT_GNU_BUILD_ID)?;
        let id: String = note.desc.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(id).filter(is_id)
    })
}

fn symbol(kernel: &Kernel, name: &str) -> Option<u64> {
    kernel.kallsyms().ok()?.find(name)
}

fn fill(file: &mut File, kernel: &Kernel, build_id: &str) -> std::io::Result<()> {
    let release = kernel.vmcoreinfo().and_then(|info| info.osrelease()).unwrap_or_default();
    let mut head = format!("kmortem base\nbuild_id={build_id}\nrelease={release}\n").into_bytes();
    head.resize(PAGE as usize, 0);
    file.write_all(&head)?;
    let start = symbol(kernel, "_text").or_else(|| symbol(kernel, "_stext"));
    let end = symbol(kernel, "_edata").or_else(|| symbol(kernel, "_end"));
    let (Some(start), Some(end)) = (start, end) else {
        return Err(std::io::Error::other("the dump has no symbols of the kernel's image"));
    };
    let mut page = [0; PAGE as usize];
    let mut written = PAGE;
    for addr in (start & !(PAGE - 1)..end).step_by(PAGE as usize) {
        if written == MOST {
            break;
        }
        if kernel.read(addr, &mut page).is_ok() && page.iter().any(|byte| *byte != 0) {
            file.write_all(&page)?;
            written += PAGE;
        }
    }
    Ok(())
}

/// `dir` as seen from the folder of the file `from`, if it need not be looked for from the root.
fn seen_from(from: &Path, dir: &Path) -> Option<String> {
    let folder = from.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = fs::canonicalize(folder.unwrap_or(Path::new("."))).ok()?;
    relative(&folder, &fs::canonicalize(dir).ok()?)
}

fn relative(from: &Path, to: &Path) -> Option<String> {
    let (from, to): (Vec<Component<'_>>, Vec<_>) =
        (from.components().collect(), to.components().collect());
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from.iter().skip(common).map(|_| Component::ParentDir);
    let path: PathBuf = up.chain(to.iter().skip(common).copied()).collect();
    let text = path.to_str()?.to_owned();
    (!text.is_empty() && !text.contains('\n')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_told_from_where_the_archive_is() {
        let seen = |from: &str, to: &str| relative(Path::new(from), Path::new(to));
        assert_eq!(seen("/a/b", "/a/bases").as_deref(), Some("../bases"));
        assert_eq!(seen("/a", "/a/b/c").as_deref(), Some("b/c"));
        assert_eq!(seen("/a", "/a"), None);
    }
}
