//! Requests of a multi-queue block device (blk-mq).
//!
//! A `struct request_queue` has one `blk_mq_hw_ctx` per hardware queue: in the
//! array `queue_hw_ctx`, in the xarray `hctx_table` from v5.18 (4e5cc99e1e48)
//! until the array came back. Each has `blk_mq_tags`: bitmaps of the tags given
//! out, `static_rqs` with the requests made for the tags, `rqs` with those that
//! hold one. With an I/O scheduler, requests come from `sched_tags`. Tags may
//! be shared by queues: `request.q` tells whose it is.
//!
//! A request is free when its reference count is 0; otherwise
//! `enum mq_rq_state` tells whether the driver has it.

use rustc_hash::FxHashSet;
use serde::Serialize;

use super::{GendiskLayout, InFlight};
use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::{CString, Embedded, Member};
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct request_queue`, include/linux/blkdev.h
    pub struct RequestQueueLayout for "request_queue" {
        mq_ops: u64 = "mq_ops",
        elevator: u64 = "elevator",
        nr_hw_queues: u32 = "nr_hw_queues",
        array: u64 = "queue_hw_ctx",
        table: Embedded = "hctx_table",
    }
}

layout! {
    /// `struct elevator_queue`, block/elevator.h
    pub struct ElevatorQueueLayout for "elevator_queue" {
        elevator_type: u64 = "type",
    }
}

layout! {
    /// `struct elevator_type`, block/elevator.h
    pub struct ElevatorTypeLayout for "elevator_type" {
        name: CString = "elevator_name",
    }
}

layout! {
    /// `struct blk_mq_hw_ctx`, include/linux/blk-mq.h
    pub struct HwCtxLayout for "blk_mq_hw_ctx" {
        number: u32 = "queue_num",
        tags: u64 = "tags",
        sched_tags: u64 = "sched_tags",
    }
}

layout! {
    /// `struct blk_mq_tags`, include/linux/blk-mq.h (block/blk-mq-tag.h
    /// until v5.17)
    pub struct TagsLayout for "blk_mq_tags" {
        count: u32 = "nr_tags",
        reserved: u32 = "nr_reserved_tags",
        bitmap: Embedded = "bitmap_tags",
        reserved_bitmap: Embedded = "breserved_tags",
        rqs: u64 = "rqs",
        static_rqs: u64 = "static_rqs",
    }
}

layout! {
    /// `struct sbitmap_queue`, include/linux/sbitmap.h
    pub struct SbitmapQueueLayout for "sbitmap_queue" {
        bitmap: Embedded = "sb",
    }
}

layout! {
    /// `struct request`, include/linux/blk-mq.h (blkdev.h until v5.16)
    pub struct RequestLayout for "request" {
        queue: u64 = "q",
        cmd_flags: u32 = "cmd_flags",
        tag: i32 = "tag",
        data_len: u32 = "__data_len",
        sector: u64 = "__sector",
        start_time_ns: u64 = "start_time_ns",
        io_start_time_ns: u64 = "io_start_time_ns",
        state: u32 = "state",
        references: u32 = "ref",
        deadline: u64 = "deadline",
        timeout: u32 = "timeout",
        bio: u64 = "bio",
    }
}

/// A queue per CPU at most; NR_CPUS is 8192 in the largest kernels.
const MOST_QUEUES: u32 = 1 << 14;
/// `REQ_OP_MASK`: the operation's part of `cmd_flags`.
const OP_MASK: u32 = 0xff;

/// How far a request has come (`enum mq_rq_state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// Waits for the driver.
    Queued,
    /// The driver has it.
    InFlight,
    /// The driver is done with it.
    Complete,
    /// None that this table knows.
    Other(u32),
}

impl RequestState {
    fn of(state: u32) -> RequestState {
        match state {
            0 => RequestState::Queued,
            1 => RequestState::InFlight,
            2 => RequestState::Complete,
            other => RequestState::Other(other),
        }
    }
}

/// A request that is not free.
#[derive(Debug, Clone, Serialize)]
pub struct Request {
    /// Address of its `struct request`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Number of its hardware queue.
    pub hw_queue: u32,
    /// Driver tag; -1: it has none yet.
    pub tag: i32,
    /// Operation, as the kernel's `enum req_op` names it ("READ", "WRITE").
    pub op: String,
    /// Whether it counts as a write.
    pub is_write: bool,
    /// Where it has come to.
    pub state: RequestState,
    /// First sector (512 bytes).
    pub sector: u64,
    /// Bytes.
    pub bytes: u32,
    /// When it was made, ns of the monotonic clock; `None`: not kept.
    pub start_ns: Option<u64>,
    /// When the driver got it, ns of the monotonic clock; `None`: not kept.
    pub issued_ns: Option<u64>,
    /// How old it was when the kernel died, in ns (negative ages of requests
    /// made after the last tick count as 0); `None`: not known.
    pub age_ns: Option<u64>,
    /// When it times out, in jiffies (set when the driver gets it).
    pub deadline_jiffies: u64,
    /// Its time limit in jiffies.
    pub timeout_jiffies: u32,
}

/// Counts those that the driver has.
pub(super) fn in_flight(requests: &[Request]) -> InFlight {
    let mut counts = InFlight::default();
    for request in requests.iter().filter(|r| r.state == RequestState::InFlight) {
        match request.is_write {
            true => counts.writes += 1,
            false => counts.reads += 1,
        }
    }
    counts
}

impl Kernel {
    /// Whether blk-mq drives the queue.
    pub(super) fn is_multi_queue(&self, queue: u64) -> Result<bool> {
        Ok(self.layout::<RequestQueueLayout>()?.mq_ops.read(self, queue)? != 0)
    }

    /// Name of the queue's I/O scheduler.
    pub(super) fn scheduler(&self, queue: u64) -> Result<String> {
        match self.layout::<RequestQueueLayout>()?.elevator.read(self, queue)? {
            0 => Ok("none".into()),
            elevator => {
                let ty =
                    self.layout::<ElevatorQueueLayout>()?.elevator_type.read(self, elevator)?;
                self.layout::<ElevatorTypeLayout>()?.name.read(self, ty)
            }
        }
    }

    /// The queue's requests that are not free, oldest first. `now` is the
    /// monotonic clock at death, in ns.
    pub(super) fn requests(&self, queue: u64, now: Option<i64>, gaps: &mut Gaps) -> Vec<Request> {
        let mut found = Vec::new();
        let mut seen = FxHashSet::default();
        let hw_queues = gaps.keep("hardware queues", self.hw_queues(queue)).unwrap_or_default();
        for hctx in hw_queues {
            if let Err(e) = self.hw_queue_requests(queue, hctx, &mut seen, &mut found, gaps) {
                gaps.add("requests", &e);
            }
        }
        for request in &mut found {
            request.age_ns = now.zip(request.start_ns).map(|(now, start)| age(now, start));
        }
        found.sort_by_key(|r| (r.start_ns.unwrap_or(u64::MAX), r.addr));
        found
    }

    fn hw_queues(&self, queue: u64) -> Result<Vec<u64>> {
        let layout = self.layout::<RequestQueueLayout>()?;
        let count = layout.nr_hw_queues.read(self, queue)?;
        if count > MOST_QUEUES {
            return Err(Error::corrupt(format!("a queue of {count} hardware queues"), queue));
        }
        if layout.array.exists() {
            let array = layout.array.read(self, queue)?;
            let words = self.read_bytes(array, u64::from(count) * 8)?;
            return Ok(words_of(&words).filter(|hctx| *hctx != 0).collect());
        }
        let table = self.xarray(layout.table.address(queue)?)?;
        table.take(count as usize).map(|entry| Ok(entry?.1)).collect()
    }

    fn hw_queue_requests(
        &self,
        queue: u64,
        hctx: u64,
        seen: &mut FxHashSet<u64>,
        found: &mut Vec<Request>,
        gaps: &mut Gaps,
    ) -> Result<()> {
        let layout = self.layout::<HwCtxLayout>()?;
        let tags_layout = self.layout::<TagsLayout>()?;
        let number = layout.number.read(self, hctx)?;
        for tags in [layout.tags.read(self, hctx)?, layout.sched_tags.read(self, hctx)?] {
            if tags == 0 {
                continue;
            }
            let arrays = [
                (tags_layout.static_rqs.read(self, tags)?, false),
                (tags_layout.rqs.read(self, tags)?, true),
            ];
            for tag in self.busy_tags(&tags_layout, tags)? {
                for (array, must_hold_tag) in arrays.iter().filter(|a| a.0 != 0) {
                    let addr = self.read_u64(array.wrapping_add(u64::from(tag) * 8));
                    // `rqs` keeps what once held the tag: it must hold it now.
                    let must_have = must_hold_tag.then_some(tag as i32);
                    let request = addr.and_then(|addr| match addr {
                        0 => Ok(None),
                        addr if seen.contains(&addr) => Ok(None),
                        addr => self.read_request(queue, number, addr, must_have),
                    });
                    if let Some(request) = gaps.keep("a request", request).flatten() {
                        seen.insert(request.addr);
                        found.push(request);
                    }
                }
            }
        }
        Ok(())
    }

    /// Tags that are given out. Reserved tags come first and have a bitmap of
    /// their own. Asking the bitmaps first spares reading the free requests,
    /// which a filtered dump may lack.
    fn busy_tags(&self, layout: &TagsLayout, tags: u64) -> Result<Vec<u32>> {
        let count = layout.count.read(self, tags)?;
        let reserved = layout.reserved.read(self, tags)?;
        let mut busy = self.tag_bitmap(&layout.reserved_bitmap, tags)?;
        let others = self.tag_bitmap(&layout.bitmap, tags)?;
        busy.extend(others.into_iter().map(|bit| bit.saturating_add(reserved)));
        if busy.iter().any(|tag| *tag >= count) {
            return Err(Error::corrupt(format!("a set of {count} tags"), tags));
        }
        Ok(busy)
    }

    /// Bits of a `struct sbitmap_queue` that is embedded in the tags, or that
    /// they point to (v5.10 to v5.15).
    fn tag_bitmap(&self, member: &Member<Embedded>, tags: u64) -> Result<Vec<u32>> {
        let at = self.tag_bitmap_address(member, tags)?;
        self.sbitmap(self.layout::<SbitmapQueueLayout>()?.bitmap.address(at)?)
    }

    fn tag_bitmap_address(&self, member: &Member<Embedded>, tags: u64) -> Result<u64> {
        let at = member.address(tags)?;
        if member.place()?.size == 8 { self.read_u64(at) } else { Ok(at) }
    }

    /// The `struct sbitmap_queue` of each hardware queue of a disk, in which
    /// its driver's tags are given out. None if blk-mq does not drive it.
    pub fn disk_tag_bitmaps(&self, disk: u64) -> Result<Vec<u64>> {
        let queue = self.layout::<GendiskLayout>()?.queue.read(self, disk)?;
        if !self.is_multi_queue(queue)? {
            return Ok(Vec::new());
        }
        let tags_of = &self.layout::<HwCtxLayout>()?.tags;
        let bitmap = &self.layout::<TagsLayout>()?.bitmap;
        let mut found: Vec<u64> = Vec::new();
        for hctx in self.hw_queues(queue)? {
            let tags = match tags_of.read(self, hctx)? {
                0 => continue,
                tags => tags,
            };
            let at = self.tag_bitmap_address(bitmap, tags)?;
            // Queues may share their tags (BLK_MQ_F_TAG_HCTX_SHARED).
            if !found.contains(&at) {
                found.push(at);
            }
        }
        Ok(found)
    }

    /// The request at `addr`, if it is in use by `queue`.
    fn read_request(
        &self,
        queue: u64,
        hw_queue: u32,
        addr: u64,
        must_have: Option<i32>,
    ) -> Result<Option<Request>> {
        let layout = self.layout::<RequestLayout>()?;
        let tag = layout.tag.read(self, addr)?;
        if layout.queue.read(self, addr)? != queue
            || layout.references.read(self, addr)? == 0
            || must_have.is_some_and(|must| must != tag)
        {
            return Ok(None);
        }
        let op = layout.cmd_flags.read(self, addr)? & OP_MASK;
        let kept = |ns: u64| Some(ns).filter(|ns| *ns != 0);
        Ok(Some(Request {
            addr,
            hw_queue,
            tag,
            op: self.operation(op),
            is_write: op & 1 == 1,
            state: RequestState::of(layout.state.read(self, addr)?),
            sector: layout.sector.read(self, addr)?,
            bytes: layout.data_len.read(self, addr)?,
            start_ns: layout.start_time_ns.read_if_exists(self, addr)?.and_then(kept),
            age_ns: None,
            issued_ns: layout.io_start_time_ns.read_if_exists(self, addr)?.and_then(kept),
            deadline_jiffies: layout.deadline.read(self, addr)?,
            timeout_jiffies: layout.timeout.read(self, addr)?,
        }))
    }

    /// Name of an operation out of the kernel's own `enum req_op` (`req_opf`
    /// until v5.19): its numbers have moved.
    fn operation(&self, op: u32) -> String {
        let named = ["req_op", "req_opf"].iter().find_map(|name| {
            let ty = self.ty(&format!("enum {name}")).ok()?;
            let found = ty.enumerators().find(|e| e.value as u64 == u64::from(op))?;
            Some(found.name.trim_start_matches("REQ_OP_").to_owned())
        });
        named.unwrap_or_else(|| format!("operation {op}"))
    }
}

/// The clock is as old as the last tick: a younger request is 0 ns old.
fn age(now: i64, start: u64) -> u64 {
    u64::try_from(now).unwrap_or(0).saturating_sub(start)
}

fn words_of(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).map(|word| word.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(op: &str, is_write: bool, state: u32) -> Request {
        Request {
            addr: 0,
            hw_queue: 0,
            tag: 0,
            op: op.into(),
            is_write,
            state: RequestState::of(state),
            sector: 0,
            bytes: 512,
            start_ns: None,
            issued_ns: None,
            age_ns: None,
            deadline_jiffies: 0,
            timeout_jiffies: 0,
        }
    }

    #[test]
    fn only_what_the_driver_has_is_in_flight() {
        let all = [
            request("READ", false, 1),
            request("READ", false, 0),
            request("WRITE", true, 1),
            request("WRITE", true, 1),
            request("WRITE", true, 2),
        ];
        let counts = in_flight(&all);
        assert_eq!((counts.reads, counts.writes, counts.total()), (1, 2, 3));
    }

    #[test]
    fn ages_never_wrap() {
        assert_eq!(age(5_000, 2_000), 3_000);
        assert_eq!(age(2_000, 5_000), 0);
        assert_eq!(age(-1, 5_000), 0);
    }

    #[test]
    fn words_are_little_endian() {
        let bytes = [1, 0, 0, 0, 0, 0, 0, 0x80, 2, 0, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!(words_of(&bytes).collect::<Vec<_>>(), [0x8000_0000_0000_0001, 2]);
    }
}
