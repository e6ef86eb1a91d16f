//! ELF cores, as `/proc/vmcore` and `makedumpfile -E` have them (elf(5)).
//!
//! ```text
//! ELF header | program headers | section header 0, if PN_XNUM | notes | memory, from a multiple
//!                                                                       of 4096 on
//! ```
//!
//! One `PT_NOTE`, then a `PT_LOAD` for each stored run of memory, `p_memsz` reaching over the RAM
//! behind it that is not in the dump; RAM with nothing stored before it has a segment with
//! `p_filesz` 0. From 65535 headers on `e_phnum` is `PN_XNUM`, and their number is in `sh_info` of
//! section header 0 (gABI). That one lies behind the program headers: makedumpfile looks for these
//! at 64, whatever `e_phoff` says. `e_flags` 1 is makedumpfile's mark of an incomplete dump. What
//! ELF can't say is in notes of our own ([`crate::origin`]).
//!
//! All is written in order, so the output may be a stream. The runs are walked three times: for
//! the number of segments, for their headers, for the memory.

mod segments;

use std::ops::Range;

use self::segments::{Segment, segments};
use super::batches::batches;
use super::output::{Buffered, Output};
use super::pipeline::Pipeline;
use super::{Contents, Header, Options, Progress, Summary, WriteError, notes};
use crate::error::ReadError;
use crate::info::Machine;

const EHDR: u64 = 64;
const PHDR: u64 = 56;
const SHDR: u64 = 64;
const PN_XNUM: u64 = 0xffff;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const EF_INCOMPLETE: u32 = 1;

/// Memory begins at a multiple of this.
const ALIGN: u64 = 4096;
/// What can't be read is told in pieces of this: the smallest page.
const PIECE: u64 = 4096;
/// Unreadable stretches beyond this end the work at once.
const MAX_UNREADABLE: usize = 1 << 16;

/// Writes a core.
pub fn write(
    contents: &dyn Contents,
    options: &Options,
    progress: &Progress,
    out: &mut dyn Output,
) -> Result<Summary, WriteError> {
    let header = contents.header();
    let page = header.page_size.max(1);
    let notes = all_notes(header);
    let mut count = 1;
    let (mut ram, mut stored) = (0, 0);
    for segment in segments(contents) {
        count += 1;
        ram += segment.end - segment.start;
        stored += segment.stored_end - segment.start;
    }
    let sections = if count >= PN_XNUM { SHDR } else { 0 };
    let notes_at = EHDR + PHDR * count + sections;
    let data_at = (notes_at + notes.len() as u64).next_multiple_of(ALIGN);

    let mut front = Buffered::at(0);
    front.push(&ehdr(header, count)?, out)?;
    let len = notes.len() as u64;
    let note =
        Phdr { kind: PT_NOTE, offset: notes_at, file_len: len, mem_len: len, ..Phdr::default() };
    front.push(&note.bytes(), out)?;
    let mut offset = data_at;
    for Segment { start, stored_end, end, vaddr } in segments(contents) {
        let file_len = stored_end - start;
        let load =
            Phdr { kind: PT_LOAD, offset, vaddr, paddr: start, file_len, mem_len: end - start };
        front.push(&load.bytes(), out)?;
        offset += file_len;
    }
    if sections > 0 {
        let mut section = [0; SHDR as usize];
        section[44..48].copy_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
        front.push(&section, out)?;
    }
    front.push(&notes, out)?;
    front.push(&vec![0; (data_at - front.end()) as usize], out)?;
    front.flush(out)?;

    write_runs(contents, options, progress, Some(data_at), out)?;
    out.finish(data_at + stored)?;
    let lost = super::Fate::Lost;
    let lost = contents.runs().filter(|(_, fate)| *fate == lost).map(|(run, _)| run);
    Ok(Summary {
        ram: ram.div_ceil(page),
        written: stored.div_ceil(page),
        lost: lost.map(|run| (run.end - run.start).div_ceil(page)).sum(),
        bytes: data_at + stored,
        ..Summary::default()
    })
}

/// The notes of the dump and our own.
fn all_notes(header: &Header) -> Vec<u8> {
    let mut bytes = notes::encode_foreign(&header.notes);
    if let Some(desc) = &header.vmcoreinfo {
        let name = "VMCOREINFO".to_owned();
        notes::push(&mut bytes, &crate::Note { name, kind: 0, desc: desc.clone() });
    }
    for note in header.origin.iter().flat_map(|origin| origin.to_notes()) {
        notes::push(&mut bytes, &note);
    }
    bytes
}

fn ehdr(header: &Header, count: u64) -> Result<[u8; EHDR as usize], WriteError> {
    let machine: u16 = match header.machine {
        Some(Machine::X86_64) => 62,
        Some(Machine::Aarch64) => 183,
        None => {
            let what = "the dump does not say of which machine it is, and ELF must";
            return Err(WriteError::Unfit(what.to_owned()));
        }
    };
    let mut bytes = [0; EHDR as usize];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &4u16.to_le_bytes());
    put(18, &machine.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(32, &EHDR.to_le_bytes());
    put(48, &(if header.dump.incomplete { EF_INCOMPLETE } else { 0 }).to_le_bytes());
    put(52, &(EHDR as u16).to_le_bytes());
    put(54, &(PHDR as u16).to_le_bytes());
    put(56, &(count.min(PN_XNUM) as u16).to_le_bytes());
    if count >= PN_XNUM {
        put(40, &(EHDR + PHDR * count).to_le_bytes());
        put(58, &(SHDR as u16).to_le_bytes());
        put(60, &1u16.to_le_bytes());
    }
    Ok(bytes)
}

#[derive(Default)]
struct Phdr {
    kind: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    file_len: u64,
    mem_len: u64,
}

impl Phdr {
    fn bytes(&self) -> [u8; PHDR as usize] {
        const FLAGS_RWX: u32 = 7;
        let mut bytes = [0; PHDR as usize];
        let flags = if self.kind == PT_LOAD { FLAGS_RWX } else { 0 };
        bytes[..4].copy_from_slice(&self.kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&flags.to_le_bytes());
        let fields = [self.offset, self.vaddr, self.paddr, self.file_len, self.mem_len, 0];
        for (field, to) in fields.iter().zip(bytes[8..].chunks_exact_mut(8)) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }
}

/// Memory that was read.
struct Done {
    runs: Vec<Range<u64>>,
    bytes: Vec<u8>,
    unreadable: Vec<ReadError>,
}

/// Stored runs of memory, and RAM that is not stored.
pub(super) fn stored_and_absent(
    contents: &dyn Contents,
) -> impl Iterator<Item = (Range<u64>, bool)> + '_ {
    segments(contents)
        .flat_map(|s| [(s.start..s.stored_end, true), (s.stored_end..s.end, false)])
        .filter(|(run, _)| run.start < run.end)
}

/// Writes stored runs one behind the other from an offset on, or each at its own address. Gives
/// the number of bytes.
pub(super) fn write_runs(
    contents: &dyn Contents,
    options: &Options,
    progress: &Progress,
    from: Option<u64>,
    out: &mut dyn Output,
) -> Result<u64, WriteError> {
    let stored = segments(contents).map(|segment| segment.start..segment.stored_end);
    let mut batches = batches(stored, options.batch as u64);
    let mut written = 0;
    let mut unreadable = Unreadable::default();
    std::thread::scope(|scope| -> Result<(), WriteError> {
        let mut pipeline = Pipeline::start(scope, options.threads, || {
            Box::new(|batch: Vec<Range<u64>>| read(contents, batch))
        });
        loop {
            let next = batches.next();
            let is_last = next.is_none();
            if let Some(batch) = next {
                pipeline.push(batch);
            }
            while is_last || pipeline.is_full() {
                let Some(done) = pipeline.pop() else { break };
                let len = done.bytes.len() as u64;
                match from {
                    Some(from) => out.put(from + written, &done.bytes)?,
                    None => put_apart(&done, out)?,
                }
                unreadable.add(done.unreadable)?;
                written += len;
                progress.add(len, len)?;
            }
            if is_last {
                return Ok(());
            }
        }
    })?;
    unreadable.into_result().map(|()| written)
}

/// Puts each run at its own address.
fn put_apart(done: &Done, out: &mut dyn Output) -> Result<(), WriteError> {
    let mut rest = done.bytes.as_slice();
    for run in &done.runs {
        let (here, others) = rest.split_at(rest.len().min((run.end - run.start) as usize));
        rest = others;
        out.put(run.start, here)?;
    }
    Ok(())
}

/// Reads runs of memory one after the other. What can't be read is zeros in the buffer: the dump
/// is given up for it in the end.
fn read(contents: &dyn Contents, batch: Vec<Range<u64>>) -> Done {
    let len: u64 = batch.iter().map(|run| run.end - run.start).sum();
    let mut bytes = vec![0; len as usize];
    let mut unreadable = Vec::new();
    let mut to = 0;
    for run in &batch {
        let mut at = run.start;
        while at < run.end {
            let len = (run.end - at) as usize;
            let Some(buf) = bytes.get_mut(to..to + len) else { break };
            let Err(error) = contents.read(at, buf) else {
                to += len;
                break;
            };
            // Whatever address it names, the next attempt begins behind this one.
            let bad = error.addr.clamp(at, run.end - 1);
            let next = (bad / PIECE + 1).saturating_mul(PIECE).min(run.end);
            let skip = (bad / PIECE * PIECE).max(at);
            bytes[to + (skip - at) as usize..to + (next - at) as usize].fill(0);
            unreadable.push(ReadError { addr: skip, reason: error.reason });
            to += (next - at) as usize;
            at = next;
        }
    }
    Done { runs: batch, bytes, unreadable }
}

/// What could not be read.
#[derive(Default)]
struct Unreadable {
    runs: Vec<Range<u64>>,
    first: Option<ReadError>,
}

impl Unreadable {
    fn add(&mut self, errors: Vec<ReadError>) -> Result<(), WriteError> {
        for error in errors {
            let piece = error.addr..(error.addr / PIECE + 1).saturating_mul(PIECE);
            match self.runs.last_mut() {
                Some(run) if run.end == piece.start => run.end = piece.end,
                _ => self.runs.push(piece),
            }
            self.first.get_or_insert(error);
        }
        if self.runs.len() > MAX_UNREADABLE { std::mem::take(self).into_result() } else { Ok(()) }
    }

    fn into_result(self) -> Result<(), WriteError> {
        match self.first {
            None => Ok(()),
            Some(first) => Err(WriteError::Unreadable { runs: self.runs, first }),
        }
    }
}
