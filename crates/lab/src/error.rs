//! What can go wrong in the lab, each with the object it went wrong on.

use std::path::{Path, PathBuf};

/// Result of the lab's functions.
pub type Result<T> = std::result::Result<T, LabError>;

/// Why a dump could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The file system refused.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried, as a verb: "read", "create".
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A mirror did not give a file.
    #[error("download {url}: {reason}")]
    Download {
        /// Address asked for.
        url: String,
        /// What came instead.
        reason: String,
    },
    /// A downloaded file is not the one its index names.
    #[error("{what}: expected SHA-256 {expected}, got {actual}")]
    Checksum {
        /// File name.
        what: String,
        /// As the index says.
        expected: String,
        /// As downloaded.
        actual: String,
    },
    /// A suite's signature is not one of Debian's.
    #[error("{suite}: gpgv does not accept the signature of InRelease: {reason}")]
    Signature {
        /// Archive and suite.
        suite: String,
        /// gpgv's last words.
        reason: String,
    },
    /// A suite has no such package.
    #[error("no package {pattern} in {suites}")]
    NoPackage {
        /// Name or pattern looked for.
        pattern: String,
        /// Where.
        suites: String,
    },
    /// A data file of the lab is wrong.
    #[error("{path}: {reason}")]
    Data {
        /// The file.
        path: PathBuf,
        /// Why it cannot be used.
        reason: String,
    },
    /// A program of the host failed or is missing.
    #[error("{command}: {reason}")]
    Tool {
        /// Command line.
        command: String,
        /// Status and the tail of its output.
        reason: String,
    },
    /// The guest did not die as its scenario says.
    #[error("{dump}: {reason}; the console ends with:\n{console_tail}")]
    Guest {
        /// Which dump was to be made.
        dump: String,
        /// What was awaited.
        reason: String,
        /// Last lines of the serial console.
        console_tail: String,
    },
    /// No dump, kernel, scenario or format of that name.
    #[error("no {what} {name} in the lab; `lab list` shows what there is")]
    Unknown {
        /// Kind of thing.
        what: &'static str,
        /// Name asked for.
        name: String,
    },
}

impl LabError {
    /// For `map_err`: names the action and the file of an I/O error.
    pub(crate) fn io<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(std::io::Error) -> LabError + 'a {
        move |source| LabError::Io { action, path: path.to_path_buf(), source }
    }
}
