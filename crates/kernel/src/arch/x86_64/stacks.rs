//! The stacks that x86_64 kernel code may run on.
//!
//! Besides its task's stack a CPU has one for device interrupts
//! (`hardirq_stack_ptr`, per CPU, points to its top), one for each exception
//! that must not use the current stack (`cea_exception_stacks`, mapped with
//! guard pages in the CPU entry area: double fault, NMI, debug, machine check,
//! #VC) and a small one on which user space enters (`entry_stack_page`).
//! Sources: arch/x86/include/asm/{processor,cpu_entry_area}.h,
//! arch/x86/kernel/{irq_64,dumpstack_64}.c.

use std::ops::Range;

use serde::Serialize;

use crate::Kernel;
use crate::error::Result;
use crate::layout::place_of;

/// Bytes of an interrupt stack (`IRQ_STACK_SIZE`, 4 pages).
const IRQ_STACK_SIZE: u64 = 16 << 10;

/// What a stack is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StackKind {
    /// The task's own kernel stack.
    Task,
    /// Device interrupts and softirqs.
    Irq,
    /// Double faults.
    DoubleFault,
    /// Non-maskable interrupts.
    Nmi,
    /// Debug exceptions.
    Debug,
    /// Machine checks.
    MachineCheck,
    /// #VC of encrypted guests.
    Vc,
    /// Entry from user space.
    Entry,
}

impl StackKind {
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

/// All stacks of all possible CPUs, as far as they can be read.
pub fn cpu_stacks(kernel: &Kernel) -> Result<Vec<CpuStack>> {
    let mut stacks = Vec::new();
    for cpu in kernel.possible_cpus()? {
        let mut push = |kind, start: u64, size: u64| {
            if start >> 63 == 1
                && size > 0
                && let Some(end) = start.checked_add(size)
            {
                stacks.push(CpuStack { cpu, kind, range: start..end });
            }
        };
        if let Ok(top) = irq_stack_top(kernel, cpu) {
            // The top word of the stack is used for the way back: the pointer
            // may stand 8 bytes below the end.
            let end = (top + 0xfff) & !0xfff;
            push(StackKind::Irq, end.wrapping_sub(IRQ_STACK_SIZE), IRQ_STACK_SIZE);
        }
        for (kind, start, size) in exception_stacks(kernel, cpu).unwrap_or_default() {
            push(kind, start, size);
        }
        if let Ok((start, size)) = entry_stack(kernel, cpu) {
            push(StackKind::Entry, start, size);
        }
    }
    stacks.sort_by_key(|s| s.range.start);
    Ok(stacks)
}

/// `hardirq_stack_ptr`: a per-CPU variable, in `pcpu_hot` from v6.2 to v6.14.
fn irq_stack_top(kernel: &Kernel, cpu: u32) -> Result<u64> {
    let at = kernel.per_cpu("hardirq_stack_ptr", cpu).or_else(|_| {
        let hot = kernel.object_at("pcpu_hot", kernel.per_cpu("pcpu_hot", cpu)?)?;
        Ok(hot.field("hardirq_stack_ptr")?.addr())
    })?;
    kernel.read_u64(at)
}

/// The members of `struct cea_exception_stacks` and their addresses.
fn exception_stacks(kernel: &Kernel, cpu: u32) -> Result<Vec<(StackKind, u64, u64)>> {
    let base = kernel.read_u64(kernel.per_cpu("cea_exception_stacks", cpu)?)?;
    let ty = kernel.ty("cea_exception_stacks")?;
    let members = [
        (StackKind::DoubleFault, "DF_stack"),
        (StackKind::Nmi, "NMI_stack"),
        (StackKind::Debug, "DB_stack"),
        (StackKind::MachineCheck, "MCE_stack"),
        (StackKind::Vc, "VC_stack"),
        (StackKind::Vc, "VC2_stack"),
    ];
    Ok(members
        .into_iter()
        .filter_map(|(kind, name)| {
            let place = place_of(ty, name)?;
            Some((kind, base.wrapping_add(place.offset), place.size))
        })
        .collect())
}

/// The entry stack lies in the CPU entry area, whose address is per CPU.
fn entry_stack(kernel: &Kernel, cpu: u32) -> Result<(u64, u64)> {
    let area = match kernel.per_cpu("cpu_entry_area", cpu).and_then(|at| kernel.read_u64(at)) {
        Ok(area) if area >> 63 == 1 => area,
        // Not kept in a variable: the exception stacks lie in the same area.
        _ => {
            let stacks = kernel.read_u64(kernel.per_cpu("cea_exception_stacks", cpu)?)?;
            let ty = kernel.ty("cpu_entry_area")?;
            let estacks = place_of(ty, "estacks").map_or(0, |p| p.offset);
            stacks.wrapping_sub(estacks)
        }
    };
    let page = kernel.object_at("cpu_entry_area", area)?.field("entry_stack_page")?;
    Ok((page.addr(), page.ty().size().unwrap_or(4096)))
}
