//! The firmware's map of physical memory, as the kernel keeps it.
//!
//! `e820_table` points to a `struct e820_table` (arch/x86/include/asm/e820/types.h):
//! a count, then packed entries { u64 addr, u64 size, u32 type }.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::layout::Embedded;
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct e820_table`, arch/x86/include/asm/e820/types.h
    pub struct E820TableLayout for "e820_table" {
        count: u32 = "nr_entries",
        entries: Embedded = "entries",
    }
}

layout! {
    /// `struct e820_entry`, arch/x86/include/asm/e820/types.h
    pub struct E820EntryLayout for "e820_entry" {
        addr: u64 = "addr",
        length: u64 = "size",
        kind: u32 = "type",
    }
}

/// Firmware gives 128 entries at most, plus 3 for each NUMA node.
const MOST: u32 = 1 << 14;

/// A range of physical addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct E820Range {
    /// First address.
    #[serde(serialize_with = "hex")]
    pub start: u64,
    /// The address behind the last.
    #[serde(serialize_with = "hex")]
    pub end: u64,
    /// `enum e820_type`.
    pub kind: u32,
    /// Its name ("RAM"); `None`: this table does not know it.
    pub name: Option<&'static str>,
}

/// What a type of range means.
fn kind_name(kind: u32) -> Option<&'static str> {
    Some(match kind {
        1 => "RAM",
        2 => "RESERVED",
        3 => "ACPI",
        4 => "NVS",
        5 => "UNUSABLE",
        7 => "PMEM",
        12 => "PRAM",
        128 => "RESERVED_KERN",
        0xefff_ffff => "SOFT_RESERVED",
        _ => return None,
    })
}

impl Kernel {
    /// The map, by address.
    pub fn e820(&self) -> Result<Vec<E820Range>> {
        let table = self.layout::<E820TableLayout>()?;
        let entry = self.layout::<E820EntryLayout>()?;
        let addr = self.read_u64(self.symbol("e820_table")?)?;
        let count = table.count.read(self, addr)?;
        if count > MOST {
            return Err(Error::corrupt(format!("a memory map of {count} entries"), addr));
        }
        let first = table.entries.address(addr)?;
        let read = |n: u64| {
            let at = first.wrapping_add(n * entry.size);
            let start = entry.addr.read(self, at)?;
            let kind = entry.kind.read(self, at)?;
            let end = start.wrapping_add(entry.length.read(self, at)?);
            Ok(E820Range { start, end, kind, name: kind_name(kind) })
        };
        (0..u64::from(count)).map(read).collect()
    }
}
