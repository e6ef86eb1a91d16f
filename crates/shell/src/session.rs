//! An opened kernel with what a session remembers: the task that commands
//! speak of when none is named, aliases, settings. How a session runs command
//! lines stands in [`crate::run`].

use std::sync::{Arc, OnceLock};

use kmortem_kernel::Kernel;
use kmortem_kernel::task::Task;

use crate::alias::{Aliases, Origin};
use crate::error::CommandError;
use crate::progress::Progress;
use crate::settings::Settings;

/// An opened kernel and its current task.
pub struct Session {
    kernel: Arc<Kernel>,
    /// Address of the task set by the user.
    chosen: Option<u64>,
    /// Address of the task that crashed, once asked for.
    crashed: OnceLock<Option<u64>>,
    /// Tasks that the user calls the active one of their CPU: (CPU, task).
    active: Vec<(u32, u64)>,
    settings: Settings,
    progress: Progress,
    pub(crate) aliases: Aliases,
    /// What an alias that is made now comes from.
    pub(crate) alias_origin: Origin,
    /// How deep in input files the running command stands.
    pub(crate) depth: usize,
    /// Whether the session should end.
    ended: bool,
    /// What `p` was asked so far: `$1` is the value of the first.
    history: Vec<String>,
    /// What gdb's `x` showed last: what it goes on with.
    pub(crate) examined: Examined,
    /// Bytes that `dis` skips behind a ud2.
    pub(crate) bug_bytes: u64,
}

/// What gdb's `x` takes from one command to the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Examined {
    /// Letter of the format.
    pub(crate) format: char,
    /// Bytes of a value.
    pub(crate) size: u64,
    /// Where the next value lies.
    pub(crate) next: Option<u64>,
}

impl Default for Examined {
    fn default() -> Examined {
        Examined { format: 'x', size: 4, next: None }
    }
}

impl Session {
    /// A session over `kernel`. Its current task is the one that crashed.
    pub fn new(kernel: impl Into<Arc<Kernel>>) -> Session {
        Session {
            kernel: kernel.into(),
            chosen: None,
            crashed: OnceLock::new(),
            active: Vec::new(),
            settings: Settings::default(),
            progress: Progress::default(),
            aliases: Aliases::default(),
            alias_origin: Origin::Runtime,
            depth: 0,
            ended: false,
            history: Vec::new(),
            examined: Examined::default(),
            bug_bytes: 0,
        }
    }

    /// The kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// The kernel, for who looks things up beside the session.
    pub fn shared_kernel(&self) -> Arc<Kernel> {
        self.kernel.clone()
    }

    /// CPUs whose answers are left out: those that are offline, after `set offline hide`.
    pub(crate) fn hidden_cpus(&self) -> Vec<u32> {
        if !self.settings.offline_hide {
            return Vec::new();
        }
        match (self.kernel.possible_cpus(), self.kernel.cpus("online")) {
            (Ok(possible), Ok(online)) => {
                possible.into_iter().filter(|cpu| !online.contains(cpu)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What `set` has changed.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// For `set`.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// Expressions whose values `$1`, `$2`, ... are.
    pub(crate) fn history(&self) -> &[String] {
        &self.history
    }

    /// For `p`: one more expression has a value.
    pub(crate) fn remember(&mut self, expression: String) {
        self.history.push(expression);
    }

    /// How far the running command has come.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether a command (`exit`) wants the session to end.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// For `exit`.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// Puts things right after a command that panicked.
    pub fn recover(&mut self) {
        self.depth = 0;
        self.alias_origin = Origin::Runtime;
        self.progress.end();
    }

    /// Names of all aliases, with what they stand for.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, &str)> + '_ {
        self.aliases.list().iter().map(|a| (a.name.as_str(), a.command.as_str()))
    }

    /// For `set -a`: `task` counts as the active one of its CPU.
    pub(crate) fn mark_active(&mut self, cpu: u32, task: u64) {
        self.active.retain(|(c, _)| *c != cpu);
        self.active.push((cpu, task));
    }

    /// What the user calls the active task of a CPU.
    pub(crate) fn marked_active(&self, cpu: u32) -> Option<u64> {
        self.active.iter().find(|(c, _)| *c == cpu).map(|(_, task)| *task)
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
