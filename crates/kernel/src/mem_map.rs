//! All records of page frames, read in bulk.
//!
//! Physical memory is cut into sections of 2^`SECTION_SIZE_BITS` bytes (128 MiB
//! on x86_64, arch/x86/include/asm/sparsemem.h); [`crate::sparse`] says which of
//! them have records. The records of a section are one run of the vmemmap
//! ([`crate::page`]), mapped by large pages: it is read run by run, never record
//! by record, so that 1 GiB of memory costs 16 MiB of reading.

use std::ops::Range;
use std::sync::Arc;

use crate::Kernel;
use crate::error::{Error, Result};
use crate::layout::{Member, Place, Value};
use crate::page::PageLayout;

/// Frames read at a time: 2 MiB of records of 64 bytes.
const CHUNK: u64 = 32768;
/// A `struct page` is 64 bytes, with debugging options somewhat more.
const LARGEST_RECORD: u64 = 1024;

/// The array of `struct page`, with the members that are wanted in bulk.
pub struct MemMap<'k> {
    kernel: &'k Kernel,
    vmemmap: u64,
    size: u64,
    /// Frames that have records, ascending.
    frames: Vec<Range<u64>>,
    members: Arc<Members>,
}

/// Where the members of a record lie.
#[derive(Debug)]
struct Members {
    flags: Place,
    compound: Place,
    mapping: Place,
    index: Place,
    private: Place,
    page_type: Option<Place>,
    refcount: Place,
}

/// Records of a run of frames.
pub struct Records {
    first: u64,
    vmemmap: u64,
    size: u64,
    raw: Vec<u8>,
    members: Arc<Members>,
    /// Parts of `raw` that could not be read, with the first one's reason.
    missing: Vec<Range<u64>>,
    /// Why the first of them is missing.
    pub reason: Option<Error>,
}

/// One record.
#[derive(Clone, Copy)]
pub struct Record<'r> {
    /// Address of the `struct page`.
    pub addr: u64,
    /// Number of its frame.
    pub pfn: u64,
    raw: &'r [u8],
    members: &'r Members,
}

impl Kernel {
    /// The records of all frames. Reads none of them yet.
    pub fn mem_map(&self) -> Result<MemMap<'_>> {
        let layout = self.layout::<PageLayout>()?;
        let size = layout.size;
        if size == 0 || size > LARGEST_RECORD {
            return Err(Error::NoType("the size of struct page".into()));
        }
        let inside = |place: Place| {
            (place.size <= 8 && place.offset + place.size.max(1) <= size)
                .then_some(place)
                .ok_or_else(|| Error::NoType("a member of struct page".into()))
        };
        fn place<T: Value + ?Sized>(member: &Member<T>) -> Result<Place> {
            member.place()
        }
        let members = Members {
            flags: inside(place(&layout.flags)?)?,
            compound: inside(place(&layout.compound)?)?,
            mapping: inside(place(&layout.mapping)?)?,
            index: inside(place(&layout.index)?)?,
            private: inside(place(&layout.private)?)?,
            page_type: layout.page_type.place().and_then(inside).ok(),
            refcount: inside(place(&layout.refcount)?)?,
        };
        let frames = self.frames_with_records()?;
        Ok(MemMap { kernel: self, vmemmap: self.vmemmap()?, size, frames, members: members.into() })
    }

    /// Physical address of the frame whose record `addr` is, if that is one.
    /// Other addresses above the vmemmap may look like one.
    pub fn page_record(&self, addr: u64) -> Option<u64> {
        let phys = self.page_phys(addr).ok()?;
        let pfn = phys / self.page_size();
        let frames = self.frames_with_records().ok()?;
        frames.iter().any(|run| run.contains(&pfn)).then_some(phys)
    }

    /// Frames that have a record: those of present sections; where these can't
    /// be told, all that the dump knows as RAM.
    fn frames_with_records(&self) -> Result<Vec<Range<u64>>> {
        let page = self.page_size();
        if let Ok(sections) = self.memory_sections()
            && !sections.is_empty()
        {
            return Ok(sections
                .iter()
                .filter(|section| section.has_mem_map())
                .map(|section| section.start_pfn..section.start_pfn + section.pages)
                .collect());
        }
        Ok(self.image().ram().iter().map(|ram| ram.start / page..ram.end.div_ceil(page)).collect())
    }
}

impl<'k> MemMap<'k> {
    /// Runs of frames to read one after the other, or on several threads.
    pub fn chunks(&self) -> Vec<Range<u64>> {
        let mut chunks = Vec::new();
        for run in &self.frames {
            let mut start = run.start;
            while start < run.end {
                let end = run.end.min(start.saturating_add(CHUNK));
                chunks.push(start..end);
                start = end;
            }
        }
        chunks
    }

    /// Count of frames that have records.
    pub fn len(&self) -> u64 {
        self.frames.iter().map(|run| run.end - run.start).sum()
    }

    /// Whether no frame has one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether frame `pfn` has a record.
    pub fn has(&self, pfn: u64) -> bool {
        self.frames.iter().any(|run| run.contains(&pfn))
    }

    /// Reads the records of `frames` (a run that [`MemMap::chunks`] gave).
    pub fn read(&self, frames: Range<u64>) -> Result<Records> {
        let count = frames.end.saturating_sub(frames.start).min(CHUNK);
        let mut raw = vec![0; (count * self.size) as usize];
        let base = self.vmemmap.wrapping_add(frames.start.wrapping_mul(self.size));
        let mut missing: Vec<Range<u64>> = Vec::new();
        let mut reason = None;
        let mut done = 0u64;
        let len = raw.len() as u64;
        while done < len {
            let at = base.wrapping_add(done);
            if self.kernel.is_interrupted() {
                self.kernel.read_u64(at)?;
            }
            // To the end of what one entry of the page tables maps.
            let (run, phys) = match self.kernel.space().walk(at) {
                Ok(map) => (map.page_size - (at & (map.page_size - 1)), Ok(map.phys)),
                Err(e) => (4096 - (at & 4095), Err(e)),
            };
            let run = run.min(len - done);
            let failed = phys.and_then(|phys| {
                let part = &mut raw[done as usize..(done + run) as usize];
                self.read_physical(at, phys, part, done, &mut missing)
            });
            if let Err(e) = failed {
                if missing.last().is_none_or(|last| last.end <= done) {
                    missing.push(done..done + run);
                }
                reason.get_or_insert(e);
            }
            done += run;
        }
        Ok(Records {
            first: frames.start,
            vmemmap: self.vmemmap,
            size: self.size,
            raw,
            members: self.members.clone(),
            missing,
            reason,
        })
    }

    /// Fills `part`, at best at once; where pages of it are absent, page by
    /// page. These are kept in `missing`, the first one's reason comes back.
    fn read_physical(
        &self,
        at: u64,
        phys: u64,
        part: &mut [u8],
        done: u64,
        missing: &mut Vec<Range<u64>>,
    ) -> Result<()> {
        let image = self.kernel.image();
        if image.read(phys, part).is_ok() {
            return Ok(());
        }
        let mut first = None;
        let mut offset = 0;
        while offset < part.len() {
            let here = phys + offset as u64;
            let n = (4096 - (here & 4095) as usize).min(part.len() - offset);
            if let Err(e) = image.read(here, &mut part[offset..offset + n]) {
                let from = done + offset as u64;
                match missing.last_mut() {
                    Some(last) if last.end == from => last.end = from + n as u64,
                    _ => missing.push(from..from + n as u64),
                }
                first.get_or_insert(Error::Read {
                    addr: at + offset as u64,
                    fault: crate::Fault::Absent { phys: here, reason: e.reason },
                });
            }
            offset += n;
        }
        first.map_or(Ok(()), Err)
    }
}

impl Records {
    /// The records; `None` with the frame's number where one could not be read.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Option<Record<'_>>)> {
        let mut missing = self.missing.iter().peekable();
        self.raw.chunks_exact(self.size as usize).enumerate().map(move |(i, raw)| {
            let at = i as u64 * self.size;
            while missing.next_if(|gap| gap.end <= at).is_some() {}
            let absent = missing.peek().is_some_and(|gap| gap.start < at + self.size);
            let pfn = self.first + i as u64;
            let addr = self.vmemmap.wrapping_add(pfn.wrapping_mul(self.size));
            (pfn, (!absent).then_some(Record { addr, pfn, raw, members: &self.members }))
        })
    }

    /// Address of the record of frame `pfn`.
    pub fn address(&self, pfn: u64) -> u64 {
        self.vmemmap.wrapping_add(pfn.wrapping_mul(self.size))
    }

    /// How many records could not be read.
    pub fn missing(&self) -> u64 {
        if self.missing.is_empty() {
            return 0;
        }
        self.iter().filter(|(_, record)| record.is_none()).count() as u64
    }
}

impl<'r> Record<'r> {
    /// An integer in the record, by its place.
    pub fn number(&self, place: Place) -> u64 {
        let from = place.offset as usize;
        let mut word = [0; 8];
        let n = (place.size as usize).min(8);
        if let Some(bytes) = self.raw.get(from..from + n) {
            word[..n].copy_from_slice(bytes);
        }
        u64::from_le_bytes(word)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &'r [u8] {
        self.raw
    }

    /// `flags`.
    pub fn flags(&self) -> u64 {
        self.number(self.members.flags)
    }

    /// `mapping`.
    pub fn mapping(&self) -> u64 {
        self.number(self.members.mapping)
    }

    /// `index`.
    pub fn index(&self) -> u64 {
        self.number(self.members.index)
    }

    /// `private`: the order of a free block, among others.
    pub fn private(&self) -> u64 {
        self.number(self.members.private)
    }

    /// `_refcount`.
    pub fn refcount(&self) -> i32 {
        self.number(self.members.refcount) as i32
    }

    /// `page_type`, or the count of mappings that shares its place.
    pub fn page_type(&self) -> u32 {
        self.members.page_type.map_or(u32::MAX, |place| self.number(place) as u32)
    }

    /// Address of the first record of the larger page that it is part of, or
    /// its own.
    pub fn head(&self) -> u64 {
        crate::page::head_of(self.addr, self.number(self.members.compound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u64, size: u64) -> Place {
        Place { offset, size, bits: None, signed: false }
    }

    fn records(missing: Option<Range<u64>>) -> Records {
        let members = Members {
            flags: place(0, 8),
            compound: place(8, 8),
            mapping: place(24, 8),
            index: place(32, 8),
            private: place(40, 8),
            page_type: Some(place(48, 4)),
            refcount: place(52, 4),
        };
        let mut raw = vec![0; 64 * 4];
        for (i, record) in raw.chunks_exact_mut(64).enumerate() {
            record[0] = i as u8;
            record[52..56].copy_from_slice(&(-1i32).to_le_bytes());
        }
        let vmemmap = 0xffd4_0000_0000_0000;
        Records {
            first: 7,
            vmemmap,
            size: 64,
            raw,
            members: members.into(),
            missing: missing.into_iter().collect(),
            reason: None,
        }
    }

    #[test]
    fn records_know_their_frame_and_members() {
        let records = records(None);
        let (pfn, second) = records.iter().nth(1).unwrap();
        let second = second.unwrap();
        assert_eq!((pfn, second.addr, second.flags()), (8, 0xffd4_0000_0000_0200, 1));
        assert_eq!((second.refcount(), second.page_type()), (-1, 0));
        assert_eq!((second.head(), records.missing()), (second.addr, 0));
    }

    #[test]
    fn a_record_that_is_missing_in_part_is_no_record() {
        let records = records(Some(100..130));
        let there: Vec<bool> = records.iter().map(|(_, r)| r.is_some()).collect();
        assert_eq!(there, [true, false, false, true]);
        assert_eq!(records.missing(), 2);
    }
}
