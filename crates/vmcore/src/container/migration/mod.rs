//! QEMU's migration stream: what `virsh dump` (without `--memory-only`), `virsh save` and QEMU's
//! `migrate exec:` or `migrate file:` write.
//!
//! Layout, all numbers big-endian (QEMU, migration/savevm.c, migration/ram.c; version 3 since 2008):
//!
//! ```text
//!   "QEVM", version u32 = 3
//!   07 configuration: name of the machine type (length u32, bytes), subsections
//!   01 start of an iterated section: id u32, name (length u8, bytes), instance u32, version u32,
//!      data; 02 another part of it, 03 its end: id u32, data
//!   04 a whole section: as 01
//!   7e footer of each section: id u32                    (machine types since 2.4)
//!   08 command: kind u16, length u16, bytes
//!   00 the end
//!   06 description of all devices' sections: length u32, JSON
//! ```
//!
//! Parts:
//! - [`stream`]: the sections in their order; `ram` is the only iterated one that matters.
//! - [`ram`]: that section's records, and with the capability mapped-ram (QEMU 9.0) its blocks'
//!   bitmaps; their pages as runs in the file. Nothing is unpacked.
//! - [`runs`]: those runs sorted, later copies of a page over earlier ones.
//! - [`vmdesc`]: the JSON, by which registers are found by name, whatever the version of QEMU.
//! - [`cpu`]: registers of x86_64 and aarch64.
//! - [`layout`]: where the blocks lie in the machine's physical memory.

mod cpu;
mod layout;
mod ram;
mod runs;
mod stream;
mod vmdesc;

use std::ops::Range;
use std::sync::Arc;

use self::layout::Placed;
use self::runs::{Run, Runs, What};
use super::{Container, Format, Input, Opened, Stored};
use crate::error::{Absent, OpenError};
use crate::info::{Completeness, ContainerInfo};
use crate::source::Source;
use crate::support::Support;

pub(super) const FORMAT: Format = Format { probe, open, splits: false, support: SUPPORT };

const SUPPORT: &[Support] = &[
    Support {
        container: "QEMU migration stream (`virsh dump`, `migrate exec:`)",
        read: "yes, with the CPUs' registers; no xbzrle, compress, RDMA",
        write: "",
        real: "`k612-null-host.migration`, `k510-hung-host.migration`, `k61-sysrq-5g.migration`, \
               `k61-sysrq-libvirt.virsh-dump`, `k612-null-libvirt.virsh-dump`",
        synthetic: "unit tests",
    },
    Support {
        container: "QEMU migration stream, mapped-ram (QEMU 9.0, with multifd too)",
        read: "yes",
        write: "",
        real: "",
        synthetic: "unit tests",
    },
];

pub(super) const MAGIC: &[u8] = b"QEVM";

fn probe(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

fn open(inputs: Vec<Input>) -> Result<Opened, OpenError> {
    let Some(Input { name, source, .. }) = inputs.into_iter().next() else {
        return Err(OpenError::NoInput);
    };
    let found = stream::read(&name, source.as_ref())?;
    let corrupt = |what: String| OpenError::Corrupt { name: name.clone(), what };
    let mut oddities = found.oddities;
    let page_size = found.page_size;
    let machine_type = found.machine_type.as_deref().unwrap_or_default();
    let placed =
        layout::place(&found.blocks, machine_type, found.machine, page_size, &mut oddities)
            .map_err(corrupt)?;
    let runs = found.runs.finish();
    let machine_type = match &found.machine_type {
        Some(name) => format!(" ({name})"),
        None => String::new(),
    };
    let form = if found.is_mapped { ", mapped-ram" } else { "" };
    let info = ContainerInfo {
        kind: format!("QEMU migration stream{machine_type}{form}"),
        machine: found.machine,
        incomplete: found.cut_off,
        oddities,
        ..ContainerInfo::default()
    };
    let container = Box::new(Migration { source, page_size, runs, placed });
    Ok(Opened { container, info, notes: Vec::new(), cpus: found.cpus, vmcoreinfo: None })
}

struct Migration {
    source: Arc<dyn Source>,
    page_size: u64,
    /// By number of the page in all blocks, one after the other.
    runs: Runs,
    /// Sorted by address.
    placed: Vec<Placed>,
}

impl Migration {
    /// The number of the page at `addr`.
    fn page_number(&self, addr: u64) -> Option<u64> {
        let index = self.placed.partition_point(|placed| placed.range.end <= addr);
        let placed = self.placed.get(index).filter(|placed| placed.range.start <= addr)?;
        Some(placed.first_page + (addr - placed.range.start) / self.page_size)
    }

    /// Runs of the pages that lie between `pages.start` and `pages.end`.
    fn runs_within(&self, pages: Range<u64>) -> impl Iterator<Item = (Range<u64>, &Run)> {
        self.runs.from(pages.start).map_while(move |run| {
            let start = run.start().max(pages.start);
            let end = run.end().min(pages.end);
            (start < end).then_some((start..end, run))
        })
    }
}

impl Container for Migration {
    fn page_size(&self) -> u64 {
        self.page_size
    }

    fn locate(&self, addr: u64) -> Result<Stored<'_>, Absent> {
        let number = self.page_number(addr).ok_or(Absent::NotRam)?;
        let Some(run) = self.runs.find(number) else {
            return Err(if self.runs.is_cut_off() {
                Absent::Lost
            } else {
                Absent::Filtered { level: None }
            });
        };
        let offset = run.offset_of(number, self.page_size);
        match run.what() {
            What::Pages | What::Mapped => Ok(Stored::Raw { source: &*self.source, offset }),
            What::Fill => {
                let mut byte = [0; 1];
                self.source.copy_to(offset, &mut byte)?;
                Ok(Stored::Assembled(vec![byte[0]; self.page_size as usize]))
            }
            What::Zeros => Ok(Stored::Assembled(vec![0; self.page_size as usize])),
        }
    }

    fn ram(&self) -> Vec<Range<u64>> {
        let mut ram: Vec<Range<u64>> = Vec::new();
        for placed in &self.placed {
            match ram.last_mut() {
                Some(last) if last.end == placed.range.start => last.end = placed.range.end,
                _ => ram.push(placed.range.clone()),
            }
        }
        ram
    }

    fn present(&self) -> Box<dyn Iterator<Item = Range<u64>> + '_> {
        let of_block = move |placed: &Placed| {
            let pages = (placed.range.end - placed.range.start) / self.page_size;
            let (first, start) = (placed.first_page, placed.range.start);
            self.runs_within(first..first + pages).map(move |(pages, _)| {
                let at = |page: u64| start + (page - first) * self.page_size;
                at(pages.start)..at(pages.end)
            })
        };
        let mut runs = self.placed.iter().flat_map(of_block).peekable();
        Box::new(std::iter::from_fn(move || {
            let mut run = runs.next()?;
            while let Some(next) = runs.next_if(|next| next.start == run.end) {
                run.end = next.end;
            }
            Some(run)
        }))
    }

    fn completeness(&self) -> Completeness {
        let (mut ram, mut stored) = (0, 0);
        for placed in &self.placed {
            let pages = (placed.range.end - placed.range.start) / self.page_size;
            ram += pages;
            let runs = self.runs_within(placed.first_page..placed.first_page + pages);
            stored += runs.map(|(pages, _)| pages.end - pages.start).sum::<u64>();
        }
        let missing = ram - stored;
        let is_cut_off = self.runs.is_cut_off();
        Completeness {
            ram: Some(ram),
            stored: Some(stored),
            filtered: Some(if is_cut_off { 0 } else { missing }),
            lost: Some(if is_cut_off { missing } else { 0 }),
            incomplete: None,
        }
    }
}
