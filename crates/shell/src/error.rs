//! What can keep a command from answering.

use std::io;

/// Why a command gave no answer. Each one renders as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No command of that name.
    #[error("{name}: no such command; {}", meant(suggestion.as_deref()))]
    Unknown {
        /// What was typed.
        name: String,
        /// The command whose name is nearest.
        suggestion: Option<String>,
    },
    /// A command, or an option, of crash(8) that is not there yet.
    #[error("{0}: known from crash, not in kmortem yet; `help` lists what is there")]
    NotYet(String),
    /// Options or arguments that the command does not understand.
    #[error("{command}: {what}; `help {command}` shows its options")]
    Usage {
        /// The command.
        command: &'static str,
        /// What was not understood.
        what: String,
    },
    /// A command line that can't be split into words.
    #[error("{0}")]
    Line(String),
    /// The dead kernel does not have what was asked for.
    #[error("{command}: {what}")]
    Failed {
        /// The command.
        command: &'static str,
        /// What is missing, with the next step.
        what: String,
    },
    /// A command of the host that did not end well.
    #[error("{0}")]
    Host(String),
    /// Somebody wanted the command to end.
    #[error("interrupted")]
    Interrupted,
    /// Commands of a file went wrong and said so themselves.
    #[error("told above")]
    Told(Outcome),
    /// The output could not be written.
    #[error("output can't be written: {0}")]
    Io(#[from] io::Error),
}

fn meant(suggestion: Option<&str>) -> String {
    match suggestion {
        Some(name) => format!("did you mean `{name}`? (`help` lists the commands)"),
        None => "`help` lists the commands".to_owned(),
    }
}

impl CommandError {
    /// Whether the command line itself was wrong, as opposed to the dump
    /// having no answer.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            CommandError::Unknown { .. }
                | CommandError::Usage { .. }
                | CommandError::Line(_)
                | CommandError::Told(Outcome::Misused)
        )
    }
}

/// How a command, or several, went. The worse of two is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Answered in full.
    Answered,
    /// Something could not be answered.
    Failed,
    /// Something was not understood.
    Misused,
}

impl From<&CommandError> for Outcome {
    fn from(error: &CommandError) -> Outcome {
        if error.is_usage() { Outcome::Misused } else { Outcome::Failed }
    }
}
