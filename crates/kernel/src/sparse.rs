//! Sections and blocks of physical memory: what can be plugged in and out.
//!
//! `struct mem_section` (include/linux/mmzone.h): `section_mem_map` is the
//! address of its frames' records less the first frame's number (in records),
//! with flags in the low bits (`enum` of SECTION_*_BIT; v5.19 and before: 1
//! present, 2 has records, 4 online, 8 early, 16 device memory: the same
//! values). With CONFIG_SPARSEMEM_EXTREME, as all x86_64 kernels have it,
//! `mem_section` points to an array of pointers to pages full of sections. The
//! size of a section and of the array are in VMCOREINFO (`SECTION_SIZE_BITS`,
//! `MAX_PHYSMEM_BITS`).
//!
//! `struct memory_block` (include/linux/memory.h) stands for one or more
//! sections in /sys/devices/system/memory; all are in the xarray
//! `memory_blocks`, by number (drivers/base/memory.c).

use serde::Serialize;

use crate::error::{Error, Result};
use crate::layout::Embedded;
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct mem_section`, include/linux/mmzone.h
    pub struct MemSectionLayout for "mem_section" {
        section_mem_map: u64 = "section_mem_map",
    }
}

layout! {
    /// `struct memory_block`, include/linux/memory.h
    pub struct MemoryBlockLayout for "memory_block" {
        start_section_nr: u64 = "start_section_nr",
        state: u64 = "state",
        nid: i32 = "nid",
        dev: Embedded = "dev",
    }
}

/// `SECTION_SIZE_BITS` and `MAX_PHYSMEM_BITS` of x86_64 with 4 levels.
const SECTION_SIZE_BITS: u64 = 27;
const MAX_PHYSMEM_BITS: u64 = 46;
/// 128 TiB in sections of 128 MiB: no machine has more.
const MOST_SECTIONS: u64 = 1 << 20;
/// Flags of `section_mem_map`.
const PRESENT: u64 = 1;
const HAS_MEM_MAP: u64 = 2;
const ONLINE: u64 = 4;
const EARLY: u64 = 8;
const DEVICE: u64 = 16;
/// The flags take at most so many low bits (`SECTION_MAP_LAST_BIT`).
const FLAG_MASK: u64 = 0x3f;

/// A section of physical memory.
#[derive(Debug, Clone, Serialize)]
pub struct MemorySection {
    /// Its number.
    pub number: u64,
    /// Address of its `struct mem_section`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// `section_mem_map` without its flags.
    #[serde(serialize_with = "hex")]
    pub coded_mem_map: u64,
    /// Address of the first frame's record.
    #[serde(serialize_with = "hex")]
    pub mem_map: u64,
    /// Its flags.
    pub flags: u64,
    /// Its first frame.
    pub start_pfn: u64,
    /// Its frames.
    pub pages: u64,
}

impl MemorySection {
    /// Whether its frames have records.
    pub fn has_mem_map(&self) -> bool {
        self.flags & HAS_MEM_MAP != 0
    }

    /// "PMOE": present, has records, online, there since boot; D: of a device.
    pub fn letters(&self) -> String {
        let all = [(PRESENT, 'P'), (HAS_MEM_MAP, 'M'), (ONLINE, 'O'), (EARLY, 'E'), (DEVICE, 'D')];
        all.iter().filter(|(bit, _)| self.flags & bit != 0).map(|(_, letter)| letter).collect()
    }
}

/// A memory block.
#[derive(Debug, Clone, Serialize)]
pub struct MemoryBlock {
    /// Address of its `struct memory_block`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// "memory0"
    pub name: String,
    /// First physical address.
    #[serde(serialize_with = "hex")]
    pub start: u64,
    /// Last physical address, where the size of blocks is known.
    #[serde(serialize_with = "crate::stack::hex_option")]
    pub last: Option<u64>,
    /// Its memory node.
    pub node: Option<i32>,
    /// Its state, as `MEM_*` numbers it.
    pub state: u64,
    /// Number of its first section.
    pub start_section: u64,
}

impl MemoryBlock {
    /// `MEM_ONLINE` and others (include/linux/memory.h): flags until v6.18, by
    /// number since, with the same values for the lasting states.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            0 | 1 => "ONLINE",
            2 => "GOING_OFFLINE",
            4 => "OFFLINE",
            _ => "UNKNOWN",
        }
    }
}

impl Kernel {
    /// Bytes of a section.
    pub fn section_bytes(&self) -> u64 {
        let number = |name| self.vmcoreinfo().and_then(|info| info.number(name));
        let bits = number("SECTION_SIZE_BITS").and_then(|bits| u64::try_from(bits).ok());
        1 << bits.filter(|bits| (20..40).contains(bits)).unwrap_or(SECTION_SIZE_BITS)
    }

    /// The sections that are present, ascending.
    pub fn memory_sections(&self) -> Result<Vec<MemorySection>> {
        let layout = self.layout::<MemSectionLayout>()?;
        // VMCOREINFO names what the pointer holds.
        let noted = || self.vmcoreinfo().and_then(|info| info.symbol("mem_section"));
        let roots = match self.symbol("mem_section").and_then(|at| self.read_u64(at)) {
            Ok(roots) => roots,
            Err(error) => noted().ok_or(error)?,
        };
        if layout.size == 0 || layout.size > 4096 || roots == 0 {
            return Err(Error::Unavailable("the kernel's memory has no sections".into()));
        }
        // SECTIONS_PER_ROOT: a page of them.
        let per_root = self.page_size() / layout.size;
        let pages = self.section_bytes() / self.page_size();
        let record = self.layout::<crate::page::PageLayout>()?.size;
        let mut sections = Vec::new();
        for root in 0..self.section_count().div_ceil(per_root) {
            let table = self.read_u64(roots.wrapping_add(root * 8))?;
            if table == 0 {
                continue;
            }
            let raw = self.read_bytes(table, per_root * layout.size)?;
            let at = layout.section_mem_map.offset()? as usize;
            for (i, section) in raw.chunks_exact(layout.size as usize).enumerate() {
                let word = section.get(at..at + 8).and_then(|w| w.try_into().ok());
                let word = word.map_or(0, u64::from_le_bytes);
                if word & PRESENT == 0 {
                    continue;
                }
                let number = root * per_root + i as u64;
                let start_pfn = number * pages;
                let coded = word & !FLAG_MASK;
                sections.push(MemorySection {
                    number,
                    addr: table.wrapping_add(i as u64 * layout.size),
                    coded_mem_map: coded,
                    mem_map: coded.wrapping_add(start_pfn.wrapping_mul(record)),
                    flags: word & FLAG_MASK,
                    start_pfn,
                    pages,
                });
            }
        }
        Ok(sections)
    }

    /// One more than the highest section that may be present.
    fn section_count(&self) -> u64 {
        if let Ok(highest) =
            self.symbol("__highest_present_section_nr").and_then(|a| self.read_u64(a))
            && highest < MOST_SECTIONS
        {
            return highest + 1;
        }
        let number = self.vmcoreinfo().and_then(|info| info.number("MAX_PHYSMEM_BITS"));
        let bits = number.and_then(|bits| u64::try_from(bits).ok()).filter(|bits| *bits <= 52);
        ((1u64 << bits.unwrap_or(MAX_PHYSMEM_BITS)) / self.section_bytes()).clamp(1, MOST_SECTIONS)
    }

    /// The memory blocks, by number.
    pub fn memory_blocks(&self) -> Result<Vec<MemoryBlock>> {
        let layout = self.layout::<MemoryBlockLayout>()?;
        let size = self.symbol("memory_block_size_probed").and_then(|at| self.read_u64(at)).ok();
        let size = size.filter(|size| *size != 0);
        let mut blocks = Vec::new();
        for entry in self.xarray(self.symbol("memory_blocks")?)? {
            let (number, addr) = entry?;
            let start_section = layout.start_section_nr.read(self, addr)?;
            let start = start_section.wrapping_mul(self.section_bytes());
            blocks.push(MemoryBlock {
                addr,
                name: format!("memory{number}"),
                start,
                last: size.map(|size| start.wrapping_add(size - 1)),
                node: layout.nid.read_if_exists(self, addr)?,
                state: layout.state.read(self, addr)?,
                start_section,
            });
        }
        Ok(blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_a_section_are_letters() {
        let section = |flags| MemorySection {
            number: 1,
            addr: 0,
            coded_mem_map: 0,
            mem_map: 0,
            flags,
            start_pfn: 0x8000,
            pages: 0x8000,
        };
        assert_eq!(section(0xf).letters(), "PMOE");
        assert_eq!(section(0x13).letters(), "PMD");
        assert!(section(0xf).has_mem_map() && !section(1).has_mem_map());
    }
}
