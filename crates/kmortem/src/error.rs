//! What ends a subcommand, as one sentence with the next step.

use std::io;
use std::path::PathBuf;

use kmortem_kernel::OpenError;
use kmortem_vmcore::writer::WriteError;

/// Why a subcommand did not finish.
#[derive(Debug)]
pub(crate) enum CliError {
    /// The dump can't be opened.
    Open {
        /// Why.
        error: OpenError,
        /// What the dump is known to lack: probably the reason behind it.
        incomplete: Option<String>,
    },
    /// SQL can't be asked.
    Sql(String),
    /// Files, but no dump among them.
    NoDump,
    /// A file of commands can't be read.
    Input {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The output can't be written.
    Output(io::Error),
    /// A file can't be made.
    Create {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The base of an archive is not to be had.
    Base(String),
    /// A dump can't be written.
    Write(WriteError),
}

impl CliError {
    /// A dump that the system does not give.
    pub(crate) fn from_open(name: &str, source: io::Error) -> CliError {
        kmortem_vmcore::OpenError::Io { name: name.to_owned(), source }.into()
    }
}

impl From<WriteError> for CliError {
    fn from(error: WriteError) -> CliError {
        match error {
            // A closed pipe is told of as everywhere.
            WriteError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                CliError::Output(error)
            }
            error => CliError::Write(error),
        }
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> CliError {
        CliError::Output(error)
    }
}

impl From<kmortem_vmcore::OpenError> for CliError {
    fn from(error: kmortem_vmcore::OpenError) -> CliError {
        CliError::Open { error: error.into(), incomplete: None }
    }
}

impl std::fmt::Display for CliError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CliError::Open { error, incomplete } => {
                let text = error.to_string();
                write!(f, "{}", text.trim_end_matches('.'))?;
                if let Some(why) = incomplete {
                    return write!(f, "; the dump is incomplete ({why}): copy it again if you can");
                }
                match next_step(error) {
                    Some(step) => write!(f, "; {step}"),
                    None => Ok(()),
                }
            }
            CliError::Sql(why) => write!(f, "{why}"),
            CliError::NoDump => write!(f, "no dump is named: a vmcore is needed"),
            CliError::Input { path, error } => {
                write!(f, "{} can't be read: {error}", path.display())
            }
            CliError::Create { path, error } => {
                write!(f, "{} can't be written: {error}", path.display())
            }
            CliError::Base(what) => write!(f, "{what}"),
            CliError::Write(WriteError::Output(error)) => {
                write!(f, "the dump can't be written: {error}")?;
                match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => write!(
                        f,
                        "; nothing was left behind: free some space, write elsewhere, or choose a \
                         smaller form"
                    ),
                    _ => Ok(()),
                }
            }
            CliError::Write(error @ WriteError::Unreadable { .. }) => {
                write!(f, "{error}; write to a file instead of a pipe to leave it out")
            }
            CliError::Write(error) => write!(f, "the dump can't be written: {error}"),
            // What a script holds is checked where it is read.
            CliError::Output(error) if error.kind() == io::ErrorKind::InvalidData => {
                write!(f, "{error}")
            }
            CliError::Output(error) => write!(f, "the output can't be written: {error}"),
        }
    }
}

/// What to do about a dump that can't be opened, where the error itself does
/// not say it.
fn next_step(error: &OpenError) -> Option<&'static str> {
    use kmortem_vmcore::OpenError as Container;
    match error {
        OpenError::Image(Container::Io { source, .. }) => match source.kind() {
            io::ErrorKind::NotFound => Some("check the path"),
            io::ErrorKind::PermissionDenied => Some("read it as root, or make it readable"),
            _ => None,
        },
        OpenError::Image(Container::Truncated { .. }) => {
            Some("copy it again, or see whether the disk was full when it was written")
        }
        OpenError::Image(Container::Corrupt { .. }) => {
            Some("compare its size and checksum with the original's")
        }
        OpenError::Image(Container::Split { .. }) => {
            Some("name all parts of one dump, and nothing else")
        }
        OpenError::Image(_) => None,
        OpenError::NoKernel(_) => {
            Some("`kmortem info` shows what the file holds; is it the memory of a Linux machine?")
        }
        OpenError::NoSymbols(_) => Some("`kmortem info` shows what the dump lacks"),
        _ => None,
    }
}
