//! The stacks that arm64 kernel code may run on, and where a sleeping task's
//! trace starts.
//!
//! Besides its task's stack a CPU has, by per-CPU variables (arch/arm64/kernel/
//! {irq,traps,sdei}.c): one for interrupts (`irq_stack_ptr`, lowest address,
//! as large as a task's), one for a task that has run over the end of its own
//! (`overflow_stack`, an array), and one for each class of firmware events
//! (`sdei_stack_{normal,critical}_ptr`). EFI's runtime services have one for
//! all CPUs (`efi_rt_stack_top`, since v6.3).

use crate::arch::{CpuStack, StackKind, Start};
use crate::error::{Error, Result};
use crate::layout::{Embedded, place_of};
use crate::task::Task;
use crate::{Kernel, layout};

layout! {
    /// `struct task_struct`: where it goes on (arch/arm64/include/asm/processor.h,
    /// `struct cpu_context`)
    pub struct SwitchedLayout for "task_struct" {
        fp: u64 = "thread.cpu_context.fp",
        sp: u64 = "thread.cpu_context.sp",
        pc: u64 = "thread.cpu_context.pc",
    }
}

layout! {
    /// `struct pt_regs`, arch/arm64/include/asm/ptrace.h: its frame record.
    pub struct PtRegsLayout for "pt_regs" {
        stackframe: Embedded = "stackframe",
    }
}

/// `OVERFLOW_STACK_SIZE`.
const OVERFLOW_STACK_SIZE: u64 = 4096;

/// Bytes of `struct pt_regs`.
pub(super) fn pt_regs_size(kernel: &Kernel) -> Option<u64> {
    let size = kernel.layout::<PtRegsLayout>().ok()?.size;
    (288..=1024).contains(&size).then_some(size)
}

/// All stacks of all possible CPUs, as far as they can be read.
pub(super) fn cpu_stacks(kernel: &Kernel) -> Result<Vec<CpuStack>> {
    let size = kernel.thread_size()?;
    let mut stacks = Vec::new();
    let mut push = |cpu, kind, start: u64, size: u64| {
        if let Some(end) = start.checked_add(size).filter(|_| start >> 63 == 1) {
            stacks.push(CpuStack { cpu, kind, range: start..end });
        }
    };
    for cpu in kernel.possible_cpus()? {
        for (kind, name) in [
            (StackKind::Irq, "irq_stack_ptr"),
            (StackKind::SdeiNormal, "sdei_stack_normal_ptr"),
            (StackKind::SdeiCritical, "sdei_stack_critical_ptr"),
        ] {
            let at = kernel.per_cpu(name, cpu);
            if let Ok(start) = at.and_then(|at| kernel.read_u64(at)) {
                push(cpu, kind, start, size);
            }
        }
        if let Ok(start) = kernel.per_cpu("overflow_stack", cpu) {
            push(cpu, StackKind::Overflow, start, OVERFLOW_STACK_SIZE);
        }
    }
    if let Ok(top) = kernel.symbol("efi_rt_stack_top").and_then(|at| kernel.read_u64(at)) {
        push(0, StackKind::Efi, top.wrapping_sub(size), size);
    }
    stacks.sort_by_key(|s| s.range.start);
    Ok(stacks)
}

/// Where a task goes on that `cpu_switch_to` has left.
pub(super) fn switched_out(kernel: &Kernel, task: &Task) -> Result<Start> {
    let range = kernel.stack_range(task)?;
    let layout = kernel.layout::<SwitchedLayout>()?;
    let sp = layout.sp.read(kernel, task.addr)?;
    if !(range.start..=range.end).contains(&sp) {
        return Err(Error::corrupt(
            format!("the saved stack pointer ({sp:#x}) of task {}", task.pid),
            task.addr,
        ));
    }
    let ip = kernel.arch().code_pointer(kernel, layout.pc.read(kernel, task.addr)?);
    let bp = layout.fp.read(kernel, task.addr)?;
    Ok(Start::Switched { sp, at: sp, ip, bp })
}

/// Offset of the frame record in `struct pt_regs`, and whether it has a type
/// (`struct frame_record_meta`, since v6.13).
pub(super) fn record_of_exception(kernel: &Kernel) -> Option<(u64, bool)> {
    let place = kernel.layout::<PtRegsLayout>().ok()?.stackframe.place().ok()?;
    let typed = kernel.ty("frame_record_meta").is_ok_and(|ty| place_of(ty, "type").is_some());
    Some((place.offset, typed))
}
