//! One file of a kdump-compressed dump: its bitmaps, descriptors and pages.

use std::ops::Range;
use std::sync::Arc;

use super::CODECS;
use super::header::Header;
use crate::codec::Codec;
use crate::container::bitmap::Bitmap;
use crate::container::{Input, Stored};
use crate::error::{Absent, OpenError};
use crate::source::{Fields, Source};

const DESCRIPTOR: u64 = 24;

/// Descriptors looked at for the codecs in use.
const SAMPLE: u64 = 64;
/// Descriptors counted at a time.
const BATCH: u64 = 4096;

/// A bitmap of as many page frames is counted when the dump is opened: 32 GiB of RAM, 1 MiB of
/// bitmap.
const COUNTED_WHEN_OPENED: u64 = 8 << 20;

pub(super) struct Part {
    pub(super) name: String,
    pub(super) source: Arc<dyn Source>,
    /// Page frames whose descriptors are here.
    pub(super) pfns: Range<u64>,
    /// Page frames that were RAM.
    pub(super) ram: Bitmap,
    /// Page frames that are in the dump.
    pub(super) dumped: Bitmap,
    descriptors: u64,
    page_size: u64,
}

#[derive(Debug, Clone, Copy)]
struct Descriptor {
    offset: u64,
    size: u32,
    flags: u32,
}

impl Descriptor {
    fn parse(bytes: &[u8]) -> Option<Descriptor> {
        let fields = Fields(bytes);
        Some(Descriptor { offset: fields.u64(0)?, size: fields.u32(8)?, flags: fields.u32(12)? })
    }
}

impl Part {
    pub(super) fn new(input: &Input, header: &Header) -> Result<Part, OpenError> {
        let Input { name, source, .. } = input;
        let corrupt = |what: String| OpenError::Corrupt { name: name.clone(), what };
        let bytes = header.bitmap_blocks * header.block_size;
        let needed = header.max_mapnr.div_ceil(8);
        let needed_blocks = needed.div_ceil(header.block_size);
        // The first makedumpfile wrote one bitmap only when nothing was left out.
        let second = if header.bitmap_blocks >= 2 * needed_blocks {
            bytes / 2
        } else if header.bitmap_blocks >= needed_blocks {
            0
        } else {
            return Err(corrupt(format!(
                "its bitmaps of {bytes} bytes are too small for {} page frames",
                header.max_mapnr
            )));
        };
        let bitmap_end = header.bitmap_at + second + needed;
        if bitmap_end > source.len() || second + needed > source.held() {
            let what = "it ends before the bitmaps that tell which pages it has".to_owned();
            return Err(OpenError::Truncated { name: name.clone(), what });
        }
        let pfns = match &header.split {
            Some(pfns) if pfns.start > pfns.end || pfns.start > header.max_mapnr => {
                return Err(corrupt(format!(
                    "a part with page frames {:#x} to {:#x}",
                    pfns.start, pfns.end
                )));
            }
            Some(pfns) => pfns.start..pfns.end.min(header.max_mapnr),
            None => 0..header.max_mapnr,
        };
        let bitmap =
            |at: u64| Bitmap::new(Arc::clone(source), header.bitmap_at + at, header.max_mapnr);
        Ok(Part {
            name: name.clone(),
            source: Arc::clone(source),
            pfns,
            ram: bitmap(0),
            dumped: bitmap(second),
            descriptors: header.bitmap_at + bytes,
            page_size: header.block_size,
        })
    }

    /// Whether the file ends before its pages do, as far as can be told while it is opened.
    pub(super) fn is_cut_off(&self) -> bool {
        if self.source.len() < self.descriptors.saturating_add(DESCRIPTOR) {
            return true;
        }
        // Finding the last descriptor means counting the whole bitmap.
        self.pfns.end <= COUNTED_WHEN_OPENED && !self.are_last_there(self.total())
    }

    /// Number of descriptors.
    fn total(&self) -> u64 {
        self.dumped.rank(self.pfns.end) - self.dumped.rank(self.pfns.start)
    }

    /// Whether the pages of the last descriptors are in the file. They are written in ascending
    /// order, so what is lost is lost at the end.
    fn are_last_there(&self, total: u64) -> bool {
        (total.saturating_sub(SAMPLE)..total).all(|index| self.is_index_there(index))
    }

    fn is_index_there(&self, index: u64) -> bool {
        self.descriptor(index).is_some_and(|descriptor| self.is_there(&descriptor))
    }

    /// The `index`-th descriptor of this file, if it is in the file.
    fn descriptor(&self, index: u64) -> Option<Descriptor> {
        let at = self.descriptors.checked_add(index.checked_mul(DESCRIPTOR)?)?;
        if !self.source.is_written(at, DESCRIPTOR as usize) {
            return None;
        }
        let bytes = self.source.bytes(at, DESCRIPTOR as usize).ok()?;
        Descriptor::parse(&bytes)
    }

    /// The stored bytes of a page frame that is one of this part's and set in `dumped`.
    pub(super) fn locate(&self, pfn: u64) -> Result<Stored<'_>, Absent> {
        let index = self.dumped.rank(pfn) - self.dumped.rank(self.pfns.start);
        let descriptor = self.descriptor(index).ok_or(Absent::Lost)?;
        let Descriptor { offset, size, flags } = descriptor;
        if offset == 0 {
            return Err(Absent::Lost);
        }
        if offset < self.descriptors {
            return Err(Absent::corrupt(format!(
                "its descriptor points at {offset:#x}, into the headers"
            )));
        }
        if size == 0 || u64::from(size) > self.page_size {
            return Err(Absent::corrupt(format!("its descriptor says it has {size} bytes")));
        }
        let codec = codec_of(flags)?;
        if codec.is_none() && u64::from(size) != self.page_size {
            return Err(Absent::corrupt(format!(
                "it is stored raw with {size} bytes; a page has {}",
                self.page_size
            )));
        }
        if !self.source.is_written(offset, size as usize) {
            return Err(Absent::Lost);
        }
        let Some(codec) = codec else { return Ok(Stored::Raw { source: &*self.source, offset }) };
        let bytes = self.source.bytes(offset, size as usize)?;
        Ok(Stored::Compressed(codec, bytes))
    }

    /// Codecs of the first descriptors.
    pub(super) fn sampled_codecs(&self) -> Vec<Codec> {
        (0..SAMPLE)
            .map_while(|index| self.descriptor(index))
            .filter(|descriptor| self.is_there(descriptor))
            .filter_map(|descriptor| codec_of(descriptor.flags).ok().flatten())
            .collect()
    }

    fn is_there(&self, descriptor: &Descriptor) -> bool {
        descriptor.offset >= self.descriptors
            && self.source.is_written(descriptor.offset, descriptor.size as usize)
    }

    /// Pages whose bytes are in the file. `None` if there are more than `max` to count and a look
    /// at the last ones shows that some are missing.
    pub(super) fn count_there(&self, max: u64) -> Option<u64> {
        let total = self.total();
        if total <= max {
            let batches = (0..total).step_by(BATCH as usize);
            return Some(batches.map(|first| self.count_batch(first, total)).sum());
        }
        self.are_last_there(total).then_some(total)
    }

    /// As [`Part::count_there`], of the descriptors from `first` on, at most [`BATCH`]. They are
    /// copied: in a flattened stream descriptors and pages lie in turns, and a look at each
    /// through the map would make the whole file resident.
    fn count_batch(&self, first: u64, total: u64) -> u64 {
        let indices = first..total.min(first + BATCH);
        let mut raw = vec![0; ((indices.end - first) * DESCRIPTOR) as usize];
        let at = self.descriptors.saturating_add(first * DESCRIPTOR);
        if !self.source.is_written(at, raw.len()) || self.source.copy_to(at, &mut raw).is_err() {
            return indices.filter(|index| self.is_index_there(*index)).count() as u64;
        }
        let there = raw.chunks_exact(DESCRIPTOR as usize).filter_map(Descriptor::parse);
        there.filter(|descriptor| self.is_there(descriptor)).count() as u64
    }
}

/// The codec that a descriptor's flags name; `None`: stored raw.
fn codec_of(flags: u32) -> Result<Option<Codec>, Absent> {
    match CODECS.iter().find(|(flag, _)| *flag == flags) {
        Some((_, codec)) => Ok(Some(*codec)),
        None if flags == 0 => Ok(None),
        None => Err(Absent::Unsupported { what: format!("page flags {flags:#x}") }),
    }
}
