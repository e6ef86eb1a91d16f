//! Dumps in all forms, out of anything that gives pages.
//!
//! 1. [`Contents`] is what is to be written: which memory, why the rest is absent, and what the
//!    headers say. [`ImageContents`] is that of a dump that was opened; who captures a live
//!    machine's memory brings its own, whose runs are the filter's decision per page.
//! 2. [`kdump`], [`elf`] and [`raw`] lay it out, one file per form, layout and source at the top.
//! 3. [`Output`] takes the bytes: a file, a stream that can't be sought ([`Stream`]), a
//!    [`Flattened`] stream of records for what must be written out of order, or an [`archive`].
//!
//! Memory is bounded whatever the size of the dump: runs are walked, not collected (some forms
//! walk them two or three times), and pages are read and compressed in batches by several
//! threads through a bounded queue that keeps their order ([`pipeline`]).
//!
//! What can't be read is never written as zeros. Where the form can say so it does; where it
//! can't the writer ends with [`WriteError::Unreadable`], which names all of it, so that the dump
//! can be written again without.

pub mod archive;
pub mod elf;
pub mod flattened;
pub mod kdump;
pub mod raw;

mod batches;
mod compress;
mod image_contents;
mod lzo;
mod notes;
mod output;
mod pipeline;

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::codec::Codec;
use crate::dump_header::DumpHeader;
use crate::elf_note::Note;
use crate::error::ReadError;
use crate::info::Machine;
use crate::origin::Origin;

pub use archive::{Archive, Base};
pub use flattened::Flattened;
pub use image_contents::{Check, ImageContents};
pub use output::{FileOutput, Output, Stream};

/// What of the memory is to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It can be read.
    Stored,
    /// It was to be there and is lost.
    Lost,
}

/// Runs of physical memory, ascending, no two overlap.
pub type Runs<'a> = Box<dyn Iterator<Item = Range<u64>> + 'a>;

/// What is to be written.
pub trait Contents: Sync {
    /// What the headers say.
    fn header(&self) -> &Header;

    /// RAM of the machine. What of it [`Contents::runs`] leaves out is filtered.
    fn ram(&self) -> Runs<'_>;

    /// What is to be in the dump. Asked for up to three times, each time with the same answer.
    fn runs(&self) -> Box<dyn Iterator<Item = (Range<u64>, Fate)> + '_>;

    /// Fills `buf` with the memory at `addr`, which [`Contents::runs`] gave as stored.
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), ReadError>;
}

/// What headers and notes of a dump say.
#[derive(Debug, Clone, Default)]
pub struct Header {
    /// Machine.
    pub machine: Option<Machine>,
    /// Size of the pages: a power of two from 4096 to 65536.
    pub page_size: u64,
    /// Fields of kdump-compressed's headers.
    pub dump: DumpHeader,
    /// Notes: registers, VMCOREINFO.
    pub notes: Vec<Note>,
    /// VMCOREINFO, where no note has it.
    pub vmcoreinfo: Option<Vec<u8>>,
    /// Runs of RAM and the virtual address each is mapped at, ascending. Elsewhere segments of ELF
    /// cores have their physical addresses, as QEMU's do.
    pub mapped: Vec<(Range<u64>, u64)>,
    /// What ELF can't say, for notes of our own.
    pub origin: Option<Origin>,
}

/// How to write.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads that read and compress; with 1 the one that calls does it all.
    pub threads: usize,
    /// Bytes of memory that go to a thread at once. Up to twice as many batches as there are
    /// threads are on their way.
    pub batch: usize,
}

impl Default for Options {
    fn default() -> Options {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Options { threads, batch: 256 << 10 }
    }
}

/// How each page is compressed: codec and level; `None`: not at all.
pub type Compression = Option<(Codec, Option<i32>)>;

/// The way of the work, for who watches it from another thread, and the way to end it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of memory written.
    pub done: AtomicU64,
    /// Bytes that went to the output.
    pub out: AtomicU64,
    /// Set to end the work with [`WriteError::Interrupted`].
    pub stop: AtomicBool,
}

impl Progress {
    fn add(&self, memory: u64, out: u64) -> Result<(), WriteError> {
        self.done.fetch_add(memory, Ordering::Relaxed);
        self.out.fetch_add(out, Ordering::Relaxed);
        if self.stop.load(Ordering::Relaxed) { Err(WriteError::Interrupted) } else { Ok(()) }
    }
}

/// What was written, in pages of the dump.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Pages of RAM.
    pub ram: u64,
    /// Pages written, those of zeros among them.
    pub written: u64,
    /// Pages of zeros, as far as the form looks for them.
    pub zero: u64,
    /// Pages that were lost or damaged before.
    pub lost: u64,
    /// Parts of pages, which the form can't hold.
    pub partial: u64,
    /// Bytes of the output.
    pub bytes: u64,
}

impl Summary {
    /// Pages of RAM that a filter left out.
    pub fn filtered(&self) -> u64 {
        self.ram.saturating_sub(self.written).saturating_sub(self.lost)
    }
}

/// Why a dump could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The output does not take it.
    #[error("{0}")]
    Output(#[from] io::Error),
    /// A codec refuses.
    #[error("{codec}: {what}")]
    Codec {
        /// Which.
        codec: Codec,
        /// What it said.
        what: String,
    },
    /// Memory that was to be written can't be read, and the form can't say so afterwards.
    #[error("{} stretches of memory can't be read, the first at {:#x}: {}", .runs.len(), .first.addr, .first.reason)]
    Unreadable {
        /// All of it.
        runs: Vec<Range<u64>>,
        /// The first, with its reason.
        first: ReadError,
    },
    /// The form can't hold this.
    #[error("{0}")]
    Unfit(String),
    /// It was told to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Pages that ranges of bytes touch, and whole pages in them.
fn touched(run: &Range<u64>, page: u64) -> Range<u64> {
    run.start / page..run.end.div_ceil(page)
}

/// Page frames of runs, each once, ascending: two runs may share a page.
fn page_runs<'a>(
    runs: impl Iterator<Item = Range<u64>> + 'a,
    page: u64,
) -> impl Iterator<Item = Range<u64>> + 'a {
    let mut runs = runs.map(move |run| touched(&run, page)).peekable();
    std::iter::from_fn(move || {
        let mut run = runs.next()?;
        while let Some(next) = runs.next_if(|next| next.start <= run.end) {
            run.end = run.end.max(next.end);
        }
        Some(run)
    })
}
