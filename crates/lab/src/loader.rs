//! Runs programs of a newer suite on this host, by the loader and with the
//! libraries of their own suite, unpacked beside them. No root, no chroot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{LabError, Result};

const LOADER: &str = "usr/lib64/ld-linux-x86-64.so.2";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Puts a wrapper in the place of each ELF program of `programs`, which are in
/// the folder `staged` that is to become `root`; `runtime` is where the packages
/// of the C library are unpacked in the end.
pub(crate) fn wrap(programs: &[PathBuf], staged: &Path, root: &Path, runtime: &Path) -> Result<()> {
    for program in programs {
        let bytes = fs::read(program).map_err(LabError::io("read", program))?;
        if !bytes.starts_with(b"\x7fELF") {
            continue;
        }
        let real = PathBuf::from(format!("{}.bin", program.display()));
        fs::rename(program, &real).map_err(LabError::io("rename", program))?;
        let real = root.join(real.strip_prefix(staged).unwrap_or(&real));
        fs::write(program, wrapper(runtime, &real)).map_err(LabError::io("write", program))?;
        fs::set_permissions(program, fs::Permissions::from_mode(0o755))
            .map_err(LabError::io("write", program))?;
    }
    Ok(())
}

/// --argv0: some programs find their helpers beside the name they were called by.
fn wrapper(runtime: &Path, real: &Path) -> String {
    format!(
        "#!/bin/sh\nexec '{}' --library-path '{}' --argv0 \"$0\" '{}' \"$@\"\n",
        runtime.join(LOADER).display(),
        runtime.join(LIBRARIES).display(),
        real.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_are_wrapped() {
        let folder = tempfile::tempdir().unwrap();
        let (program, script) = (folder.path().join("modpost"), folder.path().join("mk.sh"));
        fs::write(&program, b"\x7fELF...").unwrap();
        fs::write(&script, b"#!/bin/sh\n").unwrap();
        let programs = [program.clone(), script.clone()];
        wrap(&programs, folder.path(), Path::new("/c/k"), Path::new("/c/k/runtime")).unwrap();
        let wrapper = fs::read_to_string(&program).unwrap();
        assert!(wrapper.contains("'/c/k/runtime/usr/lib64/ld-linux-x86-64.so.2'"), "{wrapper}");
        assert!(wrapper.contains("'/c/k/modpost.bin' \"$@\""), "{wrapper}");
        assert_eq!(fs::read(&script).unwrap(), b"#!/bin/sh\n");
        assert_eq!(fs::read(folder.path().join("modpost.bin")).unwrap(), b"\x7fELF...");
    }
}
