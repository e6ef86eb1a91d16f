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
    }
}

layout! {
    /// `struct bio_vec`, include/linux/bvec.h
    pub struct BioVecLayout for "bio_vec" {
        page: u64 = "bv_page",
    }
}

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
    /// What of the request is on its stack ("bio", "page").
    pub by: &'static str,
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

    /// Looks at the stacks of the tasks in uninterruptible sleep.
    fn find_request_waiters(&self, requests: &[&Request], origins: &mut [Result<RequestOrigin>]) {
        let mut words: FxHashMap<u64, (usize, &'static str)> = FxHashMap::default();
        for (i, (request, origin)) in requests.iter().zip(origins.iter()).enumerate() {
            words.insert(request.addr, (i, "request"));
            let Ok(origin) = origin else { continue };
            let known = [(origin.bio, "bio"), (origin.private, "private"), (origin.page, "page")];
            words.extend(known.into_iter().filter(|w| w.0 != 0).map(|(word, by)| (word, (i, by))));
        }
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
            // A completion on this very stack is proof.
            for (_, (i, _)) in words.iter().filter(|(word, _)| range.contains(word)) {
                add(*i, "completion");
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
