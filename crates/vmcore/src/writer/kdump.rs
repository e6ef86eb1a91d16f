//! Kdump-compressed dumps (diskdump format, `KDUMP`), version 6.
//!
//! Layout as [`crate::container`]'s reader has it at the top (makedumpfile's diskdump_mod.h, the
//! same in QEMU's include/sysemu/dump.h): header block; sub-header block with notes, VMCOREINFO
//! and eraseinfo behind it; bitmap of RAM, bitmap of dumped pages, a descriptor of 24 bytes for
//! each dumped page, pages. As makedumpfile writes them:
//!
//! - A page that does not shrink is stored raw, flags 0.
//! - All pages of zeros share one that is stored raw, in front of all others.
//! - A page that is lost has a descriptor of zeros, and the status has 0x8 then.
//! - The parts of a split dump have all headers and bitmaps, and descriptors of their own pages.
//!
//! Descriptors and pages grow side by side, so the output must be one that can be written out of
//! order: a file, or a flattened stream. The runs are walked twice: for the bitmap, whose bits say
//! where the pages begin, and for the pages.

mod batch;
mod bitmap;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use self::batch::{Done, Entry, PageWorker};
use super::batches::batches;
use super::output::{Buffered, Output};
use super::pipeline::Pipeline;
use super::{
    Compression, Contents, Header, Options, Progress, Summary, WriteError, compress, notes,
    page_runs,
};
use crate::info::Utsname;

const DESCRIPTOR: u64 = 24;
const SPLIT_AT: u64 = 64;
const STATUS_INCOMPLETE: u32 = 0x8;
const STATUS_EXCLUDED_VMEMMAP: u32 = 0x10;

/// 256 TiB in pages of 4 KiB. Readers take no more: the bitmaps alone would have 16 GiB.
const MAX_MAPNR: u64 = 1 << 36;

/// Writes a dump, or with `part` that of its page frames as one part of a split dump.
pub fn write(
    contents: &dyn Contents,
    compression: Compression,
    part: Option<Range<u64>>,
    options: &Options,
    progress: &Progress,
    out: &mut dyn Output,
) -> Result<Summary, WriteError> {
    let header = contents.header();
    let page = header.page_size;
    if !page.is_power_of_two() || !(4096..=65536).contains(&page) {
        return Err(WriteError::Unfit(format!("pages of {page} bytes")));
    }
    let mut plan = Plan::new(contents, compression, part);
    if plan.max_mapnr > MAX_MAPNR {
        let end = plan.max_mapnr.saturating_mul(page);
        return Err(WriteError::Unfit(format!(
            "its memory ends at {end:#x}, farther than bitmaps go"
        )));
    }
    let mut summary = Summary::default();
    plan.put_headers(header, false, out)?;
    summary.ram =
        bitmap::put(plan.bitmap_at, plan.bitmap_len, page_runs(contents.ram(), page), out)?;
    let dumped = dumped(contents, page);
    bitmap::put(plan.bitmap_at + plan.bitmap_len, plan.bitmap_len, dumped, out)?;
    let pages: u64 = pages_of(contents, page, &plan.pfns).map(|run| run.end - run.start).sum();
    // One page of zeros for all, in front of the others.
    let mut data = Buffered::at(plan.descriptors() + DESCRIPTOR * pages);
    let zero_page = data.end();
    data.push(&vec![0; page as usize], out)?;
    let mut pen = Pen {
        descriptors: Buffered::at(plan.descriptors()),
        data,
        zero_page,
        page,
        flag: compression.map_or(0, |(codec, _)| compress::PageCompressor::flag(codec)),
    };
    let batch = (options.batch as u64 / page).max(1);
    let mut batches = batches(pages_of(contents, page, &plan.pfns), batch);
    std::thread::scope(|scope| -> Result<(), WriteError> {
        // Whether the codec takes the level shows before any thread is started.
        compress::PageCompressor::new(compression)?;
        let mut pipeline = Pipeline::start(scope, options.threads, || {
            let mut worker = PageWorker::new(contents, compression, page);
            Box::new(move |batch: Vec<Range<u64>>| worker.work(batch))
        });
        loop {
            let next = batches.next();
            let is_last = next.is_none();
            if let Some(batch) = next {
                pipeline.push(batch);
            }
            while is_last || pipeline.is_full() {
                let Some(done) = pipeline.pop() else { break };
                pen.write(&done?, &mut summary, progress, out)?;
            }
            if is_last {
                return Ok(());
            }
        }
    })?;
    pen.descriptors.flush(out)?;
    pen.data.flush(out)?;
    if summary.lost > 0 {
        plan.put_headers(header, true, out)?;
    }
    summary.partial = partial_pages(contents, page);
    summary.bytes = pen.data.end();
    out.finish(summary.bytes)?;
    Ok(summary)
}

/// Marks a part as incomplete after it was written: crash takes parts for those of different dumps
/// when their headers differ, so all have the mark when pages of one are lost.
pub fn mark_incomplete(part: &mut File) -> io::Result<()> {
    const STATUS: u64 = 424;
    let mut status = [0; 4];
    part.seek(SeekFrom::Start(STATUS))?;
    part.read_exact(&mut status)?;
    part.seek(SeekFrom::Start(STATUS))?;
    part.write_all(&(u32::from_le_bytes(status) | STATUS_INCOMPLETE).to_le_bytes())
}

/// Page frames at which a dump is to be split so that all of its `parts` have about as many pages.
/// All are multiples of 64: crash counts the pages of a part in words of the bitmap.
pub fn split(contents: &dyn Contents, parts: u64) -> Vec<Range<u64>> {
    let page = contents.header().page_size.max(1);
    let total: u64 = dumped(contents, page).map(|run| run.end - run.start).sum();
    let end = max_mapnr(contents);
    let each = total.div_ceil(parts.max(1)).max(1);
    let mut bounds = vec![0];
    let mut seen = 0;
    for run in dumped(contents, page) {
        let len = run.end - run.start;
        while (bounds.len() as u64) < parts && seen + len >= each * bounds.len() as u64 {
            let into = each * bounds.len() as u64 - seen;
            bounds.push((run.start + into).next_multiple_of(SPLIT_AT).min(end));
        }
        seen += len;
    }
    bounds.resize(parts.max(1) as usize, end);
    bounds.push(end);
    bounds.windows(2).map(|pair| pair[0]..pair[1].max(pair[0])).collect()
}

/// Whole pages of what is to be dumped.
fn dumped(contents: &dyn Contents, page: u64) -> impl Iterator<Item = Range<u64>> + '_ {
    spans(contents).filter_map(move |run| {
        let pages = run.start.div_ceil(page)..run.end / page;
        (pages.start < pages.end).then_some(pages)
    })
}

/// Runs of bytes that touch one another as one, whatever their fate.
fn spans(contents: &dyn Contents) -> impl Iterator<Item = Range<u64>> + '_ {
    let mut runs = contents.runs().map(|(run, _)| run).peekable();
    std::iter::from_fn(move || {
        let mut run = runs.next()?;
        while let Some(next) = runs.next_if(|next| next.start <= run.end) {
            run.end = run.end.max(next.end);
        }
        Some(run)
    })
}

fn partial_pages(contents: &dyn Contents, page: u64) -> u64 {
    let ends = |run: Range<u64>| {
        u64::from(!run.start.is_multiple_of(page)) + u64::from(!run.end.is_multiple_of(page))
    };
    spans(contents).map(ends).sum()
}

fn pages_of<'a>(
    contents: &'a dyn Contents,
    page: u64,
    pfns: &Range<u64>,
) -> impl Iterator<Item = Range<u64>> + 'a {
    let pfns = pfns.clone();
    dumped(contents, page).filter_map(move |run| {
        let run = run.start.max(pfns.start)..run.end.min(pfns.end);
        (run.start < run.end).then_some(run)
    })
}

/// The header's, or the end of the memory.
fn max_mapnr(contents: &dyn Contents) -> u64 {
    let header = contents.header();
    let page = header.page_size.max(1);
    let ram = page_runs(contents.ram(), page).last().map_or(0, |run| run.end);
    let runs = dumped(contents, page).last().map_or(0, |run| run.end);
    header.dump.max_mapnr.max(ram).max(runs)
}

/// Where everything lies.
struct Plan {
    page: u64,
    max_mapnr: u64,
    pfns: Range<u64>,
    is_part: bool,
    status: u32,
    /// What lies behind the sub-header.
    extra: Vec<u8>,
    vmcoreinfo: (u64, u64),
    notes: (u64, u64),
    eraseinfo: (u64, u64),
    bitmap_at: u64,
    /// Of one bitmap.
    bitmap_len: u64,
}

impl Plan {
    fn new(contents: &dyn Contents, compression: Compression, part: Option<Range<u64>>) -> Plan {
        let header = contents.header();
        let page = header.page_size;
        let max_mapnr = max_mapnr(contents);
        let mut status = compression.map_or(0, |(codec, _)| compress::PageCompressor::flag(codec));
        if header.dump.lacks_vmemmap {
            status |= STATUS_EXCLUDED_VMEMMAP;
        }
        if header.dump.incomplete {
            status |= STATUS_INCOMPLETE;
        }
        let extra_at = 2 * page;
        let mut extra = notes::encode_foreign(&header.notes);
        let notes = (extra_at, extra.len() as u64);
        let mut add = |bytes: &[u8]| {
            let place = (extra_at + extra.len() as u64, bytes.len() as u64);
            extra.extend(bytes);
            place
        };
        let vmcoreinfo = match notes::place_of_vmcoreinfo(&header.notes) {
            Some((at, len)) => (extra_at + at, len),
            None => add(header.vmcoreinfo.as_deref().unwrap_or_default()),
        };
        let eraseinfo = add(&header.dump.eraseinfo);
        let sub_blocks = 1 + (extra.len() as u64).div_ceil(page);
        let none = |place: (u64, u64)| if place.1 == 0 { (0, 0) } else { place };
        Plan {
            page,
            max_mapnr,
            is_part: part.is_some(),
            pfns: part.unwrap_or(0..max_mapnr),
            status,
            vmcoreinfo: none(vmcoreinfo),
            notes: none(notes),
            eraseinfo: none(eraseinfo),
            bitmap_at: (1 + sub_blocks) * page,
            bitmap_len: max_mapnr.min(MAX_MAPNR).div_ceil(8).next_multiple_of(page),
            extra,
        }
    }

    fn descriptors(&self) -> u64 {
        self.bitmap_at + 2 * self.bitmap_len
    }

    /// The blocks before the bitmaps.
    fn put_headers(
        &mut self,
        header: &Header,
        incomplete: bool,
        out: &mut dyn Output,
    ) -> Result<(), WriteError> {
        if incomplete {
            self.status |= STATUS_INCOMPLETE;
        }
        let dump = &header.dump;
        let mut block = Record(vec![0; self.bitmap_at as usize]);
        block.put(0, b"KDUMP   ");
        block.put32(8, 6);
        put_utsname(&mut block, &dump.utsname);
        block.put64(408, dump.timestamp.0);
        block.put64(416, dump.timestamp.1);
        block.put32(424, self.status);
        block.put32(428, self.page as u32);
        block.put32(432, (self.bitmap_at / self.page - 1) as u32);
        block.put32(436, (2 * self.bitmap_len / self.page) as u32);
        block.put32(440, self.max_mapnr.min(u64::from(u32::MAX)) as u32);
        block.put32(456, dump.current_cpu);
        block.put32(460, dump.nr_cpus.max(1));
        let sub = self.page as usize;
        block.put64(sub, dump.phys_base);
        block.put32(sub + 8, dump.dump_level);
        block.put32(sub + 12, u32::from(self.is_part));
        let places = [self.vmcoreinfo, self.notes, self.eraseinfo];
        for (index, (offset, len)) in places.into_iter().enumerate() {
            block.put64(sub + 32 + 16 * index, offset);
            block.put64(sub + 40 + 16 * index, len);
        }
        // Once as 32 bits' worth of version 2, once as version 6 has them.
        for at in [16, 80] {
            let (start, end) = if self.is_part { (self.pfns.start, self.pfns.end) } else { (0, 0) };
            block.put64(sub + at, start);
            block.put64(sub + at + 8, end);
        }
        block.put64(sub + 96, self.max_mapnr);
        block.put(2 * sub, &self.extra);
        out.put(0, &block.0)
    }
}

fn put_utsname(block: &mut Record, names: &Utsname) {
    let fields = [
        &names.sysname,
        &names.nodename,
        &names.release,
        &names.version,
        &names.machine,
        &names.domainname,
    ];
    for (index, text) in fields.into_iter().enumerate() {
        let bytes = text.as_bytes();
        block.put(12 + 65 * index, &bytes[..bytes.len().min(64)]);
    }
}

/// Fields at offsets; what does not fit is left out.
struct Record(Vec<u8>);

impl Record {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(field) = self.0.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    fn put64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }
}

/// Writes descriptors and pages.
struct Pen {
    descriptors: Buffered,
    data: Buffered,
    /// Where the page of zeros lies.
    zero_page: u64,
    page: u64,
    flag: u32,
}

impl Pen {
    fn write(
        &mut self,
        done: &Done,
        summary: &mut Summary,
        progress: &Progress,
        out: &mut dyn Output,
    ) -> Result<(), WriteError> {
        let before = self.data.end();
        let mut rest = done.bytes.as_slice();
        for entry in &done.entries {
            let (offset, len, flags) = match *entry {
                Entry::Lost => {
                    summary.lost += 1;
                    (0, 0, 0)
                }
                Entry::Zero => {
                    summary.zero += 1;
                    (self.zero_page, self.page as u32, 0)
                }
                Entry::Stored { len, compressed } => {
                    let at = self.data.end();
                    let (bytes, others) = rest.split_at(rest.len().min(len as usize));
                    rest = others;
                    self.data.push(bytes, out)?;
                    (at, len, if compressed { self.flag } else { 0 })
                }
            };
            summary.written += u64::from(offset != 0);
            let mut descriptor = [0; DESCRIPTOR as usize];
            descriptor[..8].copy_from_slice(&offset.to_le_bytes());
            descriptor[8..12].copy_from_slice(&len.to_le_bytes());
            descriptor[12..16].copy_from_slice(&flags.to_le_bytes());
            self.descriptors.push(&descriptor, out)?;
        }
        let pages = done.entries.len() as u64;
        progress.add(pages * self.page, self.data.end() - before + pages * DESCRIPTOR)
    }
}
