//! The way from a virtual address to a physical one, entry by entry, and what
//! an entry says.

use serde::Serialize;

use crate::Kernel;
use crate::arch::{PageTables, WalkError};
use crate::error::{Fault, Result};
use crate::mm::MmLayout;
use crate::stack::{hex, hex_option};

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
        let tables = self.space().tables().of_user(self.space().translate(pgd)?);
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
        let levels = tables.levels;
        let visit = |level, at, value| {
            way.entries.push(TableEntry {
                level: self.arch().level_name(level, levels),
                at,
                value,
            });
        };
        match tables.walk_with(self.image(), addr, visit) {
            Ok(mapping) => {
                way.physical = Some(mapping.phys);
                way.page_size = Some(mapping.page_size);
            }
            Err(WalkError::NotPresent { .. }) => {}
            Err(error) => way.broken = Some(Fault::from(error).to_string()),
        }
        way
    }
}
