//! A stack trace in crash's shape.
//!
//! ```text
//!  #0 [ff5dc086000d0ff0] sysvec_apic_timer_interrupt at ffffffff99a06569
//! --- <IRQ stack> ---
//!  #1 [ff5dc086003cbe58] asm_sysvec_apic_timer_interrupt at ffffffff99c00ec6
//!     [exception RIP: crasher_walk_index+42]
//!     RIP: ffffffffc04781ca  RSP: ff5dc086003cbf08  RFLAGS: 00000283
//!     ...
//!  #2 [ff5dc086003cbf10] crasher_spin_fn at ffffffffc04781fa [crasher]
//! ```
//!
//! The address in brackets is that of the stack word which holds the return
//! address. An interrupted function has no number of its own: it is the
//! `exception RIP` of the frame before it. Beyond crash's shape, a guessed
//! frame ends in ` (guess: why)`, and a stack that can't be followed to its
//! end in a line that says so.

use std::io::{self, Write};

use kmortem_kernel::arch::{Registers, StackKind};
use kmortem_kernel::stack::{Frame, Stack, StackEnd, Trust};

use super::stack_registers::{has_own_line, render_interrupted, render_registers};

/// How offsets are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Radix {
    Decimal,
    Hex,
}

/// What to show of each frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// Offsets behind function names.
    pub offsets: bool,
    /// Their form.
    pub radix: Radix,
    /// Why a frame is a guess, where it is one.
    pub doubts: bool,
}

impl Style {
    pub(super) fn offset(self, value: u64) -> String {
        match self.radix {
            Radix::Decimal => format!("+{value}"),
            Radix::Hex => format!("+{value:#x}"),
        }
    }
}

/// Words of a frame from an address on; `None` where they can't be read.
pub(super) type FrameWords = (u64, Option<Vec<String>>);

/// Writes a stack, with `words` below each frame.
pub(super) fn render(
    out: &mut dyn Write,
    stack: &Stack,
    words: Option<&[FrameWords]>,
    style: Style,
) -> io::Result<()> {
    let mut number = 0;
    let mut on: Option<StackKind> = None;
    for (i, frame) in stack.frames.iter().enumerate() {
        if let Some(left) = on.filter(|left| frame.stack.is_some_and(|now| now != *left)) {
            render_switch(out, left)?;
        }
        on = frame.stack.or(on);
        match &frame.registers {
            Some(registers) if has_own_line(registers) => {
                if !matches!(frame.trust, Trust::Registers) {
                    let lr = link_of(stack, registers, style);
                    render_interrupted(out, registers, name_of(frame, style), lr)?;
                }
                render_frame(out, number, frame, style)?;
                number += 1;
            }
            Some(registers) => {
                render_exception(out, frame, style)?;
                // A processor has no ORIG_RAX: only an entry into the kernel saves one.
                let entered = !matches!(frame.trust, Trust::Registers);
                render_registers(out, registers, entered)?;
            }
            None => {
                render_frame(out, number, frame, style)?;
                number += 1;
            }
        }
        if let Some((from, words)) = words.and_then(|all| all.get(i)) {
            match words {
                Some(words) => render_words(out, *from, words)?,
                None => writeln!(out, "    {from:016x}: (not in the dump)")?,
            }
        }
    }
    match &stack.end {
        StackEnd::User { registers } => render_registers(out, registers, true),
        StackEnd::ThreadStart => Ok(()),
        StackEnd::Broken { reason } => writeln!(out, "    (no further: {reason})"),
    }
}

fn render_frame(out: &mut dyn Write, number: usize, frame: &Frame, style: Style) -> io::Result<()> {
    write!(out, "{:>3} [{:016x}] ", format!("#{number}"), frame.at)?;
    match &frame.symbol {
        Some(symbol) => {
            write!(out, "{}", symbol.name)?;
            if style.offsets {
                write!(out, "{}", style.offset(symbol.offset))?;
            }
        }
        None => write!(out, "(unknown)")?,
    }
    write!(out, " at {:016x}", frame.pc)?;
    if let Some(module) = frame.symbol.as_ref().and_then(|s| s.module.as_ref()) {
        write!(out, " [{module}]")?;
    }
    writeln!(out, "{}", doubt(frame, style))
}

fn doubt(frame: &Frame, style: Style) -> String {
    match &frame.trust {
        Trust::Guess(why) if style.doubts => format!(" (guess: {why})"),
        _ => String::new(),
    }
}

fn name_of(frame: &Frame, style: Style) -> Option<String> {
    let symbol = frame.symbol.as_ref()?;
    Some(match symbol.offset {
        0 => symbol.name.clone(),
        offset => format!("{}{}", symbol.name, style.offset(offset)),
    })
}

/// The address to return to that is in the link register, if it is that of a
/// frame: with its name, and without what authenticates it.
fn link_of(stack: &Stack, registers: &Registers, style: Style) -> Option<(u64, String)> {
    const ADDRESS: u64 = (1 << 39) - 1;
    let link = registers.named("x30")?;
    let frame = stack.frames.iter().find(|frame| (frame.pc ^ link) & ADDRESS == 0)?;
    Some((frame.pc, name_of(frame, style)?))
}

pub(super) fn render_exception(out: &mut dyn Write, frame: &Frame, style: Style) -> io::Result<()> {
    let name = match &frame.symbol {
        Some(symbol) if symbol.offset == 0 => symbol.name.clone(),
        Some(symbol) => format!("{}{}", symbol.name, style.offset(symbol.offset)),
        None => "unknown or invalid address".to_owned(),
    };
    writeln!(out, "    [exception RIP: {name}]{}", doubt(frame, style))
}

pub(super) fn render_switch(out: &mut dyn Write, left: StackKind) -> io::Result<()> {
    match left {
        // The way in from user space and the task's own stack have no mark.
        StackKind::Task | StackKind::Entry => Ok(()),
        StackKind::Irq => writeln!(out, "--- <IRQ stack> ---"),
        kind => writeln!(out, "--- <{} exception stack> ---", kind.name()),
    }
}

/// Two words a line, below a frame.
fn render_words(out: &mut dyn Write, from: u64, words: &[String]) -> io::Result<()> {
    for (at, pair) in (from..).step_by(16).zip(words.chunks(2)) {
        write!(out, "    {at:016x}: ")?;
        for word in pair {
            write!(out, "{word} ")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::SymbolAt;
    use kmortem_kernel::arch::x86_64::registers::{Reg, complete, from_bytes};
    use kmortem_kernel::stack::StackStart;

    const PLAIN: Style = Style { offsets: false, radix: Radix::Decimal, doubts: true };

    fn frame(pc: u64, at: u64, name: &str, stack: StackKind) -> Frame {
        let symbol = (!name.is_empty()).then(|| SymbolAt {
            name: name.to_owned(),
            offset: pc & 0xff,
            size: 0x100,
            module: name.starts_with("crasher").then(|| "crasher".to_owned()),
        });
        Frame {
            pc,
            at,
            sp: at + 8,
            symbol,
            stack: Some(stack),
            registers: None,
            trust: Trust::Unwound,
        }
    }

    fn registers(ip: u64, cs: u64) -> Registers {
        let mut words: [u64; 21] = std::array::from_fn(|i| 0x1111 * i as u64);
        words[Reg::Ip as usize] = ip;
        words[Reg::Cs as usize] = cs;
        words[Reg::Flags as usize] = 0x246;
        complete(words)
    }

    fn text(stack: &Stack, style: Style) -> String {
        let mut out = Vec::new();
        render(&mut out, stack, None, style).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn interrupted() -> Stack {
        let ip = 0xffff_ffff_c047_81ca;
        let mut hit = frame(ip, 0xffff_5dc0_86ff_ff00, "crasher_walk", StackKind::Irq);
        hit.registers = Some(registers(ip, 0x10));
        hit.stack = Some(StackKind::Task);
        let mut lost = frame(0xffff_ffff_c047_8203, 0xffff_5dc0_86ff_ff10, "", StackKind::Task);
        lost.trust = Trust::Guess("by the frame pointer".into());
        Stack {
            frames: vec![
                frame(0xffff_ffff_8100_0001, 0xffff_5dc0_8600_0ff0, "sysvec_timer", StackKind::Irq),
                frame(0xffff_ffff_8100_0012, 0xffff_5dc0_86ff_fe58, "asm_timer", StackKind::Task),
                hit,
                frame(0xffff_ffff_c047_81fa, 0xffff_5dc0_86ff_ff08, "crasher_fn", StackKind::Task),
                lost,
            ],
            end: StackEnd::Broken { reason: "the stack turns back at 0x10".into() },
            start: StackStart::SavedRegisters,
        }
    }

    #[test]
    fn an_interrupt_shows_the_change_of_stacks_and_the_registers() {
        insta::assert_snapshot!(text(&interrupted(), PLAIN));
    }

    #[test]
    fn offsets_are_decimal_or_hexadecimal() {
        let decimal =
            text(&interrupted(), Style { offsets: true, radix: Radix::Decimal, doubts: true });
        assert!(decimal.contains(" asm_timer+18 at ffffffff81000012\n"), "{decimal}");
        assert!(decimal.contains("[exception RIP: crasher_walk+202]"), "{decimal}");
        let hex = text(&interrupted(), Style { offsets: true, radix: Radix::Hex, doubts: true });
        assert!(hex.contains(" asm_timer+0x12 at ffffffff81000012\n"), "{hex}");
        assert!(hex.contains("[exception RIP: crasher_walk+0xca]"), "{hex}");
    }

    #[test]
    fn a_system_call_ends_in_user_registers() {
        let frames = (0..11)
            .map(|i| frame(0xffff_ffff_8100_0000 + i, 0x1000 + 8 * i, "f", StackKind::Task))
            .collect();
        let end = StackEnd::User { registers: registers(0x47_b7a0, 0x33) };
        let stack = Stack { frames, end, start: StackStart::Switched };
        insta::assert_snapshot!(text(&stack, PLAIN));
    }

    #[test]
    fn unknown_registers_are_not_zeros() {
        let words = [0x47_b7a0u64, 0x33, 0x202, 0x7ffe, 0x2b];
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let end = StackEnd::User { registers: from_bytes(&bytes).unwrap() };
        let stack = Stack { frames: Vec::new(), end, start: StackStart::Switched };
        insta::assert_snapshot!(text(&stack, PLAIN));
    }

    #[test]
    fn words_stand_below_their_frame() {
        let stack = Stack {
            frames: vec![frame(0xffff_ffff_8100_0000, 0x1000, "f", StackKind::Task)],
            end: StackEnd::ThreadStart,
            start: StackStart::Switched,
        };
        let words = [(0x1008, Some([1, 2, 3].map(|word| format!("{word:016x}")).to_vec()))];
        let mut out = Vec::new();
        render(&mut out, &stack, Some(&words), PLAIN).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}
