//! What can go wrong, and why a page is not there.

use serde::Serialize;

use crate::source::SourceError;

/// Why a page of physical memory can't be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum Absent {
    /// No memory at this address, as far as the dump says.
    #[error("not in the dump: the machine had no memory at this physical address")]
    NotRam,
    /// Memory that was left out when the dump was taken.
    #[error("not in the dump: {}", filtered_by(*level))]
    Filtered {
        /// makedumpfile's dump level (`-d`), if the container says it.
        level: Option<u32>,
    },
    /// The dump was to have this page, but was cut off before it.
    #[error("not in the dump: it was cut off before this page was written")]
    Lost,
    /// The page's bytes, or what leads to them, are damaged.
    #[error("damaged in the dump: {what}")]
    Corrupt {
        /// What is wrong.
        what: String,
    },
    /// The page is stored in a way that isn't understood.
    #[error("stored in a way this reader does not know: {what}")]
    Unsupported {
        /// The unknown part.
        what: String,
    },
}

fn filtered_by(level: Option<u32>) -> String {
    match level {
        Some(level) => format!("filtered out by makedumpfile -d {level}"),
        None => "filtered out when it was taken".to_owned(),
    }
}

impl From<SourceError> for Absent {
    fn from(error: SourceError) -> Absent {
        match error {
            SourceError::OutOfRange { .. } => Absent::Lost,
            SourceError::Damaged { what } => Absent::corrupt(what),
        }
    }
}

impl Absent {
    pub(crate) fn corrupt(what: impl Into<String>) -> Absent {
        Absent::Corrupt { what: what.into() }
    }
}

/// The first byte that a read could not get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("physical address {addr:#x}: {reason}")]
pub struct ReadError {
    /// Physical address of that byte.
    pub addr: u64,
    /// Why it is not there.
    pub reason: Absent,
}

/// Why an input can't be opened as a dump. Each one renders as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No input was named.
    #[error("no file was given")]
    NoInput,
    /// The operating system does not give the file.
    #[error("{name}: can't be opened: {source}")]
    Io {
        /// The input.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a dump that is understood.
    #[error("{name}: not a kernel dump that can be read: {looks_like}")]
    Foreign {
        /// The input.
        name: String,
        /// What it looks like, and what to do about that.
        looks_like: String,
    },
    /// A dump of a machine that isn't understood.
    #[error("{name}: a dump of a {machine} kernel; only x86_64 and aarch64 can be read")]
    Machine {
        /// The input.
        name: String,
        /// The machine's name.
        machine: String,
    },
    /// Compressed, and it can't be unpacked.
    #[error("{name}: {what}")]
    Unpack {
        /// The input.
        name: String,
        /// Why not.
        what: String,
    },
    /// Cut off before anything could be read from it.
    #[error("{name}: cut off: {what}")]
    Truncated {
        /// The input.
        name: String,
        /// What is missing.
        what: String,
    },
    /// Its headers contradict themselves or the file.
    #[error("{name}: damaged: {what}")]
    Corrupt {
        /// The input.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// An archive whose base is not to be had.
    #[error("{name}: {what}")]
    Base {
        /// The archive.
        name: String,
        /// What is missing, and what to do.
        what: String,
    },
    /// Several inputs that do not belong together.
    #[error("{name}: {what}")]
    Split {
        /// The input that does not fit.
        name: String,
        /// Why.
        what: String,
    },
}
