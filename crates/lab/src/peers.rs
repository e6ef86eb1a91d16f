//! Sets up the programs that kmortem is compared with: crash, drgn,
//! makedumpfile, and the debug vmlinux files that the first two need.
//!
//! All of it goes into `<cache>/peers`, on demand: a debug package has about
//! 300 MB, its vmlinux about 400 MB.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::cache::{self, Cache, publish};
use crate::error::{LabError, Result};
use crate::host;
use crate::kernel::{self, Kernel};
use crate::matrix::{KernelSpec, Matrix, read_toml};
use crate::tool::Tool;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PeersFile {
    drgn: Drgn,
    program: Vec<Tool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Drgn {
    version: String,
}

/// A peer that stands ready.
#[derive(Clone, Debug)]
pub struct Peer {
    /// `drgn`, `crash-sid`, `vmlinux-k61`, ...
    pub name: String,
    /// Its version, that of the package.
    pub version: String,
    /// The program, or the vmlinux.
    pub path: PathBuf,
}

/// Sets up drgn and the programs of other suites.
pub(crate) fn programs(cache: &Cache, matrix: &Matrix) -> Result<Vec<Peer>> {
    let file: PeersFile = read_toml(&matrix.folder.join("peers.toml"))?;
    let mut peers = vec![drgn(cache, matrix)?];
    let _lock = cache.lock("peers")?;
    for program in &file.program {
        let (path, version) = program.prepare(cache, matrix)?;
        peers.push(Peer { name: program.name.clone(), version, path });
    }
    Ok(peers)
}

/// The debug vmlinux of a kernel, extracted from its debug package.
pub(crate) fn vmlinux(
    cache: &Cache,
    matrix: &Matrix,
    spec: &KernelSpec,
    kernel: &Kernel,
) -> Result<Peer> {
    let record = &kernel.record;
    let path = cache.path(format!("peers/vmlinux-{}-{}", kernel.name, record.version));
    let _lock = cache.lock(&format!("vmlinux-{}", kernel.name))?;
    if !path.is_file() {
        host::note(&format!("{}: {}", kernel.name, record.debug_package));
        let scratch = cache.scratch()?;
        let package = kernel::download_debug_package(matrix, spec, kernel, scratch.path())?;
        let made = scratch.path().join("vmlinux");
        extract_vmlinux(&package, &record.release, &made)?;
        publish(&made, &path)?;
    }
    let name = format!("vmlinux-{}", kernel.name);
    Ok(Peer { name, version: record.version.clone(), path })
}

/// Up to Debian 12 it is in /usr/lib/debug/boot, later beside the modules, with
/// a link in the old place.
fn extract_vmlinux(package: &Path, release: &str, to: &Path) -> Result<()> {
    let members = [
        format!("./usr/lib/debug/lib/modules/{release}/vmlinux"),
        format!("./usr/lib/debug/boot/vmlinux-{release}"),
    ];
    for member in &members {
        let script = r#"dpkg-deb --fsys-tarfile "$0" | tar -xO "$1" 2>/dev/null"#;
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(package).arg(member);
        let found = host::run_to_file(&mut shell, to);
        let size = fs::metadata(to).map_or(0, |file| file.len());
        if found.is_ok() && size > 0 {
            return Ok(());
        }
    }
    let reason = format!("no vmlinux of {release} in it");
    Err(LabError::Data { path: package.to_path_buf(), reason })
}

/// drgn, in a virtual environment of its own.
pub(crate) fn drgn(cache: &Cache, matrix: &Matrix) -> Result<Peer> {
    let PeersFile { drgn, .. } = read_toml(&matrix.folder.join("peers.toml"))?;
    let _lock = cache.lock("drgn")?;
    let folder = cache.path(format!("peers/drgn-{}", drgn.version));
    let path = folder.join("bin/drgn");
    if !path.is_file() {
        host::note(&format!("drgn {}", drgn.version));
        // A virtual environment cannot be moved: it is made in its place.
        host::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
        let package = format!("drgn=={}", drgn.version);
        host::run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", &package]))?;
    }
    Ok(Peer { name: "drgn".to_owned(), version: drgn.version.clone(), path })
}

/// Changes with any of the scripts that drgn runs.
pub(crate) fn scripts_key(folder: &Path) -> Result<String> {
    let error = || LabError::io("read", folder);
    let mut scripts = Vec::new();
    for entry in fs::read_dir(folder).map_err(error())? {
        let path = entry.map_err(error())?.path();
        if path.extension().is_some_and(|extension| extension == "py") {
            scripts.push(path);
        }
    }
    scripts.sort();
    let texts = scripts.iter().map(|path| fs::read(path).map_err(LabError::io("read", path)));
    let texts: Vec<Vec<u8>> = texts.collect::<Result<_>>()?;
    Ok(cache::key(texts.iter().map(Vec::as_slice)))
}
