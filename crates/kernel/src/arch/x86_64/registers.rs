//! Registers of x86_64 as the kernel saves them.
//!
//! `struct pt_regs` (arch/x86/include/asm/ptrace.h) is 21 words: r15 r14 r13
//! r12 bp bx r11 r10 r9 r8 ax cx dx si di orig_ax ip cs flags sp ss. The last
//! five are what the processor itself pushes (an "iret frame").
//! `user_regs_struct`, the form in `NT_PRSTATUS` notes, is the same 21 words
//! followed by fs_base gs_base ds es fs gs.

use crate::arch::registers::{RegisterSet, Registers};

/// Bytes of a `struct pt_regs`.
pub const PT_REGS_SIZE: u64 = 21 * 8;
/// Offset of the part that the processor pushes (ip).
pub const IRET_FRAME: u64 = 16 * 8;

/// Names in the order of `struct pt_regs`.
pub const NAMES: [&str; 21] = [
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi",
    "rdi", "orig_rax", "rip", "cs", "rflags", "rsp", "ss",
];

/// A register by its place in `struct pt_regs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reg {
    R15,
    R14,
    R13,
    R12,
    Bp,
    Bx,
    R11,
    R10,
    R9,
    R8,
    Ax,
    Cx,
    Dx,
    Si,
    Di,
    OrigAx,
    Ip,
    Cs,
    Flags,
    Sp,
    Ss,
}

impl From<Reg> for usize {
    fn from(reg: Reg) -> usize {
        reg as usize
    }
}

/// The set of x86_64. An iret frame alone knows only the last five.
pub static SET: RegisterSet = RegisterSet {
    names: &NAMES,
    pc: Reg::Ip as usize,
    sp: Reg::Sp as usize,
    fp: Reg::Bp as usize,
    argument: Reg::Di as usize,
    // The System V AMD64 calling convention.
    arguments: &["rdi", "rsi", "rdx", "rcx", "r8", "r9"],
    result: "rax",
    scratch: &["rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11"],
    general: &[
        "rbx", "rbp", "r12", "r13", "r14", "r15", "rdi", "rsi", "rdx", "rcx", "rax", "r8", "r9",
        "r10", "r11",
    ],
    places: &["rsp", "rip"],
    always: Reg::Ip as usize,
    halves: &[],
    is_user,
    is_plausible,
};

/// Privilege level 3 in the code segment; with FRED the upper bits of the slot
/// hold more.
fn is_user(words: &[u64]) -> bool {
    words[Reg::Cs as usize] & 3 == 3
}

/// A kernel or user code segment and flags with the always-set bit 1. The large
/// selectors are those of Xen's own segments, on which its paravirtual guests
/// run: the kernel's without their ring (xen/include/public/arch-x86/xen-x86_64.h).
fn is_plausible(words: &[u64]) -> bool {
    let cs = words[Reg::Cs as usize] & 0xffff;
    matches!(cs, 0x10 | 0x33 | 0x23 | 0xe030 | 0xe033 | 0xe023)
        && words[Reg::Flags as usize] & 2 != 0
}

/// All 21 registers, in the order of `struct pt_regs`.
pub fn complete(words: [u64; 21]) -> Registers {
    Registers::of(&SET, &words)
}

/// From the bytes of a `struct pt_regs`, or of its iret frame alone.
pub fn from_bytes(bytes: &[u8]) -> Option<Registers> {
    Registers::from_bytes(&SET, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iret_frame_knows_five_registers() {
        let words = [0xffff_ffff_8100_0000u64, 0x10, 0x246, 0xff00, 0x18];
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let regs = from_bytes(&bytes).unwrap();
        assert_eq!(regs.ip(), words[0]);
        assert_eq!(regs.sp(), 0xff00);
        assert_eq!(regs.bp(), None);
        assert!(!regs.is_user() && regs.is_plausible());
        assert_eq!(regs.iter().count(), 5);
    }

    #[test]
    fn other_sizes_are_no_registers() {
        assert!(from_bytes(&[0; 24]).is_none());
        assert!(from_bytes(&[0; 21 * 8 + 8]).is_none());
    }
}
