//! Flattened streams: a dump that was written to a pipe, put back in order.
//!
//! Layout (makedumpfile.h: `struct makedumpfile_header`, `makedumpfile_data_header`; the same in
//! QEMU, include/sysemu/dump.h). All numbers are signed 64-bit, big-endian:
//!
//! ```text
//!     0  "makedumpfile" padded with NUL to 16 bytes
//!    16  type = 1
//!    24  version = 1
//!  4096  records: { offset, size } and size bytes of data, which belong at offset
//!        { -1, -1 } ends the stream
//! ```
//!
//! Records come in the order of writing: makedumpfile writes its header again at the end, so a
//! later record lies over an earlier one. What no record covers reads as zeros, as it does in the
//! sparse file that `makedumpfile -R` makes. QEMU's records hold 16 KiB of pages, so a large stream
//! has millions; the index takes 24 bytes for each.

use std::borrow::Cow;
use std::sync::Arc;

use super::Input;
use crate::error::OpenError;
use crate::source::{Fields, Source, SourceError, in_range};

const SIGNATURE: &[u8; 16] = b"makedumpfile\0\0\0\0";
const HEADER: u64 = 4096;
const RECORD: usize = 16;

/// Records beyond this are not taken: 1 TiB of pages as QEMU writes them.
const MAX_RECORDS: usize = 64 << 20;

/// Where a piece of the rearranged dump lies in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    /// In the rearranged dump.
    target: u64,
    len: u64,
    /// In the stream.
    at: u64,
}

impl Segment {
    fn end(&self) -> u64 {
        self.target + self.len
    }
}

/// A flattened stream as the dump it stands for.
pub(super) struct Flattened {
    stream: Arc<dyn Source>,
    /// Sorted by target, no two overlap.
    segments: Vec<Segment>,
    len: u64,
    cut_off: Option<String>,
}

pub(super) fn probe(head: &[u8]) -> bool {
    head.starts_with(SIGNATURE)
}

/// Reads the headers of all records.
pub(super) fn open(input: &Input) -> Result<Flattened, OpenError> {
    let corrupt = |what: &str| OpenError::Corrupt { name: input.name.clone(), what: what.into() };
    let stream = &input.source;
    let header = stream.bytes(0, 32).map_err(|_| OpenError::Truncated {
        name: input.name.clone(),
        what: "it ends in the header of a flattened stream".into(),
    })?;
    let fields = Fields(&header);
    if fields.be64(16) != Some(1) || fields.be64(24) != Some(1) {
        return Err(corrupt("a flattened stream of a type or version that is not known"));
    }
    let (records, cut_off) = read_records(stream.as_ref()).map_err(|what| corrupt(&what))?;
    if records.is_empty() {
        return Err(OpenError::Truncated {
            name: input.name.clone(),
            what: "a flattened stream without any data".into(),
        });
    }
    let segments = lay_out(records);
    let len = segments.last().map_or(0, Segment::end);
    Ok(Flattened { stream: Arc::clone(stream), segments, len, cut_off })
}

/// Records in the order of the stream, and how the stream was cut off, if it was.
fn read_records(stream: &dyn Source) -> Result<(Vec<Segment>, Option<String>), String> {
    let mut records = Vec::new();
    let mut at = HEADER;
    let cut = |what: &str| Some(format!("flattened stream cut off: {what}"));
    loop {
        let mut header = [0; RECORD];
        if stream.copy_to(at, &mut header).is_err() {
            return Ok((records, cut("it has no end mark")));
        }
        let fields = Fields(&header);
        let (Some(target), Some(len)) = (fields.be64(0), fields.be64(8)) else {
            return Ok((records, cut("it has no end mark")));
        };
        if target == u64::MAX && len == u64::MAX {
            return Ok((records, None));
        }
        // Both are signed, and negative ones other than the end mark have no meaning.
        let end = target.checked_add(len).filter(|end| i64::try_from(*end).is_ok());
        if end.is_none() || i64::try_from(target).is_err() || i64::try_from(len).is_err() {
            let what = format!("a record at offset {at:#x} of the stream makes no sense");
            return Ok((records, cut(&what)));
        }
        if records.len() == MAX_RECORDS {
            return Err("a flattened stream with more records than can be indexed".to_owned());
        }
        let data = at + RECORD as u64;
        let there = len.min(stream.len().saturating_sub(data));
        if there > 0 {
            records.push(Segment { target, len: there, at: data });
        }
        if there < len {
            return Ok((records, cut("it ends within a record")));
        }
        at = data + len;
    }
}

/// Sorts the records by target and resolves overlaps in favour of the later one.
fn lay_out(mut records: Vec<Segment>) -> Vec<Segment> {
    // The offset in the stream tells which of two is the later one.
    records.sort_unstable_by_key(|record| (record.target, record.at));
    let mut segments: Vec<Segment> = Vec::with_capacity(records.len());
    let mut from = 0;
    while from < records.len() {
        // A cluster: records that overlap one another, directly or through others.
        let mut to = from + 1;
        let mut end = records[from].end();
        while to < records.len() && records[to].target < end {
            end = end.max(records[to].end());
            to += 1;
        }
        match &mut records[from..to] {
            [single] => segments.push(*single),
            cluster => resolve(cluster, &mut segments),
        }
        from = to;
    }
    segments
}

/// Lays the records of a cluster over one another with a sweep over their boundaries: each piece
/// between two boundaries belongs to the latest record that covers it.
fn resolve(cluster: &mut [Segment], out: &mut Vec<Segment>) {
    let mut bounds: Vec<u64> =
        cluster.iter().flat_map(|record| [record.target, record.end()]).collect();
    bounds.sort_unstable();
    bounds.dedup();
    // Records that have begun, the latest on top; those that have ended are dropped when on top.
    let mut open = std::collections::BinaryHeap::new();
    let mut next = 0;
    let first = out.len();
    for piece in bounds.windows(2) {
        let (start, end) = (piece[0], piece[1]);
        while let Some(record) = cluster.get(next).filter(|record| record.target <= start) {
            open.push((record.at, record.target, record.len));
            next += 1;
        }
        while open.peek().is_some_and(|&(_, target, len)| target + len <= start) {
            open.pop();
        }
        let Some(&(at, target, _)) = open.peek() else { continue };
        let segment = Segment { target: start, len: end - start, at: at + (start - target) };
        match out[first..].last_mut() {
            Some(last) if last.end() == start && last.at + last.len == segment.at => {
                last.len += segment.len;
            }
            _ => out.push(segment),
        }
    }
}

impl Flattened {
    /// How the stream was cut off, if it was.
    pub(super) fn cut_off(&self) -> Option<String> {
        self.cut_off.clone()
    }

    /// Index of the first segment that ends after `offset`.
    fn first_after(&self, offset: u64) -> usize {
        self.segments.partition_point(|segment| segment.end() <= offset)
    }
}

impl Source for Flattened {
    fn len(&self) -> u64 {
        self.len
    }

    fn copy_to(&self, offset: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        if !in_range(offset, buf.len(), self.len) {
            return Err(SourceError::OutOfRange { offset, len: buf.len(), size: self.len });
        }
        buf.fill(0);
        let end = offset + buf.len() as u64;
        let segments = &self.segments[self.first_after(offset)..];
        for segment in segments.iter().take_while(|segment| segment.target < end) {
            let (from, to) = (segment.target.max(offset), segment.end().min(end));
            let piece = &mut buf[(from - offset) as usize..(to - offset) as usize];
            self.stream.copy_to(segment.at + (from - segment.target), piece)?;
        }
        Ok(())
    }

    fn bytes(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>, SourceError> {
        if !in_range(offset, len, self.len) {
            return Err(SourceError::OutOfRange { offset, len, size: self.len });
        }
        let first = self.first_after(offset);
        let end = offset + len as u64;
        if let Some(segment) = self.segments.get(first)
            && segment.target <= offset
            && end <= segment.end()
        {
            return self.stream.bytes(segment.at + (offset - segment.target), len);
        }
        let mut assembled = vec![0; len];
        self.copy_to(offset, &mut assembled)?;
        Ok(Cow::Owned(assembled))
    }

    fn held(&self) -> u64 {
        self.stream.held()
    }

    fn next_written(&self, offset: u64) -> u64 {
        let next = self.segments.get(self.first_after(offset));
        next.map_or(self.len, |segment| segment.target.max(offset))
    }

    fn is_written(&self, offset: u64, len: usize) -> bool {
        if !in_range(offset, len, self.len) {
            return false;
        }
        let end = offset + len as u64;
        let mut covered = offset;
        for segment in &self.segments[self.first_after(offset)..] {
            if covered >= end || segment.target > covered {
                break;
            }
            covered = segment.end();
        }
        covered >= end
    }
}
