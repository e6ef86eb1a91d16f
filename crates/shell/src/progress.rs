//! How far a command has come: counted by the command, on any thread, and
//! shown by whoever owns the terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Work done and work there is, in units of the command's own. Clones count
/// together.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// A command begins: nothing is known of its work.
    pub fn reset(&self) {
        self.counts.done.store(0, Ordering::Relaxed);
        self.counts.total.store(0, Ordering::Relaxed);
    }

    /// There are `total` units of work (more).
    pub fn expect(&self, total: u64) {
        self.counts.total.fetch_add(total, Ordering::Relaxed);
    }

    /// `units` of it are done.
    pub fn add(&self, units: u64) {
        self.counts.done.fetch_add(units, Ordering::Relaxed);
    }

    /// Part of the work that is done, 0 to 1; `None` where the command does
    /// not say.
    pub fn part(&self) -> Option<f64> {
        let total = self.counts.total.load(Ordering::Relaxed);
        let done = self.counts.done.load(Ordering::Relaxed);
        (total > 0).then(|| (done as f64 / total as f64).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_known_once_there_is_a_total() {
        let progress = Progress::default();
        assert_eq!(progress.part(), None);
        progress.expect(8);
        progress.clone().add(2);
        assert_eq!(progress.part(), Some(0.25));
        progress.add(100);
        assert_eq!(progress.part(), Some(1.0));
        progress.reset();
        assert_eq!(progress.part(), None);
    }
}
