//! Work that several threads do and that comes back in order, through a bounded queue.
//!
//! Jobs go into one channel that all threads take from. Each carries the channel for its own
//! answer, and the answers' channels wait in a queue in the order of the jobs: so the order is
//! kept without sorting, and no more is on its way than the queue holds.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

/// One thread's work; keeps what is costly to set up.
pub(super) type Worker<'scope, J, R> = Box<dyn FnMut(J) -> R + Send + 'scope>;

/// Threads at work.
pub(super) enum Pipeline<'scope, J, R> {
    /// The thread that calls is the only one.
    Alone {
        work: Worker<'scope, J, R>,
        done: VecDeque<R>,
    },
    Several {
        jobs: SyncSender<Job<J, R>>,
        waiting: VecDeque<Receiver<R>>,
        limit: usize,
    },
}

pub(super) struct Job<J, R> {
    job: J,
    answer: SyncSender<R>,
}

impl<'scope, J: Send + 'scope, R: Send + 'scope> Pipeline<'scope, J, R> {
    /// Starts `threads` threads; `worker` makes each one's work.
    pub(super) fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        threads: usize,
        worker: impl Fn() -> Worker<'scope, J, R>,
    ) -> Pipeline<'scope, J, R> {
        if threads <= 1 {
            return Pipeline::Alone { work: worker(), done: VecDeque::new() };
        }
        let limit = 2 * threads;
        let (jobs, queue) = sync_channel::<Job<J, R>>(limit);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            let mut work = worker();
            scope.spawn(move || {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(Job { job, answer }) = next else { return };
                    // Who does not wait for the answer any more has given up.
                    let _ = answer.send(work(job));
                }
            });
        }
        Pipeline::Several { jobs, waiting: VecDeque::new(), limit }
    }

    /// Gives a job to the threads.
    pub(super) fn push(&mut self, job: J) {
        match self {
            Pipeline::Alone { work, done } => done.push_back(work(job)),
            Pipeline::Several { jobs, waiting, .. } => {
                let (answer, wait) = sync_channel(1);
                waiting.push_back(wait);
                // It fails when all threads have panicked; then there is no answer either.
                let _ = jobs.send(Job { job, answer });
            }
        }
    }

    /// Whether answers must be taken before more is pushed.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Pipeline::Alone { done, .. } => !done.is_empty(),
            Pipeline::Several { waiting, limit, .. } => waiting.len() >= *limit,
        }
    }

    /// The answer to the oldest job; `None` if there is no job. A thread that panicked has no
    /// answer: its panic goes on when the scope ends.
    pub(super) fn pop(&mut self) -> Option<R> {
        match self {
            Pipeline::Alone { done, .. } => done.pop_front(),
            Pipeline::Several { waiting, .. } => waiting.pop_front()?.recv().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_the_order_of_the_jobs() {
        for threads in [1, 2, 7] {
            let answers = std::thread::scope(|scope| {
                let mut pipeline = Pipeline::start(scope, threads, || {
                    Box::new(|job: u64| {
                        if job.is_multiple_of(5) {
                            std::thread::sleep(std::time::Duration::from_micros(300));
                        }
                        job * job
                    })
                });
                let mut answers = Vec::new();
                for job in 0..200 {
                    if pipeline.is_full() {
                        answers.extend(pipeline.pop());
                    }
                    pipeline.push(job);
                }
                answers.extend(std::iter::from_fn(|| pipeline.pop()));
                answers
            });
            assert_eq!(answers, (0..200).map(|job| job * job).collect::<Vec<u64>>());
        }
    }

    #[test]
    fn who_gives_up_leaves_no_thread_behind() {
        std::thread::scope(|scope| {
            let mut pipeline = Pipeline::start(scope, 3, || Box::new(|job: u64| job));
            for job in 0..6 {
                pipeline.push(job);
            }
        });
    }
}
