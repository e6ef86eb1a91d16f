//! An opened kernel with what a session remembers: the task that commands
//! speak of when none is named.

use std::sync::OnceLock;

use kmortem_kernel::Kernel;
use kmortem_kernel::task::Task;

use crate::error::{CommandError, Outcome};
use crate::output::Output;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::{args, line, registry};

/// An opened kernel and its current task.
pub struct Session {
    kernel: Kernel,
    /// Address of the task set by the user.
    chosen: Option<u64>,
    /// Address of the task that crashed, once asked for.
    crashed: OnceLock<Option<u64>>,
    settings: Settings,
    progress: Progress,
}

impl Session {
    /// A session over `kernel`. Its current task is the one that crashed.
    pub fn new(kernel: Kernel) -> Session {
        Session {
            kernel,
            chosen: None,
            crashed: OnceLock::new(),
            settings: Settings::default(),
            progress: Progress::default(),
        }
    }

    /// The kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// What `set` has changed.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// For `set`.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// How far the running command has come.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Runs one command line. The error, if any, was not written anywhere.
    pub fn run(&mut self, line: &str, out: &mut Output<'_>) -> Result<(), CommandError> {
        let words = line::split(line)?;
        let Some((name, rest)) = words.split_first() else { return Ok(()) };
        let command = registry::find(name)?;
        out.begin(command.name);
        self.progress.reset();
        let args = if command.takes_all {
            args::Args::words_only(rest)
        } else {
            args::parse(command.name, command.options, rest)?
        };
        (command.run)(self, &args, out)
    }

    /// Runs command lines one after the other, an error of one does not keep
    /// the next from running. Errors go where remarks go; the worst outcome
    /// comes back. Only a failure to write ends it early.
    pub fn run_all<S: AsRef<str>>(
        &mut self,
        lines: &[S],
        out: &mut Output<'_>,
    ) -> std::io::Result<Outcome> {
        let mut worst = Outcome::Answered;
        for line in lines {
            match self.run(line.as_ref(), out) {
                Ok(()) => {}
                Err(CommandError::Io(error)) => return Err(error),
                Err(error) => {
                    worst = worst.max(Outcome::from(&error));
                    out.error(&error)?;
                }
            }
        }
        Ok(worst)
    }

    /// Makes `task` the one that commands speak of.
    pub(crate) fn choose(&mut self, task: u64) {
        self.chosen = Some(task);
    }

    /// Address of the current task: the chosen one, else the one that crashed,
    /// else (the machine was alive) what the first CPU was running.
    pub(crate) fn current(&self) -> Option<u64> {
        self.chosen.or_else(|| self.crashed_task()).or_else(|| {
            let first = *self.kernel.possible_cpus().ok()?.first()?;
            self.kernel.current(first).ok()
        })
    }

    /// Address of the task that crashed.
    pub(crate) fn crashed_task(&self) -> Option<u64> {
        *self.crashed.get_or_init(|| self.kernel.crashed_task().ok().flatten().map(|c| c.task))
    }

    /// The current task.
    pub(crate) fn current_task(&self, command: &'static str) -> Result<&Task, CommandError> {
        let failed = |what: String| CommandError::Failed { command, what };
        let tasks = self.kernel.tasks().map_err(|e| failed(e.to_string()))?;
        self.current()
            .and_then(|addr| tasks.at(addr))
            .ok_or_else(|| failed("no task is known to have crashed; name one (see `ps`)".into()))
    }
}
