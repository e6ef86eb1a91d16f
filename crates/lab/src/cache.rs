//! The lab's folder outside the tree, and how several processes share it.
//!
//! ```text
//! <cache>/kernels/NAME/VERSION/        unpacked packages of a kernel
//! <cache>/kernels/NAME/current.json    which version is in use, and its packages
//! <cache>/modules/NAME-KEY/            crasher.ko, with and without debug information
//! <cache>/tools/NAME/                  a program of another suite with its libraries
//! <cache>/dumps/NAME-KEY/              vmcore, console.txt, facts.json, other formats
//! <cache>/tmp/                         work in progress
//! <cache>/locks/                       one lock per object that is being made
//! ```
//!
//! KEY is the digest of all that the content depends on. An object is made
//! under tmp/ and renamed into its place, so what stands there is complete.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::debian::archive::hex;
use crate::error::{LabError, Result};

/// The cache folder, `$KMORTEM_LAB_CACHE` or kmortem/lab in the user's cache.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

/// Held while an object is made; released on drop, also when the process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// A folder of its own under tmp/, removed on drop.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Cache {
    /// The cache folder of this user.
    pub(crate) fn open() -> Result<Cache> {
        let root = if let Some(root) = std::env::var_os("KMORTEM_LAB_CACHE") {
            PathBuf::from(root)
        } else if let Some(base) = std::env::var_os("XDG_CACHE_HOME") {
            Path::new(&base).join("kmortem/lab")
        } else {
            let home = std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into());
            Path::new(&home).join(".cache/kmortem/lab")
        };
        Cache::at(root)
    }

    /// A cache in a given folder.
    pub(crate) fn at(root: PathBuf) -> Result<Cache> {
        for folder in ["kernels", "modules", "tools", "dumps", "tmp", "locks"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(LabError::io("create", &path))?;
        }
        // The guest's programs run with other working directories.
        let root = fs::canonicalize(&root).map_err(LabError::io("find", &root))?;
        Ok(Cache { root })
    }

    /// A path in the cache.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Waits until nobody else makes `object`.
    pub(crate) fn lock(&self, object: &str) -> Result<Lock> {
        let path = self.path("locks").join(object);
        let file = File::create(&path).map_err(LabError::io("create", &path))?;
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|error| LabError::io("lock", &path)(error.into()))?;
        Ok(Lock { _file: file })
    }

    /// Waits for one of `count` slots: bounds the guests that run at a time, over
    /// all processes.
    pub(crate) fn slot(&self, count: usize) -> Result<Lock> {
        loop {
            for slot in 0..count.max(1) {
                let path = self.path(format!("locks/slot-{slot}"));
                let file = File::create(&path).map_err(LabError::io("create", &path))?;
                if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                    return Ok(Lock { _file: file });
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// A new folder for work in progress.
    pub(crate) fn scratch(&self) -> Result<Scratch> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let serial = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = self.path(format!("tmp/{}-{serial}", std::process::id()));
        fs::create_dir_all(&path).map_err(LabError::io("create", &path))?;
        Ok(Scratch { path })
    }
}

/// Puts a finished file or folder in its place.
pub(crate) fn publish(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(LabError::io("create", parent))?;
    }
    fs::rename(from, to).map_err(LabError::io("create", to))
}

/// Short digest of the things an object depends on.
pub(crate) fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hex(&hasher.finalize()[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_parts_apart() {
        let key = |parts: &[&'static str]| super::key(parts.iter().map(|part| part.as_bytes()));
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_eq!(key(&["ab", "c"]), key(&["ab", "c"]));
    }

    #[test]
    fn scratch_folders_are_distinct_and_vanish() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_path_buf()).unwrap();
        let (a, b) = (cache.scratch().unwrap(), cache.scratch().unwrap());
        assert_ne!(a.path(), b.path());
        let path = a.path().to_path_buf();
        drop(a);
        assert!(!path.exists() && b.path().exists());
    }

    #[test]
    fn a_taken_slot_is_free_again_after_its_guest() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_path_buf()).unwrap();
        let first = cache.slot(1).unwrap();
        let waiter = std::thread::spawn({
            let cache = cache.clone();
            move || cache.slot(1).map(|_| ())
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiter.is_finished(), "the only slot is taken");
        drop(first);
        waiter.join().unwrap().unwrap();
    }
}
