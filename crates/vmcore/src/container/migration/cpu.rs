//! Registers out of the section `cpu` (QEMU, target/i386/machine.c, target/arm/machine.c).
//!
//! x86: `env.regs` in the order of the instruction set (ax, cx, dx, bx, sp, bp, si, di, r8 to r15),
//! `env.segs` es, cs, ss, ds, fs, gs. aarch64: `env.xregs` x0 to x30 and the current stack pointer;
//! `cpsr` is PSTATE while the CPU runs 64-bit code.

use super::vmdesc::{Device, State};
use crate::cpu::{self, CpuState, PrstatusArm64, QemuCpuState, QemuSegment};
use crate::info::Machine;

/// The machine that has such registers, and their values in the CPU numbered `index`.
pub(super) fn decode(device: &Device, bytes: &[u8], index: usize) -> (Option<Machine>, CpuState) {
    let state = State { fields: &device.fields, bytes };
    let mut found = CpuState::default();
    if let Some(prstatus) = aarch64(state, cpu::pid_of(index)) {
        found.prstatus_arm64 = Some(prstatus);
        return (Some(Machine::Aarch64), found);
    }
    match x86_64(state) {
        Some(qemu) => (Some(Machine::X86_64), CpuState::of_x86_64(qemu, index)),
        None => (None, found),
    }
}

fn segment(state: State<'_>) -> Option<QemuSegment> {
    let word = |name| Some(state.number(name)? as u32);
    Some(QemuSegment {
        selector: word("selector")?,
        limit: word("limit")?,
        flags: word("flags")?,
        base: state.number("base")?,
    })
}

fn x86_64(state: State<'_>) -> Option<QemuCpuState> {
    let [ax, cx, dx, bx, sp, bp, si, di, rest @ ..] =
        <[u64; 16]>::try_from(state.numbers("env.regs")).ok()?;
    let [r8, r9, r10, r11, r12, r13, r14, r15] = rest;
    let segments: Vec<QemuSegment> =
        state.structures("env.segs").into_iter().filter_map(segment).collect();
    let [es, cs, ss, ds, fs, gs] = segments.try_into().ok()?;
    let table = |name| state.structures(name).first().copied().and_then(segment);
    let control = |name| state.number(name);
    Some(QemuCpuState {
        gprs: [ax, bx, cx, dx, si, di, sp, bp, r8, r9, r10, r11, r12, r13, r14, r15],
        rip: state.number("env.eip")?,
        rflags: state.number("env.eflags")?,
        cs,
        ds,
        es,
        fs,
        gs,
        ss,
        ldt: table("env.ldt")?,
        tr: table("env.tr")?,
        gdt: table("env.gdt")?,
        idt: table("env.idt")?,
        cr: [
            control("env.cr[0]")?,
            0,
            control("env.cr[2]")?,
            control("env.cr[3]")?,
            control("env.cr[4]")?,
        ],
        kernel_gs_base: state.number("env.kernelgsbase"),
    })
}

fn aarch64(state: State<'_>, pid: u32) -> Option<PrstatusArm64> {
    let registers = state.numbers("env.xregs");
    let (x, rest) = registers.split_first_chunk::<31>()?;
    Some(PrstatusArm64 {
        pid,
        x: *x,
        sp: *rest.first()?,
        pc: state.number("env.pc")?,
        pstate: state.number("cpsr")?,
    })
}
