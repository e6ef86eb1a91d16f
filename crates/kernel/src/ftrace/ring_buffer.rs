//! The ring of pages that events are written to, kernel/trace/ring_buffer.c.
//!
//! A `struct buffer_page` leads to a `struct buffer_data_page`: time stamp of
//! its first event (8 bytes), committed bytes (8, the low 20 bits count), then
//! events. The pages form a ring; the low bits of the `next` pointer that leads
//! to the oldest one are set (`RB_PAGE_HEAD`), for readers and writers to find
//! it. One page, the reader's, is outside of the ring; what is left to read in
//! it is older than all the ring's.
//!
//! An event begins with 4 bytes: 5 bits of type or length, 27 of time since the
//! event before it (`struct ring_buffer_event`, include/linux/ring_buffer.h):
//! - 1 to 28: so many words of data follow;
//! - 0: a word with the length in bytes, itself included, then data;
//! - 29: padding; without a time it fills the page, else a word with its length;
//! - 30: the time goes on by the 27 bits and a word above them;
//! - 31: the same as an absolute time; the upper 5 bits are the page's.

use super::{RingBufferCpuLayout, TraceBuffer, TraceCpu};
use crate::error::{Error, Result};
use crate::layout::Embedded;
use crate::{Kernel, layout};

layout! {
    /// `struct buffer_page`, kernel/trace/ring_buffer.c
    pub struct BufferPageLayout for "buffer_page" {
        list: Embedded = "list",
        read: u32 = "read",
        page: u64 = "page",
    }
}

/// Bytes of a page in front of its events.
pub const HEADER: usize = 16;
/// A page of events is at most 64 KiB << 4.
pub(super) const LARGEST_ORDER: u32 = 8;
/// Bits of `commit` that count; those above mark lost events.
const COMMITTED: u64 = 0xf_ffff;
/// Low bits of a `next` pointer: `RB_PAGE_HEAD` and `RB_PAGE_UPDATE`.
const FLAGS: u64 = 3;
/// Pages of one CPU: 4 GiB.
const MOST_PAGES: u64 = 1 << 20;

const PADDING: u32 = 29;
const TIME_EXTEND: u32 = 30;
const TIME_STAMP: u32 = 31;
/// Bits that a time stamp keeps of the page's.
const UPPER_TIME: u64 = 0xf800_0000_0000_0000;

/// A page of events, oldest first in its list.
#[derive(Debug, Clone, Copy)]
pub struct TracePage {
    /// Address of its `struct buffer_data_page`.
    pub addr: u64,
    /// Bytes of events that were read already.
    pub read: u32,
}

/// An event in a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEvent {
    /// When, on the buffer's clock (ns as a rule).
    pub time: u64,
    /// What it has: it begins with `struct trace_entry`.
    pub data: Vec<u8>,
}

impl Kernel {
    /// The pages of a CPU's part of `buffer` that have events, oldest first.
    pub fn trace_pages(&self, cpu: &TraceCpu) -> Result<Vec<TracePage>> {
        let layout = self.layout::<RingBufferCpuLayout>()?;
        let page_layout = self.layout::<BufferPageLayout>()?;
        if cpu.pages > MOST_PAGES {
            return Err(Error::corrupt(format!("a ring of {} pages", cpu.pages), cpu.addr));
        }
        let reader = layout.reader_page.read(self, cpu.addr)?;
        let commit = layout.commit_page.read(self, cpu.addr)?;
        let page = |at: u64| {
            let (addr, read) = (page_layout.page.read(self, at)?, page_layout.read.read(self, at)?);
            Ok(TracePage { addr, read })
        };
        let mut pages = Vec::new();
        if reader != 0 {
            pages.push(page(reader)?);
        }
        if reader == commit {
            return Ok(pages);
        }
        let list = page_layout.list.offset()?;
        let head = self.oldest_page(layout.pages.read(self, cpu.addr)?, cpu.pages)?;
        let mut node = head;
        for _ in 0..=cpu.pages {
            let at = node.wrapping_sub(list);
            pages.push(page(at)?);
            if at == commit {
                return Ok(pages);
            }
            node = self.read_u64(node)? & !FLAGS;
        }
        Err(Error::Loop { what: "a ring of trace pages".into(), addr: head })
    }

    /// Node of the oldest page in the ring that `first` is in.
    fn oldest_page(&self, first: u64, pages: u64) -> Result<u64> {
        let first = first & !FLAGS;
        let mut node = first;
        for _ in 0..=pages {
            let next = self.read_u64(node)?;
            if next & FLAGS != 0 {
                return Ok(next & !FLAGS);
            }
            node = next;
            if node == first {
                break;
            }
        }
        Err(Error::corrupt("a ring of trace pages without a head", first))
    }

    /// The bytes of `page`, as the kernel has them.
    pub fn trace_page(&self, buffer: &TraceBuffer, page: &TracePage) -> Result<Vec<u8>> {
        self.read_bytes(page.addr, buffer.page_bytes)
    }
}

/// The events of a page that were not read yet. What does not fit into the
/// page ends it.
pub fn parse_page(bytes: &[u8], read: u32) -> Vec<RawEvent> {
    let mut events = Vec::new();
    let (Some(stamp), Some(commit)) = (word64(bytes, 0), word64(bytes, 8)) else {
        return events;
    };
    let committed = usize::try_from(commit & COMMITTED).unwrap_or(0);
    let Some(body) = bytes.get(HEADER..) else { return events };
    let body = body.get(..committed).unwrap_or(body);
    let mut time = stamp;
    let mut at = 0;
    while let Some(head) = word(body, at) {
        let (kind, delta) = (head & 31, u64::from(head >> 5));
        let extra = word(body, at + 4);
        let (start, length) = match (kind, extra) {
            (PADDING, _) if delta == 0 => break,
            (PADDING, Some(length)) => {
                time = time.wrapping_add(delta);
                at += 4 + length as usize;
                continue;
            }
            (TIME_EXTEND, Some(upper)) => {
                time = time.wrapping_add(delta).wrapping_add(u64::from(upper) << 27);
                at += 8;
                continue;
            }
            (TIME_STAMP, Some(upper)) => {
                time = delta | u64::from(upper) << 27 | stamp & UPPER_TIME;
                at += 8;
                continue;
            }
            (0, Some(length)) if length >= 4 => (at + 8, length as usize - 4),
            (1..PADDING, _) => (at + 4, kind as usize * 4),
            _ => break,
        };
        time = time.wrapping_add(delta);
        let Some(data) = start.checked_add(length).and_then(|end| body.get(start..end)) else {
            break;
        };
        if at >= read as usize {
            events.push(RawEvent { time, data: data.to_vec() });
        }
        at = start + length.next_multiple_of(4);
    }
    events
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(words: &[u32]) -> Vec<u8> {
        let mut bytes = 1000u64.to_le_bytes().to_vec();
        bytes.extend((words.len() as u64 * 4).to_le_bytes());
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes.resize(4096, 0xee);
        bytes
    }

    fn head(kind: u32, delta: u32) -> u32 {
        kind | delta << 5
    }

    #[test]
    fn times_add_up_and_padding_is_left_out() {
        let words = [
            head(2, 5),
            7,
            8, // at 1005, 8 bytes
            head(TIME_EXTEND, 1),
            1, // + 1 + (1 << 27)
            head(PADDING, 3),
            8,
            0, // discarded, takes 3
            head(0, 10),
            8,
            9, // length in a word of its own
            head(PADDING, 0),
        ];
        let events = parse_page(&page(&words), 0);
        let times: Vec<u64> = events.iter().map(|event| event.time).collect();
        assert_eq!(times, [1005, 1005 + 1 + (1 << 27) + 3 + 10]);
        assert_eq!(events[0].data, [7, 0, 0, 0, 8, 0, 0, 0]);
        assert_eq!(events[1].data, [9, 0, 0, 0]);
        // What a reader had is left out, its time counts.
        assert_eq!(parse_page(&page(&words), 12).len(), 1);
    }

    #[test]
    fn what_reaches_over_the_end_ends_the_page() {
        assert_eq!(parse_page(&page(&[head(28, 1), 1]), 0), []);
        assert_eq!(parse_page(&page(&[head(0, 1), 2]), 0), []);
        assert_eq!(parse_page(&[1, 2, 3], 0), []);
        let stamp = parse_page(&page(&[head(TIME_STAMP, 4), 1, head(1, 1), 6]), 0);
        assert_eq!(stamp[0].time, 4 + (1 << 27) + 1);
    }
}
