//! Whether a disk has requests that it does not answer, and who waits for them.

use std::fmt;

use kmortem_kernel::block::{Disk, Request};

use crate::case::Case;
use crate::text::{bytes, count, duration};

/// Requests younger than this are work, not a stall.
const OLD_NS: u64 = 5_000_000_000;

/// A disk that owes answers.
#[derive(Clone)]
pub(crate) struct Stall {
    /// Its name.
    pub(crate) disk: String,
    /// Requests that its driver has.
    requests: usize,
    /// Age of the oldest, ns.
    oldest_ns: Option<u64>,
    driver: Option<String>,
    /// Tasks that were found waiting for one of them; 0: none, or not sought.
    waiters: usize,
    /// The request that the task in question waits for.
    pub(crate) awaited: Option<Awaited>,
}

/// A request that a task waits for.
#[derive(Clone)]
pub(crate) struct Awaited {
    op: String,
    sector: u64,
    bytes: u32,
    age_ns: Option<u64>,
    /// What of the request is on the task's stack.
    by: &'static str,
    /// Whether that proves it.
    pub(crate) is_proven: bool,
}

/// "a READ of 4.0 KiB at sector 8224, 6.2 s old (its completion is on the stack)".
impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = bytes(u64::from(self.bytes));
        write!(f, "a {} of {size} at sector {}", self.op, self.sector)?;
        if let Some(age) = self.age_ns {
            write!(f, ", {} old", duration(age))?;
        }
        write!(f, " (its {} is on the stack)", self.by)
    }
}

impl Stall {
    fn of(disk: &Disk, now: Option<u64>) -> Stall {
        let oldest = disk.requests.iter().filter_map(|r| r.issued_ns.or(r.start_ns)).min();
        Stall {
            disk: disk.name.clone().unwrap_or_else(|| "without a name".into()),
            requests: disk.requests.len(),
            oldest_ns: now.zip(oldest).map(|(now, then)| now.saturating_sub(then)),
            driver: disk.driver.clone(),
            waiters: 0,
            awaited: None,
        }
    }

    fn is_old(&self) -> bool {
        self.requests > 0 && self.oldest_ns.is_none_or(|age| age >= OLD_NS)
    }

    /// "disk vda (virtio_blk) has 12 requests in flight, the oldest for 40 s; 9 tasks wait for
    /// them".
    pub(crate) fn sentence(&self) -> String {
        let driver = self.driver.as_ref().map_or(String::new(), |d| format!(" ({d})"));
        let age =
            self.oldest_ns.map_or(String::new(), |n| format!(", the oldest for {}", duration(n)));
        let waiters = match self.waiters {
            0 => String::new(),
            1 => "; 1 task waits for them".into(),
            n => format!("; {n} tasks wait for them"),
        };
        let requests = count(self.requests, "request");
        format!("disk {}{driver} has {requests} in flight{age}{waiters}", self.disk)
    }
}

/// The disk with the oldest unanswered request, if any is old.
pub(crate) fn stall(case: &Case<'_>) -> Option<Stall> {
    let disks = case.kernel()?.disks().ok()?;
    let now = now(case);
    worst(&disks.list, now)
}

fn now(case: &Case<'_>) -> Option<u64> {
    let clock = case.kernel()?.clock().ok()?;
    u64::try_from(clock.monotonic_ns).ok()
}

fn worst(disks: &[Disk], now: Option<u64>) -> Option<Stall> {
    let stalls = disks.iter().map(|disk| Stall::of(disk, now)).filter(Stall::is_old);
    stalls.max_by_key(|stall| stall.oldest_ns)
}

/// The stalled disk that has a request of the task at `task`; where none is known to have, the one
/// with the oldest request.
pub(crate) fn stall_behind(case: &Case<'_>, task: u64) -> Option<Stall> {
    let kernel = case.kernel()?;
    let disks = kernel.disks().ok()?.list;
    let now = now(case);
    let mut worst = worst(&disks, now)?;
    for disk in &disks {
        let requests: Vec<&Request> = disk.requests.iter().collect();
        let mut waiters: Vec<u64> = Vec::new();
        let mut awaited = None;
        for (request, origin) in requests.iter().zip(kernel.request_origins(&requests)) {
            let Ok(origin) = origin else { continue };
            waiters.extend(origin.waiters.iter().map(|w| w.task));
            if let Some(waiter) = origin.waiters.iter().find(|w| w.task == task) {
                awaited = Some(Awaited {
                    op: request.op.clone(),
                    sector: request.sector,
                    bytes: request.bytes,
                    age_ns: request.age_ns,
                    by: waiter.by,
                    is_proven: waiter.is_proven(),
                });
            }
        }
        waiters.sort_unstable();
        waiters.dedup();
        let stall = Stall { waiters: waiters.len(), awaited, ..Stall::of(disk, now) };
        if stall.awaited.is_some() && stall.is_old() {
            return Some(stall);
        }
        if stall.disk == worst.disk {
            worst.waiters = stall.waiters;
        }
    }
    Some(worst)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stall(requests: usize, oldest_ns: Option<u64>) -> Stall {
        let driver = Some("virtio_blk".into());
        Stall { disk: "vda".into(), requests, oldest_ns, driver, waiters: 0, awaited: None }
    }

    #[test]
    fn young_requests_are_work() {
        assert!(!stall(0, None).is_old());
        assert!(!stall(3, Some(OLD_NS - 1)).is_old());
        assert!(stall(3, Some(OLD_NS)).is_old());
        assert!(stall(1, None).is_old(), "a kernel that keeps no times says how many");
    }

    #[test]
    fn a_stall_in_words() {
        let mut stall = stall(2, Some(40_000_000_000));
        let words = "disk vda (virtio_blk) has 2 requests in flight, the oldest for 40.0 s";
        assert_eq!(stall.sentence(), words);
        stall.waiters = 9;
        assert_eq!(stall.sentence(), format!("{words}; 9 tasks wait for them"));
        let op = "READ".to_owned();
        let by = "completion";
        let age_ns = Some(6_200_000_000);
        let awaited = Awaited { op, sector: 8224, bytes: 4096, age_ns, by, is_proven: true };
        let words = "a READ of 4.0 KiB at sector 8224, 6.2 s old (its completion is on the stack)";
        assert_eq!(awaited.to_string(), words);
    }
}
