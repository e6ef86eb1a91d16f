//! KVM's structures of a vCPU's registers (Linux, arch/x86/include/uapi/asm/kvm.h), as hypervisors
//! keep them.
//!
//! ```text
//! kvm_regs     rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 to r15, rip, rflags: u64 each
//! kvm_segment  base u64, limit u32, selector u16, type, present, dpl, db, s, l, g, avl, unusable,
//!              padding: u8 each
//! kvm_dtable   base u64, limit u16, padding 3 x u16
//! kvm_sregs    cs, ds, es, fs, gs, ss, tr, ldt; gdt, idt; cr0, cr2, cr3, cr4, cr8, efer, apic_base,
//!              interrupt_bitmap (4): u64 each
//! ```

use crate::cpu::{QemuCpuState, QemuSegment};
use crate::source::Fields;

/// Bytes of `struct kvm_regs`.
pub(super) const REGS: usize = 144;
/// Bytes of `struct kvm_sregs`.
pub(super) const SREGS: usize = 312;

const CR0_ET: u64 = 1 << 4;
const EFER_LMA: u64 = 1 << 10;
/// The bits of the flags that are always the same: 1 is set, 3, 5, 15 and those from 22 on are not.
const RFLAGS_FIXED: u64 = !0 << 22 | 0x802a;
const RFLAGS_SET: u64 = 2;

/// `struct kvm_regs`.
#[derive(Debug, Default)]
pub(super) struct Regs {
    pub(super) gprs: [u64; 16],
    pub(super) rip: u64,
    pub(super) rflags: u64,
}

impl Regs {
    /// The registers, if the bytes can be such.
    pub(super) fn parse(bytes: &[u8]) -> Option<Regs> {
        let fields = Fields(bytes);
        let mut regs = Regs { rip: fields.u64(128)?, rflags: fields.u64(136)?, ..Regs::default() };
        for (index, register) in regs.gprs.iter_mut().enumerate() {
            *register = fields.u64(8 * index)?;
        }
        (regs.rflags & RFLAGS_FIXED == RFLAGS_SET).then_some(regs)
    }
}

impl Regs {
    /// Whether the CPU could run with these: addresses of code and stack are such.
    pub(super) fn are_addresses(&self) -> bool {
        // With tables of five levels addresses have 57 bits, the last one repeated.
        let is_address = |addr: u64| matches!((addr as i64) >> 56, 0 | -1);
        is_address(self.rip) && is_address(self.gprs[6])
    }
}

/// `struct kvm_sregs`, as far as it matters.
#[derive(Debug, Default)]
pub(super) struct Sregs {
    /// cs, ds, es, fs, gs, ss, tr, ldt.
    pub(super) segments: [QemuSegment; 8],
    pub(super) gdt: QemuSegment,
    pub(super) idt: QemuSegment,
    /// CR0 to CR4.
    pub(super) cr: [u64; 5],
    pub(super) efer: u64,
}

impl Sregs {
    /// The registers, if the bytes can be nothing else: of a hundred that have few possible values
    /// each one has such.
    pub(super) fn parse(bytes: &[u8]) -> Option<Sregs> {
        let fields = Fields(bytes);
        let mut sregs = Sregs::default();
        for (index, place) in sregs.segments.iter_mut().enumerate() {
            *place = segment(bytes.get(24 * index..24 * (index + 1))?)?;
        }
        // The task register always has a busy TSS.
        let tr = sregs.segments.get(6)?;
        if tr.flags & 0x8700 != 0x8300 {
            return None;
        }
        sregs.gdt = table(bytes.get(192..208)?)?;
        sregs.idt = table(bytes.get(208..224)?)?;
        sregs.cr = [fields.u64(224)?, 0, fields.u64(232)?, fields.u64(240)?, fields.u64(248)?];
        sregs.efer = fields.u64(264)?;
        let small = [sregs.cr[0], sregs.cr[4], sregs.efer];
        let is_sound = sregs.cr[0] & CR0_ET != 0
            && small.iter().all(|register| *register <= u64::from(u32::MAX))
            && fields.u64(256)? < 16
            && sregs.cr[3] >> 52 == 0
            && fields.u64(272)? >> 52 == 0;
        is_sound.then_some(sregs)
    }

    /// Whether a 64-bit kernel runs.
    pub(super) fn is_long_mode(&self) -> bool {
        self.efer & EFER_LMA != 0
    }
}

fn segment(bytes: &[u8]) -> Option<QemuSegment> {
    let fields = Fields(bytes);
    let &[kind, present, dpl, db, s, l, g, avl, unusable, padding] = bytes.get(14..24)? else {
        return None;
    };
    let is_sound = kind < 16
        && dpl < 4
        && [present, db, s, l, g, avl, unusable].iter().all(|bit| *bit < 2)
        && padding == 0;
    is_sound.then_some(())?;
    Some(QemuSegment {
        selector: fields.u16(12)?.into(),
        limit: fields.u32(8)?,
        flags: flags(kind, [present, dpl, db, s, l, g, avl]),
        base: fields.u64(0)?,
    })
}

/// The second word of a descriptor, as QEMU keeps it; present, dpl, db, s, l, g, avl.
pub(super) fn flags(kind: u8, [present, dpl, db, s, l, g, avl]: [u8; 7]) -> u32 {
    let bits =
        [(kind, 8), (s, 12), (dpl, 13), (present, 15), (avl, 20), (l, 21), (db, 22), (g, 23)];
    bits.iter().fold(0, |flags, (bit, shift)| flags | u32::from(*bit) << shift)
}

fn table(bytes: &[u8]) -> Option<QemuSegment> {
    let fields = Fields(bytes);
    bytes.get(10..16)?.iter().all(|byte| *byte == 0).then_some(())?;
    let limit = fields.u16(8)?.into();
    Some(QemuSegment { limit, base: fields.u64(0)?, ..QemuSegment::default() })
}

/// The same registers as QEMU would write them.
pub(super) fn qemu_state(regs: &Regs, sregs: &Sregs, kernel_gs_base: Option<u64>) -> QemuCpuState {
    let [cs, ds, es, fs, gs, ss, tr, ldt] = sregs.segments;
    QemuCpuState {
        gprs: regs.gprs,
        rip: regs.rip,
        rflags: regs.rflags,
        cs,
        ds,
        es,
        fs,
        gs,
        ss,
        ldt,
        tr,
        gdt: sregs.gdt,
        idt: sregs.idt,
        cr: sregs.cr,
        kernel_gs_base,
    }
}
