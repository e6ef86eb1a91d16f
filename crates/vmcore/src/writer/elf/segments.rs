//! Memory as segments: stored runs, each with the RAM behind it that is not stored.

use std::ops::Range;

use crate::writer::{Contents, Fate};

/// A `PT_LOAD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) start: u64,
    pub(super) stored_end: u64,
    pub(super) end: u64,
    pub(super) vaddr: u64,
}

/// The segments of what is to be written, ascending.
pub(super) fn segments(contents: &dyn Contents) -> impl Iterator<Item = Segment> + '_ {
    let stored = contents.runs().filter(|(_, fate)| *fate == Fate::Stored).map(|(run, _)| run);
    let absent = contents.runs().filter(|(_, fate)| *fate == Fate::Lost).map(|(run, _)| run);
    let ram = join(contents.ram(), absent);
    let mapped = &contents.header().mapped;
    let mut pieces = pieces(merge(stored), ram)
        .flat_map(move |(run, is_stored)| {
            cut(mapped, run).map(move |(run, vaddr)| (run, vaddr, is_stored))
        })
        .peekable();
    std::iter::from_fn(move || {
        let (run, vaddr, is_stored) = pieces.next()?;
        let stored_end = if is_stored { run.end } else { run.start };
        let mut segment = Segment { start: run.start, stored_end, end: run.end, vaddr };
        let follows = |(next, at, is_stored): &(Range<u64>, u64, bool)| {
            let distance = next.start.wrapping_sub(run.start);
            !is_stored && next.start == run.end && *at == vaddr.wrapping_add(distance)
        };
        if is_stored && let Some((next, _, _)) = pieces.next_if(follows) {
            segment.end = next.end;
        }
        Some(segment)
    })
}

/// Runs that touch one another as one.
fn merge(runs: impl Iterator<Item = Range<u64>>) -> impl Iterator<Item = Range<u64>> {
    let mut runs = runs.filter(|run| run.start < run.end).peekable();
    std::iter::from_fn(move || {
        let mut run = runs.next()?;
        while let Some(next) = runs.next_if(|next| next.start <= run.end) {
            run.end = run.end.max(next.end);
        }
        Some(run)
    })
}

/// Two ascending lists as one.
fn join(
    a: impl Iterator<Item = Range<u64>>,
    b: impl Iterator<Item = Range<u64>>,
) -> impl Iterator<Item = Range<u64>> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    merge(std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some(first), Some(second)) if second.start < first.start => b.next(),
        (Some(_), _) => a.next(),
        _ => b.next(),
    }))
}

/// Stored runs, and the RAM between them.
fn pieces(
    stored: impl Iterator<Item = Range<u64>>,
    ram: impl Iterator<Item = Range<u64>>,
) -> impl Iterator<Item = (Range<u64>, bool)> {
    let (mut stored, mut ram) = (stored.peekable(), ram.peekable());
    let mut at = 0;
    std::iter::from_fn(move || {
        // RAM that is behind us already.
        while ram.next_if(|ram| ram.end <= at).is_some() {}
        let next = stored.peek().map_or(u64::MAX, |run| run.start);
        if let Some(ram) = ram.peek()
            && ram.start.max(at) < next
        {
            let run = ram.start.max(at)..ram.end.min(next);
            at = run.end;
            return Some((run, false));
        }
        let run = stored.next()?;
        at = run.end;
        Some((run, true))
    })
}

/// Cuts a run where its virtual address jumps, and gives each part's.
fn cut(mapped: &[(Range<u64>, u64)], run: Range<u64>) -> impl Iterator<Item = (Range<u64>, u64)> {
    let mut at = run.start;
    std::iter::from_fn(move || {
        if at >= run.end {
            return None;
        }
        let start = at;
        let (delta, mut to) = mapping(mapped, start);
        while to < run.end {
            let (next, end) = mapping(mapped, to);
            if next != delta {
                break;
            }
            to = end;
        }
        at = to.min(run.end);
        Some((start..at, start.wrapping_add(delta)))
    })
}

/// Distance from a physical address to where it is mapped, and how far that goes.
fn mapping(mapped: &[(Range<u64>, u64)], addr: u64) -> (u64, u64) {
    let index = mapped.partition_point(|(range, _)| range.end <= addr);
    match mapped.get(index) {
        Some((range, vaddr)) if range.start <= addr => (vaddr.wrapping_sub(range.start), range.end),
        Some((range, _)) => (0, range.start),
        None => (0, u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(stored: &[Range<u64>], ram: &[Range<u64>]) -> Vec<(Range<u64>, bool)> {
        pieces(stored.iter().cloned(), ram.iter().cloned()).collect()
    }

    #[test]
    fn ram_fills_what_lies_between_stored_runs() {
        assert_eq!(
            all(&[2..4, 8..12, 20..21], &[0..10, 11..14, 30..31]),
            [
                (0..2, false),
                (2..4, true),
                (4..8, false),
                (8..12, true),
                (12..14, false),
                (20..21, true),
                (30..31, false)
            ]
        );
        assert_eq!(all(&[], &[]), []);
        let one = std::slice::from_ref(&(1..2)).to_vec();
        assert_eq!(all(&one, &[]), [(1..2, true)]);
    }

    #[test]
    fn a_run_is_cut_where_its_mapping_jumps() {
        let mapped = [(10..20, 110), (20..30, 120), (30..40, 1030)];
        let parts: Vec<_> = cut(&mapped, 5..50).collect();
        assert_eq!(parts, [(5..10, 5), (10..30, 110), (30..40, 1030), (40..50, 40)]);
    }

    #[test]
    fn lists_are_joined() {
        let a = [0..2, 4..6];
        let b = [2..3, 5..8];
        let joined: Vec<_> = join(a.into_iter(), b.into_iter()).collect();
        assert_eq!(joined, [0..3, 4..8]);
    }
}
