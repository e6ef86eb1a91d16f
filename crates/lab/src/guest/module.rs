//! Builds lab/modules/crasher against a kernel's headers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::{self, Cache, publish};
use crate::error::{LabError, Result};
use crate::host;
use crate::kernel::Kernel;
use crate::lab::LAB_VERSION;
use crate::matrix::KernelSpec;

/// Debian 12's compiler: it built 6.1 and 6.12, and builds modules for the others.
const COMPILER: &str = "gcc-12";

/// The module of one kernel.
#[derive(Clone, Debug)]
pub(crate) struct Crasher {
    /// With debug information, for readers of the dump.
    pub(crate) with_debug: PathBuf,
    /// Without, for the guest.
    pub(crate) stripped: PathBuf,
}

/// The module's source text, for the key of what is made with it.
pub(crate) fn source(folder: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
    ["Makefile", "crasher.c"]
        .into_iter()
        .map(|name| {
            let path = folder.join("modules/crasher").join(name);
            Ok((name, fs::read(&path).map_err(LabError::io("read", &path))?))
        })
        .collect()
}

/// Builds the module, or finds it built.
pub(crate) fn build(
    cache: &Cache,
    folder: &Path,
    spec: &KernelSpec,
    kernel: &Kernel,
) -> Result<Crasher> {
    let prefix = spec.arch.prefix();
    let source = source(folder)?;
    let parts = source.iter().map(|(_, text)| text.as_slice());
    let options = spec.make.join(" ");
    let settings = [&kernel.record.version, &options, COMPILER, LAB_VERSION];
    let key = cache::key(parts.chain(settings.map(str::as_bytes)));
    let place = cache.path("modules").join(format!("{}-{key}", kernel.name));
    let crasher = Crasher {
        with_debug: place.join("crasher.ko"),
        stripped: place.join("crasher.stripped.ko"),
    };
    let _lock = cache.lock(&format!("module-{}", kernel.name))?;
    if place.is_dir() {
        return Ok(crasher);
    }
    host::note(&format!("{}: building the crasher module", kernel.name));
    let scratch = cache.scratch()?;
    for (name, text) in &source {
        let path = scratch.path().join(name);
        fs::write(&path, text).map_err(LabError::io("write", &path))?;
    }
    // No BTF: that would need the debug vmlinux, and modules built outside the
    // kernel's tree have none as a rule.
    host::run(
        Command::new("make")
            .arg("-C")
            .arg(kernel.headers())
            .arg(format!("M={}", scratch.path().display()))
            .args(spec.arch.make())
            .arg(format!("CC={prefix}{COMPILER}"))
            .arg("CONFIG_DEBUG_INFO_BTF_MODULES=")
            .arg(format!("KCFLAGS=-ffile-prefix-map={}/=crasher/", scratch.path().display()))
            .args(&spec.make)
            .arg("modules"),
    )?;
    let built = scratch.path().join("out");
    fs::create_dir(&built).map_err(LabError::io("create", &built))?;
    let with_debug = built.join("crasher.ko");
    publish(&scratch.path().join("crasher.ko"), &with_debug)?;
    let stripped = built.join("crasher.stripped.ko");
    host::run(
        Command::new(format!("{prefix}strip"))
            .args(["--strip-debug", "-o"])
            .arg(stripped)
            .arg(with_debug),
    )?;
    publish(&built, &place)?;
    Ok(crasher)
}
