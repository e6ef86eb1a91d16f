//! Whether a function has made its frame record at an instruction, from the
//! code itself.
//!
//! A function that calls others saves x29 and x30 as a frame record and lets
//! x29 point to it (AAPCS64, 6.4.6). Where an exception stops it before that,
//! or behind its end, or where it calls no other, the caller's address is still
//! in x30, or in a record that x29 does not point to yet. Every way from the
//! function's first instruction is followed, and what it does to the stack
//! pointer and to both registers is noted.

use rustc_hash::FxHashMap;

use crate::Kernel;

/// Instructions looked at before giving up.
const MOST_INSTRUCTIONS: usize = 20_000;

/// Where a function's caller is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// In the record that x29 points to.
    Record,
    /// In x30; x29 is still the caller's.
    Register,
    /// In a record so many bytes above the stack pointer; x29 is the caller's.
    Saved(i64),
}

/// What a way through the function has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    /// Bytes that the stack pointer is below its place at entry.
    height: i64,
    /// The record's own height.
    record: Option<i64>,
    /// Whether x29 points to it.
    established: bool,
}

/// Where the caller is at `pc` of the function that starts at `entry`.
pub(super) fn caller(kernel: &Kernel, entry: u64, pc: u64) -> Option<Caller> {
    find(entry, pc, |addr| kernel.read_u32(addr).ok())
}

fn find(entry: u64, pc: u64, read: impl Fn(u64) -> Option<u32>) -> Option<Caller> {
    let mut seen: FxHashMap<u64, State> = FxHashMap::default();
    let mut todo = vec![(entry, State { height: 0, record: None, established: false })];
    while let Some((mut addr, mut state)) = todo.pop() {
        loop {
            if addr == pc {
                return Some(match (state.established, state.record) {
                    (true, _) => Caller::Record,
                    (false, Some(record)) => Caller::Saved(state.height - record),
                    (false, None) => Caller::Register,
                });
            }
            if seen.len() > MOST_INSTRUCTIONS || seen.insert(addr, state).is_some() {
                break;
            }
            let Some(code) = read(addr) else { break };
            let Some(after) = step(code, state) else { break };
            state = after;
            match flow(code, addr) {
                Flow::Next => addr = addr.wrapping_add(4),
                Flow::Jump(to) => addr = to,
                Flow::Branch(to) => {
                    todo.push((to, state));
                    addr = addr.wrapping_add(4);
                }
                Flow::End => break,
            }
        }
    }
    None
}

enum Flow {
    Next,
    Jump(u64),
    Branch(u64),
    End,
}

/// A signed field of an instruction.
pub(super) fn field(code: u32, low: u32, width: u32) -> i64 {
    let value = i64::from(code >> low) & ((1 << width) - 1);
    (value << (64 - width)) >> (64 - width)
}

/// How control goes on behind `code`, which is at `addr` (Arm ARM, C4.1.93).
fn flow(code: u32, addr: u64) -> Flow {
    let to = |words: i64| addr.wrapping_add_signed(words * 4);
    match code {
        // b; b.cond and bc.cond; cbz and cbnz; tbz and tbnz
        c if c >> 26 == 0b000101 => Flow::Jump(to(field(c, 0, 26))),
        c if c >> 24 == 0b0101_0100 => Flow::Branch(to(field(c, 5, 19))),
        c if c >> 25 & 0x3f == 0b011010 => Flow::Branch(to(field(c, 5, 19))),
        c if c >> 25 & 0x3f == 0b011011 => Flow::Branch(to(field(c, 5, 14))),
        // br, ret, eret and their forms with authentication; blr is a call
        c if c >> 25 == 0b1101011 => match c >> 21 & 0xf {
            1 | 9 => Flow::Next,
            _ => Flow::End,
        },
        // brk; udf
        c if c & 0xffe0_001f == 0xd420_0000 || c >> 16 == 0 => Flow::End,
        _ => Flow::Next,
    }
}

/// The state behind an instruction, `None` when it can't be told.
fn step(code: u32, state: State) -> Option<State> {
    let mut next = state;
    let base = code >> 5 & 31;
    // Load and store pair: opc 101 V type L imm7 Rt2 Rn Rt.
    if code >> 27 & 7 == 0b101 && code >> 25 & 1 == 0 && base == 31 {
        let (opc, vector) = (code >> 30, code >> 26 & 1 == 1);
        let scale = if vector { 4i64 << opc } else { 4 << (opc >> 1) };
        let offset = field(code, 15, 7) * scale;
        let (kind, load) = (code >> 23 & 3, code >> 22 & 1 == 1);
        // Before the access (pre-index), or with no write-back.
        let at = if kind == 1 { 0 } else { offset };
        let is_record = !vector && opc == 2 && code & 31 == 29 && code >> 10 & 31 == 30;
        if is_record {
            (next.record, next.established) = match load {
                true => (None, false),
                false => (Some(state.height - at), state.established),
            };
        }
        if matches!(kind, 1 | 3) {
            next.height -= offset;
        }
        return Some(next);
    }
    // Load and store of one register with write-back: size 111 V 00 opc 0 imm9 01|11.
    if code >> 27 & 7 == 0b111
        && code >> 24 & 3 == 0
        && code >> 21 & 1 == 0
        && code >> 10 & 1 == 1
        && base == 31
    {
        next.height -= field(code, 12, 9);
        return Some(next);
    }
    let (rd, rn) = (code & 31, base);
    // Add and subtract of a constant, 64 bits, without flags.
    if code >> 23 & 0x3f == 0b100010 && code >> 31 == 1 && code >> 29 & 1 == 0 {
        let shift = if code >> 22 & 1 == 1 { 12 } else { 0 };
        let constant = i64::from(code >> 10 & 0xfff) << shift;
        let constant = if code >> 30 & 1 == 1 { -constant } else { constant };
        match (rd, rn) {
            (31, 31) => next.height -= constant,
            (31, 29) if state.established => next.height = state.record? - constant,
            (31, _) => return None,
            (29, 31) => {
                next.established = state.record == Some(state.height - constant);
            }
            _ => {}
        }
    }
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As gcc compiles it: paciasp; stp; mov; sub sp; bl; cbz +2; ...; ldp; autiasp; ret.
    const FUNCTION: [u32; 12] = [
        0xd503_233f, // 0x00 paciasp
        0xa9be_7bfd, // 0x04 stp x29, x30, [sp, #-32]!
        0x9100_03fd, // 0x08 mov x29, sp
        0xf900_0bf3, // 0x0c str x19, [sp, #16]
        0x9400_0100, // 0x10 bl
        0xb400_0060, // 0x14 cbz x0, 0x20
        0xd421_0000, // 0x18 brk #0x800
        0xd503_201f, // 0x1c nop
        0xf940_0bf3, // 0x20 ldr x19, [sp, #16]
        0xa8c2_7bfd, // 0x24 ldp x29, x30, [sp], #32
        0xd503_23bf, // 0x28 autiasp
        0xd65f_03c0, // 0x2c ret
    ];

    fn at(function: &[u32], pc: u64) -> Option<Caller> {
        const ENTRY: u64 = 0xffff_8000_0800_0000;
        find(ENTRY, ENTRY + pc, |addr| function.get((addr - ENTRY) as usize / 4).copied())
    }

    #[test]
    fn the_record_counts_from_the_move_to_the_load() {
        assert_eq!(at(&FUNCTION, 0x00), Some(Caller::Register));
        assert_eq!(at(&FUNCTION, 0x04), Some(Caller::Register));
        assert_eq!(at(&FUNCTION, 0x08), Some(Caller::Saved(0)));
        assert_eq!(at(&FUNCTION, 0x0c), Some(Caller::Record));
        assert_eq!(at(&FUNCTION, 0x14), Some(Caller::Record));
        assert_eq!(at(&FUNCTION, 0x24), Some(Caller::Record));
        assert_eq!(at(&FUNCTION, 0x28), Some(Caller::Register));
        assert_eq!(at(&FUNCTION, 0x2c), Some(Caller::Register));
    }

    #[test]
    fn a_record_in_the_middle_of_a_frame() {
        let function = [
            0xd101_03ff, // sub sp, sp, #64
            0xa902_7bfd, // stp x29, x30, [sp, #32]
            0x9100_83fd, // add x29, sp, #32
            0x9400_0100, // bl
        ];
        assert_eq!(at(&function, 4), Some(Caller::Register));
        assert_eq!(at(&function, 8), Some(Caller::Saved(32)));
        assert_eq!(at(&function, 12), Some(Caller::Record));
    }

    #[test]
    fn what_no_way_leads_to_is_unknown() {
        assert_eq!(at(&FUNCTION, 0x1c), None);
        // b to itself
        assert_eq!(at(&[0x1400_0000, 0xd503_201f], 4), None);
    }
}
