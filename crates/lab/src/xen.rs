//! Xen, unpacked from Debian's packages: the hypervisor, a kernel that can be its dom0,
//! and an archive of what dom0 needs to run guests and dump them.
//!
//! ```text
//! <cache>/tools/xen-KEY/xen            hypervisor, an ELF file that QEMU loads by multiboot
//! <cache>/tools/xen-KEY/vmlinuz        dom0's kernel (cloud kernels can't be dom0)
//! <cache>/tools/xen-KEY/dom0.cpio      its modules, xl and the daemons, their libraries
//! <cache>/tools/xen-KEY/record.json    the packages
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::cache::{self, Cache, publish};
use crate::cpio::Cpio;
use crate::debian::indices::{Found, Indices};
use crate::error::{LabError, Result};
use crate::guest::initramfs;
use crate::host;
use crate::kernel::PackageRecord;
use crate::matrix::Matrix;

/// Where Xen comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct XenSpec {
    suites: Vec<String>,
    /// Package of the hypervisor, and the file in it.
    hypervisor: String,
    image: String,
    /// Package of dom0's kernel, with a `*`.
    kernel: String,
    /// Packages of the programs, and of the libraries they need.
    packages: Vec<String>,
    /// Files that dom0 gets into /bin.
    programs: Vec<String>,
}

/// Modules of dom0: calls of the hypervisor, and the disk that dumps leave it by.
const MODULES: &[&str] = &[
    "xen_privcmd",
    "xenfs",
    "xen_evtchn",
    "xen_gntdev",
    "xen_gntalloc",
    "virtio_pci",
    "virtio_blk",
];

/// How names of its folders begin.
const PREFIX: &str = "xen-";
/// The loader: programs look for it in /lib64.
const LOADER: &str = "ld-linux-x86-64.so.2";
/// Where packages have libraries, before and after Debian moved them.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// Xen, ready to boot.
#[derive(Clone, Debug)]
pub(crate) struct Xen {
    folder: PathBuf,
    packages: Vec<PackageRecord>,
}

impl Xen {
    /// Xen in the cache, if it is there.
    pub(crate) fn cached(cache: &Cache, matrix: &Matrix) -> Option<Xen> {
        let folder = Xen::folder(cache, matrix);
        let text = fs::read_to_string(folder.join("record.json")).ok()?;
        let packages = serde_json::from_str(&text).ok()?;
        Some(Xen { folder, packages })
    }

    /// Xen, fetched if it is not in the cache.
    pub(crate) fn prepare(cache: &Cache, matrix: &Matrix) -> Result<Xen> {
        let _lock = cache.lock("xen")?;
        match Xen::cached(cache, matrix) {
            Some(xen) => Ok(xen),
            None => fetch(cache, matrix),
        }
    }

    /// Where it is kept: named by what it is made of.
    pub(crate) fn folder(cache: &Cache, matrix: &Matrix) -> PathBuf {
        let settings = format!("{:?} {MODULES:?}", matrix.xen);
        cache.path("tools").join(format!("{PREFIX}{}", cache::key([settings.as_bytes()])))
    }

    /// Whether a folder is one that was made so, now or earlier.
    pub(crate) fn is_folder(path: &Path) -> bool {
        file_name(path).starts_with(PREFIX)
    }

    pub(crate) fn hypervisor(&self) -> PathBuf {
        self.folder.join("xen")
    }

    pub(crate) fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    pub(crate) fn archive(&self) -> PathBuf {
        self.folder.join("dom0.cpio")
    }

    /// What dumps made with it depend on.
    pub(crate) fn checksums(&self) -> impl Iterator<Item = &str> {
        self.packages.iter().map(|package| package.sha256.as_str())
    }

    /// The hypervisor's version.
    pub(crate) fn version(&self) -> &str {
        self.packages.first().map_or("", |package| &package.version)
    }
}

fn fetch(cache: &Cache, matrix: &Matrix) -> Result<Xen> {
    let spec = &matrix.xen;
    host::note("xen: reading the package indices");
    let scratch = cache.scratch()?;
    let indices = Indices::read(matrix.suites(&spec.suites)?, scratch.path())?;
    let (root, dom0) = (scratch.path().join("root"), scratch.path().join("dom0"));
    let mut found = vec![indices.package(&spec.hypervisor)?];
    found.extend(indices.packages(&spec.packages)?);
    unpack(&found, scratch.path(), &root)?;
    let kernel = indices.newest_of(&spec.kernel)?;
    unpack(std::slice::from_ref(&kernel), scratch.path(), &dom0)?;
    found.push(kernel);

    let staged = scratch.path().join("xen");
    fs::create_dir(&staged).map_err(LabError::io("create", &staged))?;
    let image = root.join(&spec.image);
    host::run_to_file(Command::new("gzip").arg("-dc").arg(&image), &staged.join("xen"))?;
    let release = only_entry(&dom0.join("lib/modules"))?;
    let vmlinuz = dom0.join(format!("boot/vmlinuz-{}", file_name(&release)));
    fs::copy(&vmlinuz, staged.join("vmlinuz")).map_err(LabError::io("copy", &vmlinuz))?;
    let archive = staged.join("dom0.cpio");
    fs::write(&archive, dom0_archive(spec, &root, &release)?)
        .map_err(LabError::io("write", &archive))?;
    let packages: Vec<PackageRecord> =
        found.into_iter().map(|(_, package)| PackageRecord::from(package)).collect();
    let record = staged.join("record.json");
    let text = serde_json::to_string_pretty(&packages).unwrap_or_default();
    fs::write(&record, text).map_err(LabError::io("write", &record))?;
    let folder = Xen::folder(cache, matrix);
    publish(&staged, &folder)?;
    Ok(Xen { folder, packages })
}

fn unpack(found: &[Found], scratch: &Path, root: &Path) -> Result<()> {
    for (suite, package) in found {
        host::note(&format!("xen: {} {}", package.name, package.version));
        suite.unpack(package, scratch, root)?;
    }
    Ok(())
}

/// What dom0 has beside its first program.
fn dom0_archive(spec: &XenSpec, root: &Path, modules: &Path) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).map_err(LabError::io("read", path));
    let mut cpio = Cpio::default();
    for name in ["bin", "dev", "lib", "lib64", "lib/modules", "proc", "sys", "tmp", "usr"]
        .into_iter()
        .chain(["etc", "etc/xen", "run", "run/xen", "run/lock", "run/xenstored", "usr/lib"])
        .chain(["var", "var/lib", "var/lib/xen", "var/lib/xenstored", "var/log", "var/log/xen"])
    {
        cpio.directory(name);
    }
    cpio.device("dev/console", 5, 1);
    cpio.file("bin/busybox", &read(Path::new("/bin/busybox"))?);
    for program in &spec.programs {
        let path = root.join(program);
        cpio.file(&format!("bin/{}", file_name(&path)), &read(&path)?);
    }
    for (name, path) in libraries(root)? {
        let folder = if name == LOADER { "lib64" } else { "usr/lib" };
        cpio.file(&format!("{folder}/{name}"), &read(&path)?);
    }
    initramfs::add_modules(&mut cpio, modules, MODULES)?;
    Ok(cpio.finish())
}

/// The libraries by the names that programs ask for: those of links, and of files that no
/// link stands for.
fn libraries(root: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let (mut named, mut linked) = (BTreeMap::new(), Vec::new());
    for folder in LIBRARIES.map(|name| root.join(name)) {
        // A package before the move has one, a package after it the other.
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.map_err(LabError::io("read", &folder))?.path();
            let name = file_name(&path);
            if !name.contains(".so.") {
                continue;
            }
            if let Ok(target) = fs::read_link(&path) {
                linked.push(file_name(&target));
            }
            named.insert(name, path);
        }
    }
    named.retain(|name, _| !linked.contains(name));
    Ok(named)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn only_entry(folder: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(folder).map_err(LabError::io("read", folder))?;
    match entries.next() {
        Some(Ok(entry)) => Ok(entry.path()),
        _ => Err(LabError::Data { path: folder.to_path_buf(), reason: "nothing in it".to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_taken_once_by_the_name_programs_know() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(LIBRARIES[0]);
        fs::create_dir_all(&folder).unwrap();
        for file in ["libxenctrl.so.4.17.0", "libc.so.6", "libc.a"] {
            fs::write(folder.join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("libxenctrl.so.4.17.0", folder.join("libxenctrl.so.4.17"))
            .unwrap();
        let found = libraries(root.path()).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["libc.so.6", "libxenctrl.so.4.17"]);
        assert_eq!(fs::read(&found["libxenctrl.so.4.17"]).unwrap(), b"libxenctrl.so.4.17.0");
    }
}
