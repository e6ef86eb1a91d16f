//! x86_64 page tables, 4 and 5 levels (Intel SDM vol. 3, 4.5).
//!
//! Every table has 512 entries of 8 bytes. Bit 0 is "present", bit 7 in a PUD
//! or PMD entry says that it maps a 1 GiB or 2 MiB page itself; bits 12..51
//! are the physical address. The kernel marks pages of `PROT_NONE` mappings
//! with bit 8 and no bit 0: they are in memory all the same.

use kmortem_vmcore::Image;

use crate::arch::page_table::{Entries, Half, PageTables, Step, WalkError};
use crate::translation::EntryMeaning;

const PRESENT: u64 = 1;
const HUGE: u64 = 1 << 7;
const PROTNONE: u64 = 1 << 8;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Tables with the root at `root`, in 4 or 5 levels.
pub fn tables(root: u64, levels: u8, encryption_mask: u64) -> PageTables {
    PageTables {
        root: root & ADDRESS,
        levels,
        page_shift: 12,
        va_bits: 12 + 9 * levels,
        half: Half::Both,
        entries: Entries::X86_64 { encryption_mask },
    }
}

/// What `entry` of a table of `level` (1 is the lowest) leads to.
pub fn step(level: u8, entry: u64, encryption_mask: u64) -> Step {
    if entry & PRESENT == 0 && !(level == 1 && entry & PROTNONE != 0) {
        return Step::Absent;
    }
    let to = entry & ADDRESS & !encryption_mask;
    match level == 1 || (entry & HUGE != 0 && level <= 3) {
        true => Step::Page(to),
        false => Step::Table(to),
    }
}

/// The kernel's name of a level: with four of them there is no P4D.
pub fn level_name(level: u8, levels: u8) -> &'static str {
    match level {
        1 => "PTE",
        2 => "PMD",
        3 => "PUD",
        4 if levels == 5 => "P4D",
        _ => "PGD",
    }
}

/// Reads an entry (arch/x86/include/asm/pgtable_types.h). `encryption` are the
/// bits that hold no address.
pub fn meaning(entry: u64, encryption: u64) -> EntryMeaning {
    if entry == 0 {
        return EntryMeaning::Empty;
    }
    let present = entry & PRESENT != 0;
    if !present && entry & PROTNONE == 0 {
        let (area, offset) = swap(entry);
        return EntryMeaning::Swap { area, offset };
    }
    const NAMES: [(u32, &str); 10] = [
        (0, "PRESENT"),
        (1, "RW"),
        (2, "USER"),
        (3, "PWT"),
        (4, "PCD"),
        (5, "ACCESSED"),
        (6, "DIRTY"),
        (7, "PSE"),
        (8, "GLOBAL"),
        (63, "NX"),
    ];
    let set = NAMES.iter().filter(|(bit, _)| entry >> bit & 1 == 1).map(|(_, name)| *name);
    let none = (!present).then_some("PROTNONE");
    let flags = none.into_iter().chain(set).collect();
    EntryMeaning::Page { physical: entry & ADDRESS & !encryption, flags }
}

/// (swap area, page in it): 5 bits of type on top, the offset below them,
/// inverted so that no page is speculated on, 9 bits of flags
/// (arch/x86/include/asm/pgtable_64.h since v4.18, eee948c4a9b4 and before).
pub fn swap(entry: u64) -> (u32, u64) {
    ((entry >> 59) as u32, !entry << 5 >> 14)
}

/// First mapped 2 MiB step at or after `start` and below `end`. Steps over
/// what an absent upper entry covers, so that a sparse range costs little.
pub fn next_mapped(image: &Image, tables: &PageTables, start: u64, end: u64) -> Option<u64> {
    let mut addr = start;
    while addr < end {
        match tables.walk(image, addr) {
            Ok(_) => return Some(addr),
            Err(WalkError::NotPresent { level, .. }) => {
                let shift = (12 + 9 * (u32::from(level) - 1)).max(21);
                addr = (addr >> shift).checked_add(1)?.checked_shl(shift)?;
                if addr == 0 {
                    return None;
                }
            }
            Err(_) => addr = addr.checked_add(2 << 20)?,
        }
    }
    None
}

/// End of the mapped run that starts at `start`, in steps of 2 MiB, at most
/// `limit`. A hole of one step is taken as part of the run: the kernel unmaps
/// parts of its image (init sections) after boot.
pub fn end_of_run(image: &Image, tables: &PageTables, start: u64, limit: u64) -> u64 {
    const STEP: u64 = 2 << 20;
    let mut end = start;
    let mut addr = start & !(STEP - 1);
    let mut holes = 0;
    while addr < limit && holes <= 4 {
        // A step counts as mapped when either of its halves is.
        let mapped =
            [0, STEP / 2, STEP - 4096].iter().any(|o| tables.walk(image, addr + o).is_ok());
        if mapped {
            end = addr + STEP;
            holes = 0;
        } else {
            holes += 1;
        }
        addr += STEP;
    }
    end.min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_tell_pages_from_swap() {
        assert_eq!(meaning(0, 0), EntryMeaning::Empty);
        let page = |physical, flags: &[&'static str]| EntryMeaning::Page {
            physical,
            flags: flags.to_vec(),
        };
        assert_eq!(
            meaning(0xd8e067, 0),
            page(0xd8e000, &["PRESENT", "RW", "USER", "ACCESSED", "DIRTY"])
        );
        assert_eq!(meaning(0x100, 0), page(0, &["PROTNONE", "GLOBAL"]));
        // Area 1, page 5: type << 59 | ~offset << 14 >> 5.
        let entry = 1 << 59 | (!5u64 << 14 >> 5) & !0x1ff;
        assert_eq!(meaning(entry, 0), EntryMeaning::Swap { area: 1, offset: 5 });
    }
}
