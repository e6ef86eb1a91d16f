//! BPF instructions as text, in the shape that the verifier's log and bpftool
//! have.
//!
//! An instruction is 8 bytes (`struct bpf_insn`, include/uapi/linux/bpf.h):
//! code, the registers dst (low 4 bits) and src, a signed 16-bit offset and a
//! signed 32-bit constant. `lddw` (0x18) takes two, the second one's constant
//! being the upper half. The set is that of RFC 9669
//! (Documentation/bpf/standardization/instruction-set.rst); arithmetic on 32
//! bits is marked `(u32)`, as crash does.

use serde::Serialize;

/// Bytes of an instruction.
pub(super) const SIZE: u64 = 8;

/// Classes, the low 3 bits of the code.
const LD: u8 = 0;
const LDX: u8 = 1;
const ST: u8 = 2;
const STX: u8 = 3;
const ALU: u8 = 4;
const JMP: u8 = 5;
const JMP32: u8 = 6;
const ALU64: u8 = 7;
/// `BPF_PSEUDO_CALL`: to another function of the program.
const PSEUDO_CALL: u8 = 1;

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BpfInstruction {
    /// Its number, from 0; one that takes two is followed by a gap.
    pub index: usize,
    /// Its text, with the code in front: `(bf) r2 = r10`.
    pub text: String,
    /// Its bytes: 8 or 16.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

/// What has a name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meaning {
    /// A constant that is the address of a map.
    Map(u64),
    /// A call's distance from `__bpf_call_base`.
    Helper(i32),
}

/// The parts of an instruction.
struct Raw {
    code: u8,
    dst: u8,
    src: u8,
    off: i16,
    imm: i32,
    /// Constant of the following one.
    upper: Option<i32>,
}

/// The instructions in `bytes`; `name` gives names for addresses.
pub(super) fn parse(bytes: &[u8], name: &dyn Fn(Meaning) -> Option<String>) -> Vec<BpfInstruction> {
    let all = bytes.as_chunks::<8>().0;
    let mut list = Vec::with_capacity(all.len());
    let mut index = 0;
    while let Some(one) = all.get(index) {
        let next = all.get(index + 1);
        let double = one[0] == 0x18 && next.is_some();
        let raw = Raw {
            code: one[0],
            dst: one[1] & 15,
            src: one[1] >> 4,
            off: i16::from_le_bytes([one[2], one[3]]),
            imm: i32::from_le_bytes([one[4], one[5], one[6], one[7]]),
            upper: next.map(|n| i32::from_le_bytes([n[4], n[5], n[6], n[7]])),
        };
        let mut bytes = one.to_vec();
        if let (true, Some(next)) = (double, next) {
            bytes.extend_from_slice(next);
        }
        list.push(BpfInstruction {
            index,
            text: format!("({:02x}) {}", raw.code, raw.text(name)),
            bytes,
        });
        index += if double { 2 } else { 1 };
    }
    list
}

impl Raw {
    fn text(&self, name: &dyn Fn(Meaning) -> Option<String>) -> String {
        match self.code & 7 {
            ALU | ALU64 => self.arithmetic(),
            JMP | JMP32 => self.jump(name),
            LD => self.load_constant(name),
            LDX => self.load(),
            ST | STX => self.store(),
            _ => self.unknown(),
        }
    }

    fn unknown(&self) -> String {
        format!("unknown: dst {} src {} off {:+} imm {:#x}", self.dst, self.src, self.off, self.imm)
    }

    /// What a load or store moves: bits 3 and 4 of the code.
    fn width(&self) -> &'static str {
        ["u32", "u16", "u8", "u64"][usize::from(self.code >> 3 & 3)]
    }

    fn arithmetic(&self) -> String {
        let wide = self.code & 7 == ALU64;
        let by_register = self.code & 8 != 0;
        let (dst, src, imm) = (self.dst, self.src, self.imm);
        let cast = if wide { "" } else { "(u32) " };
        let operator = match self.code >> 4 {
            0x0 => "+=",
            0x1 => "-=",
            0x2 => "*=",
            0x3 if self.off == 1 => "s/=",
            0x3 => "/=",
            0x4 => "|=",
            0x5 => "&=",
            0x6 => "<<=",
            0x7 => ">>=",
            0x8 => return format!("r{dst} = {cast}-r{dst}"),
            0x9 if self.off == 1 => "s%=",
            0x9 => "%=",
            0xa => "^=",
            0xb => "=",
            0xc => "s>>=",
            0xd if wide => return format!("r{dst} = bswap{imm} r{dst}"),
            0xd => {
                let order = if by_register { "be" } else { "le" };
                return format!("r{dst} = {order}{imm} r{dst}");
            }
            _ => return self.unknown(),
        };
        match by_register {
            // A move that extends the sign of 8, 16 or 32 bits.
            true if self.code >> 4 == 0xb && matches!(self.off, 8 | 16 | 32) => {
                format!("{cast}r{dst} = (s{})r{src}", self.off)
            }
            true => format!("{cast}r{dst} {operator} {cast}r{src}"),
            false => format!("{cast}r{dst} {operator} {cast}{imm}"),
        }
    }

    fn jump(&self, name: &dyn Fn(Meaning) -> Option<String>) -> String {
        let (dst, src, off, imm) = (self.dst, self.src, self.off, self.imm);
        let compare = match (self.code >> 4, self.code & 7) {
            (0x0, JMP) => return format!("goto pc{off:+}"),
            (0x0, _) => return format!("gotol pc{imm:+}"),
            (0x8, JMP) if src == PSEUDO_CALL => return format!("call pc{imm:+}"),
            (0x8, JMP) => {
                let helper = name(Meaning::Helper(imm)).unwrap_or_else(|| "unknown".to_owned());
                return format!("call {helper}#{imm}");
            }
            (0x9, JMP) => return "exit".to_owned(),
            (0x1, _) => "==",
            (0x2, _) => ">",
            (0x3, _) => ">=",
            (0x4, _) => "&",
            (0x5, _) => "!=",
            (0x6, _) => "s>",
            (0x7, _) => "s>=",
            (0xa, _) => "<",
            (0xb, _) => "<=",
            (0xc, _) => "s<",
            (0xd, _) => "s<=",
            (0xe, JMP) => return format!("may_goto pc{off:+}"),
            _ => return self.unknown(),
        };
        let register = if self.code & 7 == JMP { 'r' } else { 'w' };
        match self.code & 8 {
            0 => format!("if {register}{dst} {compare} {imm:#x} goto pc{off:+}"),
            _ => format!("if {register}{dst} {compare} {register}{src} goto pc{off:+}"),
        }
    }

    fn load_constant(&self, name: &dyn Fn(Meaning) -> Option<String>) -> String {
        match (self.code >> 5, self.upper) {
            (0, Some(upper)) if self.code == 0x18 => {
                let constant = u64::from(upper as u32) << 32 | u64::from(self.imm as u32);
                // The mark of a map in src is gone once the verifier is done.
                let map = name(Meaning::Map(constant));
                format!("r{} = {}", self.dst, map.unwrap_or_else(|| format!("{constant:#x}")))
            }
            (1, _) => format!("r0 = *({} *)skb[{}]", self.width(), self.imm),
            (2, _) => format!("r0 = *({} *)skb[r{} + {}]", self.width(), self.src, self.imm),
            _ => self.unknown(),
        }
    }

    fn load(&self) -> String {
        let (dst, src, off) = (self.dst, self.src, self.off);
        match self.code >> 5 {
            // 1: what faults gives 0 (`BPF_PROBE_MEM`, inside the kernel only).
            1 | 3 => format!("r{dst} = *({} *)(r{src} {off:+})", self.width()),
            // Sign-extending.
            4 => format!("r{dst} = *(s{} *)(r{src} {off:+})", &self.width()[1..]),
            _ => self.unknown(),
        }
    }

    fn store(&self) -> String {
        let (dst, src, off, width) = (self.dst, self.src, self.off, self.width());
        let place = format!("({width} *)(r{dst} {off:+})");
        match (self.code >> 5, self.code & 7) {
            (3, ST) => format!("*{place} = {}", self.imm),
            (3, _) => format!("*{place} = r{src}"),
            (6, STX) => self.atomic(&place),
            // Stops speculation; the verifier puts it in.
            (6, _) => "nospec".to_owned(),
            _ => self.unknown(),
        }
    }

    /// The constant says which operation; bit 0 (`BPF_FETCH`) that the old
    /// value is wanted.
    fn atomic(&self, place: &str) -> String {
        let src = self.src;
        let (operator, name) = match self.imm & !1 {
            0x00 => ("+=", "add"),
            0x40 => ("|=", "or"),
            0x50 => ("&=", "and"),
            0xa0 => ("^=", "xor"),
            0xe0 => return format!("r{src} = atomic_xchg({place}, r{src})"),
            0xf0 => return format!("r0 = atomic_cmpxchg({place}, r0, r{src})"),
            _ => return self.unknown(),
        };
        match self.imm & 1 {
            0 => format!("lock *{place} {operator} r{src}"),
            _ => format!("r{src} = atomic_fetch_{name}({place}, r{src})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(bytes: &[u8]) -> Vec<String> {
        let name = |meaning| match meaning {
            Meaning::Map(0xff12_8a83_411e_f000) => Some("map[id:1]".to_owned()),
            Meaning::Helper(0x12020) => Some("bpf_map_lookup_elem".to_owned()),
            _ => None,
        };
        parse(bytes, &name).into_iter().map(|i| format!("{}: {}", i.index, i.text)).collect()
    }

    #[test]
    fn a_program_reads_as_in_the_verifiers_log() {
        let program = [
            [0x62, 0x0a, 0xfc, 0xff, 0, 0, 0, 0],
            [0xbf, 0xa2, 0, 0, 0, 0, 0, 0],
            [0x07, 0x02, 0, 0, 0xfc, 0xff, 0xff, 0xff],
            [0x18, 0x11, 0, 0, 0x00, 0xf0, 0x1e, 0x41],
            [0, 0, 0, 0, 0x83, 0x8a, 0x12, 0xff],
            [0x85, 0, 0, 0, 0x20, 0x20, 0x01, 0],
            [0x35, 0, 3, 0, 4, 0, 0, 0],
            [0xdb, 0x10, 0, 0, 0, 0, 0, 0],
            [0x95, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(
            texts(program.as_flattened()),
            [
                "0: (62) *(u32 *)(r10 -4) = 0",
                "1: (bf) r2 = r10",
                "2: (07) r2 += -4",
                "3: (18) r1 = map[id:1]",
                "5: (85) call bpf_map_lookup_elem#73760",
                "6: (35) if r0 >= 0x4 goto pc+3",
                "7: (db) lock *(u64 *)(r0 +0) += r1",
                "8: (95) exit",
            ]
        );
    }

    #[test]
    fn what_is_no_instruction_is_said_to_be_none() {
        let bytes = [[0xff, 0x21, 1, 0, 2, 0, 0, 0], [0x18, 1, 0, 0, 1, 0, 0, 0]];
        let texts = texts(bytes.as_flattened());
        assert!(texts.iter().all(|text| text.contains("unknown")), "{texts:?}");
    }
}
