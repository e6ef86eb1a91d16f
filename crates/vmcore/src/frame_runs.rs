//! A map from frame numbers to other numbers, as runs in which both grow by one.
//!
//! A guest's memory lies in few runs; one whose every page lies apart takes 24 bytes for each.

/// Physical addresses have 52 bits, so there are no frames from here on.
pub(crate) const MAX_FRAME: u64 = 1 << 40;

/// `count` frames from `first` on belong to `count` numbers from `to` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) to: u64,
}

impl Run {
    pub(crate) fn end(&self) -> u64 {
        self.first + self.count
    }
}

/// Runs in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Builder(Vec<Run>);

impl Builder {
    /// Adds runs, each longer than nothing and below [`MAX_FRAME`] on both sides.
    pub(crate) fn push(&mut self, first: u64, count: u64, to: u64) {
        let fits = |n: u64| n.checked_add(count).is_some_and(|end| end <= MAX_FRAME);
        if count == 0 || !fits(first) || !fits(to) {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.end() == first && last.to + last.count == to => last.count += count,
            _ => self.0.push(Run { first, count, to }),
        }
    }

    /// Sorts them. Where two have a frame, the one that came first keeps it; the second value says
    /// how many frames that were.
    pub(crate) fn finish(mut self) -> (FrameRuns, u64) {
        let sorted = self.0.windows(2).all(|pair| matches!(pair, [a, b] if a.end() <= b.first));
        if sorted {
            self.0.shrink_to_fit();
            return (FrameRuns(self.0), 0);
        }
        without_overlaps(self.0)
    }
}

/// By the order of the runs' starts and ends: at each the earliest of those that are open has the
/// frames up to the next.
fn without_overlaps(runs: Vec<Run>) -> (FrameRuns, u64) {
    let given: u64 = runs.iter().map(|run| run.count).sum();
    let mut by_start: Vec<usize> = (0..runs.len()).collect();
    by_start.sort_by_key(|index| runs.get(*index).map(|run| run.first));
    let mut bounds: Vec<u64> = runs.iter().flat_map(|run| [run.first, run.end()]).collect();
    bounds.sort_unstable();
    bounds.dedup();
    let mut starting = by_start.into_iter().peekable();
    let mut open = std::collections::BinaryHeap::new();
    let mut kept = Builder::default();
    for pair in bounds.windows(2) {
        let [start, end] = *pair else { continue };
        while let Some(index) =
            starting.next_if(|index| runs.get(*index).is_some_and(|run| run.first <= start))
        {
            open.push(std::cmp::Reverse(index));
        }
        // What has ended is of no use any more; what is hidden behind another waits.
        while let Some(std::cmp::Reverse(index)) = open.peek() {
            match runs.get(*index).filter(|run| run.end() > start) {
                Some(run) => {
                    kept.push(start, end - start, run.to + (start - run.first));
                    break;
                }
                None => drop(open.pop()),
            }
        }
    }
    let there: u64 = kept.0.iter().map(|run| run.count).sum();
    (FrameRuns(kept.0), given - there)
}

/// Runs in ascending order, no two overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FrameRuns(Vec<Run>);

impl FrameRuns {
    /// What `frame` belongs to.
    pub(crate) fn find(&self, frame: u64) -> Option<u64> {
        self.run(frame).map(|run| run.to + (frame - run.first))
    }

    /// The run that has `frame`.
    pub(crate) fn run(&self, frame: u64) -> Option<&Run> {
        let index = self.0.partition_point(|run| run.end() <= frame);
        self.0.get(index).filter(|run| run.first <= frame)
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Run> {
        self.0.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Frames in all.
    pub(crate) fn frames(&self) -> u64 {
        self.0.iter().map(|run| run.count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn of(runs: &[(u64, u64, u64)]) -> (FrameRuns, u64) {
        let mut builder = Builder::default();
        runs.iter().for_each(|(first, count, to)| builder.push(*first, *count, *to));
        builder.finish()
    }

    #[test]
    fn neighbours_are_one_run() {
        let (runs, twice) = of(&[(0, 1, 7), (1, 1, 8), (2, 2, 9), (4, 1, 100)]);
        assert_eq!((runs.iter().count(), runs.frames(), twice), (2, 5, 0));
        assert_eq!([3, 4, 5].map(|frame| runs.find(frame)), [Some(10), Some(100), None]);
    }

    #[test]
    fn the_first_of_two_keeps_a_frame() {
        let (runs, twice) = of(&[(10, 5, 0), (8, 10, 100), (12, 1, 200)]);
        assert_eq!(twice, 6);
        assert_eq!(runs.find(9), Some(101));
        assert_eq!(runs.find(12), Some(2));
        assert_eq!(runs.find(15), Some(107));
    }

    #[test]
    fn impossible_frames_are_not_taken() {
        let bad = [(u64::MAX, 1, 0), (0, u64::MAX, 0), (0, 1, u64::MAX), (MAX_FRAME, 1, 0)];
        assert!(of(&bad).0.is_empty());
    }

    proptest! {
        #[test]
        fn as_a_table_would_say(runs in prop::collection::vec((0u64..60, 0u64..12, 0u64..1000), 0..12)) {
            let mut table = BTreeMap::new();
            let mut twice = 0;
            for (first, count, to) in &runs {
                for n in 0..*count {
                    match table.entry(first + n) {
                        std::collections::btree_map::Entry::Vacant(e) => drop(e.insert(to + n)),
                        _ => twice += 1,
                    }
                }
            }
            let (found, again) = of(&runs);
            prop_assert_eq!(again, twice);
            for frame in 0..80 {
                prop_assert_eq!(found.find(frame), table.get(&frame).copied());
            }
            prop_assert!(found.0.windows(2).all(|pair| pair[0].end() <= pair[1].first));
        }
    }
}
