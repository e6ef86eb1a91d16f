//! sadump: the memory dump that the firmware of Fujitsu's PRIMEQUEST and PRIMERGY writes to a
//! partition, to a set of disks, or to a medium as a backup of either.
//!
//! There is no document of Fujitsu's. The layout is that of crash's sadump.h (by HATAYAMA Daisuke of
//! Fujitsu) and of the comments of libkdumpfile's sadump.c. In blocks of block_size, numbers
//! little-endian:
//!
//! ```text
//! media header         only of a backup, of 4096 bytes; the partition header follows
//! partition header     at 0: [`header`]
//! disk set header      only of the first disk of a set
//! dump header
//! sub header           sub_hdr_size blocks: the CPUs' registers as SMM saved them: [`cpu`]
//! bitmap 1             bitmap_blocks: a page frame is RAM
//! bitmap 2             dumpable_bitmap_blocks: it is in the dump
//! the pages of bitmap 2, as they are; of a set they go on behind each further disk's partition header
//! ```
//!
//! A bitmap's first page frame is the highest bit of its first byte. Pages of RAM that are not in
//! the dump were left out: other programs read zeros there, this one says so.

mod cpu;
mod header;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use self::header::{DumpHeader, PartHeader};
use super::bitmap::Bitmap;
use super::{Container, Format, Input, Opened, Stored};
use crate::error::{Absent, OpenError};
use crate::info::{Completeness, ContainerInfo, FileInfo, Machine};
use crate::source::{Source, SourceError};
use crate::support::Support;

pub(super) const FORMAT: Format = Format { probe, open, splits: true, support: SUPPORT };

const SUPPORT: &[Support] = &[Support {
    container: "sadump (Fujitsu): single partition, disk set, media backup",
    read: "yes, with the CPUs' registers; name all disks of a set, in any order",
    write: "",
    real: "",
    synthetic: "unit tests; put together from `k612-null-host`",
}];

/// As in kdump-compressed dumps: a bitmap more ragged than this is damaged.
const MAX_RAM_RANGES: usize = 1 << 16;

fn probe(head: &[u8]) -> bool {
    header::is_part(head) || header::is_media(head)
}

/// A disk and where its pages are.
struct Disk {
    name: String,
    source: Arc<dyn Source>,
    offset: u64,
    /// Bytes of pages.
    len: u64,
}

struct Sadump {
    block_size: u64,
    max_mapnr: u64,
    ram: Bitmap,
    dumped: Bitmap,
    /// By their place in the set; `None`: not given.
    disks: Vec<Option<Disk>>,
}

fn open(inputs: Vec<Input>) -> Result<Opened, OpenError> {
    let mut parts = Vec::with_capacity(inputs.len());
    for input in inputs {
        let (part, is_media) = header::read_part(&input)?;
        parts.push((input, part, is_media));
    }
    // The first disk of a set has all headers.
    parts.sort_by_key(|(_, part, _)| part.disk);
    let mut parts = parts.into_iter();
    let Some((first, part, is_media)) = parts.next() else { return Err(OpenError::NoInput) };
    let corrupt = |what: String| OpenError::Corrupt { name: first.name.clone(), what };
    let header = DumpHeader::read(&first, &part, is_media)?;
    let volumes = header.volumes.len();
    let kind = match volumes {
        0 if is_media => "sadump, media backup".to_owned(),
        0 => "sadump, single partition".to_owned(),
        others => format!("sadump, set of {} disks", others + 1),
    };

    let bitmap = |place: header::Place| {
        let source = Arc::clone(&first.source);
        Bitmap::new(Arc::new(Reversed(source)), place.offset, header.max_mapnr)
    };
    let (ram, dumped) = (bitmap(header.ram), bitmap(header.dumped));
    let mut oddities = header.oddities.clone();
    let cpus = cpu::read(first.source.as_ref(), &header, &mut oddities);

    let len_of = |part: &PartHeader, offset: u64, source: &dyn Source| {
        // Whoever wrote it did not fill this in everywhere.
        let used =
            if part.used_device == 0 || volumes == 0 { source.len() } else { part.used_device };
        used.checked_sub(offset).map(|len| len / header.block_size * header.block_size).ok_or_else(
            || format!("its partition header's used_device is {used}, headers take {offset}"),
        )
    };
    let len = match volumes {
        // All of it: the file may be larger or smaller than what was written.
        0 => u64::MAX,
        _ => len_of(&part, header.data, first.source.as_ref()).map_err(corrupt)?,
    };
    let mut disks: Vec<Option<Disk>> = (0..=volumes).map(|_| None).collect();
    if let Some(place) = disks.first_mut() {
        let source = Arc::clone(&first.source);
        *place = Some(Disk { name: first.name.clone(), source, offset: header.data, len });
    }
    for (input, other, is_media) in parts {
        let misfit = |what: String| OpenError::Split { name: input.name.clone(), what };
        if volumes == 0 || is_media {
            return Err(misfit("only the disks of a set belong together".to_owned()));
        }
        other.check(&part, &header.volumes).map_err(misfit)?;
        let offset = header.block_size;
        let len = len_of(&other, offset, input.source.as_ref()).map_err(misfit)?;
        let Some(place) = disks.get_mut((other.disk as usize).saturating_sub(1)) else {
            return Err(misfit(format!("is disk {} of a set of {}", other.disk, volumes + 1)));
        };
        if place.is_some() {
            return Err(misfit(format!("is disk {} of the set, as another one is", other.disk)));
        }
        *place = Some(Disk { name: input.name, source: input.source, offset, len });
    }

    let container =
        Sadump { block_size: header.block_size, max_mapnr: header.max_mapnr, ram, dumped, disks };
    let info = ContainerInfo {
        kind,
        files: container.files(),
        machine: (!cpus.is_empty()).then_some(Machine::X86_64),
        incomplete: container.incomplete(),
        oddities,
        ..ContainerInfo::default()
    };
    let container = Box::new(container);
    Ok(Opened { container, info, notes: Vec::new(), cpus, vmcoreinfo: None })
}

impl Sadump {
    /// Names of the disks in the order of the set; sizes are filled in by whoever knows them.
    fn files(&self) -> Vec<FileInfo> {
        let disks = self.disks.iter().flatten();
        disks.map(|disk| FileInfo { name: disk.name.clone(), size: disk.source.len() }).collect()
    }

    /// What is missing, as far as sizes tell.
    fn incomplete(&self) -> Option<String> {
        let missing: Vec<String> = (1..)
            .zip(&self.disks)
            .filter(|(_, disk)| disk.is_none())
            .map(|(number, _): (usize, _)| number.to_string())
            .collect();
        if !missing.is_empty() {
            let numbers = missing.join(", ");
            return Some(format!("of the set disk {numbers} was not given: name all of them"));
        }
        let blocks = self.dumped.count();
        let lost = blocks - self.stored().min(blocks);
        (lost > 0).then(|| format!("{lost} pages are not in the file"))
    }

    /// Blocks that the files have room for, up to the first disk that is missing.
    fn stored(&self) -> u64 {
        let of_disk = |disk: &Disk| {
            let there = disk.source.len().saturating_sub(disk.offset).min(disk.len);
            there / self.block_size
        };
        self.disks.iter().map_while(Option::as_ref).map(of_disk).fold(0, u64::saturating_add)
    }

    fn to_addresses(&self, pfns: Range<u64>) -> Range<u64> {
        // max_mapnr is bounded, so neither overflows.
        pfns.start * self.block_size..pfns.end * self.block_size
    }
}

impl Container for Sadump {
    fn page_size(&self) -> u64 {
        self.block_size
    }

    fn locate(&self, addr: u64) -> Result<Stored<'_>, Absent> {
        let pfn = addr / self.block_size;
        if !self.dumped.is_set(pfn) {
            let is_ram = self.ram.is_set(pfn);
            return Err(if is_ram { Absent::Filtered { level: None } } else { Absent::NotRam });
        }
        let mut rest = self.dumped.rank(pfn) * self.block_size;
        for disk in &self.disks {
            // Without a disk nobody knows where the next one goes on.
            let Some(disk) = disk else { return Err(Absent::Lost) };
            if rest < disk.len {
                let offset = disk.offset.checked_add(rest).ok_or(Absent::Lost)?;
                let end = offset.checked_add(self.block_size).ok_or(Absent::Lost)?;
                if end > disk.source.len() {
                    return Err(Absent::Lost);
                }
                return Ok(Stored::Raw { source: &*disk.source, offset });
            }
            rest -= disk.len;
        }
        Err(Absent::Lost)
    }

    fn ram(&self) -> Vec<Range<u64>> {
        let mut ranges = Vec::new();
        for run in self.ram.runs(0..self.max_mapnr) {
            if ranges.len() == MAX_RAM_RANGES {
                ranges.push(self.to_addresses(run.start..self.max_mapnr));
                break;
            }
            ranges.push(self.to_addresses(run));
        }
        ranges
    }

    fn present(&self) -> Box<dyn Iterator<Item = Range<u64>> + '_> {
        Box::new(self.dumped.runs(0..self.max_mapnr).map(|run| self.to_addresses(run)))
    }

    fn ram_runs(&self) -> Option<Box<dyn Iterator<Item = Range<u64>> + '_>> {
        Some(Box::new(self.ram.runs(0..self.max_mapnr).map(|run| self.to_addresses(run))))
    }

    fn completeness(&self) -> Completeness {
        let (ram, dumped) = (self.ram.count(), self.dumped.count());
        let stored = self.stored().min(dumped);
        Completeness {
            ram: Some(ram),
            stored: Some(stored),
            filtered: Some(ram.saturating_sub(dumped)),
            lost: Some(dumped - stored),
            incomplete: self.incomplete(),
        }
    }
}

/// A source whose bytes have their bits in reverse order.
struct Reversed(Arc<dyn Source>);

impl Source for Reversed {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn bytes(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>, SourceError> {
        let bytes = self.0.bytes(offset, len)?;
        Ok(Cow::Owned(bytes.iter().map(|byte| byte.reverse_bits()).collect()))
    }
}
