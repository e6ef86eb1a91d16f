//! ftrace: what the kernel was tracing when it died.
//!
//! `ftrace_trace_arrays` (kernel/trace/trace.c) is the ring of `struct
//! trace_array`: the global one (without a name) and the instances. Each has a
//! buffer with a ring of pages for each CPU, see [`ring_buffer`]; what its
//! events mean, see [`format`](mod@format).

pub mod format;
mod reader;
pub mod ring_buffer;

pub use format::{EventFormat, Field, FieldValue};
pub use reader::{CpuEvent, TraceReader};
pub use ring_buffer::{RawEvent, TracePage};

use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::{CString, Embedded};
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct trace_array`, kernel/trace/trace.h
    pub struct TraceArrayLayout for "trace_array" {
        list: Embedded = "list",
        name: u64 = "name",
        buffer: u64 = "array_buffer.buffer" | "trace_buffer.buffer",   // renamed in v5.6
        tracer: u64 = "current_trace",
    }
}

layout! {
    /// `struct tracer`, kernel/trace/trace.h
    pub struct TracerLayout for "tracer" {
        name: CString = "name",
    }
}

layout! {
    /// `struct trace_buffer`, kernel/trace/ring_buffer.c
    pub struct TraceBufferLayout for "trace_buffer" {
        record_disabled: i32 = "record_disabled.counter",
        buffers: u64 = "buffers",
        order: u32 = "subbuf_order",     // pages could be larger from v6.8 on
    }
}

layout! {
    /// `struct ring_buffer_per_cpu`, kernel/trace/ring_buffer.c
    pub struct RingBufferCpuLayout for "ring_buffer_per_cpu" {
        record_disabled: i32 = "record_disabled.counter",
        nr_pages: u64 = "nr_pages",
        pages: u64 = "pages",
        commit_page: u64 = "commit_page",
        reader_page: u64 = "reader_page",
        entries_bytes: u64 = "entries_bytes",
        entries: u64 = "entries",
        overrun: u64 = "overrun",
        commit_overrun: u64 = "commit_overrun",
        dropped: u64 = "dropped_events",
        read: u64 = "read",
    }
}

layout! {
    /// `struct saved_cmdlines_buffer`, kernel/trace/trace_sched_switch.c
    pub struct SavedCmdlinesLayout for "saved_cmdlines_buffer" {
        pids: u64 = "map_cmdline_to_pid",
        count: u32 = "cmdline_num",
        names: Embedded = "saved_cmdlines",
    }
}

/// `TASK_COMM_LEN`, the step of the saved names.
const COMM: usize = 16;
/// saved_cmdlines_size is bounded by the number of PIDs.
const MOST_NAMES: u32 = 1 << 22;
/// Instances.
const MOST_BUFFERS: usize = 1 << 12;

/// The buffer of an instance of ftrace.
#[derive(Debug, Clone, Serialize)]
pub struct TraceBuffer {
    /// Address of its `struct trace_array`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Address of its `struct trace_buffer`.
    #[serde(serialize_with = "hex")]
    pub buffer: u64,
    /// Name of the instance; none: the global buffer.
    pub name: Option<String>,
    /// Its tracer ("nop", "function").
    pub tracer: Option<String>,
    /// Whether it takes events.
    pub recording: bool,
    /// Bytes of one of its pages.
    pub page_bytes: u64,
    /// Its part for each CPU.
    pub cpus: Vec<TraceCpu>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// A CPU's part of a buffer.
#[derive(Debug, Clone, Serialize)]
pub struct TraceCpu {
    /// The CPU.
    pub cpu: u32,
    /// Address of its `struct ring_buffer_per_cpu`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Pages of its ring.
    pub pages: u64,
    /// Events in it.
    pub entries: u64,
    /// Bytes of events in it.
    pub bytes: u64,
    /// Events that newer ones took the place of.
    pub overrun: u64,
    /// Events lost to nested interrupts that wrote a whole ring.
    pub commit_overrun: u64,
    /// Events lost because the ring was full and may not be overwritten.
    pub dropped: u64,
    /// Events that were read.
    pub read: u64,
}

impl TraceBuffer {
    /// Events in it.
    pub fn entries(&self) -> u64 {
        self.cpus.iter().fold(0, |sum, cpu| sum.saturating_add(cpu.entries))
    }

    /// Events that were ever written to it.
    pub fn written(&self) -> u64 {
        let lost = self
            .cpus
            .iter()
            .fold(0, |sum: u64, cpu| sum.saturating_add(cpu.overrun).saturating_add(cpu.read));
        self.entries().saturating_add(lost)
    }
}

impl Kernel {
    /// The trace buffers: the global one, then the instances.
    pub fn trace_buffers(&self) -> Result<(Vec<TraceBuffer>, Gaps)> {
        let head = self.symbol("ftrace_trace_arrays").map_err(|_| {
            Error::Unavailable("this kernel was built without tracing (CONFIG_TRACING)".into())
        })?;
        let layout = self.layout::<TraceArrayLayout>()?;
        let mut gaps = Gaps::default();
        let mut list = Vec::new();
        for array in self.list(head, layout.list.offset()?, "the trace arrays").take(MOST_BUFFERS) {
            let buffer = array.and_then(|array| self.trace_buffer(&layout, array));
            list.extend(gaps.keep("a trace array", buffer));
        }
        list.sort_by(|a: &TraceBuffer, b| a.name.cmp(&b.name));
        Ok((list, gaps))
    }

    fn trace_buffer(&self, layout: &TraceArrayLayout, addr: u64) -> Result<TraceBuffer> {
        let buffer_layout = self.layout::<TraceBufferLayout>()?;
        let mut gaps = Gaps::default();
        let name = match layout.name.read(self, addr)? {
            0 => None,
            name => Some(self.read_cstring(name, 256)?),
        };
        let tracer = layout.tracer.read(self, addr).and_then(|tracer| match tracer {
            0 => Err(Error::Null("the current tracer".into())),
            tracer => self.layout::<TracerLayout>()?.name.read(self, tracer),
        });
        let buffer = layout.buffer.read(self, addr)?;
        if buffer == 0 {
            return Err(Error::Null("the buffer of a trace array".into()));
        }
        let order = buffer_layout.order.read_if_exists(self, buffer)?.unwrap_or(0);
        if order > ring_buffer::LARGEST_ORDER {
            return Err(Error::corrupt(format!("a trace buffer of order {order}"), buffer));
        }
        let array = buffer_layout.buffers.read(self, buffer)?;
        let mut cpus = Vec::new();
        for cpu in self.possible_cpus()? {
            let at = self.read_u64(array.wrapping_add(u64::from(cpu) * 8));
            let part = at.and_then(|at| match at {
                // It gets one when it comes online for the first time.
                0 => Ok(None),
                at => self.trace_cpu(cpu, at).map(Some),
            });
            cpus.extend(gaps.keep("a CPU's buffer", part).flatten());
        }
        Ok(TraceBuffer {
            addr,
            buffer,
            name,
            tracer: gaps.keep("tracer", tracer),
            recording: buffer_layout.record_disabled.read(self, buffer)? == 0,
            page_bytes: self.page_size() << order,
            cpus,
            gaps,
        })
    }

    fn trace_cpu(&self, cpu: u32, addr: u64) -> Result<TraceCpu> {
        let layout = self.layout::<RingBufferCpuLayout>()?;
        let (entries, overrun) =
            (layout.entries.read(self, addr)?, layout.overrun.read(self, addr)?);
        let read = layout.read.read(self, addr)?;
        Ok(TraceCpu {
            cpu,
            addr,
            pages: layout.nr_pages.read(self, addr)?,
            // `entries` counts what was ever written (rb_num_of_entries).
            entries: entries.saturating_sub(overrun).saturating_sub(read),
            bytes: layout.entries_bytes.read(self, addr)?,
            overrun,
            commit_overrun: layout.commit_overrun.read(self, addr)?,
            dropped: layout.dropped.read(self, addr)?,
            read,
        })
    }

    /// Names of tasks as ftrace kept them, by thread ID, with those of the
    /// tasks that are still there.
    pub fn trace_names(&self) -> Result<FxHashMap<i32, String>> {
        let mut names: FxHashMap<i32, String> = FxHashMap::default();
        if let Ok(tasks) = self.tasks() {
            names.extend(tasks.list.iter().map(|task| (task.pid, task.comm.clone())));
        }
        let layout = self.layout::<SavedCmdlinesLayout>()?;
        let saved = match self.read_u64(self.symbol("savedcmd")?)? {
            0 => return Ok(names),
            saved => saved,
        };
        let count = layout.count.read(self, saved)?;
        if count > MOST_NAMES {
            return Err(Error::corrupt(format!("{count} saved names"), saved));
        }
        let place = layout.names.place()?;
        let at = saved.wrapping_add(place.offset);
        // A pointer once, an array behind the struct since v5.10.
        let at = if place.size == 8 { self.read_u64(at)? } else { at };
        let pids = self.read_bytes(layout.pids.read(self, saved)?, u64::from(count) * 4)?;
        let text = self.read_bytes(at, u64::from(count) * COMM as u64)?;
        let pids = pids.as_chunks::<4>().0.iter().map(|pid| i32::from_le_bytes(*pid));
        for (pid, comm) in pids.zip(text.chunks(COMM)) {
            let comm = comm.split(|byte| *byte == 0).next().unwrap_or_default();
            // An unused place has the PID -1.
            if pid > 0 && !comm.is_empty() {
                names.insert(pid, String::from_utf8_lossy(comm).into_owned());
            }
        }
        names.insert(0, "<idle>".to_owned());
        Ok(names)
    }
}
