//! The guest's file system: busybox, lab/guest/init, sessiond and what else the
//! scenario runs, a few modules of the kernel in the order of their
//! dependencies, the crasher, the scenario.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arch::Arch;
use crate::cache::{self, Cache, publish};
use crate::cpio::Cpio;
use crate::error::{LabError, Result};
use crate::guest::module::Crasher;
use crate::host;
use crate::kernel::Kernel;

/// Modules the guest loads, with what they depend on; a kernel that has one
/// built in, or does not have it, goes without.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_balloon",
    "virtio_console",
    "qemu_fw_cfg",
    "ext4",
    "loop",
    "veth",
    "bridge",
    "overlay",
    "nf_tables",
];

const FOLDERS: &[&str] =
    &["bin", "dev", "lib", "lib/modules", "mnt", "proc", "root", "srv", "sys", "tmp", "etc"];

/// A program of lab/guest: its name, and the file it is compiled to.
pub(crate) type Program = (String, PathBuf);

/// Packs the initramfs of one boot.
pub(crate) fn build(
    folder: &Path,
    arch: Arch,
    kernel: &Kernel,
    crasher: &Crasher,
    programs: &[Program],
    scenario: &str,
) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).map_err(LabError::io("read", path));
    let mut cpio = Cpio::default();
    for name in FOLDERS {
        cpio.directory(name);
    }
    cpio.device("dev/console", 5, 1);
    cpio.file("init", &read(&folder.join("guest/init"))?);
    cpio.file("scenario", scenario.as_bytes());
    cpio.file("bin/busybox", &read(&busybox(arch, kernel)?)?);
    for (name, path) in programs {
        let bytes = read(path)?;
        cpio.file(&format!("bin/{name}"), &bytes);
        if name == "sessiond" {
            cpio.file("bin/memhog", &bytes);
        }
    }
    cpio.file("lib/crasher.ko", &read(&crasher.stripped)?);
    add_modules(&mut cpio, &kernel.modules(), MODULES)?;
    Ok(cpio.finish())
}

/// Adds modules of the kernel whose folder of modules is given, those they depend on, and
/// a list of them in the order to load them in, to /lib/modules.
pub(crate) fn add_modules(cpio: &mut Cpio, modules: &Path, names: &[&str]) -> Result<()> {
    let mut order = String::new();
    for path in load_order(modules, names)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let plain = name.trim_end_matches(".xz");
        let bytes = if plain == name {
            fs::read(&path).map_err(LabError::io("read", &path))?
        } else {
            host::output(Command::new("xz").arg("-dc").arg(&path))?
        };
        cpio.file(&format!("lib/modules/{plain}"), &bytes);
        order.push_str(plain);
        order.push('\n');
    }
    cpio.file("lib/modules/order", order.as_bytes());
    Ok(())
}

/// The host's own, or one of the packages that were taken with the kernel.
fn busybox(arch: Arch, kernel: &Kernel) -> Result<PathBuf> {
    let path = match arch {
        Arch::Amd64 => PathBuf::from("/bin/busybox"),
        Arch::Arm64 => kernel.root.join("bin/busybox"),
    };
    if path.is_file() {
        return Ok(path);
    }
    Err(LabError::Tool {
        command: "busybox".to_owned(),
        reason: format!("not at {}; scripts/setup.sh names the packages", path.display()),
    })
}

/// Compiles a file of lab/guest, or finds it compiled.
pub(crate) fn build_program(
    cache: &Cache,
    folder: &Path,
    arch: Arch,
    source: &str,
) -> Result<Program> {
    let name = source.trim_end_matches(".c").to_owned();
    let source = folder.join("guest").join(source);
    let text = fs::read(&source).map_err(LabError::io("read", &source))?;
    let prefix = arch.prefix();
    let key = cache::key([text.as_slice()]);
    let place = cache.path("modules").join(format!("{prefix}{name}-{key}"));
    let _lock = cache.lock(&name)?;
    if !place.is_file() {
        let scratch = cache.scratch()?;
        let built = scratch.path().join(&name);
        host::run(
            Command::new(format!("{prefix}gcc-12"))
                .args(["-static", "-Os", "-s", "-pthread", "-o"])
                .arg(&built)
                .arg(&source),
        )?;
        publish(&built, &place)?;
    }
    Ok((name, place))
}

/// Paths of the modules to load, each after those it depends on.
fn load_order(modules: &Path, names: &[&str]) -> Result<Vec<PathBuf>> {
    let folder = modules.join("kernel");
    let found = host::output(Command::new("find").arg(&folder).args(["-name", "*.ko*"]))?;
    let found = String::from_utf8_lossy(&found);
    let files: Vec<&Path> = found.lines().map(Path::new).collect();
    let mut order = Vec::new();
    let mut seen = HashSet::new();
    for name in names {
        add_module(name, &files, &mut seen, &mut order)?;
    }
    Ok(order)
}

fn add_module(
    name: &str,
    files: &[&Path],
    seen: &mut HashSet<String>,
    order: &mut Vec<PathBuf>,
) -> Result<()> {
    let Some(path) = files.iter().find(|path| module_name(path) == name) else { return Ok(()) };
    if !seen.insert(name.to_owned()) {
        return Ok(());
    }
    for dependency in dependencies(path)? {
        add_module(&dependency, files, seen, order)?;
    }
    order.push(path.to_path_buf());
    Ok(())
}

/// A module's name: its file's, with the dashes that the kernel makes underscores.
fn module_name(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    file.split('.').next().unwrap_or_default().replace('-', "_")
}

/// The `depends=` line of a module's .modinfo section. Packages have no
/// modules.dep: depmod makes it when they are installed.
fn dependencies(path: &Path) -> Result<Vec<String>> {
    let bytes = if path.extension().is_some_and(|extension| extension == "xz") {
        host::output(Command::new("xz").arg("-dc").arg(path))?
    } else {
        fs::read(path).map_err(LabError::io("read", path))?
    };
    Ok(parse_dependencies(&bytes))
}

fn parse_dependencies(module: &[u8]) -> Vec<String> {
    const FIELD: &[u8] = b"\0depends=";
    let Some(at) = module.windows(FIELD.len()).position(|window| window == FIELD) else {
        return Vec::new();
    };
    let value = module[at + FIELD.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_module_depends_on() {
        let module = b"ELF\0license=GPL\0depends=jbd2,crc16,mb-cache\0intree=Y\0";
        assert_eq!(parse_dependencies(module), ["jbd2", "crc16", "mb_cache"]);
        assert!(parse_dependencies(b"ELF\0depends=\0").is_empty());
        assert!(parse_dependencies(b"ELF").is_empty());
        assert_eq!(module_name(Path::new("fs/crc32c-intel.ko.xz")), "crc32c_intel");
    }
}
