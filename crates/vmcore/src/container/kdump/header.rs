//! Headers of a kdump-compressed dump, as a 64-bit little-endian machine writes them.
//!
//! Facts from makedumpfile's diskdump_mod.h (`struct disk_dump_header`, `kdump_sub_header`), the
//! same in crash's diskdump.h and QEMU's include/sysemu/dump.h.
//!
//! ```text
//! block 0: 0 "KDUMP   ", 8 header_version, 12 utsname (6 times 65 bytes), 408 timestamp (timeval),
//!          424 status, 428 block_size, 432 sub_hdr_size (blocks), 436 bitmap_blocks,
//!          440 max_mapnr (32 bits), 444 total_ram_blocks, 448 device_blocks, 452 written_blocks,
//!          456 current_cpu, 460 nr_cpus
//! block 1: 0 phys_base, 8 dump_level                                          (version 1)
//!          12 split, 16 start_pfn, 24 end_pfn                                 (2)
//!          32 offset_vmcoreinfo, 40 size_vmcoreinfo                           (3)
//!          48 offset_note, 56 size_note                                       (4)
//!          64 offset_eraseinfo, 72 size_eraseinfo                             (5)
//!          80 start_pfn, 88 end_pfn, 96 max_mapnr, all 64 bits                (6)
//! ```
//!
//! Before version 6 the page frame numbers have 32 bits' worth of meaning: a dump of 16 TiB and
//! more can't be told from a smaller one there.

use crate::codec::Codec;
use crate::dump_header::DumpHeader;
use crate::error::OpenError;
use crate::info::{Machine, Utsname};
use crate::source::{Fields, Source, text_until_nul};

pub(super) const SIGNATURE: &[u8; 8] = b"KDUMP   ";

/// Bytes of block 0 and block 1 that have a meaning.
const HEADER_LEN: usize = 464;
const SUB_HEADER_LEN: usize = 104;

const STATUS_INCOMPLETE: u32 = 0x8;
const STATUS_EXCLUDED_VMEMMAP: u32 = 0x10;

/// The latest version that is known. Later ones so far only added fields at the end.
const KNOWN_VERSION: u32 = 6;

/// 256 TiB in pages of 4 KiB: four times the RAM a four-level x86_64 kernel can map.
const MAX_MAPNR: u64 = 1 << 36;

/// Where something lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) len: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) utsname: Utsname,
    pub(super) timestamp: u64,
    pub(super) status: u32,
    pub(super) block_size: u64,
    /// First block of the bitmaps.
    pub(super) bitmap_at: u64,
    pub(super) bitmap_blocks: u64,
    pub(super) max_mapnr: u64,
    pub(super) dump_level: u32,
    /// Page frames of this part, if the dump is split.
    pub(super) split: Option<std::ops::Range<u64>>,
    pub(super) vmcoreinfo: Option<Place>,
    pub(super) notes: Option<Place>,
    pub(super) eraseinfo: Option<Place>,
    pub(super) microseconds: u64,
    pub(super) phys_base: u64,
    pub(super) current_cpu: u32,
    pub(super) nr_cpus: u32,
}

impl Header {
    /// The machine, if the header says it.
    pub(super) fn machine(&self) -> Option<Machine> {
        Machine::from_name(&self.utsname.machine)
    }

    pub(super) fn is_incomplete(&self) -> bool {
        self.status & STATUS_INCOMPLETE != 0
    }

    pub(super) fn lacks_vmemmap(&self) -> bool {
        self.status & STATUS_EXCLUDED_VMEMMAP != 0
    }

    /// What other containers can say of it.
    pub(super) fn to_dump_header(&self, eraseinfo: Vec<u8>) -> DumpHeader {
        DumpHeader {
            utsname: self.utsname.clone(),
            timestamp: (self.timestamp, self.microseconds),
            phys_base: self.phys_base,
            dump_level: self.dump_level,
            max_mapnr: self.max_mapnr,
            nr_cpus: self.nr_cpus,
            current_cpu: self.current_cpu,
            incomplete: self.is_incomplete(),
            lacks_vmemmap: self.lacks_vmemmap(),
            eraseinfo,
        }
    }

    /// Codecs that the status names. Not every page need use one.
    pub(super) fn codecs(&self) -> Vec<Codec> {
        super::CODECS
            .iter()
            .filter(|(flag, _)| self.status & flag != 0)
            .map(|(_, codec)| *codec)
            .collect()
    }

    /// What two parts of one dump have in common.
    pub(super) fn identity(&self) -> (&Utsname, u64, u64, u64) {
        (&self.utsname, self.timestamp, self.block_size, self.max_mapnr)
    }
}

pub(super) fn read(name: &str, source: &dyn Source) -> Result<Header, OpenError> {
    let cut = |what: &str| OpenError::Truncated { name: name.to_owned(), what: what.to_owned() };
    let corrupt = |what: String| OpenError::Corrupt { name: name.to_owned(), what };
    let head = source.bytes(0, source.len().min(HEADER_LEN as u64) as usize).unwrap_or_default();
    let fields = Fields(&head);
    let utsname = read_utsname(&head);
    refuse_other_machines(name, &utsname, fields)?;
    let header = (|| {
        Some((
            fields.u32(8)?,
            fields.u64(408)?,
            fields.u32(424)?,
            fields.u32(428)?,
            fields.u32(432)?,
            fields.u32(436)?,
            fields.u32(440)?,
        ))
    })();
    let Some((version, timestamp, status, block_size, sub_blocks, bitmap_blocks, mapnr32)) = header
    else {
        return Err(cut("it ends in its header"));
    };
    if version == 0 || version > 100 {
        return Err(corrupt(format!("a kdump header of version {version}")));
    }
    if !block_size.is_power_of_two() || !(4096..=65536).contains(&block_size) {
        return Err(corrupt(format!("a kdump header with pages of {block_size} bytes")));
    }
    let block_size = u64::from(block_size);
    let mut header = Header {
        version,
        utsname,
        timestamp,
        status,
        block_size,
        bitmap_at: (1 + u64::from(sub_blocks)) * block_size,
        bitmap_blocks: u64::from(bitmap_blocks),
        max_mapnr: u64::from(mapnr32),
        dump_level: 0,
        split: None,
        vmcoreinfo: None,
        notes: None,
        eraseinfo: None,
        // A header may end before them: nothing rests on them.
        microseconds: fields.u64(416).unwrap_or(0),
        phys_base: 0,
        current_cpu: fields.u32(456).unwrap_or(0),
        nr_cpus: fields.u32(460).unwrap_or(0),
    };
    if sub_blocks > 0 {
        let Ok(sub) = source.bytes(block_size, SUB_HEADER_LEN) else {
            return Err(cut("it ends in its sub-header"));
        };
        if read_sub_header(&mut header, Fields(&sub)).is_none() {
            return Err(cut("it ends in its sub-header"));
        }
    }
    if header.max_mapnr == 0 {
        return Err(corrupt("a kdump header for a machine without memory".to_owned()));
    }
    if header.max_mapnr > MAX_MAPNR {
        return Err(corrupt(format!("a kdump header with {:#x} page frames", header.max_mapnr)));
    }
    Ok(header)
}

fn read_sub_header(header: &mut Header, sub: Fields<'_>) -> Option<()> {
    let place = |at: usize| {
        let place = Place { offset: sub.u64(at)?, len: sub.u64(at + 8)? };
        (place.offset != 0 && place.len != 0).then_some(place)
    };
    header.phys_base = sub.u64(0)?;
    header.dump_level = sub.u32(8)?;
    let version = header.version;
    let is_split = version >= 2 && sub.u32(12)? != 0;
    if version >= 3 {
        header.vmcoreinfo = place(32);
    }
    if version >= 4 {
        header.notes = place(48);
    }
    if version >= 5 {
        header.eraseinfo = place(64);
    }
    let pfns = if version >= 6 {
        header.max_mapnr = sub.u64(96)?;
        sub.u64(80)?..sub.u64(88)?
    } else {
        sub.u64(16)?..sub.u64(24)?
    };
    if is_split {
        header.split = Some(pfns);
    }
    Some(())
}

/// QEMU knows no name for any machine but x86_64's, and leaves that out, too, for a
/// guest without VMCOREINFO.
fn is_unknown(machine: &str) -> bool {
    matches!(machine, "" | "Unknown")
}

fn read_utsname(head: &[u8]) -> Utsname {
    let field = |index: usize| {
        head.get(12 + 65 * index..12 + 65 * (index + 1)).map(text_until_nul).unwrap_or_default()
    };
    Utsname {
        sysname: field(0),
        nodename: field(1),
        release: field(2),
        version: field(3),
        machine: field(4),
        domainname: field(5),
    }
}

/// The name is the first thing to look at: on a 32-bit or big-endian machine all fields behind it
/// lie elsewhere, and would only look damaged.
fn refuse_other_machines(
    name: &str,
    utsname: &Utsname,
    fields: Fields<'_>,
) -> Result<(), OpenError> {
    let machine = if !is_unknown(&utsname.machine) && Machine::from_name(&utsname.machine).is_none()
    {
        utsname.machine.clone()
    } else if fields.u32(8).is_some_and(|version| (1..=16).contains(&version.swap_bytes())) {
        "big-endian".to_owned()
    } else if fields.u32(428) != Some(4096) && fields.u32(416) == Some(4096) {
        "32-bit".to_owned()
    } else {
        return Ok(());
    };
    let machine = machine.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
    Err(OpenError::Machine { name: name.to_owned(), machine })
}

/// What is odd about the header, one sentence each.
pub(super) fn oddities(header: &Header) -> Vec<String> {
    let mut oddities = Vec::new();
    if header.version > KNOWN_VERSION {
        oddities.push(format!(
            "kdump header version {} is newer than {KNOWN_VERSION}, and read as that",
            header.version
        ));
    }
    if header.lacks_vmemmap() {
        oddities.push("makedumpfile -e left out the page structures of excluded pages".to_owned());
    }
    if header.eraseinfo.is_some() {
        oddities.push("makedumpfile --config erased some of the kernel's data".to_owned());
    }
    oddities
}
