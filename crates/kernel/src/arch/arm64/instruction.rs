//! One arm64 instruction: what it does, to which memory (Arm ARM, C4.1).
//!
//! All have 4 bytes. What matters for the cause of a fault is decoded here:
//! loads and stores with their addresses, jumps and calls, moves and constants.

use std::ops::Range;

use super::code::text_of;
use super::prologue::field;
use crate::Kernel;
use crate::arch::Registers;
use crate::instruction::{Access, Flow, Instruction, MemoryOperand};

/// Bytes of an instruction.
pub(super) const LENGTH: usize = 4;

/// Functions longer than this are looked at in part.
const LONGEST_FUNCTION: u64 = 64 << 10;

/// Whether it is a call: `bl`, or `blr` in its forms with authentication.
pub(super) fn is_call(code: u32) -> bool {
    code >> 26 == 0b100101 || (code >> 25 == 0b1101011 && matches!(code >> 21 & 0xf, 1 | 9))
}

/// The address in an instruction that is relative to itself, and whether it is
/// where it jumps to.
pub(super) fn relative(code: u32, address: u64) -> Option<(u64, bool)> {
    let to = |words: i64| address.wrapping_add_signed(words * 4);
    Some(match code {
        c if c >> 26 & 0x1f == 0b00101 => (to(field(c, 0, 26)), true),
        c if c >> 24 == 0b0101_0100 => (to(field(c, 5, 19)), true),
        c if c >> 25 & 0x3f == 0b011010 => (to(field(c, 5, 19)), true),
        c if c >> 25 & 0x3f == 0b011011 => (to(field(c, 5, 14)), true),
        // Loads of a literal.
        c if c >> 27 & 7 == 0b011 && c >> 24 & 3 == 0 => (to(field(c, 5, 19)), false),
        // adr, adrp
        c if c >> 24 & 0x1f == 0b10000 => {
            let offset = field(c, 5, 19) << 2 | i64::from(c >> 29 & 3);
            match c >> 31 {
                1 => ((address & !0xfff).wrapping_add_signed(offset << 12), false),
                _ => (address.wrapping_add_signed(offset), false),
            }
        }
        _ => return None,
    })
}

/// Decodes the first instruction of `bytes`, which lie at `address`.
pub(super) fn decode(
    bytes: &[u8],
    address: u64,
    registers: Option<&Registers>,
) -> Option<Instruction> {
    let code = u32::from_le_bytes(*bytes.first_chunk()?);
    let (text, target) = text_of(code, address);
    let flow = flow_of(code);
    let jump = matches!(flow, Flow::Call | Flow::Jump);
    let memory: Vec<MemoryOperand> = access_of(code)
        .map(|access| access.operand(registers))
        .or_else(|| literal(code, address))
        .into_iter()
        .collect();
    Some(Instruction {
        address,
        text,
        length: LENGTH,
        flow,
        target: target.filter(|_| jump).map(|(to, _)| to),
        writes: writes(code),
        moved_from: moved_from(code),
        added: added(code),
        constant: constant(code, target),
        memory,
    })
}

fn flow_of(code: u32) -> Flow {
    match code {
        c if c >> 26 == 0b100101 => Flow::Call,
        c if c >> 26 == 0b000101 || c >> 24 == 0b0101_0100 || c >> 26 & 0x1f == 0b01101 => {
            Flow::Jump
        }
        c if c >> 25 == 0b1101011 => match c >> 21 & 0xf {
            2 | 4 => Flow::Return,
            _ => Flow::Indirect,
        },
        c if c & 0xffe0_001f == 0xd420_0000 || c >> 16 == 0 => Flow::Trap,
        _ => Flow::Next,
    }
}

/// A register of 64 bits by its number; 31 is the stack pointer of an address.
fn name_of(number: u32) -> String {
    if number == 31 { "sp".to_owned() } else { format!("x{number}") }
}

/// What a load or store does, before registers are known.
struct MemoryAccess {
    access: Access,
    size: u64,
    base: u32,
    /// (register, extension, shift)
    index: Option<(u32, u32, u32)>,
    displacement: i64,
}

impl MemoryAccess {
    fn operand(&self, registers: Option<&Registers>) -> MemoryOperand {
        let base = name_of(self.base);
        let value = |name: &str| registers.and_then(|regs| regs.named(name));
        let index = self.index.map(|(register, extension, shift)| {
            // Register 31 of an index is the zero register.
            let raw = if register == 31 { Some(0) } else { value(&name_of(register)) };
            let extended = raw.map(|raw| match extension {
                2 => raw & u64::from(u32::MAX),
                6 => i64::from(raw as i32) as u64,
                _ => raw,
            });
            extended.map(|value| value << shift)
        });
        let address = value(&base).and_then(|base| {
            let index = match index {
                Some(index) => index?,
                None => 0,
            };
            Some(base.wrapping_add(index).wrapping_add_signed(self.displacement))
        });
        MemoryOperand {
            access: self.access,
            size: self.size,
            base: Some(base),
            index: self.index.map(|(register, ..)| name_of(register)),
            scale: self.index.map_or(1, |(_, _, shift)| 1 << shift),
            displacement: self.displacement,
            segment: None,
            address,
        }
    }
}

/// The memory that an instruction touches by a base register.
fn access_of(code: u32) -> Option<MemoryAccess> {
    let base = code >> 5 & 31;
    // Loads and stores: bit 27 set, bit 25 clear.
    if code >> 27 & 1 == 0 || code >> 25 & 1 == 1 {
        return None;
    }
    let (size, vector) = (code >> 30, code >> 26 & 1 == 1);
    let plain = |access, size, displacement| {
        Some(MemoryAccess { access, size, base, index: None, displacement })
    };
    match code >> 27 & 7 {
        // Exclusive, acquiring and releasing ones; compare and swap.
        0b001 if code >> 24 & 1 == 0 && !vector => {
            let (o2, load, o1) = (code >> 23 & 1, code >> 22 & 1 == 1, code >> 21 & 1);
            let bytes = 1u64 << size;
            match (o2, o1) {
                (1, 1) => plain(Access::ReadWrite, bytes, 0),
                // Pairs, where the size allows none smaller.
                (0, 1) if size < 2 => plain(Access::ReadWrite, 8 << size, 0),
                (0, 1) => plain(if load { Access::Read } else { Access::Write }, bytes * 2, 0),
                _ => plain(if load { Access::Read } else { Access::Write }, bytes, 0),
            }
        }
        0b101 => {
            let scale = if vector { 4u64 << size } else { 4 << (size >> 1) };
            let offset = match code >> 23 & 3 {
                1 => 0,
                _ => field(code, 15, 7) * scale as i64,
            };
            let access = if code >> 22 & 1 == 1 { Access::Read } else { Access::Write };
            plain(access, scale * 2, offset)
        }
        0b111 => {
            let opc = code >> 22 & 3;
            // 128 bits of a vector register.
            let size = if vector && opc >> 1 == 1 { size + 4 } else { size };
            let bytes = 1u64 << size;
            let access = match (vector, opc) {
                (false, 0) => Access::Write,
                // prfm touches memory, but never faults.
                (false, 2) if size == 3 => return None,
                (true, opc) if opc & 1 == 0 => Access::Write,
                _ => Access::Read,
            };
            if code >> 24 & 3 == 1 {
                return plain(access, bytes, i64::from(code >> 10 & 0xfff) << size);
            }
            match (code >> 21 & 1, code >> 10 & 3) {
                // Behind the access (post-index) the base moves.
                (0, 1) => plain(access, bytes, 0),
                (0, _) => plain(access, bytes, field(code, 12, 9)),
                (_, 2) => {
                    let shift = if code >> 12 & 1 == 1 { size } else { 0 };
                    let index = Some((code >> 16 & 31, code >> 13 & 7, shift));
                    Some(MemoryAccess { access, size: bytes, base, index, displacement: 0 })
                }
                // Atomic operations (LSE).
                (_, 0) if !vector => plain(Access::ReadWrite, bytes, 0),
                _ => None,
            }
        }
        _ => None,
    }
}

/// A load of a literal knows its address without registers.
fn literal(code: u32, address: u64) -> Option<MemoryOperand> {
    let is_literal = code >> 27 & 7 == 0b011 && code >> 24 & 3 == 0;
    let (to, _) = relative(code, address).filter(|_| is_literal)?;
    Some(MemoryOperand {
        access: Access::Read,
        size: 4 << (code >> 30 & 1),
        base: None,
        index: None,
        scale: 1,
        displacement: 0,
        segment: None,
        address: Some(to),
    })
}

/// General registers that it changes, by their 64-bit names.
fn writes(code: u32) -> Vec<String> {
    let (rd, rn) = (code & 31, code >> 5 & 31);
    let mut found = Vec::new();
    let mut add = |number: u32| {
        if number != 31 {
            found.push(name_of(number));
        }
    };
    match code >> 25 & 0xf {
        // Data processing, with a constant or with registers.
        0b1000 | 0b1001 | 0b0101 | 0b1101 => add(rd),
        // mrs
        0b1010 | 0b1011 if code >> 20 == 0xd53 => add(rd),
        // Calls change what a function may change.
        0b1010 | 0b1011 if is_call(code) => (0..=18).chain([30]).for_each(add),
        0b0100 | 0b0110 | 0b1100 | 0b1110 => {
            let vector = code >> 26 & 1 == 1;
            let pair = code >> 27 & 7 == 0b101;
            if !vector && access_of(code).is_none_or(|a| a.access != Access::Write) {
                add(rd);
                if pair {
                    add(code >> 10 & 31);
                }
            }
            let single = code >> 27 & 7 == 0b111 && code >> 24 & 3 == 0 && code >> 21 & 1 == 0;
            if pair && code >> 23 & 1 == 1 || single && code >> 10 & 1 == 1 {
                add(rn);
            }
        }
        _ => {}
    }
    found
}

/// `mov xd, xm` is `orr xd, xzr, xm`.
fn moved_from(code: u32) -> Option<String> {
    (code & 0xffe0_ffe0 == 0xaa00_03e0).then(|| name_of(code >> 16 & 31))
}

/// `add xd, xn, #constant`, without a shift.
fn added(code: u32) -> Option<(String, u64)> {
    let constant = u64::from(code >> 10 & 0xfff);
    (code & 0xffc0_0000 == 0x9100_0000).then(|| (name_of(code >> 5 & 31), constant))
}

/// The value that `adr`, `adrp`, `movz` or `movn` puts in a register.
fn constant(code: u32, target: Option<(u64, bool)>) -> Option<u64> {
    if code >> 24 & 0x1f == 0b10000 {
        return target.map(|(to, _)| to);
    }
    if code >> 23 & 0x3f != 0b100101 {
        return None;
    }
    let value = u64::from(code >> 5 & 0xffff) << (16 * (code >> 21 & 3));
    let wide = |value: u64| if code >> 31 == 1 { value } else { value & u64::from(u32::MAX) };
    match code >> 29 & 3 {
        0 => Some(wide(!value)),
        2 => Some(wide(value)),
        _ => None,
    }
}

/// Addresses that code makes of constants, or reads and writes by them, in the
/// order of the code. Ways that code jumps are not followed: what a register
/// holds is what the lines above left there.
pub(super) fn data_references(kernel: &Kernel, range: Range<u64>) -> Vec<u64> {
    let len = (range.end - range.start).min(LONGEST_FUNCTION);
    let Ok(bytes) = kernel.read_bytes(range.start, len) else { return Vec::new() };
    let words = bytes.chunks_exact(4).filter_map(|raw| raw.first_chunk());
    references(words.map(|raw| u32::from_le_bytes(*raw)), range.start)
}

fn references(code: impl Iterator<Item = u32>, start: u64) -> Vec<u64> {
    let mut known = [None; 32];
    let mut found = Vec::new();
    for (code, at) in code.zip((start..).step_by(4)) {
        let (rd, rn) = ((code & 31) as usize, (code >> 5 & 31) as usize);
        let constant = u64::from(code >> 10 & 0xfff);
        match code {
            c if c >> 24 & 0x1f == 0b10000 => known[rd] = relative(c, at).map(|(to, _)| to),
            // add xd, xn, #constant
            c if c & 0xffc0_0000 == 0x9100_0000 => {
                known[rd] = known[rn].map(|value: u64| value.wrapping_add(constant));
                found.extend(known[rd]);
            }
            // mov xd, xm
            c if c & 0xffe0_ffe0 == 0xaa00_03e0 => known[rd] = known[(c >> 16 & 31) as usize],
            // Loads and stores of a general register at xn + constant x size.
            c if c & 0x3f00_0000 == 0x3900_0000 => {
                found.extend(known[rn].map(|value| value.wrapping_add(constant << (c >> 30))));
                if c >> 22 & 3 != 0 {
                    known[rd] = None;
                }
            }
            // Pairs of 64 bits at xn + constant.
            c if c & 0xff80_0000 == 0xa900_0000 => {
                let offset = field(c, 15, 7) * 8;
                found.extend(known[rn].map(|value| value.wrapping_add_signed(offset)));
                if c >> 22 & 1 == 1 {
                    known[rd] = None;
                    known[(c >> 10 & 31) as usize] = None;
                }
            }
            // A call leaves x0 to x18 to what is called.
            c if is_call(c) => known[..19].fill(None),
            // Other arithmetic writes rd.
            c if matches!(c >> 25 & 0xf, 0b1000 | 0b1001 | 0b0101 | 0b1101) => known[rd] = None,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::arm64::registers::SET;

    const AT: u64 = 0xffff_8000_0800_0000;

    fn decoded(code: u32, set: &[(usize, u64)]) -> Instruction {
        let mut words = [0; 36];
        for (at, value) in set {
            words[*at] = *value;
        }
        decode(&code.to_le_bytes(), AT, Some(&Registers::of(&SET, &words))).unwrap()
    }

    fn memory(code: u32, set: &[(usize, u64)]) -> (Access, u64, Option<u64>) {
        let found = decoded(code, set);
        let operand = &found.memory[0];
        (operand.access, operand.size, operand.address)
    }

    #[test]
    fn loads_and_stores_have_their_addresses() {
        // ldr x0, [x1, #24]
        assert_eq!(memory(0xf940_0c20, &[(1, 0x10)]), (Access::Read, 8, Some(0x28)));
        // strb wzr, [x1]
        assert_eq!(memory(0x3900_003f, &[(1, 0x10)]), (Access::Write, 1, Some(0x10)));
        // ldr x0, [x1, x2, lsl #3]
        assert_eq!(memory(0xf862_7820, &[(1, 0x100), (2, 2)]), (Access::Read, 8, Some(0x110)));
        // ldr x0, [x1, w2, sxtw #3]
        let minus_one = 0xffff_ffff;
        assert_eq!(
            memory(0xf862_d820, &[(1, 0x100), (2, minus_one)]),
            (Access::Read, 8, Some(0xf8))
        );
        // stp x29, x30, [sp, #-32]!
        assert_eq!(memory(0xa9be_7bfd, &[(31, 0x1000)]), (Access::Write, 16, Some(0xfe0)));
        // ldp x29, x30, [sp], #32
        assert_eq!(memory(0xa8c2_7bfd, &[(31, 0x1000)]), (Access::Read, 16, Some(0x1000)));
        // ldur w0, [x1, #-4]
        assert_eq!(memory(0xb85f_c020, &[(1, 0x10)]), (Access::Read, 4, Some(0xc)));
        // ldaxr x1, [x0]; ldaddal w0, w0, [x1]; casa w1, w2, [x0]
        assert_eq!(memory(0xc85f_fc01, &[(0, 8)]), (Access::Read, 8, Some(8)));
        assert_eq!(memory(0xb8e0_0020, &[(1, 8)]), (Access::ReadWrite, 4, Some(8)));
        assert_eq!(memory(0x88e1_7c02, &[(0, 8)]), (Access::ReadWrite, 4, Some(8)));
        // str q0, [x1, #32]
        assert_eq!(memory(0x3d80_0820, &[(1, 0x10)]), (Access::Write, 16, Some(0x30)));
    }

    #[test]
    fn others_touch_no_memory() {
        // prfm pldl1strm, [x0]; add w0, w1, w0; b.ne; mov x19, x0; brk
        for code in [0xf980_0011, 0x0b00_0020, 0x5400_0081, 0xaa00_03f3, 0xd421_0000u32] {
            assert!(decoded(code, &[]).memory.is_empty(), "{code:08x}");
        }
    }

    #[test]
    fn control_flow() {
        let of = |code: u32| (decoded(code, &[]).flow, decoded(code, &[]).target);
        assert_eq!(of(0x9400_0004), (Flow::Call, Some(AT + 16)));
        assert_eq!(of(0x17ff_ffff), (Flow::Jump, Some(AT - 4)));
        assert_eq!(of(0x3700_0040), (Flow::Jump, Some(AT + 8)));
        assert_eq!(of(0xd65f_03c0), (Flow::Return, None));
        assert_eq!(of(0xd63f_0020), (Flow::Indirect, None));
        assert_eq!(of(0xd421_0000), (Flow::Trap, None));
    }

    #[test]
    fn addresses_are_made_of_two_instructions() {
        // adrp x0, +0x154 pages; add x0, x0, #0x18; adrp x1, +1 page; ldr x2, [x1, #24]
        let code = [0x9000_0aa0, 0x9100_6000, 0xb000_0001, 0xf940_0c22];
        let found = references(code.into_iter(), AT);
        assert_eq!(found, [AT + 0x15_4018, AT + 0x1018]);
    }

    #[test]
    fn moves_and_constants() {
        assert_eq!(decoded(0xaa00_03f3, &[]).moved_from.as_deref(), Some("x0"));
        assert_eq!(decoded(0xaa00_03f3, &[]).writes, ["x19"]);
        // mov w0, #5; mov x0, #-1; adrp x0, +0x154 pages
        assert_eq!(decoded(0x5280_00a0, &[]).constant, Some(5));
        assert_eq!(decoded(0x9280_0000, &[]).constant, Some(u64::MAX));
        assert_eq!(decoded(0x9000_0aa0, &[]).constant, Some(AT + 0x15_4000));
        // ldr x19, [x0], #8
        assert_eq!(decoded(0xf840_8413, &[]).writes, ["x19", "x0"]);
    }
}
