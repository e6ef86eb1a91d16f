//! The way from a virtual address to a physical one, entry by entry, and what
//! an entry says (arch/x86/include/asm/pgtable_types.h).

use serde::Serialize;

use crate::Kernel;
use crate::arch::PageTables;
use crate::error::{Fault, Result};
use crate::mm::MmLayout;
use crate::stack::{hex, hex_option};

const PRESENT: u64 = 1;
const HUGE: u64 = 1 << 7;
const PROTNONE: u64 = 1 << 8;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// One entry on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TableEntry {
    /// "PGD", "P4D", "PUD", "PMD" or "PTE".
    pub level: &'static str,
    /// Physical address of the entry.
    #[serde(serialize_with = "hex")]
    pub at: u64,
    /// What it holds.
    #[serde(serialize_with = "hex")]
    pub value: u64,
}

/// The way of one address.
#[derive(Debug, Clone, Serialize)]
pub struct Translation {
    /// The virtual address.
    #[serde(serialize_with = "hex")]
    pub address: u64,
    /// Where it is; none: it is not mapped.
    #[serde(serialize_with = "hex_option")]
    pub physical: Option<u64>,
    /// Bytes of the page that maps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_size: Option<u64>,
    /// The entries from the top table on.
    pub entries: Vec<TableEntry>,
    /// Why the way ends early, if not for an entry that is not present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

/// What an entry of the lowest table in use says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum EntryMeaning {
    /// Nothing is mapped.
    Empty,
    /// A page in memory, with the names of the bits that are set.
    Page {
        /// Physical address of the page.
        #[serde(serialize_with = "hex")]
        physical: u64,
        /// Names of its bits.
        flags: Vec<&'static str>,
    },
    /// A page that was swapped out (or another special entry of the kernel's).
    Swap {
        /// Number of the swap area.
        area: u32,
        /// Page in it.
        offset: u64,
    },
}

impl Kernel {
    /// The way of a kernel address through the kernel's own tables.
    pub fn translation(&self, addr: u64) -> Translation {
        self.translation_by(self.space().tables(), addr)
    }

    /// The way of a user address of the process that has `mm`.
    pub fn user_translation(&self, mm: u64, addr: u64) -> Result<Translation> {
        let pgd = self.layout::<MmLayout>()?.pgd.read(self, mm)?;
        let tables = PageTables { root: self.space().translate(pgd)?, ..*self.space().tables() };
        Ok(self.translation_by(&tables, addr))
    }

    fn translation_by(&self, tables: &PageTables, addr: u64) -> Translation {
        let mut way = Translation {
            address: addr,
            physical: None,
            page_size: None,
            entries: Vec::new(),
            broken: None,
        };
        if !crate::arch::x86_64::paging::is_canonical(addr, tables.levels) {
            way.broken = Some(Fault::NonCanonical.to_string());
            return way;
        }
        let bits = ADDRESS & !tables.encryption_mask;
        let mut table = tables.root & ADDRESS;
        for level in (1..=tables.levels).rev() {
            let shift = 12 + 9 * (u32::from(level) - 1);
            let at = table + ((addr >> shift) & 0x1ff) * 8;
            let mut raw = [0; 8];
            if let Err(error) = self.image().read(at, &mut raw) {
                let fault = Fault::PageTable { table: at, reason: error.reason };
                way.broken = Some(fault.to_string());
                return way;
            }
            let value = u64::from_le_bytes(raw);
            way.entries.push(TableEntry { level: name(level, tables.levels), at, value });
            if value & PRESENT == 0 && !(level == 1 && value & PROTNONE != 0) {
                return way;
            }
            if level == 1 || (value & HUGE != 0 && level <= 3) {
                let size = 1u64 << shift;
                let base = value & bits & !(size - 1);
                way.physical = Some(base | (addr & (size - 1)));
                way.page_size = Some(size);
                return way;
            }
            table = value & bits;
        }
        way
    }
}

/// The kernel's name of a level: with four of them there is no P4D.
fn name(level: u8, levels: u8) -> &'static str {
    match level {
        1 => "PTE",
        2 => "PMD",
        3 => "PUD",
        4 if levels == 5 => "P4D",
        _ => "PGD",
    }
}

/// Reads an entry. `encryption` are the bits that hold no address.
pub fn meaning(entry: u64, encryption: u64) -> EntryMeaning {
    if entry == 0 {
        return EntryMeaning::Empty;
    }
    let present = entry & PRESENT != 0;
    if !present && entry & PROTNONE == 0 {
        // arch/x86/include/asm/pgtable_64.h since v4.18 (eee948c4a9b4 and
        // before): the offset is inverted, so that no page is speculated on.
        return EntryMeaning::Swap { area: (entry >> 59) as u32, offset: !entry << 5 >> 14 };
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
