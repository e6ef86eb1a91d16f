//! The stacks that kernel code may run on, and where a trace on them starts.

use std::ops::Range;

use serde::Serialize;

use super::registers::Registers;

/// What a stack is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StackKind {
    /// The task's own kernel stack.
    Task,
    /// Device interrupts and softirqs.
    Irq,
    /// Double faults (x86_64).
    DoubleFault,
    /// Non-maskable interrupts (x86_64).
    Nmi,
    /// Debug exceptions (x86_64).
    Debug,
    /// Machine checks (x86_64).
    MachineCheck,
    /// #VC of encrypted guests (x86_64).
    Vc,
    /// Entry from user space (x86_64).
    Entry,
    /// For a task that has run over the end of its own (arm64).
    Overflow,
    /// Events of the firmware, delivered at any time (arm64, SDEI).
    SdeiNormal,
    /// The same, of the critical class.
    SdeiCritical,
    /// Calls of the firmware's runtime services (arm64, EFI).
    Efi,
}

impl StackKind {
    /// Those of CPUs, in the order in which they are listed. Entry stacks hold
    /// nothing of interest.
    pub const SHOWN: [StackKind; 10] = [
        StackKind::Irq,
        StackKind::DoubleFault,
        StackKind::Nmi,
        StackKind::Debug,
        StackKind::MachineCheck,
        StackKind::Vc,
        StackKind::Overflow,
        StackKind::SdeiNormal,
        StackKind::SdeiCritical,
        StackKind::Efi,
    ];

    /// The name that crash(8) and the kernel's own traces print.
    pub fn name(self) -> &'static str {
        match self {
            StackKind::Task => "task",
            StackKind::Irq => "IRQ",
            StackKind::DoubleFault => "DOUBLEFAULT",
            StackKind::Nmi => "NMI",
            StackKind::Debug => "DEBUG",
            StackKind::MachineCheck => "MCE",
            StackKind::Vc => "VC",
            StackKind::Entry => "ENTRY",
            StackKind::Overflow => "OVERFLOW",
            StackKind::SdeiNormal => "SDEI-NORMAL",
            StackKind::SdeiCritical => "SDEI-CRITICAL",
            StackKind::Efi => "EFI",
        }
    }
}

/// One stack of a CPU.
#[derive(Debug, Clone, Serialize)]
pub struct CpuStack {
    /// CPU number.
    pub cpu: u32,
    /// What it is for.
    pub kind: StackKind,
    /// Its kernel virtual addresses.
    pub range: Range<u64>,
}

/// Where a trace starts.
#[allow(clippy::large_enum_variant, reason = "there is one per trace")]
pub enum Start {
    /// From registers of a CPU (or of an exception frame).
    Registers(Registers),
    /// From what a task that was switched away left: where its code goes on.
    Switched {
        /// Stack pointer after the return.
        sp: u64,
        /// Stack address of the return address.
        at: u64,
        /// The return address.
        ip: u64,
        /// Saved frame pointer.
        bp: u64,
    },
    /// From a return address on the stack of a CPU that nobody has registers
    /// of, which may be the innermost frame for the reason given.
    Guessed {
        /// Stack pointer after the return.
        sp: u64,
        /// Stack address of the return address.
        at: u64,
        /// The return address.
        ip: u64,
        /// Frame pointer, 0 where it is not known.
        bp: u64,
        /// Why it is believed.
        why: String,
    },
}

impl Start {
    /// Where the code goes on.
    pub fn ip(&self) -> u64 {
        match self {
            Start::Registers(regs) => regs.ip(),
            Start::Switched { ip, .. } | Start::Guessed { ip, .. } => *ip,
        }
    }

    /// The stack pointer.
    pub fn sp(&self) -> u64 {
        match self {
            Start::Registers(regs) => regs.sp(),
            Start::Switched { sp, .. } | Start::Guessed { sp, .. } => *sp,
        }
    }

    /// The frame pointer, 0 where it is not known.
    pub fn fp(&self) -> u64 {
        match self {
            Start::Registers(regs) => regs.bp().unwrap_or(0),
            Start::Switched { bp, .. } | Start::Guessed { bp, .. } => *bp,
        }
    }
}

/// The stacks on which a trace may move.
pub struct Stacks<'a> {
    /// The task's own stack.
    pub task: Range<u64>,
    /// The CPUs' stacks, sorted.
    pub cpus: &'a [CpuStack],
}

impl Stacks<'_> {
    /// The stack that `addr` is on.
    pub(super) fn find(&self, addr: u64) -> Option<(StackKind, Range<u64>)> {
        // A stack pointer at the very end of an empty stack still belongs to it.
        if (self.task.start..=self.task.end).contains(&addr) {
            return Some((StackKind::Task, self.task.clone()));
        }
        let after = self.cpus.partition_point(|s| s.range.start <= addr);
        let stack = self.cpus.get(after.checked_sub(1)?)?;
        (addr <= stack.range.end).then(|| (stack.kind, stack.range.clone()))
    }
}
