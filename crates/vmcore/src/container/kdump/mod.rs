//! kdump-compressed dumps (diskdump format, signature `KDUMP`), versions 1 to 6.
//!
//! Written by makedumpfile and QEMU. [`header`] has the layout of the first two blocks. Then, in
//! blocks of `block_size`:
//!
//! ```text
//! bitmap 1   one bit per page frame: there was RAM      (half of bitmap_blocks)
//! bitmap 2   one bit per page frame: it is in the dump  (the other half)
//! { offset u64, size u32, flags u32, page_flags u64 } for each bit set in bitmap 2
//! the pages, compressed each on its own, or raw
//! ```
//!
//! What real files do:
//!
//! - A page that does not shrink is stored raw, flags 0, whatever the header's status says.
//! - All pages of zeros share one raw page.
//! - QEMU sets both bitmaps alike.
//! - makedumpfile that runs out of space sets the status' 0x8 and leaves descriptors zero.
//! - Each part of a split dump has the bitmaps of the whole, and the descriptors of its own page
//!   frames, `start_pfn` up to `end_pfn`.

mod header;
mod part;

use std::ops::Range;

use self::header::{Header, Place};
use self::part::Part;
use super::{Container, Format, Input, Opened, Stored};
use crate::codec::Codec;
use crate::dump_header::DumpHeader;
use crate::elf_note;
use crate::error::{Absent, OpenError};
use crate::info::{Completeness, ContainerInfo, FileInfo, Utsname};
use crate::support::Support;

pub(super) const FORMAT: Format = Format { probe, open, splits: true, support: SUPPORT };

const SUPPORT: &[Support] = &[
    Support {
        container: "kdump-compressed, versions 1 to 6 (makedumpfile)",
        read: "yes: raw, zlib, lzo, snappy, zstd; cut off; filtered",
        write: "`kdump-raw`, `kdump-zlib`, `kdump-lzo`, `kdump-snappy`, `kdump-zstd`",
        real: "`k61-sysrq.kdump-raw`, `.kdump-zlib`, `.kdump-lzo`, `.kdump-zstd`, `.truncated`, \
               `k612-sysrq.overfiltered`",
        synthetic: "unit tests: all versions and codecs",
    },
    Support {
        container: "split kdump-compressed (makedumpfile --split)",
        read: "yes: name all parts",
        write: "`--split`",
        real: "`k61-sysrq.split`",
        synthetic: "unit tests",
    },
    Support {
        container: "kdump-compressed by QEMU and libvirt (`dump-guest-memory -z`, -l, -s; `virsh dump --memory-only --format`)",
        read: "yes, also with an empty utsname and without VMCOREINFO",
        write: "",
        real: "`k61-sysrq.qemu-zlib`, `k61-sysrq-libvirt.virsh-zlib`",
        synthetic: "unit tests",
    },
];

/// Flags of a page descriptor, and of the header's status.
const CODECS: [(u32, Codec); 4] =
    [(0x1, Codec::Zlib), (0x2, Codec::Lzo), (0x4, Codec::Snappy), (0x20, Codec::Zstd)];

/// Notes beyond this are not read: 8192 CPUs take 6 MiB.
const MAX_NOTES_LEN: u64 = 32 << 20;

/// A line for each thing that was erased; nobody reads more than this.
const MAX_ERASEINFO_LEN: u64 = 1 << 20;

/// RAM of real machines lies in a few dozen ranges. Of a bitmap more ragged than this, which is
/// damaged, the rest is taken for one range.
const MAX_RAM_RANGES: usize = 1 << 16;

/// Descriptors that are counted through for [`Completeness`]: 24 MiB of them.
const COUNTED_DESCRIPTORS: u64 = 1 << 20;

struct Kdump {
    /// By page frame; more than one if the dump is split.
    parts: Vec<Part>,
    level: u32,
    page_size: u64,
    max_mapnr: u64,
    header: DumpHeader,
}

fn probe(head: &[u8]) -> bool {
    head.starts_with(header::SIGNATURE)
}

fn open(inputs: Vec<Input>) -> Result<Opened, OpenError> {
    let mut parts = Vec::with_capacity(inputs.len());
    for input in inputs {
        let header = header::read(&input.name, input.source.as_ref())?;
        parts.push((Part::new(&input, &header)?, header));
    }
    check_parts(&parts)?;
    parts.sort_by_key(|(part, _)| part.pfns.start);
    let Some((first, header)) = parts.first() else { return Err(OpenError::NoInput) };

    let mut oddities = header::oddities(header);
    let mut incomplete = missing_parts(&parts);
    for (part, header) in &parts {
        if header.is_incomplete() {
            incomplete = Some("makedumpfile ran out of space while writing it".to_owned());
        }
        if incomplete.is_none() && part.is_cut_off() {
            incomplete = Some("its last pages are not in the file".to_owned());
        }
    }
    let source = first.source.as_ref();
    let read = |place: Option<Place>, max: u64, what: &str, oddities: &mut Vec<String>| {
        let Place { offset, len } = place?;
        match source.bytes(offset, len.min(max) as usize) {
            Ok(bytes) if len <= max => return Some(bytes.into_owned()),
            Ok(bytes) => {
                oddities.push(format!("{what} has {len} bytes; only {max} are read"));
                return Some(bytes.into_owned());
            }
            Err(error) => oddities.push(format!("{what} can't be read: {error}")),
        }
        None
    };
    let max_info = crate::vmcoreinfo::MAX_LEN as u64;
    let vmcoreinfo = read(header.vmcoreinfo, max_info, "VMCOREINFO", &mut oddities);
    let notes = read(header.notes, MAX_NOTES_LEN, "the notes", &mut oddities);
    let eraseinfo = read(header.eraseinfo, MAX_ERASEINFO_LEN, "eraseinfo", &mut oddities);
    let (notes, oddity) = notes.map(|bytes| elf_note::parse(&bytes)).unwrap_or_default();
    oddities.extend(oddity);

    let mut compression = header.codecs();
    compression.extend(parts.iter().flat_map(|(part, _)| part.sampled_codecs()));
    compression.sort_unstable();
    compression.dedup();
    let info = ContainerInfo {
        kind: format!("kdump-compressed v{}", header.version),
        files: parts
            .iter()
            .map(|(part, _)| FileInfo { name: part.name.clone(), size: 0 })
            .collect(),
        machine: header.machine(),
        compression,
        filter_level: Some(header.dump_level),
        split_parts: header.split.as_ref().map(|_| parts.len() as u32),
        utsname: (header.utsname != Utsname::default()).then(|| header.utsname.clone()),
        timestamp: (header.timestamp != 0).then_some(header.timestamp),
        incomplete,
        oddities,
        ..ContainerInfo::default()
    };
    let container = Box::new(Kdump {
        level: header.dump_level,
        page_size: header.block_size,
        max_mapnr: header.max_mapnr,
        header: header.to_dump_header(eraseinfo.unwrap_or_default()),
        parts: parts.into_iter().map(|(part, _)| part).collect(),
    });
    Ok(Opened { container, info, notes, cpus: Vec::new(), vmcoreinfo })
}

/// Refuses parts that do not belong together.
fn check_parts(parts: &[(Part, Header)]) -> Result<(), OpenError> {
    let Some(((first, header), others)) = parts.split_first() else { return Ok(()) };
    let refuse =
        |part: &Part, what: String| Err(OpenError::Split { name: part.name.clone(), what });
    if others.is_empty() {
        return Ok(());
    }
    for (part, other) in parts {
        if other.split.is_none() {
            return refuse(part, "a whole dump, not a part of a split one; give it alone".into());
        }
        if other.identity() != header.identity() {
            return refuse(part, format!("a part of another dump than {}", first.name));
        }
    }
    for (part, _) in parts {
        let twin = parts.iter().find(|(twin, _)| {
            !std::ptr::eq(twin, part)
                && twin.pfns.start < part.pfns.end
                && part.pfns.start < twin.pfns.end
        });
        if let Some((twin, _)) = twin {
            return refuse(part, format!("holds the same part of the dump as {}", twin.name));
        }
    }
    Ok(())
}

/// Which page frames of a split dump no part has.
fn missing_parts(parts: &[(Part, Header)]) -> Option<String> {
    let (_, header) = parts.first()?;
    header.split.as_ref()?;
    let mut gaps = Vec::new();
    let mut next = 0;
    for (part, _) in parts {
        if part.pfns.start > next {
            gaps.push(format!("{next:#x} to {:#x}", part.pfns.start - 1));
        }
        next = part.pfns.end;
    }
    if next < header.max_mapnr {
        gaps.push(format!("{next:#x} to {:#x}", header.max_mapnr - 1));
    }
    // makedumpfile's last part may end with the last page that is dumped.
    (!gaps.is_empty())
        .then(|| format!("parts of the split dump are missing: page frames {}", gaps.join(", ")))
}

impl Kdump {
    /// The part that has the descriptor of `pfn`, or failing that any: the bitmaps are in all.
    fn part_of(&self, pfn: u64) -> Option<&Part> {
        self.parts.iter().find(|part| part.pfns.contains(&pfn))
    }

    fn to_addresses(&self, pfns: Range<u64>) -> Range<u64> {
        // max_mapnr is bounded, so neither overflows.
        pfns.start * self.page_size..pfns.end * self.page_size
    }
}

impl Container for Kdump {
    fn page_size(&self) -> u64 {
        self.page_size
    }

    fn locate(&self, addr: u64) -> Result<Stored<'_>, Absent> {
        let pfn = addr / self.page_size;
        let Some(any) = self.parts.first() else { return Err(Absent::NotRam) };
        let part = self.part_of(pfn);
        let index = part.unwrap_or(any);
        if !index.dumped.is_set(pfn) {
            let filtered = Absent::Filtered { level: Some(self.level) };
            return Err(if index.ram.is_set(pfn) { filtered } else { Absent::NotRam });
        }
        part.ok_or(Absent::Lost)?.locate(pfn)
    }

    fn ram(&self) -> Vec<Range<u64>> {
        let Some(part) = self.parts.first() else { return Vec::new() };
        let mut ranges = Vec::new();
        for run in part.ram.runs(0..self.max_mapnr) {
            if ranges.len() == MAX_RAM_RANGES {
                ranges.push(self.to_addresses(run.start..self.max_mapnr));
                break;
            }
            ranges.push(self.to_addresses(run));
        }
        ranges
    }

    fn present(&self) -> Box<dyn Iterator<Item = Range<u64>> + '_> {
        let runs = self.parts.iter().flat_map(|part| part.dumped.runs(part.pfns.clone()));
        // A run may go on in the next part.
        let mut runs = runs.peekable();
        Box::new(std::iter::from_fn(move || {
            let mut run = runs.next()?;
            while let Some(next) = runs.next_if(|next| next.start == run.end) {
                run.end = next.end;
            }
            Some(self.to_addresses(run))
        }))
    }

    fn ram_runs(&self) -> Option<Box<dyn Iterator<Item = Range<u64>> + '_>> {
        let part = self.parts.first()?;
        Some(Box::new(part.ram.runs(0..self.max_mapnr).map(|run| self.to_addresses(run))))
    }

    fn header(&self) -> Option<&DumpHeader> {
        Some(&self.header)
    }

    fn completeness(&self) -> Completeness {
        let Some(first) = self.parts.first() else { return Completeness::default() };
        let ram = first.ram.count();
        let dumped = first.dumped.count();
        let there: Option<u64> =
            self.parts.iter().map(|part| part.count_there(COUNTED_DESCRIPTORS)).sum();
        let lost = there.map(|there| dumped.saturating_sub(there));
        Completeness {
            ram: Some(ram),
            stored: Some(dumped - lost.unwrap_or(0).min(dumped)),
            filtered: Some(ram.saturating_sub(dumped)),
            lost,
            incomplete: match lost {
                Some(0) => None,
                Some(lost) => Some(format!("{lost} pages are not in the file")),
                None => Some("its last pages are not in the file".to_owned()),
            },
        }
    }
}
