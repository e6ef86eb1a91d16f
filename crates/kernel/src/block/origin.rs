//! Who is behind a request: its bio, what is called when it ends, and the tasks
//! that wait for it.
//!
//! A `struct bio` (include/linux/blk_types.h) carries what its submitter wants
//! back in `bi_private`: for one that is waited for (`submit_bio_wait`) a
//! completion on the submitter's own stack, for a block of a file system its
//! `buffer_head`. Who waits for a page or a buffer has its address on the stack,
//! too: so do the registers that its sleeping frames saved. A task in
//! uninterruptible sleep with such a word on its stack is named as one that
//! waits, and by which word it was found.

use rustc_hash::FxHashMap;
use serde::Serialize;

use super::request::{Request, RequestLayout};
use crate::error::Result;
use crate::stack::hex;
use crate::symbol::SymbolAt;
use crate::task::{Task, TaskState};
use crate::{Kernel, layout};

layout! {
    /// `struct bio`, include/linux/blk_types.h
    pub struct BioLayout for "bio" {
        end: u64 = "bi_end_io",
        private: u64 = "bi_private",
        vectors: u64 = "bi_io_vec",
        count: u16 = "bi_vcnt",
        next: u64 = "bi_next",
    }
}

layout! {
    /// `struct bio_vec`, include/linux/bvec.h
    pub struct BioVecLayout for "bio_vec" {
        page: u64 = "bv_page",
    }
}

/// Bios that one request is looked through for: one of 1 KiB blocks has no more at the largest
/// usual size (`max_sectors_kb` 1280).
const MOST_BIOS: usize = 1280;
/// Pages that one request is looked through for: 16 MiB.
const MOST_PAGES: u64 = 4096;

/// What is behind a request.
#[derive(Debug, Clone, Serialize)]
pub struct RequestOrigin {
    /// Address of its first `struct bio`; 0: it has none (a flush).
    #[serde(serialize_with = "hex")]
    pub bio: u64,
    /// What is called when the bio ends.
    pub end: Option<SymbolAt>,
    /// What that gets: a completion, a `buffer_head`, ...
    #[serde(serialize_with = "hex")]
    pub private: u64,
    /// Address of the `struct page` of its first bytes, 0: none.
    #[serde(serialize_with = "hex")]
    pub page: u64,
    /// Tasks that seem to wait for it.
    pub waiters: Vec<RequestWaiter>,
}

/// A task that seems to wait for a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestWaiter {
    /// Address of its `struct task_struct`.
    #[serde(serialize_with = "hex")]
    pub task: u64,
    /// Its thread ID.
    pub pid: i32,
    /// Its name.
    pub comm: String,
    /// What of the request is on its stack: "completion" or "own bio" where that lies there, else
    /// what a word there points to ("bio", "page", "private", "request").
    pub by: &'static str,
}

/// `by` where the completion that the request ends in lies on the task's stack.
const COMPLETION: &str = "completion";
/// `by` where the bio itself does.
const OWN_BIO: &str = "own bio";

impl RequestWaiter {
    /// Whether it is proven: only a task that waits keeps on its stack what a request ends in.
    pub fn is_proven(&self) -> bool {
        [COMPLETION, OWN_BIO].contains(&self.by)
    }
}

impl Kernel {
    /// What is behind each of `requests`, in their order.
    pub fn request_origins(&self, requests: &[&Request]) -> Vec<Result<RequestOrigin>> {
        let mut origins: Vec<Result<RequestOrigin>> =
            requests.iter().map(|request| self.request_origin(request)).collect();
        if !origins.is_empty() {
            self.find_request_waiters(requests, &mut origins);
        }
        origins
    }

    fn request_origin(&self, request: &Request) -> Result<RequestOrigin> {
        let bio = self.layout::<RequestLayout>()?.bio.read(self, request.addr)?;
        let mut origin = RequestOrigin { bio, end: None, private: 0, page: 0, waiters: Vec::new() };
        if bio == 0 {
            return Ok(origin);
        }
        let layout = self.layout::<BioLayout>()?;
        origin.end = self.symbol_at(layout.end.read(self, bio)?);
        origin.private = layout.private.read(self, bio)?;
        let vectors = layout.vectors.read(self, bio)?;
        if vectors != 0 {
            origin.page = self.layout::<BioVecLayout>()?.page.read(self, vectors)?;
        }
        Ok(origin)
    }

    /// Calls `see` with address, private word and pages of each bio that was merged into a request,
    /// from `first` on.
    fn for_each_bio(&self, first: u64, see: &mut dyn FnMut(u64, u64, &[u64])) -> Result<()> {
        let layout = self.layout::<BioLayout>()?;
        let vector = self.layout::<BioVecLayout>()?;
        let (mut bio, mut left) = (first, MOST_PAGES);
        for _ in 0..MOST_BIOS {
            if bio == 0 {
                break;
            }
            let count = u64::from(layout.count.read(self, bio)?).min(left);
            left -= count;
            let vectors = layout.vectors.read(self, bio)?;
            let at = |i: u64| vectors.wrapping_add(i.wrapping_mul(vector.size));
            let pages: Vec<u64> =
                (0..count).map_while(|i| vector.page.read(self, at(i)).ok()).collect();
            see(bio, layout.private.read(self, bio)?, &pages);
            bio = layout.next.read(self, bio)?;
        }
        Ok(())
    }

    /// Looks at the stacks of the tasks in uninterruptible sleep.
    fn find_request_waiters(&self, requests: &[&Request], origins: &mut [Result<RequestOrigin>]) {
        let mut words: FxHashMap<u64, (usize, &'static str)> = FxHashMap::default();
        // What may lie on a stack, by address.
        let mut ends: Vec<(u64, usize, &'static str)> = Vec::new();
        for (i, (request, origin)) in requests.iter().zip(origins.iter()).enumerate() {
            words.insert(request.addr, (i, "request"));
            let Ok(origin) = origin else { continue };
            // What cannot be read of further bios names no waiter: nothing is told wrongly.
            let _ = self.for_each_bio(origin.bio, &mut |bio, private, pages| {
                ends.extend([(private, i, COMPLETION), (bio, i, OWN_BIO)]);
                let pages = pages.iter().map(|page| (*page, "page"));
                let known = [(bio, "bio"), (private, "private")].into_iter().chain(pages);
                words.extend(known.filter(|w| w.0 != 0).map(|(word, by)| (word, (i, by))));
            });
        }
        ends.sort_unstable();
        let Ok(tasks) = self.tasks() else { return };
        let asleep = |task: &&Task| task.state == TaskState::Uninterruptible;
        for task in tasks.list.iter().filter(asleep) {
            let Ok(range) = self.stack_range(task) else { continue };
            // Below the innermost frame lie words of earlier calls.
            let frames = self.stack(task).frames;
            let from = frames.first().map_or(range.start, |f| f.at).max(range.start) & !7;
            let Some(len) = range.end.checked_sub(from) else { continue };
            let Ok(stack) = self.read_bytes(from, len) else { continue };
            let mut add = |i: usize, by: &'static str| {
                let Some(Ok(origin)) = origins.get_mut(i) else { return };
                if !origin.waiters.iter().any(|w| w.task == task.addr) {
                    let (task, pid, comm) = (task.addr, task.pid, task.comm.clone());
                    origin.waiters.push(RequestWaiter { task, pid, comm, by });
                }
            };
            // What a request ends in, on this very stack, is proof.
            let first = ends.partition_point(|end| end.0 < from);
            let own: Vec<_> = ends.iter().skip(first).take_while(|e| e.0 < range.end).collect();
            for kind in [COMPLETION, OWN_BIO] {
                own.iter().filter(|end| end.2 == kind).for_each(|end| add(end.1, kind));
            }
            for word in stack.chunks_exact(8) {
                let word = word.try_into().map(u64::from_le_bytes).unwrap_or(0);
                if let Some((i, by)) = words.get(&word) {
                    add(*i, by);
                }
            }
        }
    }
}
