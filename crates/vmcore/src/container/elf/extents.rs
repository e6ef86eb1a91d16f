//! Physical memory as runs that do not overlap: where each lies in the file, or that it doesn't.

use std::ops::Range;

use super::header::Segment;

/// A run of physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Where its bytes lie in the file; `None`: RAM that was left out.
    pub(super) offset: Option<u64>,
}

impl Extent {
    pub(super) fn offset_of(&self, addr: u64) -> Option<u64> {
        self.offset?.checked_add(addr - self.start)
    }
}

/// Runs in ascending order, no two overlap.
#[derive(Debug, Default)]
pub(super) struct Extents(Vec<Extent>);

impl Extents {
    /// Lays out the segments. Where two overlap, stored bytes win over left-out ones, then the
    /// segment that comes first: overlapping ones are views of the same memory.
    pub(super) fn new(segments: &[Segment]) -> Extents {
        let mut stored: Vec<Extent> = Vec::with_capacity(segments.len());
        let mut holes: Vec<Extent> = Vec::new();
        for segment in segments {
            let start = segment.paddr;
            let middle = start.saturating_add(segment.file_len);
            let end = start.saturating_add(segment.mem_len.max(segment.file_len));
            if start < middle {
                stored.push(Extent { start, end: middle, offset: Some(segment.offset) });
            }
            if middle < end {
                holes.push(Extent { start: middle, end, offset: None });
            }
        }
        let stored = without_overlaps(stored);
        let holes = without_overlaps(holes);
        Extents(fill_gaps(stored, &holes))
    }

    /// The run that `addr` lies in.
    pub(super) fn find(&self, addr: u64) -> Option<&Extent> {
        let index = self.0.partition_point(|extent| extent.end <= addr);
        self.0.get(index).filter(|extent| extent.start <= addr)
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Extent> {
        self.0.iter()
    }

    /// Stored bytes that lie beyond the end of a file of `len` bytes.
    pub(super) fn stored_beyond(&self, len: u64) -> u64 {
        self.0.iter().fold(0, |sum: u64, extent| {
            let Some(offset) = extent.offset else { return sum };
            let size = extent.end - extent.start;
            sum.saturating_add(size - len.saturating_sub(offset).min(size))
        })
    }
}

/// Sorts runs and cuts each to what lies behind the one before it.
fn without_overlaps(mut extents: Vec<Extent>) -> Vec<Extent> {
    // A stable sort: of two that start together, the one that came first stays in front.
    extents.sort_by_key(|extent| extent.start);
    let mut end = 0;
    extents.retain_mut(|extent| {
        if extent.end <= end {
            return false;
        }
        if extent.start < end {
            extent.offset = extent.offset_of(end);
            extent.start = end;
        }
        end = extent.end;
        true
    });
    extents
}

/// Adds what of `holes` no run of `stored` covers.
fn fill_gaps(stored: Vec<Extent>, holes: &[Extent]) -> Vec<Extent> {
    let mut all = Vec::with_capacity(stored.len() + holes.len());
    let mut next = 0;
    for hole in holes {
        let mut from = hole.start;
        while let Some(extent) = stored.get(next).filter(|extent| extent.start < hole.end) {
            if from < extent.start {
                all.push(Extent { start: from, end: extent.start, offset: None });
            }
            from = from.max(extent.end);
            if extent.end > hole.end {
                // It may reach into the next hole too.
                break;
            }
            all.push(*extent);
            next += 1;
        }
        if from < hole.end {
            all.push(Extent { start: from, end: hole.end, offset: None });
        }
    }
    all.extend(stored.get(next..).unwrap_or_default());
    all
}

/// Merges runs that touch one another.
pub(super) fn merge(
    mut runs: impl Iterator<Item = Range<u64>>,
) -> impl Iterator<Item = Range<u64>> {
    let mut pending = runs.next();
    std::iter::from_fn(move || {
        let mut run = pending.take()?;
        for next in runs.by_ref() {
            if next.start > run.end {
                pending = Some(next);
                break;
            }
            run.end = run.end.max(next.end);
        }
        Some(run)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(paddr: u64, file_len: u64, mem_len: u64, offset: u64) -> Segment {
        Segment { offset, vaddr: 0, paddr, file_len, mem_len }
    }

    #[test]
    fn stored_bytes_win_over_holes_and_the_first_of_two_copies_counts() {
        let extents = Extents::new(&[
            segment(0x1000, 0x1000, 0x4000, 0x10_000),
            segment(0x3000, 0x1000, 0x1000, 0x20_000),
            segment(0x3800, 0x1000, 0x1000, 0x30_000),
            segment(0x9000, 0x1000, 0x0, 0x40_000),
        ]);
        let offset = |addr| extents.find(addr).map(|extent| extent.offset_of(addr));
        assert_eq!(offset(0xfff), None);
        assert_eq!(offset(0x1fff), Some(Some(0x10_fff)));
        assert_eq!(offset(0x2000), Some(None));
        assert_eq!(offset(0x3800), Some(Some(0x20_800)));
        assert_eq!(offset(0x4000), Some(Some(0x30_800)));
        assert_eq!(offset(0x4800), Some(None));
        assert_eq!(offset(0x5000), None);
        assert_eq!(offset(0x9fff), Some(Some(0x40_fff)));
        let ram: Vec<_> = merge(extents.iter().map(|e| e.start..e.end)).collect();
        assert_eq!(ram, [0x1000..0x5000, 0x9000..0xa000]);
    }

    #[test]
    fn extremes_neither_overflow_nor_overlap() {
        let all = [
            segment(u64::MAX - 10, u64::MAX, u64::MAX, u64::MAX),
            segment(0, u64::MAX, 0, 5),
            segment(1, 0, u64::MAX, 0),
            segment(7, 0, 0, 0),
        ];
        let extents = Extents::new(&all);
        let mut end = 0;
        for extent in extents.iter() {
            assert!(extent.start >= end && extent.start < extent.end);
            end = extent.end;
        }
        assert!(extents.stored_beyond(100) > 0);
    }

    #[test]
    fn a_stored_run_that_reaches_over_two_holes_is_there_once() {
        let extents = Extents::new(&[
            segment(0, 0, 0x2000, 0),
            segment(0x1000, 0x4000, 0x4000, 0x1000),
            segment(0x3000, 0, 0x4000, 0),
        ]);
        let all: Vec<_> = extents.iter().map(|e| (e.start, e.end, e.offset)).collect();
        assert_eq!(
            all,
            [(0, 0x1000, None), (0x1000, 0x5000, Some(0x1000)), (0x5000, 0x7000, None)]
        );
    }
}
