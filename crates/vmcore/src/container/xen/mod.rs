//! Xen's `dump-core`: what `xl dump-core`, `virsh dump` of a Xen domain and `on_crash =
//! "coredump-..."` write of one guest.
//!
//! Layout (Xen, docs/misc/dump-core-format.txt; its writer is tools/libs/guest/xg_core.c): an ELF64
//! core without segments, whose sections are found by their names:
//!
//! ```text
//! .note.Xen         notes of owner "Xen": 0x2000000 nothing; 0x2000001 header { magic u64, vCPUs
//!                   u64, pages u64, page size u64 }; 0x2000002 version { major u64, minor u64,
//!                   extra [u8; 16], ... }; 0x2000003 format { version u64 }
//! .xen_prstatus     vcpu_guest_context_t of each vCPU ([`vcpu`])
//! .xen_shared_info  a page, not of use here
//! .xen_pages        the pages
//! .xen_p2m          PV: { pfn u64, gmfn u64 } of each page: its number in the guest and in the
//!                   machine. The page tables hold the latter ([`crate::machine_frames`])
//! .xen_pfn          HVM, PVH: { pfn u64 } of each
//! ```
//!
//! Magic: 0xf00febed PV, 0xf00febee HVM and PVH. There is no rule about the order of pages. Where
//! the guest had fewer pages than Xen counted, the last ones are padding, with the number -1.
//!
//! The tables and the names of the sections lie behind the pages: a file that was cut off has lost
//! what says where its pages belong, and is refused.

mod sections;
mod vcpu;

use std::ops::Range;
use std::sync::Arc;

use self::sections::{Section, Sections};
use super::{Container, Format, Input, Opened, Stored};
use crate::cpu::CpuState;
use crate::elf_note::{self, Note};
use crate::error::{Absent, OpenError};
use crate::frame_runs::{Builder, FrameRuns, MAX_FRAME};
use crate::info::{Completeness, ContainerInfo, Machine};
use crate::machine_frames::MachineFrames;
use crate::source::{Fields, Source, text_until_nul};
use crate::support::Support;

pub(super) const FORMAT: Format = Format { probe, open, splits: false, support: SUPPORT };

const SUPPORT: &[Support] = &[
    Support {
        container: "Xen dump-core of a PV guest (`xl dump-core`, `virsh dump`)",
        read: "yes, with the vCPUs' registers; page tables of machine frames",
        write: "",
        real: "`k61-sysrq-xen-pv`",
        synthetic: "unit tests; the bundled dump's memory, with machine frames in its page tables",
    },
    Support {
        container: "Xen dump-core of an HVM or PVH guest",
        read: "yes, with the vCPUs' registers",
        write: "",
        real: "`k61-null-xen-pvh`",
        synthetic: "unit tests; the bundled dump's memory and registers in this layout",
    },
];

const ET_CORE: u16 = 4;
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;

const NOTE_HEADER: u32 = 0x200_0001;
const NOTE_VERSION: u32 = 0x200_0002;
const MAGIC_PV: u64 = 0xf00f_ebed;
const MAGIC_HVM: u64 = 0xf00f_ebee;

/// The notes take 1400 bytes.
const MAX_NOTES_LEN: u64 = 1 << 20;
/// Xen's own limit for a guest is 4096.
const MAX_VCPUS: u64 = 1 << 13;
/// Entries of a table, beyond 16 for each page that is there, that no file has but one made to keep
/// us busy.
const MORE_ENTRIES: u64 = 1 << 16;
/// Bytes of a table that are read at once.
const STEP: u64 = 1 << 20;

/// An ELF64 core, little-endian, with sections and no segments. Of all cores only these are so.
fn probe(head: &[u8]) -> bool {
    let fields = Fields(head);
    head.starts_with(b"\x7fELF\x02\x01")
        && fields.u16(16) == Some(ET_CORE)
        && fields.u16(56) == Some(0)
        && fields.u64(40).is_some_and(|offset| offset != 0)
        && fields.u16(60).is_some_and(|count| count > 1)
}

fn open(inputs: Vec<Input>) -> Result<Opened, OpenError> {
    let Some(Input { name, source, .. }) = inputs.into_iter().next() else {
        return Err(OpenError::NoInput);
    };
    let head = source.bytes(0, source.len().min(64) as usize).unwrap_or_default();
    let machine = match Fields(&head).u16(18) {
        Some(EM_X86_64) => Machine::X86_64,
        Some(EM_AARCH64) => Machine::Aarch64,
        other => {
            let machine = format!("machine {}", other.unwrap_or_default());
            return Err(OpenError::Machine { name, machine });
        }
    };
    let sections = Sections::read(&name, source.as_ref(), &head)?;
    let header = Header::read(&name, source.as_ref(), &sections)?;
    let mut oddities = Vec::new();
    let pages = Pages::read(&name, source.as_ref(), &sections, &header, &mut oddities)?;
    let cpus = match machine {
        Machine::X86_64 => read_cpus(source.as_ref(), &sections, &header, &mut oddities),
        Machine::Aarch64 => {
            oddities.push("registers of Xen's arm64 guests are not read".to_owned());
            Vec::new()
        }
    };
    let guest = if header.is_pv { "a PV guest" } else { "an HVM or PVH guest" };
    let info = ContainerInfo {
        kind: format!("Xen dump-core of {guest}{}", header.version),
        machine: Some(machine),
        incomplete: pages.cut_off.clone(),
        oddities,
        ..ContainerInfo::default()
    };
    let container = Box::new(DumpCore { source, page_size: header.page_size, pages });
    Ok(Opened { container, info, notes: Vec::new(), cpus, vmcoreinfo: None })
}

/// What the notes say.
struct Header {
    is_pv: bool,
    vcpus: u64,
    pages: u64,
    page_size: u64,
    /// " (Xen 4.17.7)"
    version: String,
}

impl Header {
    fn read(name: &str, source: &dyn Source, sections: &Sections) -> Result<Header, OpenError> {
        let corrupt = |what: String| OpenError::Corrupt { name: name.to_owned(), what };
        let section = sections.get(".note.Xen")?;
        let bytes = source
            .bytes(section.offset, section.held(source).min(MAX_NOTES_LEN) as usize)
            .unwrap_or_default();
        let (notes, _) = elf_note::parse(&bytes);
        let find = |kind| notes.iter().find(|note| note.name == "Xen" && note.kind == kind);
        let Some(header) = find(NOTE_HEADER) else {
            return Err(corrupt("Xen's dump-core header note (0x2000001) is missing".to_owned()));
        };
        let fields = Fields(&header.desc);
        let values =
            (|| Some((fields.u64(0)?, fields.u64(8)?, fields.u64(16)?, fields.u64(24)?)))();
        let Some((magic, vcpus, pages, page_size)) = values else {
            return Err(corrupt("Xen's dump-core header note is too short".to_owned()));
        };
        let is_pv = match magic {
            MAGIC_PV => true,
            MAGIC_HVM => false,
            _ => {
                let what = format!("Xen's dump-core header has the unknown magic {magic:#x}");
                return Err(corrupt(what));
            }
        };
        if !page_size.is_power_of_two() || !(4096..=65536).contains(&page_size) {
            let what = format!("Xen's dump-core header has pages of {page_size} bytes");
            return Err(corrupt(what));
        }
        if is_pv && page_size != 4096 {
            let what = format!("Xen's dump-core of a PV guest has pages of {page_size} bytes");
            return Err(corrupt(what));
        }
        let version = find(NOTE_VERSION).map(version).unwrap_or_default();
        Ok(Header { is_pv, vcpus, pages, page_size, version })
    }
}

fn version(note: &Note) -> String {
    let fields = Fields(&note.desc);
    let (Some(major), Some(minor)) = (fields.u64(0), fields.u64(8)) else { return String::new() };
    let extra = text_until_nul(note.desc.get(16..32).unwrap_or_default());
    let extra: String = extra.chars().filter(|c| c.is_ascii_graphic()).collect();
    format!(" (Xen {major}.{minor}{extra})")
}

/// The CPUs that ever ran.
fn read_cpus(
    source: &dyn Source,
    sections: &Sections,
    header: &Header,
    oddities: &mut Vec<String>,
) -> Vec<CpuState> {
    let Some(section) = sections.find(".xen_prstatus") else {
        oddities.push("the section .xen_prstatus is missing: no registers".to_owned());
        return Vec::new();
    };
    if section.entry_len != vcpu::SIZE {
        oddities.push(format!(
            "registers are not read: an entry of .xen_prstatus has {} bytes, not {}",
            section.entry_len,
            vcpu::SIZE
        ));
        return Vec::new();
    }
    let there = section.held(source) / vcpu::SIZE;
    if there != header.vcpus {
        oddities
            .push(format!("the header counts {} vCPUs, .xen_prstatus has {there}", header.vcpus));
    }
    let count = there.min(header.vcpus).min(MAX_VCPUS);
    let read = |index: u64| {
        let bytes = source.bytes(section.offset + index * vcpu::SIZE, vcpu::SIZE as usize).ok()?;
        vcpu::decode(&bytes, index as usize, header.is_pv)
    };
    (0..count).filter_map(read).collect()
}

/// Where the pages lie.
struct Pages {
    /// Offset of the first one.
    offset: u64,
    /// From frame numbers to places among the pages.
    places: FrameRuns,
    machine: Option<MachineFrames>,
    cut_off: Option<String>,
}

impl Pages {
    fn read(
        name: &str,
        source: &dyn Source,
        sections: &Sections,
        header: &Header,
        oddities: &mut Vec<String>,
    ) -> Result<Pages, OpenError> {
        let pages = sections.get(".xen_pages")?;
        let (table_name, entry) = if header.is_pv { (".xen_p2m", 16) } else { (".xen_pfn", 8) };
        let table = sections.get(table_name)?;
        if table.entry_len != entry {
            let what = format!("an entry of {table_name} has {} bytes", table.entry_len);
            return Err(OpenError::Corrupt { name: name.to_owned(), what });
        }
        let counts = [header.pages, pages.len / header.page_size, table.len / entry];
        let [of_header, of_pages, of_table] = counts;
        if counts.iter().any(|count| *count != of_header) {
            oddities.push(format!(
                "the header counts {of_header} pages, .xen_pages has {of_pages}, {table_name} \
                 {of_table}"
            ));
        }
        let count = of_pages.min(of_table).min(of_header);
        let there = count.min(table.held(source) / entry);
        let believed = (pages.held(source) / header.page_size).saturating_mul(16) + MORE_ENTRIES;
        if there > believed {
            let what = format!("{table_name} is for {there} pages, .xen_pages has few of them");
            return Err(OpenError::Corrupt { name: name.to_owned(), what });
        }
        let mut found = Table::default();
        found.read(source, table, entry, there);
        let places = found.places(table_name, oddities);
        if places.is_empty() {
            let what = format!("{table_name} gives none of its pages an address");
            return Err(OpenError::Corrupt { name: name.to_owned(), what });
        }
        let missing = pages.len.saturating_sub(pages.held(source));
        let cut_off = if there < count {
            Some(format!("only {there} of {count} entries of {table_name} are in the file"))
        } else {
            (missing > 0).then(|| format!("the file ends {missing} bytes before .xen_pages does"))
        };
        let machine = header.is_pv.then(|| found.machine_frames(oddities));
        Ok(Pages { offset: pages.offset, places, machine, cut_off })
    }
}

/// What a table says.
#[derive(Default)]
struct Table {
    by_frame: Builder,
    by_machine: Builder,
    beyond: u64,
}

impl Table {
    fn read(&mut self, source: &dyn Source, table: Section, entry: u64, count: u64) {
        const PADDING: u64 = u64::MAX;
        let mut index = 0;
        while index < count {
            let entries = (STEP / entry).min(count - index);
            let Some(offset) = table.offset.checked_add(index * entry) else { return };
            let Ok(bytes) = source.bytes(offset, (entries * entry) as usize) else { return };
            for (place, fields) in (index..).zip(bytes.chunks_exact(entry as usize).map(Fields)) {
                let Some(frame) = fields.u64(0).filter(|frame| *frame != PADDING) else { continue };
                if frame >= MAX_FRAME {
                    self.beyond += 1;
                    continue;
                }
                self.by_frame.push(frame, 1, place);
                if let Some(machine) = fields.u64(8) {
                    self.by_machine.push(machine, 1, frame);
                }
            }
            index += entries;
        }
    }

    fn places(&mut self, table: &str, oddities: &mut Vec<String>) -> FrameRuns {
        if self.beyond > 0 {
            oddities.push(format!(
                "{} frame numbers of {table} are beyond all memory: their pages are left out",
                self.beyond
            ));
        }
        let (places, twice) = std::mem::take(&mut self.by_frame).finish();
        if twice > 0 {
            oddities.push(format!(
                "{twice} frame numbers are in {table} more than once: the first page counts"
            ));
        }
        places
    }

    fn machine_frames(self, oddities: &mut Vec<String>) -> MachineFrames {
        let (runs, twice) = self.by_machine.finish();
        if twice > 0 {
            oddities.push(format!(
                "{twice} machine frames are in .xen_p2m more than once: the first counts"
            ));
        }
        MachineFrames::new(runs)
    }
}

struct DumpCore {
    source: Arc<dyn Source>,
    page_size: u64,
    pages: Pages,
}

impl DumpCore {
    /// Where in the file `addr` lies, and how many bytes behind it follow in memory too.
    fn place(&self, addr: u64) -> Result<(u64, u64), Absent> {
        let frame = addr / self.page_size;
        let run = self.pages.places.run(frame).ok_or(Absent::NotRam)?;
        let index = run.to + (frame - run.first);
        let offset = (index * self.page_size)
            .checked_add(self.pages.offset)
            .and_then(|offset| offset.checked_add(addr % self.page_size))
            .ok_or(Absent::Lost)?;
        Ok((offset, run.end() * self.page_size - addr))
    }

    fn runs(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut runs = self.pages.places.iter().peekable();
        std::iter::from_fn(move || {
            let first = runs.next()?;
            let mut end = first.end();
            while let Some(next) = runs.next_if(|next| next.first == end) {
                end = next.end();
            }
            Some(first.first * self.page_size..end * self.page_size)
        })
    }
}

impl Container for DumpCore {
    fn page_size(&self) -> u64 {
        self.page_size
    }

    fn locate(&self, addr: u64) -> Result<Stored<'_>, Absent> {
        let (offset, _) = self.place(addr)?;
        if !self.source.is_written(offset, self.page_size as usize) {
            return Err(Absent::Lost);
        }
        Ok(Stored::Raw { source: &*self.source, offset })
    }

    fn ram(&self) -> Vec<Range<u64>> {
        self.runs().collect()
    }

    fn present(&self) -> Box<dyn Iterator<Item = Range<u64>> + '_> {
        Box::new(self.runs())
    }

    fn raw_run(&self, addr: u64, len: u64) -> Option<(&dyn Source, u64, u64)> {
        let (offset, there) = self.place(addr).ok()?;
        let len = len.min(there).min(self.source.len().saturating_sub(offset));
        let is_there = len > 0 && self.source.is_written(offset, len as usize);
        is_there.then_some((&*self.source, offset, len))
    }

    fn machine_frames(&self) -> Option<&MachineFrames> {
        self.pages.machine.as_ref()
    }

    fn completeness(&self) -> Completeness {
        let ram = self.pages.places.frames();
        let held = self.source.len().saturating_sub(self.pages.offset) / self.page_size;
        let lost: u64 = self
            .pages
            .places
            .iter()
            .map(|run| run.count - held.saturating_sub(run.to).min(run.count))
            .sum();
        Completeness {
            ram: Some(ram),
            stored: Some(ram - lost),
            filtered: Some(0),
            lost: Some(lost),
            incomplete: None,
        }
    }
}
