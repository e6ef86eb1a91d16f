//! Registers of x86_64 as the kernel saves them.
//!
//! `struct pt_regs` (arch/x86/include/asm/ptrace.h) is 21 words: r15 r14 r13
//! r12 bp bx r11 r10 r9 r8 ax cx dx si di orig_ax ip cs flags sp ss. The last
//! five are what the processor itself pushes (an "iret frame").
//! `user_regs_struct`, the form in `NT_PRSTATUS` notes, is the same 21 words
//! followed by fs_base gs_base ds es fs gs.

use serde::{Serialize, Serializer};

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

/// A set of saved registers. An iret frame alone knows only the last five.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    words: [u64; 21],
    complete: bool,
}

impl Registers {
    /// All 21 registers, in the order of `struct pt_regs`.
    pub fn complete(words: [u64; 21]) -> Registers {
        Registers { words, complete: true }
    }

    /// From the bytes of a `struct pt_regs`, or of its iret frame alone.
    pub fn from_bytes(bytes: &[u8]) -> Option<Registers> {
        let complete = bytes.len() as u64 == PT_REGS_SIZE;
        let first = 21usize.checked_sub(bytes.len() / 8)?;
        if !complete && first != 16 {
            return None;
        }
        let mut words = [0; 21];
        for (word, raw) in words[first..].iter_mut().zip(bytes.chunks_exact(8)) {
            *word = raw.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
        }
        Some(Registers { words, complete })
    }

    /// The register's value, `None` where only the iret frame was saved.
    pub fn get(&self, reg: Reg) -> Option<u64> {
        let at = reg as usize;
        (self.complete || at >= Reg::Ip as usize).then(|| self.words[at])
    }

    /// Instruction pointer.
    pub fn ip(&self) -> u64 {
        self.words[Reg::Ip as usize]
    }

    /// Stack pointer.
    pub fn sp(&self) -> u64 {
        self.words[Reg::Sp as usize]
    }

    /// Frame pointer register.
    pub fn bp(&self) -> Option<u64> {
        self.get(Reg::Bp)
    }

    /// Whether these registers were those of user space (privilege level 3 in
    /// the code segment; with FRED the upper bits of the slot hold more).
    pub fn is_user(&self) -> bool {
        self.words[Reg::Cs as usize] & 3 == 3
    }

    /// Whether all registers are known.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether the set could be real: a kernel or user code segment (their
    /// selectors are small) and flags with the always-set bit 1.
    pub fn is_plausible(&self) -> bool {
        let cs = self.words[Reg::Cs as usize] & 0xffff;
        matches!(cs, 0x10 | 0x33 | 0x23) && self.words[Reg::Flags as usize] & 2 != 0
    }

    /// (name, value) of what is known.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let first = if self.complete { 0 } else { Reg::Ip as usize };
        (first..21).map(|i| (NAMES[i], self.words[i]))
    }
}

impl Serialize for Registers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(name, value)| (name, format!("{value:#x}"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iret_frame_knows_five_registers() {
        let words = [0xffff_ffff_8100_0000u64, 0x10, 0x246, 0xff00, 0x18];
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let regs = Registers::from_bytes(&bytes).unwrap();
        assert_eq!(regs.ip(), words[0]);
        assert_eq!(regs.sp(), 0xff00);
        assert_eq!(regs.bp(), None);
        assert!(!regs.is_user() && regs.is_plausible());
        assert_eq!(regs.iter().count(), 5);
    }

    #[test]
    fn other_sizes_are_no_registers() {
        assert!(Registers::from_bytes(&[0; 24]).is_none());
        assert!(Registers::from_bytes(&[0; 21 * 8 + 8]).is_none());
    }
}
