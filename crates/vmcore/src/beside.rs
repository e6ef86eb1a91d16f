//! Files that belong with the one that was named: the memory beside a hypervisor's state, and the
//! state beside the memory.
//!
//! Only here do names count: they say where else to look. What is in the files decides what they
//! are.
//!
//! - VMware: `NAME.vmem` and `NAME.vmss` or `NAME.vmsn`.
//! - Cloud Hypervisor: a folder with `memory-ranges` and `state.json` (`vm.json` up to v20); the
//!   folder's name stands for them.

use std::path::{Path, PathBuf};

const RANGES: &str = "memory-ranges";
const STATES: [&str; 2] = ["state.json", "vm.json"];

/// The path, and those of the files that belong with it, as far as they exist.
pub(crate) fn complete(path: &Path) -> Vec<PathBuf> {
    let folder = match path.file_name().and_then(|name| name.to_str()) {
        _ if path.is_dir() => Some(path),
        Some(name) if name == RANGES || STATES.contains(&name) => path.parent(),
        _ => None,
    };
    if let Some(folder) = folder {
        let ranges = folder.join(RANGES);
        let state = STATES.iter().map(|name| folder.join(name)).find(|path| path.is_file());
        if let Some(state) = state.filter(|_| ranges.is_file()) {
            return vec![state, ranges];
        }
    }
    let mut paths = vec![path.to_owned()];
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let others: &[&str] = match extension.to_ascii_lowercase().as_str() {
        "vmss" | "vmsn" => &["vmem"],
        "vmem" => &["vmss", "vmsn"],
        _ => &[],
    };
    let found = others.iter().map(|other| path.with_extension(other)).find(|path| path.is_file());
    paths.extend(found);
    paths
}

#[cfg(test)]
mod tests {
    use super::complete;

    #[test]
    fn vmware_names_the_memory_as_the_state() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a.vmss", "a.vmem", "b-Snapshot1.vmsn", "b-Snapshot1.vmem", "c.vmem", "d.vmss"]
        {
            std::fs::write(path(name), []).unwrap();
        }
        assert_eq!(complete(&path("a.vmss")), [path("a.vmss"), path("a.vmem")]);
        assert_eq!(complete(&path("a.vmem")), [path("a.vmem"), path("a.vmss")]);
        let snapshot = [path("b-Snapshot1.vmem"), path("b-Snapshot1.vmsn")];
        assert_eq!(complete(&snapshot[0]), snapshot);
        for name in ["c.vmem", "d.vmss", "vmcore"] {
            assert_eq!(complete(&path(name)), [path(name)]);
        }
    }

    #[test]
    fn a_folder_stands_for_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("memory-ranges"), []).unwrap();
        assert_eq!(complete(folder.path()), [folder.path()]);
        assert_eq!(complete(&path("memory-ranges")), [path("memory-ranges")]);
        for state in ["vm.json", "state.json"] {
            std::fs::write(path(state), []).unwrap();
            let both = [path(state), path("memory-ranges")];
            assert_eq!(complete(folder.path()), both);
            assert_eq!(complete(&path(state)), both);
            assert_eq!(complete(&path("memory-ranges")), both);
        }
    }
}
