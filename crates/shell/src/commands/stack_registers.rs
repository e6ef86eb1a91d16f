//! A block of saved registers below a frame, in crash's shape.

use std::io::{self, Write};

use kmortem_kernel::arch::Registers;
use kmortem_kernel::arch::x86_64::registers::{Reg, SET};

/// The block of registers. `entered`: an entry into the kernel saved them, with
/// what only it knows.
pub(super) fn render_registers(
    out: &mut dyn Write,
    regs: &Registers,
    entered: bool,
) -> io::Result<()> {
    match std::ptr::eq(regs.set(), &SET) {
        true => render_x86_64(out, regs, entered),
        false => render_named(out, regs),
    }
}

/// By name, three a line.
fn render_named(out: &mut dyn Write, regs: &Registers) -> io::Result<()> {
    let all: Vec<(&str, u64)> = regs.iter().collect();
    for line in all.chunks(3) {
        let line: Vec<String> =
            line.iter().map(|(name, v)| format!("{:>4}: {v:016x}", name.to_uppercase())).collect();
        writeln!(out, "   {}", line.join("  "))?;
    }
    Ok(())
}

/// Of x86_64. Where only the processor's own part was saved, the
/// others are left out: they are not zero, they are unknown.
fn render_x86_64(out: &mut dyn Write, regs: &Registers, entered: bool) -> io::Result<()> {
    let get = |reg: Reg| regs.get(reg).unwrap_or(0);
    writeln!(
        out,
        "    RIP: {:016x}  RSP: {:016x}  RFLAGS: {:08x}",
        get(Reg::Ip),
        get(Reg::Sp),
        get(Reg::Flags)
    )?;
    if !regs.is_complete() {
        return writeln!(out, "    CS: {:04x}  SS: {:04x}", get(Reg::Cs), get(Reg::Ss));
    }
    for line in [
        [("RAX", Reg::Ax), ("RBX", Reg::Bx), ("RCX", Reg::Cx)],
        [("RDX", Reg::Dx), ("RSI", Reg::Si), ("RDI", Reg::Di)],
        [("RBP", Reg::Bp), (" R8", Reg::R8), (" R9", Reg::R9)],
        [("R10", Reg::R10), ("R11", Reg::R11), ("R12", Reg::R12)],
        [("R13", Reg::R13), ("R14", Reg::R14), ("R15", Reg::R15)],
    ] {
        let [a, b, c] = line.map(|(name, reg)| format!("{name}: {:016x}", get(reg)));
        writeln!(out, "    {a}  {b}  {c}")?;
    }
    write!(out, "    ")?;
    if entered {
        write!(out, "ORIG_RAX: {:016x}  ", get(Reg::OrigAx))?;
    }
    writeln!(out, "CS: {:04x}  SS: {:04x}", get(Reg::Cs), get(Reg::Ss))
}
