//! The section `ram`: the blocks, and their pages.
//!
//! Data of its start, parts and end (QEMU, migration/ram.c, `ram_load_precopy()`): words of 64
//! bits, an address within a block in the upper bits, flags below the size of a page:
//!
//! ```text
//!   04 MEM_SIZE  the address is the size of all blocks. For each: name (length u8, bytes), size
//!                u64, [address u64, with the capability x-ignore-shared],
//!                [with mapped-ram: version u32 = 1, page size u64, offsets of the bitmap and of the
//!                pages u64 each; the stream goes on behind the pages]
//!   02 ZERO      [block], the byte that fills the page
//!   08 PAGE      [block], the page
//!   10 EOS       end of this part
//!   20 CONTINUE  with either: no block's name, it is the last one's
//!   40 XBZRLE, 80 HOOK (RDMA), 100 COMPRESS_PAGE: what is only sent to another QEMU
//!  200 MULTIFD_FLUSH  nothing of interest
//! ```
//!
//! mapped-ram's bitmap (migration/ram.c, `mapped_ram_setup_ramblock()`) has a bit per page, in
//! 64-bit words of the host's byte order; pages without are zeros, and holes in the file.

use super::runs::{Builder, What};
use super::stream::{Cursor, Stop};
use crate::source::Source;

const MEM_SIZE: u64 = 0x04;
const ZERO: u64 = 0x02;
const PAGE: u64 = 0x08;
const EOS: u64 = 0x10;
const CONTINUE: u64 = 0x20;
const XBZRLE: u64 = 0x40;
const HOOK: u64 = 0x80;
const COMPRESS_PAGE: u64 = 0x100;
const MULTIFD_FLUSH: u64 = 0x200;

/// Blocks beyond this are not taken: a machine has some ten, and one per DIMM.
const MAX_BLOCKS: usize = 4096;

/// Bytes of a bitmap that are looked at together.
const BITMAP_CHUNK: u64 = 1 << 20;

/// A block of the machine's memory (QEMU's RAMBlock).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QemuRamBlock {
    pub(super) name: String,
    pub(super) len: u64,
    /// Number of its first page, counted through all blocks.
    pub(super) first_page: u64,
}

/// What was read of the section so far.
#[derive(Debug, Default)]
pub(super) struct Ram {
    pub(super) blocks: Vec<QemuRamBlock>,
    pub(super) runs: Builder,
    last: Option<usize>,
    pages: u64,
    pub(super) has_addresses: bool,
    pub(super) is_mapped: bool,
    /// Where the stream starts in the file that mapped-ram's offsets count in: behind libvirt's
    /// header.
    base: Option<u64>,
}

impl Ram {
    pub(super) fn with_pages_of(bytes: u64) -> Ram {
        Ram { runs: Builder::with_pages_of(bytes), ..Ram::default() }
    }

    fn page_size(&self) -> u64 {
        self.runs.page_size
    }

    /// Reads one part, up to its EOS.
    pub(super) fn read_part(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        let mask = self.page_size() - 1;
        loop {
            let word = cursor.be64()?;
            let (addr, flags) = (word & !mask, word & mask);
            for (flag, what) in [
                (XBZRLE, "differences of pages (capability xbzrle)"),
                (HOOK, "records of RDMA"),
                (COMPRESS_PAGE, "compressed pages (capability compress)"),
            ] {
                if flags & flag != 0 {
                    return Err(Stop::Refused(format!(
                        "a QEMU migration stream with {what}, which only another QEMU can read; \
                         migrate again without"
                    )));
                }
            }
            match flags & !(CONTINUE | MULTIFD_FLUSH) {
                MEM_SIZE => self.read_blocks(cursor, addr)?,
                ZERO => {
                    let page = self.page(cursor, addr, flags)?;
                    self.add(cursor, page, What::Fill, 1)?;
                }
                PAGE => {
                    let page = self.page(cursor, addr, flags)?;
                    self.add(cursor, page, What::Pages, self.page_size())?;
                }
                EOS => return Ok(()),
                0 if flags & MULTIFD_FLUSH != 0 => {}
                _ => return Err(cursor.bad(format!("a record of ram has the flags {flags:#x}"))),
            }
        }
    }

    fn add(
        &mut self,
        cursor: &mut Cursor<'_>,
        page: u64,
        what: What,
        len: u64,
    ) -> Result<(), Stop> {
        let offset = cursor.position();
        cursor.skip(len)?;
        match self.runs.add(page, 1, what, offset) {
            true => Ok(()),
            false => Err(cursor.bad("a page has an impossible number".to_owned())),
        }
    }

    /// The number of the page that a record is for.
    fn page(&mut self, cursor: &mut Cursor<'_>, addr: u64, flags: u64) -> Result<u64, Stop> {
        if flags & CONTINUE == 0 {
            let name = cursor.name()?;
            self.last = self.blocks.iter().position(|block| block.name == name);
            if self.last.is_none() {
                return Err(
                    cursor.bad(format!("a page of the block {name:?}, which is not told of"))
                );
            }
        }
        let Some(block) = self.last.and_then(|index| self.blocks.get(index)) else {
            return Err(cursor.bad("a page of no block".to_owned()));
        };
        if addr >= block.len {
            let what =
                format!("a page at {addr:#x} of {:?}, which has {:#x}", block.name, block.len);
            return Err(cursor.bad(what));
        }
        Ok(block.first_page + addr / self.page_size())
    }

    fn read_blocks(&mut self, cursor: &mut Cursor<'_>, total: u64) -> Result<(), Stop> {
        let mut left = total;
        while left > 0 {
            let name = cursor.name()?;
            let len = cursor.be64()?;
            if self.has_addresses {
                cursor.be64()?;
            }
            if len == 0 || len > left || !len.is_multiple_of(self.page_size()) {
                let what = format!("the block {name:?} has {len:#x} bytes, {left:#x} are left");
                return Err(cursor.bad(what));
            }
            left -= len;
            let first_page = self.pages;
            self.pages += len / self.page_size();
            let is_known = self.blocks.iter().any(|block| block.name == name);
            if is_known || self.blocks.len() == MAX_BLOCKS || self.pages > u64::from(u32::MAX) {
                return Err(cursor.bad(format!("the block {name:?} is one too many")));
            }
            self.blocks.push(QemuRamBlock { name, len, first_page });
            if self.is_mapped {
                self.read_mapped(cursor, first_page, len)?;
            }
        }
        Ok(())
    }

    fn read_mapped(&mut self, cursor: &mut Cursor<'_>, first: u64, len: u64) -> Result<(), Stop> {
        let version = cursor.be32()?;
        let page_size = cursor.be64()?;
        let bitmap_at = cursor.be64()?;
        let pages_at = cursor.be64()?;
        if version != 1 || page_size != self.page_size() {
            let what = format!("mapped-ram of version {version} with pages of {page_size} bytes");
            return Err(cursor.bad(what));
        }
        // The bitmap follows its header.
        let base = *self.base.get_or_insert(bitmap_at.saturating_sub(cursor.position()));
        let place = |offset: u64| offset.checked_sub(base);
        let (Some(bitmap_at), Some(pages_at)) = (place(bitmap_at), place(pages_at)) else {
            return Err(cursor.bad("mapped-ram's offsets lie before the stream".to_owned()));
        };
        let end = pages_at.checked_add(len).filter(|_| bitmap_at >= cursor.position());
        let Some(end) = end.filter(|_| pages_at >= bitmap_at) else {
            return Err(cursor.bad("mapped-ram's offsets lie before its header".to_owned()));
        };
        let pages = len / page_size;
        let source = cursor.source();
        self.read_bitmap(source, first, pages, bitmap_at, pages_at)
            .ok_or_else(|| cursor.end("in mapped-ram's bitmap"))?;
        // What is behind it are the next block and the devices; without them this one is still
        // of use.
        cursor.seek(end)
    }

    fn read_bitmap(
        &mut self,
        source: &dyn Source,
        first: u64,
        pages: u64,
        bitmap_at: u64,
        pages_at: u64,
    ) -> Option<()> {
        let (page_size, file_len) = (self.page_size(), source.len());
        let bytes = pages.div_ceil(8);
        let (mut at, mut page) = (0, 0);
        while at < bytes {
            let len = (bytes - at).min(BITMAP_CHUNK);
            let chunk = source.bytes(bitmap_at.checked_add(at)?, len as usize).ok()?;
            for byte in chunk.iter() {
                for bit in 0..8 {
                    if page == pages {
                        break;
                    }
                    let offset = pages_at + page * page_size;
                    let is_there = byte >> bit & 1 != 0;
                    let what = if is_there { What::Mapped } else { What::Zeros };
                    // Pages beyond the end of a file that was cut off are lost.
                    let in_file = offset.checked_add(page_size).is_some_and(|end| end <= file_len);
                    let place = if is_there { offset } else { 0 };
                    if (in_file || !is_there) && !self.runs.add(first + page, 1, what, place) {
                        return None;
                    }
                    page += 1;
                }
            }
            at += len;
        }
        Some(())
    }
}
