//! Page table entries of arm64 (Arm ARM, D8.3; arch/arm64/include/asm/pgtable-hwdef.h).
//!
//! Bit 0 is "valid". Bit 1 tells a table (1) from a block (0); in the lowest
//! table it must be set. Pages are of 4, 16 or 64 KiB, and so are tables. Where
//! physical addresses have more than 48 bits:
//!
//! | page | bits of the address |
//! |---|---|
//! | 64 KiB (LPA) | 47:16, and 51:48 in bits 15:12 |
//! | 4, 16 KiB (LPA2, where it is enabled) | 49:12 or 49:14, and 51:50 in bits 9:8 |
//!
//! The kernel marks pages of `PROT_NONE` mappings as not valid and remembers
//! them by bit 58 (`PTE_PROT_NONE`), since v6.11 (55564814a838) by bit 11 (the
//! place of nG, `PTE_PRESENT_INVALID`). What was swapped out uses bit 11 for its
//! offset in older kernels, but never bit 53: a page that nobody may run has it.

use crate::Kernel;
use crate::arch::page_table::{Entries, Step};
use crate::translation::EntryMeaning;

const VALID: u64 = 1;
const TABLE: u64 = 1 << 1;
const PROT_NONE: u64 = 1 << 58;
const PRESENT_INVALID: u64 = 1 << 11;
const PRIVILEGED_NO_EXECUTE: u64 = 1 << 53;

/// How entries hold physical addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputAddress {
    /// Up to 48 bits; with pages of 64 KiB up to 52 (LPA).
    Plain,
    /// Up to 52 bits with pages of 4 or 16 KiB (LPA2, TCR_EL1.DS).
    Lpa2,
}

/// What `entry` of a table of `level` (1 is the lowest) leads to.
pub fn step(page_shift: u8, output: OutputAddress, level: u8, entry: u64) -> Step {
    if entry & VALID == 0 {
        return match level == 1 && is_prot_none(entry) {
            true => Step::Page(address(page_shift, output, entry)),
            false => Step::Absent,
        };
    }
    let to = address(page_shift, output, entry);
    match (level, entry & TABLE != 0) {
        (1, true) => Step::Page(to),
        (1, false) => Step::Absent,
        (_, true) => Step::Table(to),
        // Blocks are mapped by the second and third level, by the fourth of
        // small pages with LPA2.
        (2..=4, false) => Step::Page(to),
        (_, false) => Step::Absent,
    }
}

/// Whether an entry that is not valid stands for a page in memory.
pub fn is_prot_none(entry: u64) -> bool {
    entry & VALID == 0
        && (entry & PROT_NONE != 0
            || entry & (PRESENT_INVALID | PRIVILEGED_NO_EXECUTE)
                == PRESENT_INVALID | PRIVILEGED_NO_EXECUTE)
}

/// The physical address in an entry.
pub fn address(page_shift: u8, output: OutputAddress, entry: u64) -> u64 {
    let low = |top: u32| (u64::MAX >> (64 - top)) & !((1u64 << page_shift) - 1);
    match (output, page_shift) {
        (_, 16) => entry & low(48) | (entry >> 12 & 0xf) << 48,
        (OutputAddress::Lpa2, _) => entry & low(50) | (entry >> 8 & 3) << 50,
        (OutputAddress::Plain, _) => entry & low(48),
    }
}

/// The kernel's name of a level: the upper ones are left out where there are fewer.
pub fn level_name(level: u8, levels: u8) -> &'static str {
    match level {
        1 => "PTE",
        _ if level == levels => "PGD",
        2 => "PMD",
        3 => "PUD",
        _ => "P4D",
    }
}

/// What an entry of the lowest table says.
pub(super) fn meaning(kernel: &Kernel, entry: u64) -> EntryMeaning {
    if entry == 0 {
        return EntryMeaning::Empty;
    }
    let tables = kernel.space().tables();
    let output = match tables.entries {
        Entries::Arm64(output) => output,
        Entries::X86_64 { .. } => OutputAddress::Plain,
    };
    if entry & VALID == 0 && !is_prot_none(entry) {
        let areas = kernel.swap_areas().unwrap_or_default();
        let exists = |(area, offset): &(u32, u64)| {
            areas.iter().any(|swap| swap.index == *area && *offset <= swap.pages)
        };
        let forms = swap_forms(entry);
        let (area, offset) = forms.into_iter().find(exists).unwrap_or(forms[0]);
        return EntryMeaning::Swap { area, offset };
    }
    EntryMeaning::Page {
        physical: address(tables.page_shift, output, entry),
        flags: flags(entry, output == OutputAddress::Lpa2),
    }
}

/// (swap area, page in it) in the forms that arm64 has had: since v6.11, since
/// v5.19 (570ef363509b), and before (arch/arm64/include/asm/pgtable.h).
fn swap_forms(entry: u64) -> [(u32, u64); 3] {
    let bits = |from: u32, width: u32| entry >> from & ((1 << width) - 1);
    [
        (bits(6, 5) as u32, bits(12, 50)),
        (bits(3, 5) as u32, bits(8, 50)),
        (bits(2, 6) as u32, bits(8, 50)),
    ]
}

/// Names of the bits (`PTE_*`, arch/arm64/include/asm/pgtable-{hwdef,prot}.h).
fn flags(entry: u64, lpa2: bool) -> Vec<&'static str> {
    const NAMES: [(u32, &str); 11] = [
        (0, "VALID"),
        (6, "USER"),
        (7, "RDONLY"),
        (10, "AF"),
        (11, "NG"),
        (51, "DBM"),
        (52, "CONT"),
        (53, "PXN"),
        (54, "UXN"),
        (55, "DIRTY"),
        (56, "SPECIAL"),
    ];
    let mut found: Vec<&'static str> = Vec::new();
    if is_prot_none(entry) {
        found.push("PROT_NONE");
    }
    for (bit, name) in NAMES {
        if entry >> bit & 1 == 1 {
            found.push(name);
        }
        // With LPA2 these bits are part of the address.
        if bit == 7 && entry >> 8 & 3 == 3 && !lpa2 {
            found.push("SHARED");
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_more_than_48_bits() {
        let plain = OutputAddress::Plain;
        assert_eq!(address(12, plain, 0x0060_8765_4321_0f03), 0x8765_4321_0000);
        assert_eq!(address(14, plain, 0x0060_8765_4321_4703), 0x8765_4321_4000);
        // 64 KiB: bits 15:12 are bits 51:48.
        assert_eq!(address(16, plain, 0x0060_8765_4321_a703), 0xa_8765_4321_0000);
        // LPA2: bits 49:12 in place, bits 9:8 are bits 51:50.
        assert_eq!(address(12, OutputAddress::Lpa2, 0x0063_8765_4321_0603), 0xb_8765_4321_0000);
        // Without it these bits are the shareability.
        assert_eq!(address(12, plain, 0x0060_8765_4321_0703), 0x8765_4321_0000);
    }

    #[test]
    fn blocks_tables_and_pages_are_told_apart() {
        let at = |level, entry| step(12, OutputAddress::Plain, level, entry);
        assert_eq!(at(1, 0x4000_0003), Step::Page(0x4000_0000));
        assert_eq!(at(1, 0x4000_0001), Step::Absent);
        assert_eq!(at(2, 0x4000_0001), Step::Page(0x4000_0000));
        assert_eq!(at(2, 0x4000_0003), Step::Table(0x4000_0000));
        assert_eq!(at(5, 0x4000_0001), Step::Absent);
        assert_eq!(at(3, 0), Step::Absent);
    }

    #[test]
    fn prot_none_is_in_memory_and_swap_is_not() {
        let at = |entry| step(12, OutputAddress::Plain, 1, entry);
        assert_eq!(at(0x0460_0000_4000_0f80 & !1), Step::Page(0x4000_0000));
        assert_eq!(at(0x0060_0000_4000_0f80), Step::Page(0x4000_0000));
        // Area 1, page 0x108.
        assert_eq!(at(0x108 << 8 | 1 << 3), Step::Absent);
    }
}
