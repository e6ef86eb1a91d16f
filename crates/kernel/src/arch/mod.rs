//! What differs between processor architectures: page tables, registers,
//! exception frames, stacks and the way from one frame to its caller.

pub mod x86_64;

use kmortem_vmcore::{Absent, Image};

/// How a virtual address is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// Physical address of the byte asked for.
    pub phys: u64,
    /// Size in bytes of the page that maps it (4 KiB, 2 MiB, 1 GiB).
    pub page_size: u64,
    /// The last page table entry, as the hardware sees it.
    pub entry: u64,
}

/// Why a walk through page tables ended without a mapping.
#[derive(Debug, Clone)]
pub enum WalkError {
    /// An entry on the way is not present. `level` counts down to 1 (PTE).
    NotPresent {
        /// Level of the entry: 5 PGD (or 4), ... 1 PTE.
        level: u8,
        /// The entry's value.
        entry: u64,
    },
    /// The table itself is not in the dump.
    Absent {
        /// Physical address of the entry.
        table: u64,
        /// Why.
        reason: Absent,
    },
    /// Not an address of this architecture.
    NonCanonical,
}

/// Page tables of one address space: the root's physical address and the depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageTables {
    /// Physical address of the top table.
    pub root: u64,
    /// 4 or 5.
    pub levels: u8,
    /// Bits of an entry that hold memory encryption state, not an address.
    pub encryption_mask: u64,
}

impl PageTables {
    /// Walks the tables for `addr`.
    pub fn walk(&self, image: &Image, addr: u64) -> Result<Mapping, WalkError> {
        x86_64::paging::walk(image, self, addr)
    }
}
