//! A kernel of the matrix, unpacked from its Debian packages into the cache.
//!
//! The host's package manager is never asked or changed: indices are read and
//! packages unpacked in a folder of the lab's own. What was taken is kept until
//! `lab kernels --update` asks the suites again, so a cache works offline.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::cache::{Cache, publish};
use crate::debian::archive::Suite;
use crate::debian::control::{self, Package};
use crate::debian::version;
use crate::error::{LabError, Result};
use crate::host;
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

/// A package together with the suite that has it.
type Found = (Suite, Package);

fn fetch(cache: &Cache, matrix: &Matrix, spec: &KernelSpec) -> Result<Kernel> {
    host::note(&format!("{}: reading the package indices", spec.name));
    let scratch = cache.scratch()?;
    let indices = Indices::read(matrix.suites(&spec.suites)?, scratch.path())?;
    let Build { abi, mut packages } = indices.newest_build(spec)?;
    let version = packages.first().map(|(_, image)| image.version.clone()).unwrap_or_default();
    let root = root_folder(cache, spec, &version);
    if !root.is_dir() {
        let staged = scratch.path().join("root");
        fs::create_dir(&staged).map_err(LabError::io("create", &staged))?;
        for (suite, package) in &packages {
            host::note(&format!("{}: {} {}", spec.name, package.name, package.version));
            suite.unpack(package, scratch.path(), &staged)?;
        }
        if let Some(runtime) = &spec.runtime {
            let indices = Indices::read(matrix.suites(&runtime.suites)?, scratch.path())?;
            let folder = staged.join("runtime");
            for name in &runtime.packages {
                let (suite, package) = indices.package(name)?;
                suite.unpack(&package, scratch.path(), &folder)?;
                packages.push((suite, package));
            }
            run_tools_by_their_own_loader(&staged, &root)?;
        }
        relocate_headers(&staged, &root)?;
        publish(&staged, &root)?;
    }
    let record = KernelRecord {
        release: release_of(&root)?,
        debug_package: spec.debug.replace("{abi}", &abi),
        packages: packages
            .into_iter()
            .map(|(_, package)| PackageRecord {
                name: package.name,
                version: package.version,
                sha256: package.sha256,
            })
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
    let indices = Indices::read(matrix.suites(&spec.suites)?, folder)?;
    let (suite, package) = indices.package(&kernel.record.debug_package)?;
    suite.download(&package, folder)
}

/// A build of a kernel: what stands for the `*` in its name, and its packages.
struct Build {
    abi: String,
    packages: Vec<Found>,
}

/// The package indices of some suites.
struct Indices(Vec<(Suite, Vec<Package>)>);

impl Indices {
    fn read(suites: Vec<Suite>, scratch: &Path) -> Result<Indices> {
        let mut indices = Vec::new();
        for suite in suites {
            let packages = suite.packages(scratch)?;
            indices.push((suite, packages));
        }
        Ok(Indices(indices))
    }

    /// The newest build that the mirror has in full, debug package included: an
    /// index may go on naming packages that are gone. Without any such build,
    /// the newest.
    fn newest_build(&self, spec: &KernelSpec) -> Result<Build> {
        let mut images: Vec<(&Package, &str)> = self
            .0
            .iter()
            .flat_map(|(_, packages)| control::find_all(packages, &spec.image))
            .collect();
        images.sort_by(|(a, _), (b, _)| version::compare(&b.version, &a.version));
        let build = |abi: &str| -> Result<Build> {
            let names = std::iter::once(&spec.image).chain(&spec.packages).chain(&spec.headers);
            let packages = names.map(|name| {
                self.package(&name.replace("{abi}", abi).replace('*', abi))
            });
            Ok(Build { abi: abi.to_owned(), packages: packages.collect::<Result<_>>()? })
        };
        for (_, abi) in &images {
            let Ok(build) = build(abi) else { continue };
            let Ok(debug) = self.package(&spec.debug.replace("{abi}", abi)) else { continue };
            if build.packages.iter().chain([&debug]).all(|(suite, package)| suite.has(package)) {
                return Ok(build);
            }
        }
        match images.first() {
            Some((_, abi)) => build(abi),
            None => Err(self.missing(&spec.image)),
        }
    }

    /// The newest package of a name, over all suites.
    fn package(&self, name: &str) -> Result<Found> {
        let found = self.0.iter().filter_map(|(suite, packages)| {
            Some((suite.clone(), control::find_package(packages, name)?.clone()))
        });
        let newest = found
            .max_by(|a, b| version::compare(&a.1.version, &b.1.version));
        newest.ok_or_else(|| self.missing(name))
    }

    fn missing(&self, pattern: &str) -> LabError {
        let suites: Vec<&str> = self.0.iter().map(|(suite, _)| suite.name.as_str()).collect();
        LabError::NoPackage { pattern: pattern.to_owned(), suites: suites.join(", ") }
    }
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

/// Puts a wrapper before each program of the kbuild package, which runs it by
/// the loader and with the libraries of its own suite. The host's are older.
fn run_tools_by_their_own_loader(staged: &Path, root: &Path) -> Result<()> {
    let loader = root.join("runtime/usr/lib64/ld-linux-x86-64.so.2");
    let libraries = root.join("runtime/usr/lib/x86_64-linux-gnu");
    let found = host::output(
        Command::new("find").arg(staged.join("usr/lib")).args(["-path", "*/linux-kbuild-*"]).args([
            "-type", "f", "-perm", "/111",
        ]),
    )?;
    for program in String::from_utf8_lossy(&found).lines().map(Path::new) {
        let bytes = fs::read(program).map_err(LabError::io("read", program))?;
        if !bytes.starts_with(b"\x7fELF") {
            continue;
        }
        let real = PathBuf::from(format!("{}.bin", program.display()));
        fs::rename(program, &real).map_err(LabError::io("rename", program))?;
        let real = root.join(real.strip_prefix(staged).unwrap_or(&real));
        // Some of these programs find their helpers beside the name they were called by.
        let script = format!(
            "#!/bin/sh\nexec '{}' --library-path '{}' --argv0 \"$0\" '{}' \"$@\"\n",
            loader.display(),
            libraries.display(),
            real.display()
        );
        fs::write(program, script).map_err(LabError::io("write", program))?;
        fs::set_permissions(program, fs::Permissions::from_mode(0o755))
            .map_err(LabError::io("write", program))?;
    }
    Ok(())
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
