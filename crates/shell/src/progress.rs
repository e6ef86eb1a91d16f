//! How far a command has come: counted by the command, on any thread, and
//! shown by whoever owns the terminal.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Work done and work there is, in units of the command's own. Clones count
/// together.
#[derive(Clone, Default)]
pub struct Progress {
    shared: Arc<Shared>,
}

/// Takes what is shown of the progress off the terminal.
type Hide = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Shared {
    done: AtomicU64,
    total: AtomicU64,
    /// The command that runs, and since when.
    running: Mutex<Option<(&'static str, Instant)>>,
    /// Whether it has begun to answer: from then on the answer is what shows.
    answering: AtomicBool,
    hide: OnceLock<Hide>,
}

/// A command that has not answered yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// Its name.
    pub command: &'static str,
    /// For how long it has been running.
    pub time: Duration,
    /// Part of the work that is done, 0 to 1, where the command says it.
    pub part: Option<f64>,
}

impl Progress {
    /// A command begins: nothing is known of its work.
    pub(crate) fn begin(&self, command: &'static str) {
        self.shared.done.store(0, Ordering::Relaxed);
        self.shared.total.store(0, Ordering::Relaxed);
        self.shared.answering.store(false, Ordering::Relaxed);
        self.set_running(Some((command, Instant::now())));
    }

    /// The command has ended.
    pub(crate) fn end(&self) {
        self.set_running(None);
        self.hide();
    }

    fn set_running(&self, running: Option<(&'static str, Instant)>) {
        *self.shared.running.lock().unwrap_or_else(PoisonError::into_inner) = running;
    }

    /// Part of the answer is about to be written.
    pub(crate) fn answer(&self) {
        if !self.shared.answering.swap(true, Ordering::Relaxed) {
            self.hide();
        }
    }

    /// Something else is about to be written.
    pub(crate) fn hide(&self) {
        if let Some(hide) = self.shared.hide.get() {
            hide();
        }
    }

    /// `hide` takes what is shown off the terminal; it is called before
    /// anything is written there. Only the first one given counts.
    pub fn on_hide(&self, hide: impl Fn() + Send + Sync + 'static) {
        // A second one has nothing else to hide.
        let _ = self.shared.hide.set(Box::new(hide));
    }

    /// The command that is running and has not begun to answer.
    pub fn running(&self) -> Option<Running> {
        if self.shared.answering.load(Ordering::Relaxed) {
            return None;
        }
        let running = *self.shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        let (command, since) = running?;
        Some(Running { command, time: since.elapsed(), part: self.part() })
    }

    /// There are `total` units of work (more).
    pub fn expect(&self, total: u64) {
        self.shared.total.fetch_add(total, Ordering::Relaxed);
    }

    /// `units` of it are done.
    pub fn add(&self, units: u64) {
        self.shared.done.fetch_add(units, Ordering::Relaxed);
    }

    /// Part of the work that is done, 0 to 1; `None` where the command does
    /// not say.
    pub fn part(&self) -> Option<f64> {
        let total = self.shared.total.load(Ordering::Relaxed);
        let done = self.shared.done.load(Ordering::Relaxed);
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
        progress.begin("ps");
        assert_eq!(progress.part(), None);
    }

    #[test]
    fn what_shows_is_hidden_before_the_answer() {
        let (progress, hidden) = (Progress::default(), Arc::new(AtomicU64::new(0)));
        let count = hidden.clone();
        progress.on_hide(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        progress.begin("ps");
        assert_eq!(progress.running().map(|r| r.command), Some("ps"));
        progress.answer();
        progress.answer();
        assert_eq!((progress.running(), hidden.load(Ordering::Relaxed)), (None, 1));
        progress.end();
        assert_eq!(hidden.load(Ordering::Relaxed), 2);
    }
}
