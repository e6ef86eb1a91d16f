//! Registers of the CPUs, as a dump's notes carry them.
//!
//! - `CORE`/`NT_PRSTATUS`: `struct elf_prstatus` (include/linux/elfcore.h). kdump writes one per
//!   CPU at the panic; QEMU one per vCPU. x86_64: pid @32, 27 registers @112, 336 bytes.
//!   aarch64: pid @32, 34 registers @112, 392 bytes.
//! - `QEMU`/0: `QEMUCPUState` (QEMU, target/i386/arch_dump.c), x86 only: version @0, size @4,
//!   16 general registers @8, rip @136, rflags @144, ten segments of 24 bytes @152 (cs, ds, es, fs,
//!   gs, ss, ldt, tr, gdt, idt: selector, limit, flags, padding, base), CR0-CR4 @392,
//!   kernel_gs_base @432 (size 440; older QEMU: 432).

use serde::Serialize;

use crate::elf_note::{NT_PRSTATUS, Note};
use crate::source::Fields;

const PRSTATUS_REGS: usize = 112;
const PRSTATUS_X86_64: usize = 336;
const PRSTATUS_AARCH64: usize = 392;
const QEMU_STATE_WITHOUT_GS_BASE: usize = 432;

/// What the dump knows of one CPU. Its place among the CPUs is the order in the notes: kdump
/// leaves offline CPUs out, so it need not be the kernel's number of the CPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpuState {
    /// `NT_PRSTATUS` of an x86_64 kernel.
    pub prstatus: Option<Prstatus>,
    /// `NT_PRSTATUS` of an aarch64 kernel.
    pub prstatus_arm64: Option<PrstatusArm64>,
    /// QEMU's note.
    pub qemu: Option<QemuCpuState>,
    /// What Xen says of the CPU of a guest.
    pub xen: Option<XenVcpu>,
}

impl CpuState {
    /// CR3 and CR4 of x86_64, where a hypervisor says them.
    pub fn cr3_and_cr4(&self) -> Option<(u64, u64)> {
        let of_qemu = self.qemu.as_ref().map(|state| (state.cr[3], state.cr[4]));
        of_qemu.or_else(|| self.xen.as_ref().map(|state| (state.cr[3], state.cr[4])))
    }

    /// Bases of GS, the current one and the one that is swapped in, as far as they are known: one
    /// of them is the kernel's.
    pub fn gs_bases(&self) -> Vec<u64> {
        if let Some(state) = &self.qemu {
            return std::iter::once(state.gs.base).chain(state.kernel_gs_base).collect();
        }
        if let Some(state) = &self.xen {
            return vec![state.gs_base_kernel, state.gs_base_user];
        }
        // kdump's notes have user space's here, 0 mostly.
        self.prstatus.iter().map(|status| status.regs[22]).filter(|base| *base != 0).collect()
    }
}

/// Control registers and segment bases of a Xen guest's CPU (`vcpu_guest_context`). Addresses are
/// machine addresses in a paravirtual guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct XenVcpu {
    /// CR0 to CR7; CR1: CR3 of user space.
    pub cr: [u64; 8],
    pub gs_base_kernel: u64,
    pub gs_base_user: u64,
}

/// `struct elf_prstatus` of x86_64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prstatus {
    /// Task that ran. QEMU: 1 + the number of the vCPU.
    pub pid: u32,
    /// Registers in the order of `struct user_regs_struct` (arch/x86/include/asm/user_64.h): r15,
    /// r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax, rip, cs,
    /// eflags, rsp, ss, fs_base, gs_base, ds, es, fs, gs.
    pub regs: [u64; 27],
}

/// `struct elf_prstatus` of aarch64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrstatusArm64 {
    /// Task that ran.
    pub pid: u32,
    /// x0 to x30.
    pub x: [u64; 31],
    /// Stack pointer.
    pub sp: u64,
    /// Program counter.
    pub pc: u64,
    /// Processor state.
    pub pstate: u64,
}

/// A segment or descriptor table register. Other hypervisors than QEMU may not say limit and
/// flags; they are 0 then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct QemuSegment {
    pub selector: u32,
    pub limit: u32,
    pub flags: u32,
    pub base: u64,
}

/// `QEMUCPUState`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct QemuCpuState {
    /// rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 to r15.
    pub gprs: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
    pub cs: QemuSegment,
    pub ds: QemuSegment,
    pub es: QemuSegment,
    pub fs: QemuSegment,
    pub gs: QemuSegment,
    pub ss: QemuSegment,
    pub ldt: QemuSegment,
    pub tr: QemuSegment,
    pub gdt: QemuSegment,
    pub idt: QemuSegment,
    /// CR0 to CR4.
    pub cr: [u64; 5],
    /// MSR_KERNEL_GS_BASE; older QEMU did not write it.
    pub kernel_gs_base: Option<u64>,
}

impl CpuState {
    /// The CPU numbered `index` of a hypervisor that has no notes: what QEMU would write of it.
    pub(crate) fn of_x86_64(qemu: QemuCpuState, index: usize) -> CpuState {
        let prstatus = Some(Prstatus { pid: pid_of(index), regs: qemu.user_regs() });
        CpuState { prstatus, qemu: Some(qemu), ..CpuState::default() }
    }
}

/// What stands for the task that ran: QEMU's notes number the CPUs from 1.
pub(crate) fn pid_of(index: usize) -> u32 {
    u32::try_from(index).map_or(u32::MAX, |index| index.saturating_add(1))
}

impl QemuCpuState {
    /// The registers in the order of `struct user_regs_struct`.
    pub(crate) fn user_regs(&self) -> [u64; 27] {
        let [ax, bx, cx, dx, si, di, sp, bp, r8, r9, r10, r11, r12, r13, r14, r15] = self.gprs;
        let selector = |segment: &QemuSegment| u64::from(segment.selector);
        // No system call is to be restarted: there is no orig_rax.
        [
            r15,
            r14,
            r13,
            r12,
            bp,
            bx,
            r11,
            r10,
            r9,
            r8,
            ax,
            cx,
            dx,
            si,
            di,
            0,
            self.rip,
            selector(&self.cs),
            self.rflags,
            sp,
            selector(&self.ss),
            self.fs.base,
            self.gs.base,
            selector(&self.ds),
            selector(&self.es),
            selector(&self.fs),
            selector(&self.gs),
        ]
    }
}

/// The CPUs of a dump's notes: the n-th PRSTATUS and the n-th QEMU note are the same CPU's.
pub fn parse_cpus(notes: &[Note]) -> Vec<CpuState> {
    let mut cpus: Vec<CpuState> = Vec::new();
    let (mut prstatus_seen, mut qemu_seen) = (0, 0);
    for note in notes {
        let (seen, is_qemu) = match (note.name.as_str(), note.kind) {
            ("CORE", NT_PRSTATUS) => (&mut prstatus_seen, false),
            ("QEMU", 0) => (&mut qemu_seen, true),
            _ => continue,
        };
        let index: usize = *seen;
        *seen += 1;
        if cpus.len() <= index {
            cpus.resize_with(index + 1, CpuState::default);
        }
        let Some(cpu) = cpus.get_mut(index) else { continue };
        if is_qemu {
            cpu.qemu = parse_qemu(&note.desc);
        } else if note.desc.len() >= PRSTATUS_AARCH64 {
            cpu.prstatus_arm64 = parse_prstatus_arm64(&note.desc);
        } else if note.desc.len() >= PRSTATUS_X86_64 {
            cpu.prstatus = parse_prstatus(&note.desc);
        }
    }
    cpus
}

fn u64s<const N: usize>(desc: Fields<'_>, at: usize) -> Option<[u64; N]> {
    let mut values = [0; N];
    for (index, value) in values.iter_mut().enumerate() {
        *value = desc.u64(at + 8 * index)?;
    }
    Some(values)
}

fn parse_prstatus(desc: &[u8]) -> Option<Prstatus> {
    let desc = Fields(desc);
    Some(Prstatus { pid: desc.u32(32)?, regs: u64s(desc, PRSTATUS_REGS)? })
}

fn parse_prstatus_arm64(desc: &[u8]) -> Option<PrstatusArm64> {
    let desc = Fields(desc);
    Some(PrstatusArm64 {
        pid: desc.u32(32)?,
        x: u64s(desc, PRSTATUS_REGS)?,
        sp: desc.u64(PRSTATUS_REGS + 31 * 8)?,
        pc: desc.u64(PRSTATUS_REGS + 32 * 8)?,
        pstate: desc.u64(PRSTATUS_REGS + 33 * 8)?,
    })
}

fn parse_qemu(desc: &[u8]) -> Option<QemuCpuState> {
    let fields = Fields(desc);
    let size = fields.u32(4)? as usize;
    if size < QEMU_STATE_WITHOUT_GS_BASE {
        return None;
    }
    let segment = |index: usize| {
        let at = 152 + 24 * index;
        Some(QemuSegment {
            selector: fields.u32(at)?,
            limit: fields.u32(at + 4)?,
            flags: fields.u32(at + 8)?,
            base: fields.u64(at + 16)?,
        })
    };
    Some(QemuCpuState {
        gprs: u64s(fields, 8)?,
        rip: fields.u64(136)?,
        rflags: fields.u64(144)?,
        cs: segment(0)?,
        ds: segment(1)?,
        es: segment(2)?,
        fs: segment(3)?,
        gs: segment(4)?,
        ss: segment(5)?,
        ldt: segment(6)?,
        tr: segment(7)?,
        gdt: segment(8)?,
        idt: segment(9)?,
        cr: u64s(fields, 392)?,
        kernel_gs_base: if size >= 440 { fields.u64(432) } else { None },
    })
}
