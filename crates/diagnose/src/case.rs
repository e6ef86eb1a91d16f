//! What every detector may want, worked out once.
//!
//! A [`Case`] holds plain values (log, incidents, the crashed task with its
//! stack and exceptions) and leads to the kernel for the rest. Tests build one
//! in code, without a kernel: a detector then sees a machine of which nothing
//! else can be read.

use std::cell::OnceCell;

use kmortem_kernel::Kernel;
use kmortem_kernel::lock::{Wait, WaitGraph};
use kmortem_kernel::memory::Memory;
use kmortem_kernel::panic::CrashEvidence;
use kmortem_kernel::stack::{Stack, StackEnd};
use kmortem_kernel::task::{Task, TaskState};

use crate::context::{Context, context_of};
use crate::exception::{Exception, exceptions, first_own_frame};
use crate::finding::{Evidence, Source};
use crate::oops::{self, Incident, IncidentKind, LogLine};

/// A task with its stack.
#[derive(Debug, Clone)]
pub struct TaskStack {
    /// The task.
    pub task: Task,
    /// Its stack.
    pub stack: Stack,
}

/// The task that was running when the kernel gave up.
#[derive(Debug, Clone)]
pub struct Crashed {
    /// The task.
    pub task: Task,
    /// Its stack.
    pub stack: Stack,
    /// The CPU.
    pub cpu: u32,
    /// How it was found.
    pub how: String,
    /// Index of the first frame that is not part of the dying itself.
    pub own: usize,
    /// Exceptions and interrupts on the stack, innermost first.
    pub exceptions: Vec<Exception>,
}

impl Crashed {
    /// From a task and its stack.
    pub fn new(
        kernel: Option<&Kernel>,
        task: Task,
        stack: Stack,
        cpu: u32,
        how: String,
    ) -> Crashed {
        let exceptions = exceptions(kernel, &stack);
        let own = match exceptions.iter().find(|e| e.fatal && e.trap.is_fault()) {
            Some(fault) => fault.frame,
            None => first_own_frame(&stack),
        };
        Crashed { task, stack, cpu, how, own, exceptions }
    }

    /// The exception that the kernel was dying of.
    pub fn fault(&self) -> Option<&Exception> {
        self.exceptions.iter().find(|e| e.fatal && e.trap.is_fault())
    }

    /// In whose name the first own frame ran.
    pub fn context(&self) -> Context {
        context_of(&self.stack, self.own)
    }

    /// Whether the kernel was in panic() or an oops on this stack.
    pub fn is_dying(&self) -> bool {
        self.stack.frames.iter().take(64).any(|f| {
            matches!(
                f.function(),
                "panic"
                    | "vpanic"
                    | "nmi_panic"
                    | "oops_end"
                    | "crash_kexec"
                    | "__crash_kexec"
                    | "die"
                    | "machine_kexec"
            )
        })
    }
}

/// Everything about one dead machine.
#[derive(Default)]
pub struct Case<'k> {
    kernel: Option<&'k Kernel>,
    /// The log's lines.
    pub log: Vec<LogLine>,
    /// Why there is no log.
    pub log_error: Option<String>,
    /// What the kernel complained about, in order.
    pub incidents: Vec<Incident>,
    /// When and with which words it panicked.
    pub panic: Option<(u64, String)>,
    /// The task that was running when the kernel gave up.
    pub crashed: Option<Crashed>,
    /// What other active tasks were doing, for the lockup detectors.
    pub active: Vec<TaskStack>,
    memory: OnceCell<Result<Memory, String>>,
    sleepers: OnceCell<Vec<TaskStack>>,
    waits: OnceCell<WaitGraph>,
    /// Tasks with stacks that tests put here instead of in a kernel.
    others: Vec<TaskStack>,
}

/// D-state tasks whose stacks are read; the ones that wait longest.
const MOST_SLEEPERS: usize = 64;

impl<'k> Case<'k> {
    /// Reads what every detector needs.
    pub fn open(kernel: &'k Kernel) -> Case<'k> {
        let (log, log_error) = match kernel.log() {
            Ok(log) => (
                log.lines()
                    // Only the kernel's own words: others come from /dev/kmsg.
                    .filter(|(record, _)| record.facility == 0)
                    .map(|(record, text)| LogLine {
                        ts_ns: record.ts_ns,
                        caller: record.caller.as_ref().map(|c| match (c.pid, c.cpu) {
                            (Some(pid), _) => format!("T{pid}"),
                            (None, Some(cpu)) => format!("C{cpu}"),
                            (None, None) => String::new(),
                        }),
                        text: text.to_owned(),
                    })
                    .collect(),
                None,
            ),
            Err(e) => (Vec::new(), Some(e.to_string())),
        };
        let mut case = Case::of_log(log);
        case.kernel = Some(kernel);
        case.log_error = log_error;
        case.crashed = crashed(kernel);
        case.active = active(kernel, case.crashed.as_ref().map(|c| c.task.addr));
        case
    }

    /// A case of which only the log is known.
    pub fn of_log(log: Vec<LogLine>) -> Case<'k> {
        let incidents = oops::incidents(&log);
        let panic = oops::panic_message(&log);
        Case { log, incidents, panic, ..Case::default() }
    }

    /// The kernel, where there is one.
    pub fn kernel(&self) -> Option<&'k Kernel> {
        self.kernel
    }

    /// The panic's own words, or "".
    pub fn panic_text(&self) -> &str {
        let text = self.panic.as_ref().map_or("", |(_, text)| text.as_str());
        // arm64 puts the name of the oops before it.
        text.find(": Fatal exception").map_or(text, |at| &text[at + 2..])
    }

    /// Whether the machine was stopped by its own kernel (as opposed to a dump
    /// of a running one).
    pub fn is_dead(&self) -> bool {
        self.panic.is_some() || self.crashed.as_ref().is_some_and(Crashed::is_dying)
    }

    /// The last incident of one of `kinds`.
    pub fn last(&self, kinds: &[IncidentKind]) -> Option<&Incident> {
        self.incidents.iter().rev().find(|i| kinds.contains(&i.kind))
    }

    /// The oops that belongs to the crashed task: the last one in the log whose
    /// task (if it says) is that one.
    pub fn own_oops(&self) -> Option<&Incident> {
        let pid = self.crashed.as_ref().map(|c| c.task.pid);
        self.incidents
            .iter()
            .rev()
            .find(|i| i.kind.is_serious() && (i.pid.is_none() || pid.is_none() || i.pid == pid))
    }

    /// Whether an oops of the crashed task is what ended the machine.
    pub fn crashed_by_oops(&self) -> bool {
        self.panic_text().starts_with("Fatal exception")
            || self.crashed.as_ref().is_some_and(|c| c.fault().is_some())
    }

    /// Title lines of an incident as evidence.
    pub fn log_evidence(&self, incident: &Incident) -> Vec<Evidence> {
        let mut found: Vec<Evidence> = incident
            .titles
            .iter()
            .take(3)
            .map(|title| Evidence {
                source: Source::Log,
                text: title.clone(),
                at_ns: Some(incident.at_ns),
            })
            .collect();
        if let Some(rip) = &incident.rip {
            found.push(Evidence {
                source: Source::Log,
                text: format!("RIP: {rip}"),
                at_ns: Some(incident.at_ns),
            });
        }
        found
    }

    /// The panic line as evidence.
    pub fn panic_evidence(&self) -> Option<Evidence> {
        let (at, text) = self.panic.as_ref()?;
        Some(Evidence {
            source: Source::Log,
            text: format!("Kernel panic - not syncing: {text}"),
            at_ns: Some(*at),
        })
    }

    /// The first line that contains `text`: (nanoseconds, line).
    pub fn line(&self, text: &str) -> Option<(u64, &str)> {
        self.log.iter().find(|l| l.text.contains(text)).map(|l| (l.ts_ns, l.text.as_str()))
    }

    /// The last line that contains `text`.
    pub fn last_line(&self, text: &str) -> Option<(u64, &str)> {
        self.log.iter().rev().find(|l| l.text.contains(text)).map(|l| (l.ts_ns, l.text.as_str()))
    }

    /// A 32-bit setting of the kernel, by the names its variable has had.
    pub fn setting(&self, names: &[&str]) -> Option<i64> {
        let kernel = self.kernel?;
        names
            .iter()
            .find_map(|name| kernel.read_u32(kernel.symbol(name).ok()?).ok())
            .map(|v| i64::from(v as i32))
    }

    /// The machine's memory, by use.
    pub fn memory(&self) -> Result<&Memory, &str> {
        self.memory
            .get_or_init(|| match self.kernel {
                Some(kernel) => kernel.memory().map_err(|e| e.to_string()),
                None => Err("no dump".into()),
            })
            .as_ref()
            .map_err(String::as_str)
    }

    /// All tasks; empty where they can't be had.
    pub fn tasks(&self) -> &'k [Task] {
        self.kernel.and_then(|k| k.tasks().ok()).map_or(&[], |t| t.list.as_slice())
    }

    /// The task of that PID.
    pub fn task(&self, pid: i32) -> Option<&'k Task> {
        self.kernel?.tasks().ok()?.pid(pid)
    }

    /// Tasks in D state with their stacks, the longest sleepers first.
    pub fn sleepers(&self) -> &[TaskStack] {
        self.sleepers.get_or_init(|| {
            let Some(kernel) = self.kernel else { return Vec::new() };
            let mut tasks: Vec<&Task> =
                self.tasks().iter().filter(|t| t.state == TaskState::Uninterruptible).collect();
            tasks.sort_by_key(|t| (t.last_arrival_ns.unwrap_or(u64::MAX), t.pid));
            tasks.truncate(MOST_SLEEPERS);
            tasks
                .into_iter()
                .map(|t| TaskStack { task: t.clone(), stack: kernel.stack(t) })
                .collect()
        })
    }

    /// The task at `addr` with its stack.
    pub fn task_stack(&self, addr: u64) -> Option<TaskStack> {
        if let Some(found) = self.others.iter().chain(self.sleepers()).find(|t| t.task.addr == addr)
        {
            return Some(found.clone());
        }
        let kernel = self.kernel?;
        let task = kernel.tasks().ok()?.at(addr)?.clone();
        let stack = kernel.stack(&task);
        Some(TaskStack { task, stack })
    }

    /// What the tasks in D state wait for, and what the holders of those locks
    /// wait for in turn.
    pub fn waits(&self) -> &WaitGraph {
        self.waits.get_or_init(|| {
            let Some(kernel) = self.kernel else { return WaitGraph::new(Vec::new()) };
            let mut waits: Vec<Wait> = Vec::new();
            let mut seen: Vec<u64> = Vec::new();
            let mut todo: Vec<TaskStack> = self.sleepers().to_vec();
            while let Some(next) = todo.pop() {
                if next.task.active || seen.contains(&next.task.addr) {
                    continue;
                }
                seen.push(next.task.addr);
                let Some(wait) = kernel.waits_for(&next.task, &next.stack) else { continue };
                if let Some(owner) = wait.lock.owner.certain() {
                    todo.extend(self.task_stack(owner.addr));
                }
                waits.push(wait);
            }
            waits.sort_by_key(|w| w.waiter.task.as_ref().map_or(0, |t| t.pid));
            WaitGraph::new(waits)
        })
    }

    /// Replaces what would be read from the kernel: for tests.
    #[cfg(test)]
    pub(crate) fn with_waits(
        mut self,
        sleepers: Vec<TaskStack>,
        others: Vec<TaskStack>,
        waits: Vec<Wait>,
    ) -> Case<'k> {
        let _ = self.sleepers.set(sleepers);
        let _ = self.waits.set(WaitGraph::new(waits));
        self.others = others;
        self
    }
}

/// The task whose CPU did the panicking.
fn crashed(kernel: &Kernel) -> Option<Crashed> {
    let found = kernel.crashed_task().ok()??;
    let task = kernel.tasks().ok()?.at(found.task)?.clone();
    let stack = kernel.stack(&task);
    let how = match found.known_by {
        CrashEvidence::PanicCpu => "the CPU in panic_cpu was running it",
        CrashEvidence::CrashingCpu => "the CPU in crashing_cpu was running it",
        CrashEvidence::DieOwner => "the CPU that was in an oops was running it",
        CrashEvidence::Log => "the last oops in the log names it",
    };
    Some(Crashed::new(Some(kernel), task, stack, found.cpu, how.into()))
}

/// Stacks of what the other CPUs were doing, idle ones left out.
fn active(kernel: &Kernel, but: Option<u64>) -> Vec<TaskStack> {
    let Ok(tasks) = kernel.tasks() else { return Vec::new() };
    tasks
        .list
        .iter()
        .filter(|t| t.active && t.pid != 0 && Some(t.addr) != but)
        .take(64)
        .map(|t| TaskStack { task: t.clone(), stack: kernel.stack(t) })
        .collect()
}

/// Whether user space is at the other end of a stack.
pub(crate) fn from_user(stack: &Stack) -> bool {
    matches!(stack.end, StackEnd::User { .. })
}
