//! The memory of a process, as the segments of its core file.

use kmortem_kernel::user::UserPage;
use kmortem_kernel::vma::{VM_EXEC, VM_IO, VM_PFNMAP, VM_READ, VM_WRITE, Vma};
use kmortem_kernel::{Error, Kernel, Result};
use serde::Serialize;

use crate::progress::Progress;

/// Untouched runs longer than this are no part of the file: reserved address
/// space is counted in terabytes.
const LONGEST_ZEROS: u64 = 16 << 20;

/// Where a run of addresses comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The frame at this physical address, and those behind it.
    Physical(u64),
    /// Never touched: zeros.
    Zero,
    /// Not to be had.
    Absent,
}

/// A run of pages that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) bytes: u64,
    pub(super) source: Source,
}

/// A segment: a run of addresses that is in the file as a whole, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) start: u64,
    pub(super) bytes: u64,
    /// `PF_X` 1, `PF_W` 2, `PF_R` 4.
    pub(super) flags: u32,
    /// What it is made of; empty: it is not in the file.
    pub(super) runs: Vec<Run>,
}

/// What became of the pages.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Pages {
    /// In memory.
    pub(super) pages: u64,
    /// Never touched: zeros.
    pub(super) zero: u64,
    /// In their file only, or never made by the kernel (vdso).
    pub(super) in_file: u64,
    /// Swapped out.
    pub(super) swapped: u64,
    /// Not in the dump.
    pub(super) unreadable: u64,
    /// Why the first of these is not.
    pub(super) reason: Option<String>,
}

/// The segments of a process.
pub(super) struct Memory {
    pub(super) segments: Vec<Segment>,
    pub(super) pages: Pages,
}

impl Memory {
    /// Looks up all pages of the mappings. Reads none of them, but tries one byte
    /// of each.
    pub(super) fn of(
        kernel: &Kernel,
        mm: u64,
        vmas: &[Vma],
        progress: &Progress,
    ) -> Result<Memory> {
        let space = kernel.user_space_of(mm)?;
        let mut memory = Memory { segments: Vec::new(), pages: Pages::default() };
        progress.expect(vmas.len() as u64);
        for vma in vmas {
            let flags = [(VM_EXEC, 1), (VM_WRITE, 2), (VM_READ, 4)];
            let flags = flags.iter().filter(|(bit, _)| vma.flags & bit != 0).map(|(_, f)| f).sum();
            let mut runs: Vec<Run> = Vec::new();
            let mut at = vma.start;
            // Registers of devices are no memory.
            let device = vma.flags & (VM_IO | VM_PFNMAP) != 0;
            let anonymous = kernel.is_anonymous(vma)?;
            while at < vma.end {
                if kernel.is_interrupted() {
                    return Err(Error::Unavailable("interrupted".into()));
                }
                let (page, len) = space.run(at);
                let bytes = len.min(vma.end - at).max(1);
                let source = match page {
                    _ if device => Source::Absent,
                    Ok(page) => memory.pages.count(kernel, page, bytes, anonymous),
                    Err(e) => {
                        memory.pages.lost(bytes, &e);
                        Source::Absent
                    }
                };
                push(&mut runs, Run { start: at, bytes, source });
                at += bytes;
            }
            memory.segments.extend(cut(&runs, flags));
            progress.add(1);
        }
        Ok(memory)
    }
}

impl Pages {
    fn count(&mut self, kernel: &Kernel, page: UserPage, bytes: u64, anonymous: bool) -> Source {
        let pages = bytes.div_ceil(4096);
        match page {
            UserPage::Present(phys) => {
                let mut byte = [0];
                match kernel.image().read(phys, &mut byte) {
                    Ok(()) => {
                        self.pages += pages;
                        return Source::Physical(phys);
                    }
                    Err(e) => self.lost(bytes, &format!("physical {phys:#x} is {}", e.reason)),
                }
                Source::Absent
            }
            UserPage::Swapped { .. } => {
                self.swapped += pages;
                Source::Absent
            }
            UserPage::None if !anonymous => {
                self.in_file += pages;
                Source::Absent
            }
            UserPage::None => {
                self.zero += pages;
                Source::Zero
            }
        }
    }

    fn lost(&mut self, bytes: u64, reason: &dyn std::fmt::Display) {
        self.unreadable += bytes.div_ceil(4096);
        self.reason.get_or_insert_with(|| reason.to_string());
    }
}

/// Adds a run, to the one before it where it goes on.
fn push(runs: &mut Vec<Run>, run: Run) {
    if let Some(last) = runs.last_mut() {
        let goes_on = match (last.source, run.source) {
            (Source::Physical(before), Source::Physical(phys)) => before + last.bytes == phys,
            (before, source) => before == source,
        };
        if goes_on {
            last.bytes += run.bytes;
            return;
        }
    }
    runs.push(run);
}

/// Cuts a mapping where pages begin or cease to be there.
fn cut(runs: &[Run], flags: u32) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for run in runs {
        let there = match run.source {
            Source::Physical(_) => true,
            Source::Zero => run.bytes <= LONGEST_ZEROS,
            Source::Absent => false,
        };
        match segments.last_mut() {
            Some(last) if last.runs.is_empty() != there => {
                last.bytes += run.bytes;
                if there {
                    last.runs.push(*run);
                }
            }
            _ => segments.push(Segment {
                start: run.start,
                bytes: run.bytes,
                flags,
                runs: if there { vec![*run] } else { Vec::new() },
            }),
        }
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_cut_where_pages_are_absent() {
        let mut runs = Vec::new();
        for (i, source) in [
            Source::Physical(0x10000),
            Source::Physical(0x11000),
            Source::Physical(0x40000),
            Source::Zero,
            Source::Absent,
            Source::Absent,
            Source::Zero,
        ]
        .into_iter()
        .enumerate()
        {
            push(&mut runs, Run { start: i as u64 * 4096, bytes: 4096, source });
        }
        assert_eq!(runs.len(), 5);
        let segments = cut(&runs, 5);
        let shape: Vec<_> = segments.iter().map(|s| (s.start, s.bytes, s.runs.len())).collect();
        assert_eq!(shape, [(0, 0x4000, 3), (0x4000, 0x2000, 0), (0x6000, 0x1000, 1)]);
    }

    #[test]
    fn reserved_address_space_is_not_written() {
        let run = |bytes| Run { start: 0, bytes, source: Source::Zero };
        assert!(cut(&[run(1 << 40)], 4)[0].runs.is_empty());
        assert_eq!(cut(&[run(4096)], 4)[0].runs.len(), 1);
    }
}
