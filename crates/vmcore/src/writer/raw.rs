//! Raw memory: the byte at physical address n is byte n of the file.
//!
//! There is no header and no place to say that memory is absent: a reader finds zeros there. So a
//! map of what is which belongs beside the file, and [`map`] gives it.

use std::ops::Range;

use super::output::Output;
use super::{Contents, Fate, Options, Progress, Summary, WriteError, elf};
use crate::machine_frames::MachineFrames;

/// Writes the memory, at its addresses.
pub fn write(
    contents: &dyn Contents,
    options: &Options,
    progress: &Progress,
    out: &mut dyn Output,
) -> Result<Summary, WriteError> {
    if contents.header().notes.iter().any(MachineFrames::is_in) {
        let what = "a paravirtual guest's memory can't be raw: its page tables hold frames of the \
                    machine, and a raw file has no place to say which of its pages they are; elf, \
                    archive and kdump-... have one";
        return Err(WriteError::Unfit(what.to_owned()));
    }
    let page = contents.header().page_size.max(1);
    let pages = |len: u64| len.div_ceil(page);
    let written = elf::write_runs(contents, options, progress, None, out)?;
    let (mut ram, mut lost, mut end) = (0, 0, 0);
    for (run, what) in map(contents) {
        let len = run.end - run.start;
        ram += len;
        end = run.end;
        lost += if what == Place::Lost { len } else { 0 };
    }
    out.finish(end)?;
    Ok(Summary {
        ram: pages(ram),
        written: pages(written),
        lost: pages(lost),
        bytes: end,
        ..Summary::default()
    })
}

/// What a range of a raw file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Memory.
    Memory,
    /// RAM that was filtered out: zeros in the file.
    Filtered,
    /// RAM that was lost: zeros in the file.
    Lost,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Place::Memory => "memory",
            Place::Filtered => "filtered",
            Place::Lost => "lost",
        })
    }
}

/// All ranges that have memory or were to have it, ascending; between them there was no RAM.
pub fn map(contents: &dyn Contents) -> impl Iterator<Item = (Range<u64>, Place)> + '_ {
    let mut lost =
        contents.runs().filter(|(_, fate)| *fate == Fate::Lost).map(|(run, _)| run).peekable();
    let mut absent: Option<Range<u64>> = None;
    let mut segments = elf::stored_and_absent(contents);
    std::iter::from_fn(move || {
        if absent.is_none() {
            match segments.next()? {
                (run, true) => return Some((run, Place::Memory)),
                (run, false) => absent = Some(run),
            }
        }
        // What is absent is lost as far as it is said to be.
        let run = absent.take()?;
        while lost.next_if(|lost| lost.end <= run.start).is_some() {}
        let (here, place) = match lost.peek() {
            Some(lost) if lost.start <= run.start => {
                (run.start..run.end.min(lost.end), Place::Lost)
            }
            Some(lost) => (run.start..run.end.min(lost.start), Place::Filtered),
            None => (run.clone(), Place::Filtered),
        };
        absent = (here.end < run.end).then_some(here.end..run.end);
        Some((here, place))
    })
}
