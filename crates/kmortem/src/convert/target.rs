//! The file that a dump is written to: under a temporary name in its folder until it is whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// A file under its temporary name. It is removed when it is not committed.
pub(super) struct Target {
    path: PathBuf,
    temporary: PathBuf,
    committed: bool,
}

/// Whether a path is one for standard output.
pub(super) fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

impl Target {
    /// Makes the temporary file. Without `force` the final name must be free.
    pub(super) fn create(path: &Path, force: bool) -> io::Result<(Target, File)> {
        refuse_taken(path, force)?;
        let name = path
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", std::process::id()));
        let temporary = path.with_file_name(hidden);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&temporary)?;
        Ok((Target { path: path.to_owned(), temporary, committed: false }, file))
    }

    /// The final name.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name, once its bytes are on the disk.
    pub(super) fn commit(mut self, file: &File, force: bool) -> io::Result<()> {
        file.sync_all()?;
        refuse_taken(&self.path, force)?;
        fs::rename(&self.temporary, &self.path)?;
        self.committed = true;
        // The name is on the disk when the folder is; some file systems can't sync folders.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Ok(folder) = File::open(folder.unwrap_or(Path::new("."))) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.committed {
            // Nobody is left to tell; the name says what it is.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn refuse_taken(path: &Path, force: bool) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"))
        }
        Ok(_) if !force => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "it is there already; --force replaces it",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_has_its_name_once_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump");
        let (target, mut file) = Target::create(&path, false).unwrap();
        assert_ne!(names(folder.path()), ["dump"]);
        file.write_all(b"x").unwrap();
        target.commit(&file, false).unwrap();
        assert_eq!(names(folder.path()), ["dump"]);

        let taken = Target::create(&path, false).err().unwrap();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        let (target, file) = Target::create(&path, true).unwrap();
        target.commit(&file, true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        drop(Target::create(&folder.path().join("dump"), false).unwrap());
        assert!(names(folder.path()).is_empty());
        assert!(Target::create(folder.path(), true).is_err());
    }
}
