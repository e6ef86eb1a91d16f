//! Runs gathered into batches: what a thread gets at once.

use std::ops::Range;

/// Gathers ascending runs into batches that span `size` together (the last one less).
pub(super) fn batches(
    runs: impl Iterator<Item = Range<u64>>,
    size: u64,
) -> impl Iterator<Item = Vec<Range<u64>>> {
    let mut runs = runs.filter(|run| run.start < run.end).peekable();
    std::iter::from_fn(move || {
        let mut batch = Vec::new();
        let mut left = size.max(1);
        while left > 0 {
            let Some(run) = runs.peek_mut() else { break };
            let here = (run.end - run.start).min(left);
            batch.push(run.start..run.start + here);
            left -= here;
            run.start += here;
            if run.start >= run.end {
                runs.next();
            }
        }
        (!batch.is_empty()).then_some(batch)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_cut_and_gathered() {
        let runs = [0..3, 5..5, 7..8, 10..20];
        let all: Vec<_> = batches(runs.into_iter(), 4).collect();
        let bounds = |batch: &Vec<Range<u64>>| {
            batch.iter().map(|run| (run.start, run.end)).collect::<Vec<_>>()
        };
        let all: Vec<_> = all.iter().map(bounds).collect();
        assert_eq!(all, [vec![(0, 3), (7, 8)], vec![(10, 14)], vec![(14, 18)], vec![(18, 20)]]);
        assert_eq!(batches(std::iter::empty(), 4).count(), 0);
    }
}
