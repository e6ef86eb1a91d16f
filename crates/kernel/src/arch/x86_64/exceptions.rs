//! Which registers on a stack can be what an exception saved.

use super::registers::{PT_REGS_SIZE, Reg};
use crate::Kernel;
use crate::arch::Registers;

/// Bits of the flags register that are zero on every processor.
const ZERO_FLAGS: u64 = 0xffff_ffff_ffc0_8028;
/// The bit that is always set.
const SET_FLAG: u64 = 2;
/// `__KERNEL_CS`, `__KERNEL_DS`, `__USER_CS`, `__USER32_CS`, `__USER_DS`
/// (arch/x86/include/asm/segment.h).
const KERNEL_CS: u64 = 0x10;
const KERNEL_DS: u64 = 0x18;
const USER_CS: u64 = 0x33;
const USER32_CS: u64 = 0x23;
const USER_DS: u64 = 0x2b;
/// The same of a paravirtual guest of Xen's: FLAT_RING3_CS64 and _SS64, the
/// kernel's without their ring; FLAT_RING3_CS32
/// (xen/include/public/arch-x86/xen-x86_64.h).
const XEN_KERNEL_CS: u64 = 0xe030;
const XEN_USER_CS: u64 = 0xe033;
const XEN_USER32_CS: u64 = 0xe023;
const XEN_SS: u64 = 0xe02b;

/// Whether the registers are possible ones: of user space, or the kernel's.
pub(super) fn kind_of(
    kernel: &Kernel,
    regs: &Registers,
    addr: u64,
    exception: bool,
) -> Option<bool> {
    let get = |reg| regs.get(reg).unwrap_or(0);
    let (cs, ss, flags) = (get(Reg::Cs), get(Reg::Ss), get(Reg::Flags));
    if flags & ZERO_FLAGS != 0 || flags & SET_FLAG == 0 {
        return None;
    }
    let (ip, sp) = (regs.ip(), regs.sp());
    let user = |addr: u64| addr >> 47 == 0;
    let upper = |addr: u64| addr >> 63 == 1;
    match (cs, ss) {
        (USER_CS | USER32_CS | XEN_USER_CS | XEN_USER32_CS, USER_DS | XEN_SS) => {
            (user(ip) && user(sp)).then_some(true)
        }
        (KERNEL_CS, KERNEL_DS) | (XEN_KERNEL_CS, _) => {
            let above = sp == addr.wrapping_add(PT_REGS_SIZE);
            (kernel.is_text(ip) && upper(sp) || above).then_some(false)
        }
        (KERNEL_CS, _) => {
            let end = addr.wrapping_add(PT_REGS_SIZE);
            let above = sp == end || sp == end.wrapping_add(8) || exception;
            (kernel.is_text(ip) && upper(sp) && above).then_some(false)
        }
        _ => None,
    }
}
