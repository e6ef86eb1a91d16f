//! `vcpu_guest_context_t` of x86_64 (Xen, xen/include/public/arch-x86/xen.h, xen-x86_64.h; what
//! Xen puts in: xen/arch/x86/domctl.c, arch_get_info_guest()).
//!
//! ```text
//!     0  FPU state
//!   512  flags u64: 4 in kernel (PV), 0x20 online
//!   520  r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi
//!   640  error code u32, vector u32 (Xen's own)
//!   648  rip; 656 cs u16; 660 event mask u8; 664 rflags; 672 rsp
//!   680  ss, es, ds, fs, gs: u16 in 8 bytes each
//!   720  virtual IDT: 256 { vector u8, flags u8, cs u16, padding, address u64 }
//!  4816  LDT base, entries; 4832 GDT: 16 frames, entries; 4968 kernel ss, sp
//!  4984  CR0 to CR7 (PV: machine addresses; CR1 is the user half's CR3)
//!  5048  DR0 to DR7; 5112 three callbacks; 5136 vm_assist
//!  5144  fs base, gs base of the kernel, gs base of user space
//! ```
//!
//! A PV kernel runs in ring 3, as its processes do. Where Xen shows it its own registers, in the
//! frames of exceptions, it clears the ring of cs ("RING0 -> RING3 kernel mode" in xen-x86_64.h),
//! and the kernel tells user space by that: the same is done here for a CPU that is in the kernel.

use crate::cpu::{CpuState, Prstatus, XenVcpu};
use crate::source::Fields;

/// Bytes of one.
pub(super) const SIZE: u64 = 5168;

const IN_KERNEL: u64 = 1 << 2;
/// Ring of a selector.
const RING: u64 = 3;

/// The CPU numbered `index`; `None` where it never ran. One that is not online may have run: a
/// kernel that panics takes its other CPUs down by a hypercall, in which they stand
/// (arch/x86/xen/smp.c, stop_self()).
pub(super) fn decode(bytes: &[u8], index: usize, is_pv: bool) -> Option<CpuState> {
    let fields = Fields(bytes);
    let flags = fields.u64(512)?;
    let (rip, rsp) = (fields.u64(648)?, fields.u64(672)?);
    if rip == 0 && rsp == 0 {
        return None;
    }
    let selector = |at| fields.u16(at).map(u64::from);
    let (mut cs, mut ss) = (selector(656)?, selector(680)?);
    let in_kernel = if is_pv { flags & IN_KERNEL != 0 } else { cs & RING == 0 };
    if in_kernel {
        (cs, ss) = (cs & !RING, ss & !RING);
    }
    let mut cr = [0; 8];
    for (index, value) in cr.iter_mut().enumerate() {
        *value = fields.u64(4984 + 8 * index)?;
    }
    let (gs_base_kernel, gs_base_user) = (fields.u64(5152)?, fields.u64(5160)?);
    let mut regs = [0; 27];
    for (index, value) in regs.iter_mut().enumerate().take(15) {
        *value = fields.u64(520 + 8 * index)?;
    }
    // No system call is to be restarted: that is -1 in the kernel's own frames.
    let rest = [
        u64::MAX,
        rip,
        cs,
        fields.u64(664)?,
        rsp,
        ss,
        fields.u64(5144)?,
        if in_kernel { gs_base_kernel } else { gs_base_user },
        selector(696)?,
        selector(688)?,
        selector(704)?,
        selector(712)?,
    ];
    regs.get_mut(15..)?.copy_from_slice(&rest);
    // As QEMU does, for want of a task's number.
    let pid = u32::try_from(index + 1).unwrap_or(u32::MAX);
    Some(CpuState {
        prstatus: Some(Prstatus { pid, regs }),
        xen: Some(XenVcpu { cr, gs_base_kernel, gs_base_user }),
        ..CpuState::default()
    })
}
