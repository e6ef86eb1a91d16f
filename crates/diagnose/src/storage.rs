//! Whether a disk has requests that it does not answer.

use crate::case::Case;
use crate::text::{count, duration};

/// Requests younger than this are work, not a stall.
const OLD_NS: u64 = 5_000_000_000;

/// A disk that owes answers.
pub(crate) struct Stall {
    /// Its name.
    pub(crate) disk: String,
    /// Requests that its driver has.
    requests: usize,
    /// Age of the oldest, ns.
    oldest_ns: Option<u64>,
    driver: Option<String>,
}

impl Stall {
    /// "disk vda (virtio_blk) has 12 requests in flight, the oldest for 40 s".
    pub(crate) fn sentence(&self) -> String {
        let driver = self.driver.as_ref().map_or(String::new(), |d| format!(" ({d})"));
        let age =
            self.oldest_ns.map_or(String::new(), |n| format!(", the oldest for {}", duration(n)));
        format!("disk {}{driver} has {} in flight{age}", self.disk, count(self.requests, "request"))
    }
}

/// The disk with the oldest unanswered request, if any is old.
pub(crate) fn stall(case: &Case<'_>) -> Option<Stall> {
    let kernel = case.kernel()?;
    let disks = kernel.disks().ok()?;
    let now = kernel.clock().ok().and_then(|c| u64::try_from(c.monotonic_ns).ok());
    disks
        .list
        .iter()
        .filter(|d| !d.requests.is_empty())
        .map(|disk| {
            let oldest = disk.requests.iter().filter_map(|r| r.issued_ns.or(r.start_ns)).min();
            Stall {
                disk: disk.name.clone().unwrap_or_else(|| "without a name".into()),
                requests: disk.requests.len(),
                oldest_ns: now.zip(oldest).map(|(now, then)| now.saturating_sub(then)),
                driver: disk.driver.clone(),
            }
        })
        .filter(|s| s.oldest_ns.is_none_or(|age| age >= OLD_NS))
        .max_by_key(|s| s.oldest_ns)
}
