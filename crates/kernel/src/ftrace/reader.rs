//! The events of a trace buffer in the order of their times, a page of each
//! CPU in memory at a time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::ring_buffer::{RawEvent, TracePage, parse_page};
use super::{TraceBuffer, TraceCpu};
use crate::Kernel;
use crate::gaps::Gaps;

/// An event with the CPU that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuEvent {
    /// The CPU.
    pub cpu: u32,
    /// The event.
    pub event: RawEvent,
}

/// Events of several CPUs, oldest first.
pub struct TraceReader<'k> {
    kernel: &'k Kernel,
    buffer: &'k TraceBuffer,
    streams: Vec<Stream>,
    /// (time, stream) of the next event of each stream.
    next: BinaryHeap<Reverse<(u64, usize)>>,
    gaps: Gaps,
}

/// What is left of a CPU's events.
struct Stream {
    cpu: u32,
    pages: VecDeque<TracePage>,
    events: VecDeque<RawEvent>,
}

impl Kernel {
    /// The events of `cpus` of `buffer`, oldest first.
    pub fn trace_events<'k>(
        &'k self,
        buffer: &'k TraceBuffer,
        cpus: &[&TraceCpu],
    ) -> TraceReader<'k> {
        let mut gaps = Gaps::default();
        let mut streams = Vec::new();
        for cpu in cpus {
            if let Some(pages) = gaps.keep("a CPU's trace", self.trace_pages(cpu)) {
                streams.push(Stream { cpu: cpu.cpu, pages: pages.into(), events: VecDeque::new() });
            }
        }
        let next = BinaryHeap::new();
        let mut reader = TraceReader { kernel: self, buffer, streams, next, gaps };
        for stream in 0..reader.streams.len() {
            reader.fill(stream);
        }
        reader
    }
}

impl TraceReader<'_> {
    /// What could not be read so far.
    pub fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// Notes when the next event of a stream was, reading on where needed.
    fn fill(&mut self, at: usize) {
        let Some(stream) = self.streams.get_mut(at) else { return };
        while stream.events.is_empty() {
            let Some(page) = stream.pages.pop_front() else { return };
            let bytes = self.kernel.trace_page(self.buffer, &page);
            if let Some(bytes) = self.gaps.keep("a page of the trace", bytes) {
                stream.events = parse_page(&bytes, page.read).into();
            }
        }
        if let Some(event) = stream.events.front() {
            self.next.push(Reverse((event.time, at)));
        }
    }
}

impl Iterator for TraceReader<'_> {
    type Item = CpuEvent;

    fn next(&mut self) -> Option<CpuEvent> {
        let Reverse((_, at)) = self.next.pop()?;
        let stream = self.streams.get_mut(at)?;
        let event = stream.events.pop_front()?;
        let cpu = stream.cpu;
        self.fill(at);
        Some(CpuEvent { cpu, event })
    }
}
