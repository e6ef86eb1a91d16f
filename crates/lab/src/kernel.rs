//! A kernel of the matrix, unpacked from its Debian packages into the cache.
//!
//! The host's package manager is never asked or changed: indices are read and
//! packages unpacked in a folder of the lab's own. What was taken is kept until
//! `lab kernels --update` asks the suites again, so a cache works offline.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::cache::{Cache, publish};
use crate::debian::control::Package;
use crate::debian::indices::{Build, Indices};
use crate::error::{LabError, Result};
use crate::host;
use crate::loader;
use crate::matrix::{KernelSpec, Matrix};

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The lab's name for it.
    pub name: String,
    /// What was taken from the suites.
    pub record: KernelRecord,
    /// Folder that the packages were unpacked into.
    pub root: PathBuf,
}

/// What was taken from the suites.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KernelRecord {
    /// Version of the image package.
    pub version: String,
    /// What `uname -r` says.
    pub release: String,
    /// Name of the package with the debug vmlinux.
    pub debug_package: String,
    /// Packages, the image first.
    pub packages: Vec<PackageRecord>,
}

/// One package that was unpacked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PackageRecord {
    /// Name of the package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Checksum of the .deb file.
    pub sha256: String,
}

impl From<Package> for PackageRecord {
    fn from(package: Package) -> PackageRecord {
        let Package { name, version, sha256, .. } = package;
        PackageRecord { name, version, sha256 }
    }
}

/// The kernel as it is in the cache, or else as the suites have it now.
pub(crate) fn prepare(cache: &Cache, matrix: &Matrix, spec: &KernelSpec) -> Result<Kernel> {
    let _lock = cache.lock(&format!("kernel-{}", spec.name))?;
    match cached(cache, spec) {
        Some(kernel) => Ok(kernel),
        None => fetch(cache, matrix, spec),
    }
}

/// Takes what the suites have now. Without a network the cached kernel stays.
pub(crate) fn update(cache: &Cache, matrix: &Matrix, spec: &KernelSpec) -> Result<Kernel> {
    let _lock = cache.lock(&format!("kernel-{}", spec.name))?;
    fetch(cache, matrix, spec)
}

/// The kernel in the cache, if there is one.
pub(crate) fn cached(cache: &Cache, spec: &KernelSpec) -> Option<Kernel> {
    let text = fs::read_to_string(current_file(cache, spec)).ok()?;
    let record: KernelRecord = serde_json::from_str(&text).ok()?;
    let root = root_folder(cache, spec, &record.version);
    root.is_dir().then(|| Kernel { name: spec.name.clone(), record, root })
}

fn current_file(cache: &Cache, spec: &KernelSpec) -> PathBuf {
    cache.path("kernels").join(&spec.name).join("current.json")
}

fn root_folder(cache: &Cache, spec: &KernelSpec, version: &str) -> PathBuf {
    cache.path("kernels").join(&spec.name).join(version)
}

fn fetch(cache: &Cache, matrix: &Matrix, spec: &KernelSpec) -> Result<Kernel> {
    host::note(&format!("{}: reading the package indices", spec.name));
    let scratch = cache.scratch()?;
    let indices = Indices::read(matrix.suites_of(&spec.suites, spec.arch)?, scratch.path())?;
    let Build { abi, mut packages } = indices.newest_build(spec)?;
    if !spec.tools.is_empty() {
        let tools = Indices::read(matrix.suites(&spec.suites)?, scratch.path())?;
        for name in &spec.tools {
            packages.push(tools.package(&name.replace("{abi}", &abi))?);
        }
    }
    let runtime = match &spec.runtime {
        Some(runtime) => Indices::read(matrix.suites(&runtime.suites)?, scratch.path())?
            .packages(&runtime.packages)?,
        None => Vec::new(),
    };
    let version = packages.first().map(|(_, image)| image.version.clone()).unwrap_or_default();
    let root = root_folder(cache, spec, &version);
    if !root.is_dir() {
        let staged = scratch.path().join("root");
        for (suite, package) in &packages {
            host::note(&format!("{}: {} {}", spec.name, package.name, package.version));
            suite.unpack(package, scratch.path(), &staged)?;
        }
        for (suite, package) in &runtime {
            suite.unpack(package, scratch.path(), &staged.join("runtime"))?;
        }
        if !runtime.is_empty() {
            let programs = programs_of(&staged)?;
            loader::wrap(&programs, &staged, &root, &root.join("runtime"))?;
        }
        relocate_headers(&staged, &root)?;
        publish(&staged, &root)?;
    }
    let record = KernelRecord {
        release: release_of(&root)?,
        debug_package: spec.debug.replace("{abi}", &abi),
        packages: packages
            .into_iter()
            .chain(runtime)
            .map(|(_, package)| PackageRecord::from(package))
            .collect(),
        version,
    };
    let staged = scratch.path().join("current.json");
    let text = serde_json::to_string_pretty(&record).unwrap_or_default();
    fs::write(&staged, text).map_err(LabError::io("write", &staged))?;
    publish(&staged, &current_file(cache, spec))?;
    Ok(Kernel { name: spec.name.clone(), record, root })
}

/// Downloads a kernel's debug package, checked, into a folder.
pub(crate) fn download_debug_package(
    matrix: &Matrix,
    spec: &KernelSpec,
    kernel: &Kernel,
    folder: &Path,
) -> Result<PathBuf> {
    let indices = Indices::read(matrix.suites_of(&spec.suites, spec.arch)?, folder)?;
    let (suite, package) = indices.package(&kernel.record.debug_package)?;
    suite.download(&package, folder)
}

impl Kernel {
    /// The compressed kernel image: under /boot, or from Debian 13 on beside the modules.
    pub(crate) fn image(&self) -> Result<PathBuf> {
        let release = &self.record.release;
        let places = [
            self.root.join(format!("boot/vmlinuz-{release}")),
            self.root.join(format!("usr/lib/modules/{release}/vmlinuz")),
        ];
        let found = places.iter().find(|path| path.is_file()).cloned();
        found.ok_or_else(|| LabError::Data {
            path: self.root.clone(),
            reason: format!("no kernel image of {release}"),
        })
    }

    /// Folder of the kernel's own modules.
    pub fn modules(&self) -> PathBuf {
        modules_folder(&self.root).join(&self.record.release)
    }

    /// Folder of the kernel's headers.
    pub(crate) fn headers(&self) -> PathBuf {
        self.root.join(format!("usr/src/linux-headers-{}", self.record.release))
    }
}

fn modules_folder(root: &Path) -> PathBuf {
    let split = root.join("lib/modules");
    if split.is_dir() { split } else { root.join("usr/lib/modules") }
}

fn release_of(root: &Path) -> Result<String> {
    let folder = modules_folder(root);
    let mut entries = fs::read_dir(&folder).map_err(LabError::io("read", &folder))?;
    match entries.next() {
        Some(Ok(entry)) => Ok(entry.file_name().to_string_lossy().into_owned()),
        _ => Err(LabError::Data { path: folder, reason: "no kernel release in it".to_owned() }),
    }
}

/// The headers' Makefile names its other half, in linux-headers-*-common, by
/// the absolute path it would have on a host that has it installed.
fn relocate_headers(staged: &Path, root: &Path) -> Result<()> {
    let sources = staged.join("usr/src");
    for entry in fs::read_dir(&sources).map_err(LabError::io("read", &sources))? {
        let makefile = entry.map_err(LabError::io("read", &sources))?.path().join("Makefile");
        let Ok(text) = fs::read_to_string(&makefile) else { continue };
        let relocated: Vec<String> = text
            .lines()
            .map(|line| match line.split_once("/usr/src/linux-headers-") {
                Some((head, tail)) if head == "include " || head == "KBUILD_OUTPUT=" => {
                    format!("{head}{}/usr/src/linux-headers-{tail}", root.display())
                }
                _ => line.to_owned(),
            })
            .collect();
        fs::write(&makefile, relocated.join("\n") + "\n")
            .map_err(LabError::io("write", &makefile))?;
    }
    Ok(())
}

/// The programs of the kbuild package, which need newer libraries than the host's.
fn programs_of(staged: &Path) -> Result<Vec<PathBuf>> {
    let found = host::output(
        Command::new("find")
            .arg(staged.join("usr/lib"))
            .args(["-path", "*/linux-kbuild-*"])
            .args(["-type", "f", "-perm", "/111"]),
    )?;
    Ok(String::from_utf8_lossy(&found).lines().map(PathBuf::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_makefiles_point_into_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let headers = folder.path().join("usr/src/linux-headers-1-cloud");
        fs::create_dir_all(&headers).unwrap();
        let makefile = headers.join("Makefile");
        let text = "KBUILD_OUTPUT=/usr/src/linux-headers-1-cloud\n\
                    include /usr/src/linux-headers-1-common/Makefile\n";
        fs::write(&makefile, text).unwrap();
        relocate_headers(folder.path(), Path::new("/cache/k")).unwrap();
        assert_eq!(
            fs::read_to_string(&makefile).unwrap(),
            "KBUILD_OUTPUT=/cache/k/usr/src/linux-headers-1-cloud\n\
             include /cache/k/usr/src/linux-headers-1-common/Makefile\n"
        );
    }
}
