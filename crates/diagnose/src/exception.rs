//! The processor exception that a dying task was stopped by: which one, with
//! which registers, at which instruction, for which address.
//!
//! Truth comes from the exception frame on the stack. It counts as the crash
//! only when the way from it to the panic goes through the kernel's own code
//! for dying of it (a page fault that a system call survived leaves a frame,
//! too: a copy to user space is allowed to fault).

use kmortem_kernel::Kernel;
use kmortem_kernel::arch::Registers;
use kmortem_kernel::instruction::{Instruction, MemoryOperand};
use kmortem_kernel::stack::Stack;
use serde::Serialize;

use crate::noise;

/// Which exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Trap {
    PageFault,
    GeneralProtection,
    DivideError,
    InvalidOpcode,
    DoubleFault,
    StackSegment,
    ControlProtection,
    Nmi,
    MachineCheck,
    Interrupt,
    Other,
}

impl Trap {
    /// Whether the interrupted instruction itself is to blame.
    pub fn is_fault(self) -> bool {
        !matches!(self, Trap::Nmi | Trap::MachineCheck | Trap::Interrupt | Trap::Other)
    }
}

/// Handlers' names, in their forms of 4.x to 7.x, with what they handle.
const HANDLERS: &[(&str, Trap)] = &[
    ("page_fault", Trap::PageFault),
    ("general_protection", Trap::GeneralProtection),
    ("divide_error", Trap::DivideError),
    ("invalid_op", Trap::InvalidOpcode),
    ("double_fault", Trap::DoubleFault),
    ("stack_segment", Trap::StackSegment),
    ("control_protection", Trap::ControlProtection),
    ("machine_check", Trap::MachineCheck),
    ("nmi", Trap::Nmi),
    ("end_repeat_nmi", Trap::Nmi),
    ("common_interrupt", Trap::Interrupt),
    // arm64: el1_sync and el1_irq have one handler for all until v5.10.
    ("el1_abort", Trap::PageFault),
    ("el1_da", Trap::PageFault),
    ("do_mem_abort", Trap::PageFault),
    ("el1_pc", Trap::Other),
    ("el1_undef", Trap::InvalidOpcode),
    ("el1_dbg", Trap::InvalidOpcode),
    ("el1_brk64", Trap::InvalidOpcode),
    ("do_debug_exception", Trap::InvalidOpcode),
    ("el1_bti", Trap::ControlProtection),
    ("el1_fpac", Trap::ControlProtection),
    ("el1_gcs", Trap::ControlProtection),
    ("__bad_stack", Trap::DoubleFault),
    ("handle_bad_stack", Trap::DoubleFault),
    ("el1_irq", Trap::Interrupt),
    ("el1h_64_irq", Trap::Interrupt),
    ("el1h_64_fiq", Trap::Interrupt),
    ("el1h_64_error", Trap::MachineCheck),
    ("el1_error", Trap::MachineCheck),
    ("__sdei_asm_handler", Trap::Nmi),
];

/// Functions that only run when an exception is fatal.
const FATAL: &[&str] = &[
    "oops_end",
    "die",
    "__die",
    "die_addr",
    "page_fault_oops",
    "no_context",
    "do_trap",
    "do_error_trap",
    "handle_stack_overflow",
    "make_task_dead",
    "do_exit",
    "rewind_stack_and_make_dead",
    "rewind_stack_do_exit",
    // arm64
    "die_kernel_fault",
    "bug_handler",
    "arm64_notify_die",
    "panic_bad_stack",
    "handle_bad_stack",
    "arm64_serror_panic",
];

fn trap_of(function: &str) -> Option<Trap> {
    let name =
        function.trim_start_matches("xen_").trim_start_matches("asm_").trim_start_matches("exc_");
    HANDLERS
        .iter()
        .find(|(handler, _)| *handler == name)
        .map(|(_, trap)| *trap)
        .or_else(|| name.starts_with("sysvec_").then_some(Trap::Interrupt))
}

/// A frame that an exception stopped, and how.
#[derive(Debug, Clone, Serialize)]
pub struct Exception {
    /// Which exception.
    pub trap: Trap,
    /// Index of the stopped frame in its stack.
    pub frame: usize,
    /// Its registers.
    pub registers: Registers,
    /// Whether the kernel was dying of it.
    pub fatal: bool,
    /// The instruction; why not, where it can't be had.
    #[serde(serialize_with = "result")]
    pub instruction: Result<Instruction, String>,
}

fn result<S: serde::Serializer>(
    value: &Result<Instruction, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Ok(instruction) => instruction.serialize(serializer),
        Err(why) => serializer.collect_map([("unreadable", why)]),
    }
}

impl Exception {
    /// The memory operand that the exception is about: the one at `address`
    /// (what the processor reported), else the only one, else one whose
    /// address can't be right.
    pub fn operand(&self, address: Option<u64>) -> Option<&MemoryOperand> {
        let operands = &self.instruction.as_ref().ok()?.memory;
        let near = |m: &&MemoryOperand| match (m.address, address) {
            (Some(a), Some(b)) => b.wrapping_sub(a) < m.size.max(1).max(64),
            _ => false,
        };
        let wild = |m: &&MemoryOperand| {
            m.address.is_some_and(|a| a < 1 << 16 || !matches!(a as i64 >> 56, 0 | -1))
        };
        operands
            .iter()
            .find(near)
            .or_else(|| operands.iter().find(wild))
            .or_else(|| operands.iter().find(|m| m.address.is_some() && m.segment.is_none()))
            .or_else(|| operands.first())
    }

    /// Value of a register by name.
    pub fn register(&self, name: &str) -> Option<u64> {
        self.registers.named(name)
    }
}

/// All frames of `stack` that exceptions or interrupts stopped, innermost first.
pub(crate) fn exceptions(kernel: Option<&Kernel>, stack: &Stack) -> Vec<Exception> {
    let mut found = Vec::new();
    let mut since = 0;
    for (at, frame) in stack.frames.iter().enumerate() {
        // The first frame's registers are where the dump was made.
        let Some(registers) = frame.registers.filter(|_| at > 0) else { continue };
        let above = &stack.frames[since..at];
        let trap = above.iter().rev().find_map(|f| trap_of(f.function()));
        let fatal = above.iter().any(|f| FATAL.contains(&f.function()));
        let instruction = match kernel {
            Some(kernel) => kernel.instruction(&registers).map_err(|e| e.to_string()),
            None => Err("no dump".into()),
        };
        let trap = trap.unwrap_or(Trap::Other);
        found.push(Exception { trap, frame: at, registers, fatal, instruction });
        since = at;
    }
    found
}

/// Index of the first frame of `stack` that is not part of the dying itself.
pub(crate) fn first_own_frame(stack: &Stack) -> usize {
    let last_dying = stack.frames.iter().take(64).rposition(|f| {
        matches!(
            f.function(),
            "panic" | "vpanic" | "nmi_panic" | "crash_kexec" | "__crash_kexec" | "oops_end" | "die"
        )
    });
    let mut at = match last_dying {
        Some(at) => at + 1,
        // Stopped from outside: the whole stack is its own.
        None => return 0,
    };
    while stack.frames.get(at).is_some_and(|f| noise::is_dying(f.function())) {
        at += 1;
    }
    at.min(stack.frames.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{interrupted, stack};

    #[test]
    fn a_fatal_page_fault_is_told_from_a_survived_one() {
        let mut died = stack(&[
            "delay_tsc",
            "panic",
            "oops_end",
            "page_fault_oops",
            "exc_page_fault",
            "asm_exc_page_fault",
            "crasher_null_deref",
            "crasher_init",
        ]);
        interrupted(&mut died, 6);
        let found = exceptions(None, &died);
        assert_eq!((found[0].trap, found[0].fatal, found[0].frame), (Trap::PageFault, true, 6));

        let mut survived = stack(&[
            "panic",
            "out_of_memory",
            "handle_mm_fault",
            "exc_page_fault",
            "asm_exc_page_fault",
            "rep_stos_alternative",
            "read_zero",
        ]);
        interrupted(&mut survived, 5);
        assert!(!exceptions(None, &survived)[0].fatal);
    }

    #[test]
    fn a_watchdog_s_timer_is_an_interrupt() {
        let mut stack = stack(&[
            "panic",
            "watchdog_timer_fn",
            "hrtimer_interrupt",
            "sysvec_apic_timer_interrupt",
            "asm_sysvec_apic_timer_interrupt",
            "crasher_walk_index",
            "kthread",
        ]);
        interrupted(&mut stack, 5);
        let found = exceptions(None, &stack);
        assert_eq!(found[0].trap, Trap::Interrupt);
        assert!(!found[0].trap.is_fault());
    }

    #[test]
    fn the_culprit_s_stack_starts_below_the_panic() {
        let own = |names: &[&str]| first_own_frame(&stack(names));
        assert_eq!(own(&["delay_tsc", "panic", "crasher_leak_sessions", "crasher_init"]), 2);
        assert_eq!(own(&["panic", "oops_end", "page_fault_oops", "exc_page_fault", "f"]), 4);
        assert_eq!(own(&["native_halt", "do_idle"]), 0);
    }
}
