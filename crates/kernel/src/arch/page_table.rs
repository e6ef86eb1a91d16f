//! Page tables: one walk for all architectures.
//!
//! Tables are a page each and hold entries of 8 bytes, so a page of 2^n bytes
//! translates n-3 bits of an address at each level; the top table may be
//! smaller. What an entry says is the architecture's business ([`Entries`]).
//! The tables of a paravirtual guest of Xen's hold addresses of the machine
//! below it: the dump knows which of its own pages they are.

use kmortem_vmcore::{Absent, Image};

use super::{arm64, x86_64};

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
    /// An entry leads to memory of the machine that is not the guest's own:
    /// the hypervisor's, or a page that another guest granted.
    NotOwn {
        /// Address in the machine.
        machine: u64,
    },
    /// Not an address that these tables translate.
    NonCanonical,
}

/// What the entries of a table look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entries {
    /// Intel's and AMD's.
    X86_64 {
        /// Bits of an entry that hold memory encryption state, not an address.
        encryption_mask: u64,
    },
    /// Arm's VMSAv8-64.
    Arm64(arm64::paging::OutputAddress),
}

/// Which addresses a root translates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// All of them (x86_64).
    Both,
    /// User space's (TTBR0 of arm64).
    Lower,
    /// The kernel's (TTBR1).
    Upper,
}

/// What an entry leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing in memory.
    Absent,
    /// The next table.
    Table(u64),
    /// The page that is mapped, its first byte.
    Page(u64),
}

/// Page tables of one address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageTables {
    /// Physical address of the top table.
    pub root: u64,
    /// Levels of tables: 2 to 5.
    pub levels: u8,
    /// Bits of the offset in the smallest page: 12, 14 or 16.
    pub page_shift: u8,
    /// Bits of an address that are translated.
    pub va_bits: u8,
    /// Addresses that are translated.
    pub half: Half,
    /// The entries.
    pub entries: Entries,
}

impl PageTables {
    /// The same kind of tables of a user space.
    pub fn of_user(&self, root: u64) -> PageTables {
        let half = if self.half == Half::Both { Half::Both } else { Half::Lower };
        PageTables { root, half, ..*self }
    }

    /// Bytes of the smallest page, and of a table.
    pub fn page_size(&self) -> u64 {
        1 << self.page_shift
    }

    /// Bits of the offset in what an entry of `level` covers.
    pub fn shift(&self, level: u8) -> u32 {
        let page = u32::from(self.page_shift);
        (page + (page - 3) * u32::from(level.saturating_sub(1))).min(63)
    }

    /// Entries of a table of `level`.
    pub fn table_len(&self, level: u8) -> usize {
        let bits = match level == self.levels {
            true => u32::from(self.va_bits).saturating_sub(self.shift(level)),
            false => u32::from(self.page_shift) - 3,
        };
        1 << bits.min(u32::from(self.page_shift) - 3)
    }

    /// Place of the entry for `addr` in a table of `level`.
    pub fn index(&self, addr: u64, level: u8) -> u64 {
        (addr >> self.shift(level)) & (self.table_len(level) as u64 - 1)
    }

    /// Whether these tables may translate `addr`: the bits above the translated
    /// ones are all equal, and those of the right half.
    pub fn is_canonical(&self, addr: u64) -> bool {
        let unused = 64 - u32::from(self.va_bits);
        match self.half {
            Half::Both => ((addr << unused) as i64 >> unused) as u64 == addr,
            Half::Upper => addr >> self.va_bits == u64::MAX >> self.va_bits,
            // The top byte of a user's pointer is ignored: it may hold a tag.
            Half::Lower => addr << 8 >> 8 >> self.va_bits == 0,
        }
    }

    /// What `entry` of a table of `level` leads to.
    pub fn step(&self, level: u8, entry: u64) -> Step {
        match self.entries {
            Entries::X86_64 { encryption_mask } => {
                x86_64::paging::step(level, entry, encryption_mask)
            }
            Entries::Arm64(output) => arm64::paging::step(self.page_shift, output, level, entry),
        }
    }

    /// Walks the tables for `addr`, showing each entry: its level, physical
    /// address and value.
    pub fn walk_with(
        &self,
        image: &Image,
        addr: u64,
        mut visit: impl FnMut(u8, u64, u64),
    ) -> Result<Mapping, WalkError> {
        if !self.is_canonical(addr) {
            return Err(WalkError::NonCanonical);
        }
        let own = |machine| image.physical(machine).ok_or(WalkError::NotOwn { machine });
        let mut table = self.root;
        for level in (1..=self.levels).rev() {
            let at = table.wrapping_add(self.index(addr, level) * 8);
            let mut raw = [0; 8];
            image
                .read(at, &mut raw)
                .map_err(|e| WalkError::Absent { table: at, reason: e.reason })?;
            let entry = u64::from_le_bytes(raw);
            visit(level, at, entry);
            match self.step(level, entry) {
                Step::Absent => return Err(WalkError::NotPresent { level, entry }),
                Step::Table(next) if level > 1 => table = own(next)?,
                Step::Table(_) => return Err(WalkError::NotPresent { level, entry }),
                Step::Page(base) => {
                    let page_size = 1u64 << self.shift(level);
                    let phys = own(base & !(page_size - 1) | addr & (page_size - 1))?;
                    // What follows in the machine need not do so in the guest.
                    let page_size = match image.machine_frames() {
                        Some(_) => page_size.min(self.page_size()),
                        None => page_size,
                    };
                    return Ok(Mapping { phys, page_size, entry });
                }
            }
        }
        Err(WalkError::NonCanonical)
    }

    /// Walks the tables for `addr`.
    pub fn walk(&self, image: &Image, addr: u64) -> Result<Mapping, WalkError> {
        self.walk_with(image, addr, |_, _, _| {})
    }
}
