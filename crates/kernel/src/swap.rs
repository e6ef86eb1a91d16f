//! Swap space: `swap_info[]` (mm/swapfile.c), an array of pointers to `struct
//! swap_info_struct` (include/linux/swap.h), of which `nr_swapfiles` are used.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::stack::hex;
use crate::vfs::{FileKind, FileLayout, InodeLayout};
use crate::{Kernel, layout};

layout! {
    /// `struct swap_info_struct`, include/linux/swap.h
    pub struct SwapInfoLayout for "swap_info_struct" {
        flags: u64 = "flags",
        prio: i16 = "prio",
        pages: u32 = "pages",
        inuse_pages: u64 = "inuse_pages",       // atomic_long_t since v6.13
        swap_file: u64 = "swap_file",
        bdev: u64 = "bdev",
    }
}

/// `SWP_USED` and `SWP_WRITEOK` (include/linux/swap.h): bits 0 and 1.
const SWP_USED: u64 = 1;
const SWP_WRITEOK: u64 = 2;
/// `SWAP_USAGE_OFFLIST_BIT` (mm/swapfile.c, since v6.13): bit 30 of
/// `inuse_pages` marks a full area, it is no part of the count.
const OFFLIST: u64 = 1 << 30;
/// MAX_SWAPFILES is at most 32.
const MOST_AREAS: u32 = 256;

/// A swap area. Counts are pages.
#[derive(Debug, Clone, Serialize)]
pub struct SwapArea {
    /// Address of its `struct swap_info_struct`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its number.
    pub index: u32,
    /// Its size without bad pages.
    pub pages: u64,
    /// How many are in use.
    pub used: u64,
    /// Areas of higher priority are filled first.
    pub priority: i16,
    /// Whether pages may be swapped out to it (not while swapoff runs).
    pub writable: bool,
    /// Its `struct file`.
    #[serde(serialize_with = "hex")]
    pub file: u64,
    /// Its `struct block_device`.
    #[serde(serialize_with = "hex")]
    pub block_device: u64,
}

impl Kernel {
    /// The swap areas in use. None: the machine has no swap.
    pub fn swap_areas(&self) -> Result<Vec<SwapArea>> {
        let table = self.symbol("swap_info")?;
        let count = self.read_u32(self.symbol("nr_swapfiles")?)?.min(MOST_AREAS);
        if count == 0 {
            return Ok(Vec::new());
        }
        let layout = self.layout::<SwapInfoLayout>()?;
        let mut areas = Vec::new();
        for index in 0..count {
            let addr = self.read_u64(table.wrapping_add(u64::from(index) * 8))?;
            // Places of areas that were switched off stay allocated.
            if addr == 0 || layout.flags.read(self, addr)? & SWP_USED == 0 {
                continue;
            }
            areas.push(SwapArea {
                addr,
                index,
                pages: u64::from(layout.pages.read(self, addr)?),
                used: used_pages(layout.inuse_pages.read(self, addr)?),
                priority: layout.prio.read(self, addr)?,
                writable: layout.flags.read(self, addr)? & SWP_WRITEOK != 0,
                file: layout.swap_file.read(self, addr)?,
                block_device: layout.bdev.read_if_exists(self, addr)?.unwrap_or(0),
            });
        }
        Ok(areas)
    }
}

impl Kernel {
    /// Path of the swap file or partition number `index`.
    pub fn swap_file(&self, index: u32) -> Result<String> {
        let table = self.symbol("swap_info")?;
        if index >= MOST_AREAS || index >= self.read_u32(self.symbol("nr_swapfiles")?)? {
            return Err(Error::Unavailable(format!("there is no swap area {index}")));
        }
        let addr = self.read_u64(table.wrapping_add(u64::from(index) * 8))?;
        if addr == 0 {
            return Err(Error::Null(format!("swap_info[{index}]")));
        }
        self.file_path(self.layout::<SwapInfoLayout>()?.swap_file.read(self, addr)?)
    }

    /// Whether an area is a block device, not a file.
    pub fn is_swap_partition(&self, area: &SwapArea) -> Result<bool> {
        let inode = self.layout::<FileLayout>()?.inode.read(self, area.file)?;
        let mode = self.layout::<InodeLayout>()?.mode.read(self, inode)?;
        Ok(FileKind::of(mode) == FileKind::BlockDevice)
    }
}

/// The count in `inuse_pages`. Before the mark existed a count of 2^30 pages
/// (4 TiB) would have had that bit: taken for the mark, as areas of that size
/// need a kernel that has it.
fn used_pages(inuse: u64) -> u64 {
    inuse & !OFFLIST
}

#[cfg(test)]
mod tests {
    use super::used_pages;

    #[test]
    fn the_mark_of_a_full_area_is_not_counted() {
        assert_eq!(used_pages(1 << 30 | 262_143), 262_143);
        assert_eq!(used_pages(12), 12);
    }
}
