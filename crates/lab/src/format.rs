//! Formats of a dump, and how each is made from the guest or from its ELF dump.
//!
//! QEMU writes ELF and (in the flattened form) kdump files itself, and migration
//! streams; a guest's memory file is its memory. virsh has QEMU write ELF and kdump files,
//! and packs migration streams: bare (`virsh dump`) or behind a header of its own (`virsh save`). Compressed files are made by
//! the programs of that name. A LiME image is put together here from the memory
//! file, as LiME's documentation has it: no guest has LiME. The other formats come from makedumpfile, which does not read QEMU 7.2's ELF header
//! (e_ehsize is 8, and e_phoff, which makedumpfile does not look at, is not 64):
//! it gets a repaired copy.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::cache::publish;
use crate::error::{LabError, Result};
use crate::host;
use crate::matrix::Hypervisor;

/// A container format of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// ELF, as QEMU writes it: all memory.
    Elf,
    /// kdump compressed with zlib, as QEMU writes it: all memory, flattened. (Debian's QEMU
    /// is built without LZO and snappy.)
    QemuZlib,
    /// makedumpfile, filtered, not compressed.
    KdumpRaw,
    /// makedumpfile, filtered, zlib.
    KdumpZlib,
    /// makedumpfile, filtered, LZO.
    KdumpLzo,
    /// makedumpfile, filtered, zstd.
    KdumpZstd,
    /// makedumpfile, only zero pages left out, zstd.
    KdumpFull,
    /// makedumpfile, filtered, zstd, flattened.
    Flattened,
    /// makedumpfile, filtered, zstd, in two files.
    Split,
    /// makedumpfile, filtered, ELF.
    FilteredElf,
    /// The host's own makedumpfile, LZO, with user pages dropped (bit 8): Debian 12's
    /// takes slab pages of kernels newer than itself for such.
    Overfiltered,
    /// makedumpfile of a host of Xen, its guests and zero pages left out, zlib.
    KdumpDom0,
    /// ELF with the kernel's virtual addresses, as QEMU writes it with paging.
    QemuPaging,
    /// QEMU's migration stream: what `virsh dump` writes without --memory-only.
    Migration,
    /// The same, through zstd.
    MigrationZstd,
    /// The file that QEMU kept the guest's memory in.
    Raw,
    /// LiME's format, made from the memory file.
    Lime,
    /// ELF, through gzip.
    ElfGzip,
    /// ELF, through xz, in blocks of 1 MiB.
    ElfXz,
    /// ELF, through lz4.
    ElfLz4,
    /// `virsh dump --memory-only --format kdump-zlib`.
    VirshZlib,
    /// `virsh dump`: a migration stream.
    VirshDump,
    /// The same with dump_image_format = "gzip".
    VirshDumpGzip,
    /// With "bzip2".
    VirshDumpBzip2,
    /// With "xz".
    VirshDumpXz,
    /// With "lzop".
    VirshDumpLzop,
    /// `virsh save`: a migration stream behind libvirt's header.
    VirshSave,
    /// The same with save_image_format = "gzip".
    VirshSaveGzip,
    /// With "lzop".
    VirshSaveLzop,
    /// KdumpZlib cut off in the middle: a disk that ran full, a copy that broke off.
    Truncated,
}

const NAMES: &[(Format, &str)] = &[
    (Format::Elf, "elf"),
    (Format::QemuZlib, "qemu-zlib"),
    (Format::KdumpRaw, "kdump-raw"),
    (Format::KdumpZlib, "kdump-zlib"),
    (Format::KdumpLzo, "kdump-lzo"),
    (Format::KdumpZstd, "kdump-zstd"),
    (Format::KdumpFull, "kdump-full"),
    (Format::Flattened, "flattened"),
    (Format::Split, "split"),
    (Format::FilteredElf, "filtered-elf"),
    (Format::Overfiltered, "overfiltered"),
    (Format::KdumpDom0, "kdump-dom0"),
    (Format::QemuPaging, "qemu-paging"),
    (Format::Migration, "migration"),
    (Format::MigrationZstd, "migration-zstd"),
    (Format::Raw, "raw"),
    (Format::Lime, "lime"),
    (Format::ElfGzip, "elf-gzip"),
    (Format::ElfXz, "elf-xz"),
    (Format::ElfLz4, "elf-lz4"),
    (Format::VirshZlib, "virsh-zlib"),
    (Format::VirshDump, "virsh-dump"),
    (Format::VirshDumpGzip, "virsh-dump-gzip"),
    (Format::VirshDumpBzip2, "virsh-dump-bzip2"),
    (Format::VirshDumpXz, "virsh-dump-xz"),
    (Format::VirshDumpLzop, "virsh-dump-lzop"),
    (Format::VirshSave, "virsh-save"),
    (Format::VirshSaveGzip, "virsh-save-gzip"),
    (Format::VirshSaveLzop, "virsh-save-lzop"),
    (Format::Truncated, "truncated"),
];

impl Format {
    /// All formats.
    pub fn all() -> impl Iterator<Item = Format> {
        NAMES.iter().map(|&(format, _)| format)
    }

    /// The name as it stands in a dump's name.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|&&(format, _)| format == self).map_or("elf", |&(_, name)| name)
    }

    /// The format of a name.
    pub fn from_name(name: &str) -> Option<Format> {
        NAMES.iter().find(|&&(_, known)| known == name).map(|&(format, _)| format)
    }

    /// Whether it can be written of the running guest only.
    pub(crate) fn needs_boot(self) -> bool {
        self.hypervisor().is_some()
    }

    /// The only one that writes it; ELF comes from each, and what else there is from that.
    pub(crate) fn hypervisor(self) -> Option<Hypervisor> {
        match (self, self.source(), self.virsh()) {
            (Format::Elf, ..) => None,
            (_, Some(_), _) => Some(Hypervisor::Qemu),
            (_, _, Some(_)) => Some(Hypervisor::Libvirt),
            _ => None,
        }
    }

    /// How virsh makes it.
    pub(crate) fn virsh(self) -> Option<FromVirsh> {
        Some(match self {
            Format::Elf => FromVirsh::MemoryOnly("elf"),
            Format::VirshZlib => FromVirsh::MemoryOnly("kdump-zlib"),
            Format::VirshDump => FromVirsh::Dump("raw"),
            Format::VirshDumpGzip => FromVirsh::Dump("gzip"),
            Format::VirshDumpBzip2 => FromVirsh::Dump("bzip2"),
            Format::VirshDumpXz => FromVirsh::Dump("xz"),
            Format::VirshDumpLzop => FromVirsh::Dump("lzop"),
            Format::VirshSave => FromVirsh::Save("raw"),
            Format::VirshSaveGzip => FromVirsh::Save("gzip"),
            Format::VirshSaveLzop => FromVirsh::Save("lzop"),
            _ => return None,
        })
    }

    /// How QEMU makes it.
    pub(crate) fn source(self) -> Option<FromQemu> {
        match self {
            Format::Elf => Some(FromQemu::Dump { format: "elf", paging: false }),
            Format::QemuPaging => Some(FromQemu::Dump { format: "elf", paging: true }),
            Format::QemuZlib => Some(FromQemu::Dump { format: "kdump-zlib", paging: false }),
            Format::Migration => Some(FromQemu::Migrate),
            Format::Raw => Some(FromQemu::MemoryFile),
            _ => None,
        }
    }

    /// The program that makes it, and the format that it is given.
    fn compressor(self) -> Option<(&'static [&'static str], Format)> {
        match self {
            Format::MigrationZstd => Some((&["zstd", "-q", "-c"], Format::Migration)),
            Format::ElfGzip => Some((&["gzip", "-1", "-c"], Format::Elf)),
            Format::ElfXz => Some((&["xz", "-0", "--block-size=1MiB", "-c"], Format::Elf)),
            Format::ElfLz4 => Some((&["lz4", "-q", "-c"], Format::Elf)),
            _ => None,
        }
    }

    /// The files of a dump of this format in a boot's folder.
    pub(crate) fn files(self, folder: &Path) -> Vec<PathBuf> {
        match self {
            Format::Elf => vec![folder.join("vmcore")],
            Format::Split => {
                (1..=2).map(|part| folder.join(format!("vmcore.split.{part}"))).collect()
            }
            other => vec![folder.join(format!("vmcore.{}", other.name()))],
        }
    }

    fn makedumpfile_arguments(self, level: u8) -> Vec<String> {
        let level = level.to_string();
        let arguments: &[&str] = match self {
            Format::KdumpRaw => &["-d", &level],
            Format::KdumpZlib => &["-c", "-d", &level],
            Format::KdumpLzo => &["-l", "-d", &level],
            Format::KdumpZstd => &["-z", "-d", &level],
            Format::KdumpFull => &["-z", "-d", "1"],
            Format::Flattened => &["-F", "-z", "-d", &level],
            Format::Split => &["--split", "-z", "-d", &level],
            Format::FilteredElf => &["-E", "-d", &level],
            Format::Overfiltered => &["-l", "-d", "31"],
            // With -X there is no other level.
            Format::KdumpDom0 => &["-c", "-X", "-d", "1"],
            _ => &[],
        };
        arguments.iter().map(|&argument| argument.to_owned()).collect()
    }
}

/// What QEMU does to make a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FromQemu {
    /// dump-guest-memory.
    Dump {
        /// QEMU's name of the format.
        format: &'static str,
        /// Whether segments carry virtual addresses.
        paging: bool,
    },
    /// migrate: once, a guest can't go on afterwards.
    Migrate,
    /// Keeps the guest's memory in a file.
    MemoryFile,
}

/// What virsh does to make a format, with libvirt's name of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FromVirsh {
    /// dump --memory-only --format.
    MemoryOnly(&'static str),
    /// dump, with dump_image_format.
    Dump(&'static str),
    /// save, with save_image_format.
    Save(&'static str),
}

/// Makes formats of one boot's ELF dump.
#[derive(Debug)]
pub(crate) struct Converter<'a> {
    /// The lab's makedumpfile.
    pub(crate) makedumpfile: &'a Path,
    /// Which pages makedumpfile leaves out (-d) of this kernel's dumps.
    pub(crate) level: u8,
    /// Where the dump is and its formats go.
    pub(crate) folder: &'a Path,
    pub(crate) scratch: &'a Path,
}

impl Converter<'_> {
    /// Makes the files of a format.
    pub(crate) fn make(&self, format: Format) -> Result<()> {
        let made = match format {
            Format::Truncated => vec![self.truncate()?],
            Format::Lime => vec![self.lime()?],
            other => match other.compressor() {
                Some((program, from)) => vec![self.compress(program, from)?],
                None => self.filter(other)?,
            },
        };
        for (from, to) in made.iter().zip(format.files(self.folder)) {
            fs::set_permissions(from, fs::Permissions::from_mode(0o644))
                .map_err(LabError::io("write", from))?;
            publish(from, &to)?;
        }
        Ok(())
    }

    fn filter(&self, format: Format) -> Result<Vec<PathBuf>> {
        let source = self.scratch.join("repaired.elf");
        let dump = self.folder.join("vmcore");
        host::run(Command::new("cp").arg("--sparse=always").arg(dump).arg(&source))?;
        repair_elf_header(&source)?;
        let parts = format.files(self.folder).len();
        let made: Vec<PathBuf> =
            (0..parts).map(|part| self.scratch.join(format!("made.{part}"))).collect();
        let mut command = match format {
            Format::Overfiltered => Command::new("makedumpfile"),
            _ => Command::new(self.makedumpfile),
        };
        command.args(["--message-level", "1"]);
        command.args(format.makedumpfile_arguments(self.level)).arg(&source);
        match (format, made.as_slice()) {
            (Format::Flattened, [file]) => host::run_to_file(&mut command, file)?,
            _ => host::run(command.args(&made))?,
        }
        fs::remove_file(&source).map_err(LabError::io("remove", &source))?;
        Ok(made)
    }

    fn compress(&self, program: &[&str], from: Format) -> Result<PathBuf> {
        let made = self.scratch.join("compressed");
        let file = from.files(self.folder).remove(0);
        let mut command = Command::new("env");
        command.args(program).arg(&file);
        host::run_to_file(&mut command, &made)?;
        Ok(made)
    }

    /// The first 640 KiB and what lies above 1 MiB: a PC's RAM as /proc/iomem has it, for
    /// guests of less than 3 GiB.
    fn lime(&self) -> Result<PathBuf> {
        let raw = Format::Raw.files(self.folder).remove(0);
        let made = self.scratch.join("lime");
        let io = |error| LabError::io("make a LiME image of", &raw)(error);
        let mut memory = fs::File::open(&raw).map_err(io)?;
        let end = memory.metadata().map_err(io)?.len();
        let mut image = fs::File::create(&made).map_err(io)?;
        for (first, end) in [(0x1000, 0xa_0000), (0x10_0000, end)] {
            let mut header = b"EMiL\x01\0\0\0".to_vec();
            for word in [first, end - 1, 0] {
                header.extend(u64::to_le_bytes(word));
            }
            image.write_all(&header).map_err(io)?;
            memory.seek(SeekFrom::Start(first)).map_err(io)?;
            std::io::copy(&mut (&memory).take(end - first), &mut image).map_err(io)?;
        }
        Ok(made)
    }

    /// Cuts off the last third.
    fn truncate(&self) -> Result<PathBuf> {
        let whole = self.filter(Format::KdumpZlib)?.remove(0);
        let file = fs::OpenOptions::new().write(true).open(&whole);
        let file = file.map_err(LabError::io("open", &whole))?;
        let length = file.metadata().map_err(LabError::io("read", &whole))?.len();
        file.set_len(length * 2 / 3).map_err(LabError::io("cut", &whole))?;
        Ok(whole)
    }
}

/// Offsets in Elf64_Ehdr, from elf(5).
const E_PHOFF: usize = 32;
const E_SHOFF: usize = 40;
const E_EHSIZE: usize = 52;
const E_PHNUM: usize = 56;
const E_SHENTSIZE: usize = 58;
const EHDR_SIZE: usize = 64;
const PHDR_SIZE: usize = 56;

/// Puts the program headers right after the ELF header and drops the sections.
fn repair_elf_header(path: &Path) -> Result<()> {
    let io = |error| LabError::io("repair the ELF header of", path)(error);
    let mut file = fs::OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
    let mut header = vec![0; 16384];
    let length = read_up_to(&mut file, &mut header).map_err(io)?;
    header.truncate(length);
    let repaired = repaired_header(&header).ok_or_else(|| LabError::Data {
        path: path.to_path_buf(),
        reason: "not an ELF file with its program headers in front".to_owned(),
    })?;
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    file.write_all(&repaired).map_err(io)
}

fn read_up_to(file: &mut fs::File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..])? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

fn repaired_header(header: &[u8]) -> Option<Vec<u8>> {
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let phoff = u64::from_le_bytes(header.get(E_PHOFF..E_PHOFF + 8)?.try_into().ok()?);
    let phnum = u16::from_le_bytes(header.get(E_PHNUM..E_PHNUM + 2)?.try_into().ok()?);
    let phoff = usize::try_from(phoff).ok()?;
    let size = usize::from(phnum) * PHDR_SIZE;
    let mut repaired = header.get(..EHDR_SIZE)?.to_vec();
    repaired[E_PHOFF..E_PHOFF + 8].copy_from_slice(&(EHDR_SIZE as u64).to_le_bytes());
    repaired[E_SHOFF..E_SHOFF + 8].fill(0);
    repaired[E_EHSIZE..E_EHSIZE + 2].copy_from_slice(&(EHDR_SIZE as u16).to_le_bytes());
    repaired[E_SHENTSIZE..EHDR_SIZE].fill(0);
    repaired[E_SHENTSIZE] = 64;
    repaired.extend_from_slice(header.get(phoff..phoff.checked_add(size)?)?);
    Some(repaired)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_a_name_of_its_own() {
        for format in Format::all() {
            assert_eq!(Format::from_name(format.name()), Some(format));
        }
    }

    #[test]
    fn program_headers_move_behind_the_elf_header() {
        let mut header = vec![0; 512];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[E_PHOFF] = 192;
        header[E_EHSIZE] = 8;
        header[E_PHNUM] = 2;
        header[192..192 + 2 * PHDR_SIZE].fill(7);
        let repaired = repaired_header(&header).unwrap();
        assert_eq!(repaired.len(), EHDR_SIZE + 2 * PHDR_SIZE);
        assert_eq!((repaired[E_PHOFF], repaired[E_EHSIZE], repaired[E_PHNUM]), (64, 64, 2));
        assert!(repaired[EHDR_SIZE..].iter().all(|&byte| byte == 7));
        assert!(repaired_header(&header[..200]).is_none(), "headers outside what was read");
        assert!(repaired_header(b"KDUMP   ").is_none());
    }
}
