//! Which registers on a stack can be what an exception saved.

use super::stacks::pt_regs_size;
use crate::Kernel;
use crate::arch::Registers;

/// Of user space: then they end where a task's stack ends. Or the kernel's: then
/// the stack pointer was just above them.
pub(super) fn kind_of(kernel: &Kernel, regs: &Registers, addr: u64) -> Option<bool> {
    if !regs.is_plausible() {
        return None;
    }
    let above = addr.checked_add(pt_regs_size(kernel)?)?;
    if regs.is_user() {
        // Stacks are aligned to their size at least.
        let at_end = above.is_multiple_of(kernel.thread_size().ok()?);
        return (at_end && regs.sp() >> 52 == 0).then_some(true);
    }
    (regs.sp() == above && kernel.is_text(regs.ip())).then_some(false)
}
