//! Wait queues: who sleeps on one.
//!
//! `struct wait_queue_head` (include/linux/wait.h, named so since v4.13) and
//! `struct swait_queue_head` (include/linux/swait.h) are both a lock with a
//! ring of entries behind it. The entries differ: in `wait_queue_entry` a
//! function that wakes stands before the node, in `swait_queue` the task. So
//! each node tells what it is a part of.
//!
//! `private` of a `wait_queue_entry` is the waiting task for most functions.
//! `pollwake` has a `struct poll_wqueues` there, which names the task, and
//! callbacks (epoll, io_uring, workqueues) wake no task of their own.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::lock::node::{SwaitHeadLayout, SwaitLayout, WaitEntryLayout, WaitHeadLayout};
use crate::stack::{hex, hex_option};
use crate::symbol::SymbolAt;
use crate::task::TaskTable;
use crate::{Kernel, layout};

layout! {
    /// `struct wait_queue_entry`: how it waits
    pub struct WaitFlagsLayout for "wait_queue_entry" {
        flags: u32 = "flags",
    }
}

layout! {
    /// `struct poll_wqueues`, include/linux/poll.h
    pub struct PollLayout for "poll_wqueues" {
        polling_task: u64 = "polling_task",
    }
}

/// `WQ_FLAG_EXCLUSIVE` (include/linux/wait.h): woken one at a time.
const EXCLUSIVE: u32 = 1;

/// One entry of a wait queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueEntry {
    /// Address of its `wait_queue_entry` or `swait_queue`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// The task that waits; none: the function wakes none of its own.
    #[serde(serialize_with = "hex_option")]
    pub task: Option<u64>,
    /// What wakes it; none of a simple wait queue.
    pub function: Option<SymbolAt>,
    /// Woken one at a time.
    pub exclusive: bool,
}

/// A wait queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaitQueue {
    /// Address of its head.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Who waits, the next to be woken first.
    pub entries: Vec<QueueEntry>,
    /// Why the rest could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

impl Kernel {
    /// The wait queue whose head is at `addr`, of either kind.
    pub fn wait_queue(&self, addr: u64) -> Result<WaitQueue> {
        let list = self.layout::<WaitHeadLayout>()?.list.offset()?;
        let simple = self.layout::<SwaitHeadLayout>().and_then(|head| head.list.offset());
        // Where the two lie apart, the one that is a ring is meant.
        let lists = [Some(list), simple.ok().filter(|simple| *simple != list)];
        let heads = lists.into_iter().flatten().map(|list| addr.wrapping_add(list));
        let mut heads = heads.filter(|head| self.is_ring(*head));
        let head = heads.next().ok_or_else(|| match self.read_u64(addr) {
            Ok(_) => Error::Unavailable(format!("there is no wait queue at {addr:#x}")),
            Err(error) => error,
        })?;
        let tasks = self.tasks()?;
        let mut queue = WaitQueue { addr, entries: Vec::new(), broken: None };
        for node in self.list(head, 0, "a wait queue") {
            match node.and_then(|node| self.queue_entry(node, tasks)) {
                Ok(entry) => queue.entries.push(entry),
                Err(error) => {
                    queue.broken = Some(error.to_string());
                    break;
                }
            }
        }
        Ok(queue)
    }

    /// Whether a `list_head` at `head` is one: its neighbours point back.
    fn is_ring(&self, head: u64) -> bool {
        let link = |at: u64| self.read_u64(at).ok();
        let (next, prev) = (link(head), link(head.wrapping_add(8)));
        let back = next.and_then(|next| link(next.wrapping_add(8)));
        let forth = prev.and_then(link);
        back == Some(head) && forth == Some(head)
    }

    fn queue_entry(&self, node: u64, tasks: &TaskTable) -> Result<QueueEntry> {
        let layout = self.layout::<WaitEntryLayout>()?;
        let addr = node.wrapping_sub(layout.node.offset()?);
        let func = layout.func.read(self, addr)?;
        if !self.is_text(func) {
            let layout = self.layout::<SwaitLayout>()?;
            let addr = node.wrapping_sub(layout.node.offset()?);
            let task = layout.task.read(self, addr)?;
            let known = tasks.at(task).map(|task| task.addr);
            let known = known.ok_or_else(|| Error::corrupt("an entry of a wait queue", node))?;
            return Ok(QueueEntry { addr, task: Some(known), function: None, exclusive: true });
        }
        let flags = self.layout::<WaitFlagsLayout>()?.flags.read(self, addr)?;
        Ok(QueueEntry {
            addr,
            task: self.waiting_task(layout.private.read(self, addr)?, tasks),
            function: self.symbol_at(func),
            exclusive: flags & EXCLUSIVE != 0,
        })
    }

    /// The task that `wait_queue_entry.private` means.
    fn waiting_task(&self, private: u64, tasks: &TaskTable) -> Option<u64> {
        if private == 0 || tasks.at(private).is_some() {
            return Some(private).filter(|private| *private != 0);
        }
        let polls = self.layout::<PollLayout>().ok()?.polling_task.read(self, private).ok();
        let on_stack_of = || {
            let has = |range: std::ops::Range<u64>| range.contains(&private);
            tasks.list.iter().find(|task| self.stack_range(task).is_ok_and(has))
        };
        let task = polls.and_then(|task| tasks.at(task)).or_else(on_stack_of);
        task.map(|task| task.addr)
    }
}
