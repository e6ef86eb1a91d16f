//! What taints a kernel: bits of `tainted_mask` (kernel/panic.c,
//! Documentation/admin-guide/tainted-kernels.rst). A bit has never changed its
//! meaning; new ones are added at the end.

use serde::Serialize;

use crate::Kernel;
use crate::error::Result;

/// The taints of a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Taints {
    /// `tainted_mask`.
    pub mask: u64,
    /// Letters of the set bits, as an oops prints them ("G" and blanks aside).
    pub letters: String,
    /// The set bits.
    pub list: Vec<Taint>,
}

/// One taint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Taint {
    /// Its letter; '?' for bits that this table does not know.
    pub letter: char,
    /// What it means.
    pub meaning: &'static str,
}

/// By bit (include/linux/panic.h).
const TAINTS: [(char, &str); 20] = [
    ('P', "proprietary module was loaded"),
    ('F', "module was force loaded"),
    ('S', "kernel running on an out of specification system"),
    ('R', "module was force unloaded"),
    ('M', "processor reported a machine check"),
    ('B', "bad page referenced, or unexpected page flags"),
    ('U', "taint requested by a user space application"),
    ('D', "kernel died before (oops or BUG)"),
    ('A', "ACPI table was overridden"),
    ('W', "kernel issued a warning"),
    ('C', "staging driver was loaded"),
    ('I', "workaround for a bug in platform firmware applied"),
    ('O', "out-of-tree module was loaded"),
    ('E', "unsigned module was loaded"),
    ('L', "soft lockup occurred"),
    ('K', "kernel has been live patched"),
    ('X', "auxiliary taint, defined by the distribution"),
    ('T', "kernel was built with the struct randomization plugin"),
    ('N', "in-kernel test has been run"),
    ('J', "user space used a mutating debug operation in fwctl"),
];

impl Taints {
    /// From `tainted_mask`.
    pub fn of(mask: u64) -> Taints {
        let list: Vec<Taint> = (0..64)
            .filter(|bit| mask >> bit & 1 == 1)
            .map(|bit| {
                let known = TAINTS.get(bit).copied();
                let (letter, meaning) = known.unwrap_or(('?', "unknown to this version"));
                Taint { letter, meaning }
            })
            .collect();
        Taints { mask, letters: list.iter().map(|t| t.letter).collect(), list }
    }
}

impl Kernel {
    /// What taints the kernel.
    pub fn taints(&self) -> Result<Taints> {
        Ok(Taints::of(self.read_u64(self.symbol("tainted_mask")?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_have_letters() {
        let taints = Taints::of(1 << 7 | 1 << 12 | 1 << 13);
        assert_eq!(taints.letters, "DOE");
        assert_eq!(taints.list[1].meaning, "out-of-tree module was loaded");
        assert_eq!(Taints::of(0).letters, "");
        assert_eq!(Taints::of(1 << 40).letters, "?");
    }
}
