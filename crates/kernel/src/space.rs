//! Kernel virtual memory of the dead machine, read through its page tables.
//!
//! Two ranges need no walk: the kernel's image (linear) and, once its
//! place is known, the direct map of all physical memory.
//! Everything else (vmalloc, modules, vmemmap, per-CPU entry areas) is walked
//! and remembered page by page in a small translation cache.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kmortem_debuginfo::{Memory, MemoryError};
use kmortem_vmcore::Image;

use crate::arch::{DirectMap, Mapping, PageTables, WalkError};
use crate::error::{Error, Fault, Result};

const SHARDS: usize = 16;
const SLOTS: usize = 64;

/// One remembered translation: virtual page -> physical page.
#[derive(Clone, Copy)]
struct Slot {
    page: u64,
    phys: u64,
}

/// Kernel virtual memory.
pub struct AddressSpace {
    image: Arc<Image>,
    tables: PageTables,
    image_range: Range<u64>,
    image_offset: Option<u64>,
    direct_map: OnceLock<DirectMap>,
    cache: Vec<Mutex<[Slot; SLOTS]>>,
    interrupt: Arc<AtomicBool>,
}

impl AddressSpace {
    /// A space over the kernel's own tables.
    pub fn new(
        image: Arc<Image>,
        tables: PageTables,
        image_range: Range<u64>,
        image_offset: Option<u64>,
    ) -> AddressSpace {
        let empty = [Slot { page: u64::MAX, phys: 0 }; SLOTS];
        let cache = (0..SHARDS).map(|_| Mutex::new(empty)).collect();
        AddressSpace {
            image,
            tables,
            image_range,
            image_offset,
            direct_map: OnceLock::new(),
            cache,
            interrupt: Arc::default(),
        }
    }

    /// Tells where the direct map lies, so that reads in it need no page tables.
    pub(crate) fn set_direct_map(&self, map: DirectMap) {
        let _ = self.direct_map.set(map);
    }

    /// The direct map of physical memory, when known.
    pub fn linear(&self) -> Option<&DirectMap> {
        self.direct_map.get()
    }

    /// Virtual range of the direct map of physical memory, when known.
    pub fn direct_map(&self) -> Option<Range<u64>> {
        self.direct_map.get().map(|map| map.range.clone())
    }

    /// The direct-map address of a physical one.
    pub fn phys_to_virt(&self, phys: u64) -> Option<u64> {
        let map = self.direct_map.get()?;
        let offset = phys.wrapping_sub(map.phys);
        map.range.start.checked_add(offset).filter(|va| *va < map.range.end)
    }

    /// The page tables of the kernel.
    pub fn tables(&self) -> &PageTables {
        &self.tables
    }

    /// The dump.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Virtual range that the kernel's image is mapped in.
    pub fn image_range(&self) -> Range<u64> {
        self.image_range.clone()
    }

    /// What a virtual address in the image is above its physical one.
    pub fn image_offset(&self) -> Option<u64> {
        self.image_offset
    }

    /// Physical address of a kernel virtual one.
    pub fn translate(&self, addr: u64) -> Result<u64> {
        if self.image_range.contains(&addr)
            && let Some(offset) = self.image_offset
        {
            return Ok(addr.wrapping_sub(offset));
        }
        if let Some(map) = self.direct_map.get()
            && map.range.contains(&addr)
        {
            return Ok((addr - map.range.start).wrapping_add(map.phys));
        }
        let page = addr >> 12;
        let shard = &self.cache[(page as usize) % SHARDS];
        let slot = (page as usize / SHARDS) % SLOTS;
        let hit = shard.lock().unwrap_or_else(PoisonError::into_inner)[slot];
        if hit.page == page {
            return Ok(hit.phys | (addr & 0xfff));
        }
        let mapping = self.walk(addr)?;
        let phys = mapping.phys & !0xfff;
        shard.lock().unwrap_or_else(PoisonError::into_inner)[slot] = Slot { page, phys };
        Ok(mapping.phys)
    }

    /// Walks the kernel's page tables, whatever range `addr` lies in.
    pub fn walk(&self, addr: u64) -> Result<Mapping> {
        self.tables.walk(&self.image, addr).map_err(|e| Error::Read { addr, fault: e.into() })
    }

    /// While this is set every read fails with [`Fault::Interrupted`].
    pub fn interrupt(&self) -> &Arc<AtomicBool> {
        &self.interrupt
    }

    /// Fills `buf` from kernel virtual memory at `addr`.
    pub fn read(&self, addr: u64, buf: &mut [u8]) -> Result<()> {
        if self.interrupt.load(Ordering::Relaxed) {
            return Err(Error::Read { addr, fault: Fault::Interrupted });
        }
        let mut done = 0;
        while done < buf.len() {
            let at = addr
                .checked_add(done as u64)
                .ok_or(Error::Read { addr, fault: Fault::NonCanonical })?;
            let room = (4096 - (at & 0xfff)) as usize;
            let n = room.min(buf.len() - done);
            let phys = self.translate(at)?;
            self.image.read(phys, &mut buf[done..done + n]).map_err(|e| Error::Read {
                addr: at,
                fault: Fault::Absent { phys, reason: e.reason },
            })?;
            done += n;
        }
        Ok(())
    }
}

impl From<WalkError> for Fault {
    fn from(e: WalkError) -> Fault {
        match e {
            WalkError::NotPresent { .. } => Fault::NotMapped,
            WalkError::Absent { table, reason } => Fault::PageTable { table, reason },
            WalkError::NotOwn { machine } => Fault::NotOwn { machine },
            WalkError::NonCanonical => Fault::NonCanonical,
        }
    }
}

impl Memory for AddressSpace {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        AddressSpace::read(self, addr, buf).map_err(|e| MemoryError { addr, reason: e.to_string() })
    }
}
