//! Signals of tasks: what each one does, which are blocked, which wait.
//!
//! The threads of a process share `signal_struct.shared_pending` and the
//! table `sighand_struct.action[]`; `blocked` and `pending` are a thread's own
//! (include/linux/sched/signal.h). A set has bit n - 1 for signal n; a queue
//! (`sigpending.list`, of `struct sigqueue`) has the details of those that were
//! sent with some. A task that has exited has neither table nor queues.

use serde::{Serialize, Serializer};

use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::Embedded;
use crate::stack::hex;
use crate::task::Task;
use crate::{Kernel, layout};

layout! {
    /// `struct task_struct`: its signals
    pub struct TaskSignalsLayout for "task_struct" {
        signal: u64 = "signal",
        sighand: u64 = "sighand",
        blocked: u64 = "blocked",
        pending: Embedded = "pending",
    }
}

layout! {
    /// `struct signal_struct`: what waits for any of its threads
    pub struct SharedSignalsLayout for "signal_struct" {
        nr_threads: i32 = "nr_threads",
        shared_pending: Embedded = "shared_pending",
    }
}

layout! {
    /// `struct sighand_struct`, include/linux/sched/signal.h
    pub struct SighandLayout for "sighand_struct" {
        action: Embedded = "action",
    }
}

layout! {
    /// `struct k_sigaction`, include/linux/signal_types.h
    pub struct SigactionLayout for "k_sigaction" {
        handler: u64 = "sa.sa_handler",
        flags: u64 = "sa.sa_flags",
        mask: u64 = "sa.sa_mask",
    }
}

layout! {
    /// `struct sigpending`, include/linux/signal_types.h
    pub struct SigpendingLayout for "sigpending" {
        list: Embedded = "list",
        signal: u64 = "signal",
    }
}

layout! {
    /// `struct sigqueue`, include/linux/signal_types.h
    pub struct SigqueueLayout for "sigqueue" {
        list: Embedded = "list",
        info: Embedded = "info",
        number: i32 = "info.si_signo",
        code: i32 = "info.si_code",
    }
}

/// Signals of x86 and arm64 (include/uapi/asm-generic/signal.h), the first
/// `SIGRTMIN - 1`; a second name behind a slash.
const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT/SIGIOT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD/SIGCLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO/SIGPOLL",
    "SIGPWR",
    "SIGSYS/SIGUNUSED",
];
/// `_NSIG`
pub const SIGNALS: u32 = 64;
/// First real-time signal, as the kernel counts them.
const RT_MIN: u32 = 32;

/// Names of a signal (a second one behind a slash). Real-time signals are
/// named from the nearer end of their range.
pub fn signal_name(number: u32) -> Option<String> {
    Some(match number {
        1..=31 => (*NAMES.get(number as usize - 1)?).to_owned(),
        RT_MIN => "SIGRTMIN".to_owned(),
        33..=48 => format!("SIGRTMIN+{}", number - RT_MIN),
        49..=63 => format!("SIGRTMAX-{}", SIGNALS - number),
        SIGNALS => "SIGRTMAX".to_owned(),
        _ => return None,
    })
}

/// The signals in a set, each by its first name.
pub fn names_in(set: u64) -> Vec<String> {
    let name = |number: u32| {
        let names = signal_name(number)?;
        Some(names.split('/').next().unwrap_or_default().to_owned())
    };
    (1..=SIGNALS).filter(|n| set >> (n - 1) & 1 == 1).filter_map(name).collect()
}

/// `SA_*` (include/uapi/asm-generic/signal-defs.h, arch/x86/include/uapi/asm/signal.h),
/// in the order in which crash(8) names them.
const FLAGS: [(u64, &str); 8] = [
    (0x0400_0000, "SA_RESTORER"),
    (0x0000_0001, "SA_NOCLDSTOP"),
    (0x0000_0002, "SA_NOCLDWAIT"),
    (0x0000_0004, "SA_SIGINFO"),
    (0x0800_0000, "SA_ONSTACK"),
    (0x1000_0000, "SA_RESTART"),
    (0x4000_0000, "SA_NODEFER"),
    (0x8000_0000, "SA_RESETHAND"),
];

/// What a signal does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handler {
    /// What it does by default.
    Default,
    /// Nothing.
    Ignore,
    /// It calls a function of the process.
    Function(u64),
}

impl std::fmt::Display for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Handler::Default => f.pad("SIG_DFL"),
            Handler::Ignore => f.pad("SIG_IGN"),
            Handler::Function(addr) => f.pad(&format!("{addr:x}")),
        }
    }
}

impl Serialize for Handler {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Handler::Function(addr) => hex(addr, serializer),
            known => serializer.collect_str(known),
        }
    }
}

/// An entry of the table of what signals do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignalAction {
    /// The signal.
    pub signal: u32,
    /// Address of its `struct k_sigaction`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// What it does.
    pub handler: Handler,
    /// Signals that are blocked while the handler runs.
    #[serde(serialize_with = "hex")]
    pub mask: u64,
    /// `SA_*`
    #[serde(serialize_with = "hex")]
    pub flags: u64,
}

impl SignalAction {
    /// Names of its flags.
    pub fn flag_names(&self) -> Vec<&'static str> {
        FLAGS.iter().filter(|(bit, _)| self.flags & bit != 0).map(|(_, name)| *name).collect()
    }
}

/// A signal on a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueuedSignal {
    /// The signal.
    pub signal: i32,
    /// How it came about (`si_code`).
    pub code: i32,
    /// Address of its `kernel_siginfo`.
    #[serde(serialize_with = "hex")]
    pub siginfo: u64,
}

/// Signals that wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PendingSignals {
    /// Which.
    #[serde(serialize_with = "hex")]
    pub set: u64,
    /// Details of those that have some, in the order in which they came.
    pub queue: Vec<QueuedSignal>,
}

/// What the threads of a process share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProcessSignals {
    /// Address of its `struct signal_struct`.
    #[serde(serialize_with = "hex")]
    pub signal_struct: u64,
    /// How many threads it has.
    pub threads: Option<i32>,
    /// What each signal does; empty for a process that has exited.
    pub actions: Vec<SignalAction>,
    /// What waits for any of its threads.
    pub pending: Option<PendingSignals>,
    /// What could not be read, and why.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// A thread's own signals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ThreadSignals {
    /// Blocked signals.
    #[serde(serialize_with = "hex")]
    pub blocked: u64,
    /// What waits for it alone.
    pub pending: PendingSignals,
}

impl Kernel {
    /// What the threads of a task's process share of signals.
    pub fn process_signals(&self, task: &Task) -> Result<ProcessSignals> {
        if task.signal == 0 {
            return Err(Error::Null(format!("the signals of task {} (it is dead)", task.pid)));
        }
        let shared = self.layout::<SharedSignalsLayout>()?;
        let mut gaps = Gaps::default();
        let sighand = self.layout::<TaskSignalsLayout>()?.sighand.read(self, task.addr);
        let actions = sighand.and_then(|sighand| self.signal_actions(sighand));
        let pending = shared.shared_pending.address(task.signal);
        let pending = pending.and_then(|at| self.pending_signals(at));
        Ok(ProcessSignals {
            signal_struct: task.signal,
            threads: gaps.keep("threads", shared.nr_threads.read(self, task.signal)),
            actions: gaps.keep("actions", actions).unwrap_or_default(),
            pending: gaps.keep("shared signals", pending),
            gaps,
        })
    }

    /// A thread's own signals.
    pub fn thread_signals(&self, task: &Task) -> Result<ThreadSignals> {
        let layout = self.layout::<TaskSignalsLayout>()?;
        Ok(ThreadSignals {
            blocked: layout.blocked.read(self, task.addr)?,
            pending: self.pending_signals(layout.pending.address(task.addr)?)?,
        })
    }

    fn signal_actions(&self, sighand: u64) -> Result<Vec<SignalAction>> {
        if sighand == 0 {
            return Ok(Vec::new());
        }
        let layout = self.layout::<SigactionLayout>()?;
        let table = self.layout::<SighandLayout>()?.action.address(sighand)?;
        let action = |signal: u32| {
            let addr = table.wrapping_add(u64::from(signal - 1) * layout.size);
            let handler = match layout.handler.read(self, addr)? {
                0 => Handler::Default,
                1 => Handler::Ignore,
                function => Handler::Function(function),
            };
            let mask = layout.mask.read(self, addr)?;
            Ok(SignalAction { signal, addr, handler, mask, flags: layout.flags.read(self, addr)? })
        };
        (1..=SIGNALS).map(action).collect()
    }

    fn pending_signals(&self, addr: u64) -> Result<PendingSignals> {
        let layout = self.layout::<SigpendingLayout>()?;
        let entry = self.layout::<SigqueueLayout>()?;
        let set = layout.signal.read(self, addr)?;
        let head = layout.list.address(addr)?;
        let queued = self.list(head, entry.list.offset()?, "queued signals").map(|at| {
            let at = at?;
            Ok(QueuedSignal {
                signal: entry.number.read(self, at)?,
                code: entry.code.read(self, at)?,
                siginfo: entry.info.address(at)?,
            })
        });
        Ok(PendingSignals { set, queue: queued.collect::<Result<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names() {
        let name = |number| signal_name(number).unwrap_or_default();
        assert_eq!((name(1), name(31)), ("SIGHUP".into(), "SIGSYS/SIGUNUSED".into()));
        assert_eq!((name(32), name(48)), ("SIGRTMIN".into(), "SIGRTMIN+16".into()));
        assert_eq!((name(49), name(64)), ("SIGRTMAX-15".into(), "SIGRTMAX".into()));
        assert_eq!((signal_name(0), signal_name(65)), (None, None));
    }

    #[test]
    fn sets_count_from_bit_zero() {
        let names = names_in(0x800a_0000_0000_0221);
        let expected = ["SIGHUP", "SIGABRT", "SIGUSR1", "SIGRTMAX-14", "SIGRTMAX-12", "SIGRTMAX"];
        assert_eq!(names, expected);
    }

    #[test]
    fn flags_have_names() {
        let handler = Handler::Function(0x45_ec20);
        let action = SignalAction { signal: 33, addr: 0, handler, mask: 0, flags: 0x1c00_0004 };
        let names = ["SA_RESTORER", "SA_SIGINFO", "SA_ONSTACK", "SA_RESTART"];
        assert_eq!(action.flag_names(), names);
        assert_eq!(format!("{handler:>10}|{:>10}", Handler::Ignore), "    45ec20|   SIG_IGN");
    }
}
