//! Batches of pages: what a thread reads and compresses at once.

use std::ops::Range;

use crate::writer::compress::{PageCompressor, is_zero};
use crate::writer::{Compression, Contents, WriteError};

/// What became of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// All bytes are zero.
    Zero,
    /// It can't be read.
    Lost,
    /// As many bytes, one page's after the other's.
    Stored { len: u32, compressed: bool },
}

/// A batch, done.
pub(super) struct Done {
    pub(super) entries: Vec<Entry>,
    pub(super) bytes: Vec<u8>,
}

/// One thread's work.
pub(super) struct PageWorker<'a> {
    contents: &'a dyn Contents,
    compression: Compression,
    compressor: Option<PageCompressor>,
    page: u64,
    buf: Vec<u8>,
}

impl<'a> PageWorker<'a> {
    pub(super) fn new(
        contents: &'a dyn Contents,
        compression: Compression,
        page: u64,
    ) -> PageWorker<'a> {
        PageWorker { contents, compression, compressor: None, page, buf: Vec::new() }
    }

    pub(super) fn work(&mut self, batch: Vec<Range<u64>>) -> Result<Done, WriteError> {
        let pages: u64 = batch.iter().map(|run| run.end - run.start).sum();
        let mut done = Done { entries: Vec::with_capacity(pages as usize), bytes: Vec::new() };
        done.bytes.reserve((pages * self.page / 2) as usize);
        if self.compressor.is_none() {
            self.compressor = Some(PageCompressor::new(self.compression)?);
        }
        for run in batch {
            self.run(run, &mut done);
        }
        Ok(done)
    }

    fn run(&mut self, run: Range<u64>, done: &mut Done) {
        let mut at = run.start;
        while at < run.end {
            let len = (run.end - at) * self.page;
            self.buf.resize(len as usize, 0);
            // Where a page can't be read, those before it are in the buffer.
            let (good, lost) = match self.contents.read(at * self.page, &mut self.buf) {
                Ok(()) => (run.end, false),
                Err(error) => ((error.addr / self.page).clamp(at, run.end - 1), true),
            };
            let read = ((good - at) * self.page) as usize;
            for page in self.buf.get(..read).unwrap_or_default().chunks_exact(self.page as usize) {
                done.entries.push(entry(page, &mut self.compressor, &mut done.bytes));
            }
            at = good;
            if lost {
                done.entries.push(Entry::Lost);
                at += 1;
            }
        }
    }
}

fn entry(page: &[u8], compressor: &mut Option<PageCompressor>, bytes: &mut Vec<u8>) -> Entry {
    if is_zero(page) {
        return Entry::Zero;
    }
    let start = bytes.len();
    let compressed = compressor.as_mut().is_some_and(|codec| codec.compress(page, bytes));
    if !compressed {
        bytes.extend_from_slice(page);
    }
    Entry::Stored { len: (bytes.len() - start) as u32, compressed }
}
