//! Files of commands that a session begins with.
//!
//! In crash's order: `.crashrc` of the home directory, then that of the
//! current directory; a `.kmortemrc` beside either one is run behind it. Such
//! a file may run commands of the host, so one that another user could have
//! put there is left alone.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::alias::Origin;
use crate::error::Outcome;
use crate::output::Output;
use crate::script::{Echo, Script};
use crate::session::Session;

/// Names of such files.
const NAMES: [&str; 2] = [".crashrc", ".kmortemrc"];

/// An rc file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RcFile {
    path: PathBuf,
    /// As `alias` names it.
    origin: String,
}

/// The rc files of `home` and `current`, in the order in which they run.
pub fn find(home: Option<&Path>, current: &Path) -> Vec<RcFile> {
    let in_dir = |dir: &Path, prefix: &str| {
        let file = |name: &&str| RcFile { path: dir.join(name), origin: format!("{prefix}{name}") };
        NAMES.iter().map(file).filter(|rc| rc.path.is_file()).collect::<Vec<_>>()
    };
    let mut files = home.map(|home| in_dir(home, "$HOME/")).unwrap_or_default();
    if home.and_then(|home| home.canonicalize().ok()) != current.canonicalize().ok() {
        files.extend(in_dir(current, ""));
    }
    files
}

impl Session {
    /// Runs an rc file.
    pub fn run_rc(&mut self, rc: &RcFile, out: &mut Output<'_>) -> io::Result<Outcome> {
        let path = rc.path.to_string_lossy();
        let file = match open_trusted(&rc.path) {
            Ok(file) => file,
            Err(error) => {
                out.plain_note(format_args!("{path} is left alone: {error}"))?;
                return Ok(Outcome::Failed);
            }
        };
        self.alias_origin = Origin::File(rc.origin.clone());
        let mut reader = BufReader::new(file);
        let done = self.run_script(&mut Script::new(&mut reader, &path, Echo::Nothing), out);
        self.alias_origin = Origin::Runtime;
        done
    }
}

/// The file, if only its reader, or root, can have written it.
fn open_trusted(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    let me = fs::metadata("/proc/self")?.uid();
    if meta.uid() != me && meta.uid() != 0 {
        return Err(io::Error::other("it belongs to another user"));
    }
    if meta.mode() & 0o002 != 0 {
        return Err(io::Error::other("everybody can write it"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("kmortem-rc-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn home_comes_first_and_once() {
        let (home, current) = (dir("home"), dir("current"));
        for file in [home.join(".kmortemrc"), home.join(".crashrc"), current.join(".crashrc")] {
            fs::write(file, "set\n").unwrap();
        }
        let names = |files: Vec<RcFile>| files.into_iter().map(|f| f.origin).collect::<Vec<_>>();
        assert_eq!(
            names(find(Some(&home), &current)),
            ["$HOME/.crashrc", "$HOME/.kmortemrc", ".crashrc"]
        );
        assert_eq!(names(find(Some(&home), &home)).len(), 2);
        assert_eq!(names(find(None, &current)), [".crashrc"]);
        fs::remove_dir_all(home).unwrap();
        fs::remove_dir_all(current).unwrap();
    }

    #[test]
    fn what_everybody_can_write_is_not_trusted() {
        let dir = dir("trust");
        let file = dir.join(".crashrc");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(open_trusted(&file).is_ok());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(open_trusted(&file).unwrap_err().to_string().contains("everybody"));
        fs::remove_dir_all(dir).unwrap();
    }
}
