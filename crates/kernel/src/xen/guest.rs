//! dom0's registers on the hypervisor's stacks.
//!
//! A CPU that enters Xen from a PV guest saves the guest's registers at the top
//! of its stack, which has 32 KiB and is aligned to that (Xen,
//! xen/arch/x86/include/asm/current.h, struct cpu_info; config.h, STACK_ORDER):
//! a `struct cpu_user_regs`, below fields whose number differs between versions.
//! They are found by their selectors, which the guest shares with no one.
//!
//! ```text
//!     0  r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi
//!   120  error code, vector: u32 each; 128 rip; 136 cs u16; 140 event mask u8
//!   144  rflags; 152 rsp; 160 ss u16
//! ```
//!
//! Whose they are the page tables tell that the CPU ran on: a domain's are in
//! its own memory. GS is the guest's in the hypervisor too.

use kmortem_vmcore::{HypervisorCpu, Image, Prstatus, XenHost};

use super::Memory;

const STACK: u64 = 32 << 10;
/// `struct cpu_info` has less than this.
const INFO: u64 = 1 << 10;
const REGISTERS: usize = 168;
/// FLAT_RING3_CS64 and _CS32 and Linux's own, with and without their ring.
const CODE: [u16; 6] = [0xe033, 0xe030, 0xe023, 0x33, 0x30, 0x23];
/// FLAT_RING3_SS64, Linux's own, none.
const STACK_SEGMENT: [u16; 4] = [0xe02b, 0xe028, 0x2b, 0];
/// Bits of the flags register that are zero on every processor, and the one
/// that is always set.
const ZERO_FLAGS: u64 = 0xffff_ffff_ffc0_8028;
const SET_FLAG: u64 = 2;

/// Registers of dom0's on the CPUs of the machine, for those that came from it.
pub fn all(image: &Image) -> Vec<Prstatus> {
    let Some(host) = image.xen_host() else { return Vec::new() };
    let cpus = host.hypervisor().cpus.iter();
    cpus.filter_map(|cpu| registers(image, host, cpu)).collect()
}

/// Registers of dom0's that the CPU saved when it entered the hypervisor.
pub(super) fn registers(image: &Image, host: &XenHost, cpu: &HypervisorCpu) -> Option<Prstatus> {
    // Another domain ran, or none.
    image.physical(cpu.cr3 & 0x000f_ffff_ffff_f000)?;
    let top = (cpu.sp() | (STACK - 1)).checked_add(1)?;
    let mut info = [0; INFO as usize];
    Memory::of(host, cpu).read(top - INFO, &mut info).ok()?;
    let mut found =
        info.windows(REGISTERS).step_by(8).filter_map(|bytes| decode(bytes, cpu.gs_base()));
    found.next()
}

fn decode(bytes: &[u8], gs_base: u64) -> Option<Prstatus> {
    let word = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let half = |at: usize| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let (ip, cs, flags, sp, ss) = (word(128)?, half(136)?, word(144)?, word(152)?, half(160)?);
    let is_canonical = |addr: u64| matches!(addr >> 56, 0 | 0xff);
    if !CODE.contains(&cs)
        || !STACK_SEGMENT.contains(&ss)
        || flags & ZERO_FLAGS != 0
        || flags & SET_FLAG == 0
        || !(is_canonical(ip) && is_canonical(sp))
    {
        return None;
    }
    let mut regs = [0; 27];
    for (n, register) in regs.iter_mut().enumerate().take(15) {
        *register = word(8 * n)?;
    }
    // A PV kernel runs in ring 3. Its own frames have no ring where it was in
    // the kernel: that is how it tells, and so do we.
    let ring = if ip >> 63 == 1 { 3 } else { 0 };
    let rest = [u64::MAX, ip, u64::from(cs & !ring), flags, sp, u64::from(ss & !ring), 0, gs_base];
    regs.get_mut(15..23)?.copy_from_slice(&rest);
    Some(Prstatus { pid: 0, regs })
}
