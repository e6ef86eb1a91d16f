//! A block of saved registers below a frame, in crash's shape.

use std::io::{self, Write};

use kmortem_kernel::arch::Registers;
use kmortem_kernel::arch::arm64::registers as arm64;
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
        false if regs.is_user() => render_arm64(out, regs),
        false => render_interrupted(out, regs, None, None),
    }
}

/// Whether the function that an exception stopped has a line of its own behind
/// its registers, as crash has it on arm64.
pub(super) fn has_own_line(regs: &Registers) -> bool {
    !std::ptr::eq(regs.set(), &SET)
}

/// Of arm64, of user space.
fn render_arm64(out: &mut dyn Write, regs: &Registers) -> io::Result<()> {
    let get = |at: usize| regs.get(at).unwrap_or(0);
    let (pc, lr, sp) = (get(arm64::PC), get(arm64::LR), get(arm64::SP));
    writeln!(out, "     PC: {pc:016x}   LR: {lr:016x}   SP: {sp:016x}")?;
    render_general(out, regs)?;
    writeln!(
        out,
        "    ORIG_X0: {:016x}  SYSCALLNO: {:x}  PSTATE: {:08x}",
        get(arm64::ORIG_X0),
        get(arm64::SYSCALLNO),
        get(arm64::PSTATE)
    )
}

/// Of arm64, of the kernel: `pc` and `lr` are what the addresses are called.
pub(super) fn render_interrupted(
    out: &mut dyn Write,
    regs: &Registers,
    pc: Option<String>,
    lr: Option<(u64, String)>,
) -> io::Result<()> {
    let get = |at: usize| regs.get(at).unwrap_or(0);
    let name = |name: Option<String>| name.unwrap_or_else(|| "unknown or invalid address".into());
    writeln!(out, "     PC: {:016x}  [{}]", get(arm64::PC), name(pc))?;
    match lr {
        Some((lr, name)) => writeln!(out, "     LR: {lr:016x}  [{name}]")?,
        None => writeln!(out, "     LR: {:016x}", get(arm64::LR))?,
    }
    let (sp, pstate) = (get(arm64::SP), get(arm64::PSTATE));
    writeln!(out, "     SP: {sp:016x}  PSTATE: {pstate:08x}")?;
    render_general(out, regs)
}

/// x29 down to x0, three a line.
fn render_general(out: &mut dyn Write, regs: &Registers) -> io::Result<()> {
    let numbers: Vec<usize> = (0..30).rev().collect();
    for line in numbers.chunks(3) {
        let one = |n: &usize| format!("{:>3}: {:016x}", format!("X{n}"), regs.get(*n).unwrap_or(0));
        writeln!(out, "    {}", line.iter().map(one).collect::<Vec<_>>().join("  "))?;
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
