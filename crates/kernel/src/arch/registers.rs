//! A set of saved registers, whatever the processor.
//!
//! The kernel saves them as its `struct pt_regs`, word by word; what each word
//! is, an architecture tells in a [`RegisterSet`].

use serde::{Serialize, Serializer};

/// Words of the largest `struct pt_regs` that is known (arm64: 31 general
/// registers, sp, pc, pstate and the system call's two).
pub const MOST_WORDS: usize = 36;

/// What the words of saved registers are.
#[derive(Debug)]
pub struct RegisterSet {
    /// Names, in the order of the words.
    pub names: &'static [&'static str],
    /// Word of the program counter.
    pub pc: usize,
    /// Word of the stack pointer.
    pub sp: usize,
    /// Word of the frame pointer.
    pub fp: usize,
    /// Word of a function's first argument.
    pub argument: usize,
    /// Names of the registers of a function's arguments, in order.
    pub arguments: &'static [&'static str],
    /// Name of the register of its result.
    pub result: &'static str,
    /// Names of those that it may change, result and arguments included.
    pub scratch: &'static [&'static str],
    /// Names of the general ones, those that survive calls first.
    pub general: &'static [&'static str],
    /// Names of those that point into the stack or the code.
    pub places: &'static [&'static str],
    /// The words from here on are known in every set; an exception of the
    /// processor itself may have saved no others.
    pub always: usize,
    /// Words of which the lower half alone is a register.
    pub halves: &'static [usize],
    /// Whether the words were user space's.
    pub is_user: fn(&[u64]) -> bool,
    /// Whether the words could be real.
    pub is_plausible: fn(&[u64]) -> bool,
}

impl RegisterSet {
    /// Bytes of a whole set.
    pub fn size(&self) -> u64 {
        self.names.len() as u64 * 8
    }
}

/// Saved registers.
#[derive(Clone, Copy)]
pub struct Registers {
    set: &'static RegisterSet,
    words: [u64; MOST_WORDS],
    complete: bool,
}

impl Registers {
    /// All words of a set, in its order. Words that are missing are zero.
    pub fn of(set: &'static RegisterSet, known: &[u64]) -> Registers {
        let mut words = [0; MOST_WORDS];
        for (word, value) in words.iter_mut().zip(known) {
            *word = *value;
        }
        Registers { set, words, complete: true }
    }

    /// From the bytes of a whole set, or of the part that is known in every set.
    pub fn from_bytes(set: &'static RegisterSet, bytes: &[u8]) -> Option<Registers> {
        let count = set.names.len().min(MOST_WORDS);
        let complete = bytes.len() == count * 8;
        let first = count.checked_sub(bytes.len() / 8)?;
        if !complete && (first != set.always || !bytes.len().is_multiple_of(8)) {
            return None;
        }
        let mut words = [0; MOST_WORDS];
        for (word, raw) in words.iter_mut().skip(first).zip(bytes.chunks_exact(8)) {
            *word = raw.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
        }
        for half in set.halves {
            words[*half] &= u64::from(u32::MAX);
        }
        Some(Registers { set, words, complete })
    }

    /// What the words are.
    pub fn set(&self) -> &'static RegisterSet {
        self.set
    }

    /// A word by its place, `None` where it was not saved.
    pub fn get(&self, at: impl Into<usize>) -> Option<u64> {
        let at = at.into();
        let known = at < self.set.names.len() && (self.complete || at >= self.set.always);
        if known { self.words.get(at).copied() } else { None }
    }

    /// A register by its name ("rdi", "x0").
    pub fn named(&self, name: &str) -> Option<u64> {
        self.get(self.set.names.iter().position(|n| *n == name)?)
    }

    /// Program counter.
    pub fn ip(&self) -> u64 {
        self.words[self.set.pc]
    }

    /// Stack pointer.
    pub fn sp(&self) -> u64 {
        self.words[self.set.sp]
    }

    /// Frame pointer.
    pub fn bp(&self) -> Option<u64> {
        self.get(self.set.fp)
    }

    /// The first argument of a function.
    pub fn argument(&self) -> Option<u64> {
        self.get(self.set.argument)
    }

    /// Whether these registers were those of user space.
    pub fn is_user(&self) -> bool {
        (self.set.is_user)(self.words())
    }

    /// Whether all registers are known.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether the set could be real.
    pub fn is_plausible(&self) -> bool {
        (self.set.is_plausible)(self.words())
    }

    /// The words, zero where they are not known.
    pub fn words(&self) -> &[u64] {
        &self.words[..self.set.names.len().min(MOST_WORDS)]
    }

    /// (name, value) of what is known.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let first = if self.complete { 0 } else { self.set.always };
        self.set.names.iter().copied().zip(self.words).skip(first)
    }
}

impl PartialEq for Registers {
    fn eq(&self, other: &Registers) -> bool {
        self.words() == other.words() && self.complete == other.complete
    }
}

impl Eq for Registers {}

impl std::fmt::Debug for Registers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter().map(|(name, v)| (name, format!("{v:#x}")))).finish()
    }
}

impl Serialize for Registers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(name, value)| (name, format!("{value:#x}"))))
    }
}
