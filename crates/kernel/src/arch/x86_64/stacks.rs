//! The stacks that x86_64 kernel code may run on.
//!
//! Besides its task's stack a CPU has one for device interrupts
//! (`hardirq_stack_ptr`, per CPU, points to its top), one for each exception
//! that must not use the current stack (`cea_exception_stacks`, mapped with
//! guard pages in the CPU entry area: double fault, NMI, debug, machine check,
//! #VC) and a small one on which user space enters (`entry_stack_page`).
//! Sources: arch/x86/include/asm/{processor,cpu_entry_area}.h,
//! arch/x86/kernel/{irq_64,dumpstack_64}.c.

use crate::arch::{CpuStack, StackKind, Start};
use crate::error::{Error, Result};
use crate::layout::{Embedded, place_of};
use crate::task::{Task, TaskLayout};
use crate::{Kernel, layout};

/// Bytes of an interrupt stack (`IRQ_STACK_SIZE`, 4 pages).
const IRQ_STACK_SIZE: u64 = 16 << 10;

layout! {
    /// `struct inactive_task_frame`, arch/x86/include/asm/switch_to.h: what
    /// `__switch_to_asm` leaves at `thread.sp`.
    pub struct InactiveFrameLayout for "inactive_task_frame" {
        bp: u64 = "bp",
        ret_addr: Embedded = "ret_addr",
    }
}

/// All stacks of all possible CPUs, as far as they can be read.
pub(super) fn cpu_stacks(kernel: &Kernel) -> Result<Vec<CpuStack>> {
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

/// Where a task goes on that `__switch_to_asm` has left.
pub(super) fn switched_out(kernel: &Kernel, task: &Task) -> Result<Start> {
    let range = kernel.stack_range(task)?;
    let layout = kernel.layout::<TaskLayout>()?;
    let sp = layout.thread_sp.read(kernel, task.addr)?;
    if !range.contains(&sp) {
        return Err(Error::corrupt(
            format!("the saved stack pointer ({sp:#x}) of task {}", task.pid),
            task.addr,
        ));
    }
    let frame = kernel.layout::<InactiveFrameLayout>()?;
    let at = frame.ret_addr.address(sp)?;
    let start = Start::Switched {
        sp: at + 8,
        at,
        ip: kernel.read_u64(at)?,
        bp: frame.bp.read(kernel, sp)?,
    };
    Ok(start)
}
