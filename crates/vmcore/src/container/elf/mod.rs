//! ELF cores: `/proc/vmcore`, `makedumpfile -E`, QEMU's `dump-guest-memory`, Cloud Hypervisor.
//!
//! Layout: elf(5); [`header`] has the offsets. Each `PT_LOAD` says where `p_filesz` bytes of the
//! physical memory at `p_paddr` lie; the rest up to `p_memsz` was RAM that was left out. What real
//! files do:
//!
//! - QEMU up to 7.2 writes `e_ehsize` 8 and puts the program headers behind a section header, at
//!   192: `e_phoff` counts, nothing else.
//! - More than 65534 segments: `e_phnum` is `PN_XNUM` (0xffff), the count is in `sh_info` of
//!   section header 0 (gABI; QEMU and makedumpfile both do it).
//! - `/proc/vmcore` maps the kernel's text twice: as a segment of its own, and within the RAM that
//!   holds it. Segments overlap, and both copies are the same memory.
//! - `makedumpfile -E` ends a segment where pages are left out: `p_filesz < p_memsz`.
//! - Segments of `/proc/kcore` that are no RAM have `p_paddr` -1, or 0 in older kernels.
//! - `e_flags` 1: makedumpfile ran out of space (`DUMP_ELF_INCOMPLETE`).
//! - Our own cores have notes of what ELF can't say ([`crate::origin`]).

mod extents;
mod header;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use self::extents::{Extent, Extents};
use self::header::Segment;
use super::{Container, Format, Input, Opened, Stored};
use crate::dump_header::DumpHeader;
use crate::elf_note::{self, Note};
use crate::error::{Absent, OpenError};
use crate::info::{Completeness, ContainerInfo, Utsname};
use crate::origin::{self, Origin};
use crate::source::Source;
use crate::support::Support;

pub(super) const FORMAT: Format = Format { probe, open, splits: false, support: SUPPORT };

const SUPPORT: &[Support] = &[
    Support {
        container: "ELF core (/proc/vmcore, makedumpfile -E)",
        read: "yes",
        write: "`elf`",
        real: "`k61-sysrq.filtered-elf`",
        synthetic: "unit tests",
    },
    Support {
        container: "ELF core by QEMU and libvirt (`dump-guest-memory`, also -p; `virsh dump --memory-only`)",
        read: "yes, with or without VMCOREINFO, more than 65534 segments too",
        write: "",
        real: "every boot of the lab (`k61-sysrq-libvirt`: by virsh), `k612-null-host.qemu-paging`",
        synthetic: "unit tests",
    },
    Support {
        container: "/proc/kcore and /proc/vmcore of the running machine",
        read: "yes, read as it goes",
        write: "",
        real: "",
        synthetic: "unit tests: kcore's segments and notes",
    },
];

/// Pages are 4096 bytes in all that is written for x86_64. An aarch64 kernel with larger ones
/// still has its segments in multiples of this. Only our own cores say another size.
const PAGE: u64 = 4096;

/// Notes beyond this are not read: 8192 CPUs take 6 MiB, device dumps may take far more. In a
/// mapped file this takes no memory.
const MAX_NOTES_LEN: u64 = 256 << 20;

/// Before `/proc/vmcore` merged them there was a note segment per CPU.
const MAX_NOTE_SEGMENTS: usize = 2 * 8192;

struct ElfDump {
    source: Arc<dyn Source>,
    extents: Extents,
    page_size: u64,
    /// Segments with a virtual address of their own, by physical address.
    mapped: Vec<(Range<u64>, u64)>,
    origin: Option<Origin>,
}

fn probe(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF")
}

fn open(inputs: Vec<Input>) -> Result<Opened, OpenError> {
    let Some(input) = inputs.into_iter().next() else { return Err(OpenError::NoInput) };
    let Input { name, source, .. } = input;
    let header = header::read(&name, source.as_ref())?;
    let mut oddities = header.oddities.clone();
    let segments = header::read_segments(&name, source.as_ref(), &header, &mut oddities)?;

    let notes = read_notes(source.as_ref(), &segments.notes, &mut oddities);
    // kcore has notes of a process too (fs/proc/kcore.c), and VMCOREINFO.
    let is_kernel = notes.iter().any(|note| note.name == "VMCOREINFO");
    let of_process = |note: &Note| note.name == "CORE" && header::is_of_a_process(note.kind);
    if !is_kernel && notes.iter().any(of_process) {
        let looks_like = "it is the core dump of a process, not of a kernel".to_owned();
        return Err(OpenError::Foreign { name, looks_like });
    }
    let loads = header::physical(segments.loads, &mut oddities);
    if loads.is_empty() {
        return Err(header::without_memory(name));
    }

    let extents = Extents::new(&loads);
    let missing = extents.stored_beyond(source.len());
    let incomplete = if header.flags & header::EF_INCOMPLETE != 0 {
        Some("makedumpfile ran out of space while writing it".to_owned())
    } else if missing > 0 {
        Some(format!("the file ends {missing} bytes before its last segment does"))
    } else {
        segments.cut_off
    };
    let writer = if header.odd_qemu || notes.iter().any(|note| note.name == "QEMU") {
        "ELF (QEMU)"
    } else {
        "ELF"
    };
    let origin = Origin::find(&notes);
    let mut info = ContainerInfo {
        kind: writer.to_owned(),
        machine: Some(header.machine),
        incomplete,
        oddities,
        ..ContainerInfo::default()
    };
    if let Some(origin) = &origin {
        describe_origin(&mut info, origin);
    }
    let container = Box::new(ElfDump {
        source,
        extents,
        page_size: origin.as_ref().map_or(PAGE, |origin| origin.page_size),
        mapped: mapped(&loads),
        origin,
    });
    Ok(Opened { container, info, notes, cpus: Vec::new(), vmcoreinfo: None })
}

/// Part of a container that is no ELF, but as simple: memory of an address, at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) addr: u64,
    pub(super) len: u64,
    pub(super) offset: u64,
}

/// Memory that lies in pieces in a source.
pub(super) fn of_pieces(source: Arc<dyn Source>, pieces: &[Piece]) -> Box<dyn Container> {
    let segment = |piece: &Piece| Segment {
        offset: piece.offset,
        vaddr: 0,
        paddr: piece.addr,
        file_len: piece.len,
        mem_len: piece.len,
    };
    let segments: Vec<Segment> = pieces.iter().map(segment).collect();
    let extents = Extents::new(&segments);
    Box::new(ElfDump { source, extents, page_size: PAGE, mapped: Vec::new(), origin: None })
}

/// What a core made from another dump says of that one.
fn describe_origin(info: &mut ContainerInfo, origin: &Origin) {
    info.kind = format!("{} from {}", info.kind, origin.info.kind);
    info.filter_level = origin.info.filter_level;
    if info.incomplete.is_none() {
        info.incomplete.clone_from(&origin.info.incomplete);
    }
    if let Some(header) = &origin.header {
        info.utsname = (header.utsname != Utsname::default()).then(|| header.utsname.clone());
        info.timestamp = (header.timestamp.0 != 0).then_some(header.timestamp.0);
    }
}

/// Segments that do not overlap, with their virtual addresses.
fn mapped(loads: &[Segment]) -> Vec<(Range<u64>, u64)> {
    let mut mapped: Vec<(Range<u64>, u64)> = loads
        .iter()
        .map(|load| {
            let len = load.mem_len.max(load.file_len);
            (load.paddr..load.paddr.saturating_add(len), load.vaddr)
        })
        .collect();
    // The larger of two that start together is the direct map, the other one the kernel's text.
    mapped.sort_by_key(|(range, _)| (range.start, u64::MAX - range.end));
    let mut end = 0;
    mapped.retain(|(range, _)| {
        let apart = range.start >= end;
        end = end.max(range.end);
        apart
    });
    mapped
}

fn read_notes(source: &dyn Source, segments: &[Segment], oddities: &mut Vec<String>) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut left = MAX_NOTES_LEN;
    for segment in segments.iter().take(MAX_NOTE_SEGMENTS) {
        let there = segment.file_len.min(source.len().saturating_sub(segment.offset)).min(left);
        left -= there;
        if there < segment.file_len {
            oddities.push("the notes do not fit in the file".to_owned());
        }
        let Ok(bytes) = source.bytes(segment.offset, there as usize) else { continue };
        let (found, odd) = elf_note::parse(&bytes);
        notes.extend(found);
        oddities.extend(odd);
    }
    notes
}

impl ElfDump {
    /// Why RAM is not in the file.
    fn left_out(&self, addr: u64) -> Absent {
        let Some(origin) = &self.origin else { return Absent::Filtered { level: None } };
        if origin::contains(&origin.lost, addr) {
            return Absent::Lost;
        }
        if origin::contains(&origin.damaged, addr) {
            return Absent::corrupt("it was, in the dump that this one was made from");
        }
        Absent::Filtered { level: origin.info.filter_level }
    }

    /// Why the byte at `addr` is not there, if it isn't.
    fn absence(&self, addr: u64) -> Option<Absent> {
        let Some(extent) = self.extents.find(addr) else { return Some(Absent::NotRam) };
        match extent.offset_of(addr) {
            None => Some(self.left_out(addr)),
            Some(offset) if self.source.is_written(offset, 1) => None,
            Some(_) => Some(Absent::Lost),
        }
    }

    /// Where in the file the bytes from `addr` on are, and how many of them, at most `len`, lie
    /// together.
    fn place(&self, addr: u64, len: u64) -> Result<(u64, u64), Absent> {
        let Some(extent) = self.extents.find(addr) else { return Err(Absent::NotRam) };
        let Some(offset) = extent.offset_of(addr) else { return Err(self.left_out(addr)) };
        let mut len = len.min(extent.end - addr);
        if !self.source.is_written(offset, len as usize) {
            len = len.min(self.source.len().saturating_sub(offset));
            // A stream may have holes anywhere: find the first byte that was not written.
            while len > 0 && !self.source.is_written(offset, len as usize) {
                len /= 2;
            }
        }
        if len == 0 { Err(Absent::Lost) } else { Ok((offset, len)) }
    }

    /// The run of bytes from `addr` on that lies together, at most `len`.
    fn run(&self, addr: u64, len: u64) -> Result<Cow<'_, [u8]>, Absent> {
        let (offset, len) = self.place(addr, len)?;
        Ok(self.source.bytes(offset, len as usize)?)
    }
}

impl Container for ElfDump {
    fn page_size(&self) -> u64 {
        self.page_size
    }

    fn locate(&self, addr: u64) -> Result<Stored<'_>, Absent> {
        let (offset, len) = self.place(addr, self.page_size)?;
        if len == self.page_size {
            return Ok(Stored::Raw { source: &*self.source, offset });
        }
        // The page lies in several segments, or only part of it does.
        let whole = self.part(addr, self.page_size as usize).unwrap_or_default();
        if whole.len() as u64 == self.page_size {
            return Ok(Stored::Assembled(whole.into_owned()));
        }
        let missing = addr + whole.len() as u64;
        Err(self.absence(missing).unwrap_or(Absent::Lost))
    }

    fn part(&self, addr: u64, len: usize) -> Option<Cow<'_, [u8]>> {
        let mut assembled = Vec::with_capacity(len);
        while assembled.len() < len {
            let at = addr.checked_add(assembled.len() as u64)?;
            match self.run(at, (len - assembled.len()) as u64) {
                Ok(bytes) => assembled.extend_from_slice(&bytes),
                Err(_) => break,
            }
        }
        (!assembled.is_empty()).then_some(Cow::Owned(assembled))
    }

    fn ram(&self) -> Vec<Range<u64>> {
        extents::merge(self.extents.iter().map(|extent| extent.start..extent.end)).collect()
    }

    fn present(&self) -> Box<dyn Iterator<Item = Range<u64>> + '_> {
        let page = self.page_size;
        Box::new(self.extents().filter_map(move |run| {
            let start = run.start.checked_next_multiple_of(page)?;
            let end = run.end / page * page;
            (start < end).then_some(start..end)
        }))
    }

    fn extents(&self) -> Box<dyn Iterator<Item = Range<u64>> + '_> {
        let end_of_file = self.source.len();
        let stored = self.extents.iter().filter_map(move |extent: &Extent| {
            let there = end_of_file.saturating_sub(extent.offset?).min(extent.end - extent.start);
            (there > 0).then(|| extent.start..extent.start + there)
        });
        Box::new(extents::merge(stored))
    }

    fn raw_run(&self, addr: u64, len: u64) -> Option<(&dyn Source, u64, u64)> {
        let (offset, len) = self.place(addr, len).ok()?;
        Some((&*self.source, offset, len))
    }

    fn mapped(&self) -> Vec<(Range<u64>, u64)> {
        self.mapped.clone()
    }

    fn header(&self) -> Option<&DumpHeader> {
        self.origin.as_ref()?.header.as_ref()
    }

    fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    fn completeness(&self) -> Completeness {
        let pages = |bytes: u64| Some(bytes.div_ceil(self.page_size));
        let (mut ram, mut stored) = (0u64, 0u64);
        for extent in self.extents.iter() {
            let len = extent.end - extent.start;
            ram = ram.saturating_add(len);
            if extent.offset.is_some() {
                stored = stored.saturating_add(len);
            }
        }
        let cut_off = self.extents.stored_beyond(self.source.len());
        // What the original had lost already.
        let before = self.origin.as_ref().map_or(0, |origin| {
            let runs = origin.lost.iter().chain(&origin.damaged);
            runs.fold(0, |sum: u64, run| sum.saturating_add(run.end - run.start))
        });
        let absent = ram - stored;
        Completeness {
            ram: pages(ram),
            stored: pages(stored - cut_off),
            filtered: pages(absent.saturating_sub(before)),
            lost: pages(cut_off.saturating_add(before)),
            incomplete: None,
        }
    }
}
