//! The memory of a process, as the segments of its core file.

use kmortem_kernel::user::UserPage;
use kmortem_kernel::vma::{VM_EXEC, VM_IO, VM_PFNMAP, VM_READ, VM_WRITE, Vma};
use kmortem_kernel::{Error, Kernel, Result};
use serde::Serialize;

use crate::progress::Progress;

/// Untouched runs longer than this are no part of the file: reserved address
/// space is counted in terabytes.
const LONGEST_ZEROS: u64 = 16 << 20;

/// More segments than this are not told apart in a core file.
const MOST_SEGMENTS: usize = 1 << 22;
/// Pages may be mapped more than once, but not that much more than there is.
const MOST_TIMES: u64 = 64;

/// Whether a run of addresses has content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// In memory.
    Memory,
    /// Never touched: zeros.
    Zero,
    /// Not to be had.
    Absent,
}

/// A segment: a run of addresses that is in the file as a whole, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) start: u64,
    pub(super) bytes: u64,
    /// `PF_X` 1, `PF_W` 2, `PF_R` 4.
    pub(super) flags: u32,
    /// Whether it is in the file.
    pub(super) there: bool,
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
        let ram: u64 = kernel.image().ram().iter().map(|ram| ram.end - ram.start).sum();
        let page_size = kernel.page_size();
        let most = (ram / page_size).max(1 << 18).saturating_mul(MOST_TIMES);
        progress.expect(vmas.len() as u64);
        for vma in vmas {
            let flags = [(VM_EXEC, 1), (VM_WRITE, 2), (VM_READ, 4)];
            let flags = flags.iter().filter(|(bit, _)| vma.flags & bit != 0).map(|(_, f)| f).sum();
            let first = memory.segments.len();
            let mut at = vma.start;
            // Registers of devices are no memory.
            let device = vma.flags & (VM_IO | VM_PFNMAP) != 0;
            let anonymous = kernel.is_anonymous(vma)?;
            while at < vma.end {
                if kernel.is_interrupted() {
                    return Err(Error::Unavailable("interrupted".into()));
                }
                let (page, len) = space.run(at);
                // Of a huge page some frames may be in the dump and others not.
                let len = match page {
                    Ok(UserPage::Present(_)) => len.min(page_size),
                    _ => len,
                };
                let bytes = len.min(vma.end - at).max(1);
                let source = match page {
                    _ if device => Source::Absent,
                    Ok(page) => memory.pages.count(kernel, page, bytes, anonymous),
                    Err(e) => {
                        memory.pages.lost(bytes.div_ceil(page_size), &e);
                        Source::Absent
                    }
                };
                push(&mut memory.segments, first, at, bytes, flags, source);
                if memory.segments.len() > MOST_SEGMENTS || memory.pages.pages > most {
                    return Err(Error::corrupt("the page tables of the process", mm));
                }
                at += bytes;
            }
            progress.add(1);
        }
        Ok(memory)
    }
}

impl Pages {
    fn count(&mut self, kernel: &Kernel, page: UserPage, bytes: u64, anonymous: bool) -> Source {
        let pages = bytes.div_ceil(kernel.page_size());
        match page {
            UserPage::Present(phys) => {
                let mut byte = [0];
                match kernel.image().read(phys, &mut byte) {
                    Ok(()) => {
                        self.pages += pages;
                        return Source::Memory;
                    }
                    Err(e) => self.lost(pages, &format!("physical {phys:#x} is {}", e.reason)),
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

    fn lost(&mut self, pages: u64, reason: &dyn std::fmt::Display) {
        self.unreadable += pages;
        self.reason.get_or_insert_with(|| reason.to_string());
    }
}

/// Adds a run to the mapping whose segments start at `first`: a new segment
/// where content begins or ceases.
fn push(
    segments: &mut Vec<Segment>,
    first: usize,
    start: u64,
    bytes: u64,
    flags: u32,
    source: Source,
) {
    let there = match source {
        Source::Memory => true,
        Source::Zero => bytes <= LONGEST_ZEROS,
        Source::Absent => false,
    };
    match segments[first..].last_mut() {
        Some(last) if last.there == there => last.bytes += bytes,
        _ => segments.push(Segment { start, bytes, flags, there }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(runs: &[(u64, Source)]) -> Vec<(u64, u64, bool)> {
        let mut segments = Vec::new();
        let mut at = 0;
        for (bytes, source) in runs {
            push(&mut segments, 0, at, *bytes, 5, *source);
            at += bytes;
        }
        segments.iter().map(|s| (s.start, s.bytes, s.there)).collect()
    }

    #[test]
    fn a_mapping_is_cut_where_pages_are_absent() {
        use Source::{Absent, Memory, Zero};
        let page = |source| (4096, source);
        let runs = [Memory, Memory, Zero, Absent, Absent, Zero].map(page);
        assert_eq!(
            shape(&runs),
            [(0, 0x3000, true), (0x3000, 0x2000, false), (0x5000, 0x1000, true)]
        );
    }

    #[test]
    fn reserved_address_space_is_not_written() {
        assert_eq!(shape(&[(1 << 40, Source::Zero)]), [(0, 1 << 40, false)]);
        assert_eq!(shape(&[(4096, Source::Zero)]), [(0, 4096, true)]);
    }

    #[test]
    fn mappings_stay_apart() {
        let mut segments = Vec::new();
        push(&mut segments, 0, 0, 4096, 4, Source::Memory);
        push(&mut segments, 1, 4096, 4096, 5, Source::Memory);
        assert_eq!(segments.len(), 2);
    }
}
