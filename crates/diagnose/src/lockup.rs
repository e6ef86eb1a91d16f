//! A CPU that is stuck: which task, where, on which lock.
//!
//! Shared by the detectors of soft lockups, hard lockups and RCU stalls: all
//! three are told by a watchdog, and the culprit is what the watchdog's
//! interrupt stopped (on its own CPU), or what another CPU was doing.

use std::collections::HashMap;

use kmortem_kernel::Kernel;
use kmortem_kernel::instruction::{Access, Flow};
use kmortem_kernel::stack::{Frame, Stack, base_name};
use kmortem_kernel::task::Task;

use crate::case::{Case, TaskStack};
use crate::context::{Context, context_of};
use crate::detectors::arrow;
use crate::fault::{callers, short};
use crate::view::StackView;

/// Functions that wait for a spinning lock.
const SPINNERS: &[&str] = &[
    "native_queued_spin_lock_slowpath",
    "queued_spin_lock_slowpath",
    "__pv_queued_spin_lock_slowpath",
    "pv_wait_head_or_lock",
    "do_raw_spin_lock",
    "_raw_spin_lock",
    "_raw_spin_lock_irq",
    "_raw_spin_lock_irqsave",
    "_raw_spin_lock_bh",
    "queued_read_lock_slowpath",
    "queued_write_lock_slowpath",
    "_raw_read_lock",
    "_raw_write_lock",
    "osq_lock",
    "kvm_wait",
];

/// What a CPU is stuck in.
#[derive(Debug, Clone)]
pub(crate) struct Stuck {
    /// The task on it.
    pub(crate) task: Task,
    /// Its stack.
    pub(crate) stack: Stack,
    /// Index of the frame that goes on and on.
    pub(crate) frame: usize,
    /// "f+0x12 [module]".
    pub(crate) place: String,
    /// The function by itself, compiler suffixes cut.
    pub(crate) function: String,
    /// In whose name it runs.
    pub(crate) context: Context,
    /// Whether it waits for a spinlock (else it loops by itself).
    pub(crate) waits_for_lock: bool,
    /// Spinlocks that its function takes before the place where it is, and
    /// that are taken now: by name.
    pub(crate) holds: Vec<String>,
}

impl Stuck {
    /// The culprit on the crashed CPU: what the watchdog's interrupt stopped.
    pub(crate) fn on_crashed(case: &Case<'_>) -> Option<Stuck> {
        let crashed = case.crashed.as_ref()?;
        let interrupt = crashed.exceptions.first()?;
        Some(Stuck::at(case.kernel(), &crashed.task, &crashed.stack, interrupt.frame))
    }

    /// What CPU `cpu`, not the crashed one, was doing.
    pub(crate) fn on_cpu(case: &Case<'_>, cpu: u32) -> Option<Stuck> {
        case.active.iter().find(|t| t.task.cpu == cpu).map(|t| Stuck::of(case, t))
    }

    /// What a task was doing, on a CPU or off.
    pub(crate) fn of_task(case: &Case<'_>, task: &Task) -> Option<Stuck> {
        if let Some(crashed) = case.crashed.as_ref().filter(|c| c.task.addr == task.addr) {
            let at = crashed.exceptions.first().map_or(crashed.own, |e| e.frame);
            return Some(Stuck::at(case.kernel(), &crashed.task, &crashed.stack, at));
        }
        case.task_stack(task.addr).map(|t| Stuck::of(case, &t))
    }

    /// What a task that did not find the lockup itself was doing: below the
    /// interrupt that stopped it, or that took its CPU away.
    fn of(case: &Case<'_>, active: &TaskStack) -> Stuck {
        // The panic's own stop interrupt lies on top.
        let frames = &active.stack.frames;
        let stopped = frames
            .iter()
            .take(32)
            .rposition(|f| {
                matches!(
                    f.function(),
                    "stop_this_cpu"
                        | "nmi_handle"
                        | "asm_exc_nmi"
                        | "exc_nmi"
                        | "end_repeat_nmi"
                        | "asm_sysvec_reboot"
                        | "crash_nmi_callback"
                        | "asm_sysvec_apic_timer_interrupt"
                        | "asm_common_interrupt"
                        | "local_cpu_stop"
                        | "ipi_cpu_stop"
                        | "el1_irq"
                        | "el1h_64_irq"
                )
            })
            .map_or(0, |at| at + 1);
        let at = stopped.min(frames.len().saturating_sub(1));
        Stuck::at(case.kernel(), &active.task, &active.stack, at)
    }

    fn at(kernel: Option<&Kernel>, task: &Task, stack: &Stack, from: usize) -> Stuck {
        let frames = &stack.frames;
        let waits_for_lock = frames.get(from).is_some_and(is_spinner);
        let frame = match waits_for_lock {
            true => (from..frames.len()).find(|i| !is_spinner(&frames[*i])).unwrap_or(from),
            false => from,
        };
        let symbol = frames.get(frame).and_then(|f| f.symbol.as_ref());
        Stuck {
            task: task.clone(),
            stack: stack.clone(),
            frame,
            place: symbol.map_or_else(|| "an unknown place".into(), short),
            function: frames.get(frame).map_or(String::new(), |f| f.function().to_owned()),
            context: context_of(stack, frame),
            waits_for_lock,
            holds: match kernel {
                Some(kernel) if !waits_for_lock => {
                    frames.get(frame).map(|f| locks_taken(kernel, f)).unwrap_or_default()
                }
                _ => Vec::new(),
            },
        }
    }

    /// "does not leave f+0x12 [module] (called by g), holding lock".
    pub(crate) fn does(&self) -> String {
        let kind = if self.waits_for_lock { "spins on a lock wanted by" } else { "does not leave" };
        let called = match callers(&self.stack, self.frame) {
            names if names.is_empty() => String::new(),
            names => format!(" (called by {})", arrow(&names, 3)),
        };
        let held = match self.holds.first() {
            Some(lock) => format!(", holding {lock},"),
            None => String::new(),
        };
        format!("{kind} {}{called}{held}", self.place)
    }

    /// Its stack, the watchdog folded away.
    pub(crate) fn view(&self) -> StackView {
        let from = if self.waits_for_lock { self.frame.saturating_sub(1) } else { self.frame };
        let mut view = StackView::new(&self.stack, from);
        view.note(
            self.frame,
            if self.waits_for_lock { "waits for the lock" } else { "stuck here" },
        );
        view
    }
}

fn is_spinner(frame: &Frame) -> bool {
    SPINNERS.contains(&frame.function())
}

/// Spinlocks whose constant address the function passes to a lock function
/// before `frame`'s place, and that are taken in the dump.
fn locks_taken(kernel: &Kernel, frame: &Frame) -> Vec<String> {
    let Some(symbol) = &frame.symbol else { return Vec::new() };
    let start = frame.pc.wrapping_sub(symbol.offset);
    let Ok(Some(code)) = kernel.instructions(start, frame.pc) else { return Vec::new() };
    let set = kernel.arch().register_set();
    let Some(argument) = set.arguments.first() else { return Vec::new() };
    // Registers that hold an address which the code itself names.
    let mut known: HashMap<&str, u64> = HashMap::new();
    let mut taken = Vec::new();
    for instruction in &code {
        if instruction.flow == Flow::Call {
            let target = instruction.target.and_then(|t| kernel.symbol_at(t));
            let name = target.as_ref().map_or("", |s| base_name(&s.name));
            if let Some(lock) = known.get(argument) {
                if name.starts_with("_raw_spin_lock") {
                    taken.push(*lock);
                } else if name.starts_with("_raw_spin_unlock") {
                    taken.retain(|l| l != lock);
                }
            }
            known.retain(|register, _| !set.scratch.contains(register));
            continue;
        }
        // arm64 takes and gives a spinlock back in place.
        if let [memory] = instruction.memory.as_slice()
            && let Some(base) = memory.base.as_ref().and_then(|base| known.get(base.as_str()))
        {
            let lock = base.wrapping_add_signed(memory.displacement);
            match (memory.access, memory.size) {
                (Access::ReadWrite, 4) if instruction.text.starts_with("casa") => taken.push(lock),
                (Access::Write, 1) => taken.retain(|l| *l != lock),
                _ => {}
            }
        }
        let sum = || {
            let (register, constant) = instruction.added.as_ref()?;
            known.get(register.as_str()).map(|value| value.wrapping_add(*constant))
        };
        let value = instruction.constant.or_else(sum);
        for register in &instruction.writes {
            known.remove(register.as_str());
            if let Some(value) = value {
                known.insert(register, value);
            }
        }
    }
    taken
        .into_iter()
        // A queued spinlock's first byte is 1 while somebody holds it.
        .filter(|lock| kernel.read_u32(*lock).is_ok_and(|v| v & 0xff != 0))
        .filter_map(|lock| kernel.symbol_at(lock))
        .map(|s| match &s.module {
            Some(module) => format!("{} [{module}]", base_name(&s.name)),
            None => base_name(&s.name).to_owned(),
        })
        .collect()
}
