//! Transmit queues: `struct netdev_queue` (include/linux/netdevice.h) and the
//! queueing discipline before it (`struct Qdisc`, include/net/sch_generic.h).
//!
//! A queue that the driver has stopped (`__QUEUE_STATE_DRV_XOFF`) and has not
//! sent from for long is what the transmit watchdog reports.

use serde::Serialize;

use super::not_null;
use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct netdev_queue`, include/linux/netdevice.h
    pub struct NetdevQueueLayout for "netdev_queue" {
        qdisc: u64 = "qdisc",
        state: u64 = "state",
        trans_start: u64 = "trans_start",
        // Byte queue limits (CONFIG_BQL).
        queued: u32 = "dql.num_queued",
        completed: u32 = "dql.num_completed",
    }
}

layout! {
    /// `struct Qdisc`, include/net/sch_generic.h
    pub struct QdiscLayout for "Qdisc" {
        ops: u64 = "ops",
        length: u32 = "q.qlen",
    }
}

layout! {
    /// `struct Qdisc_ops`, include/net/sch_generic.h
    pub struct QdiscOpsLayout for "Qdisc_ops" {
        id: str = "id",
    }
}

/// More than any device has.
const MOST_QUEUES: u32 = 1 << 14;
/// Bits of `netdev_queue.state` (`enum netdev_queue_state_t`).
const DRIVER_OFF: u64 = 1;
const STACK_OFF: u64 = 1 << 1;
const FROZEN: u64 = 1 << 2;

/// A transmit queue.
#[derive(Debug, Clone, Serialize)]
pub struct TxQueue {
    /// Address of its `struct netdev_queue`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// The driver stopped it: its ring is full, or the device is down.
    pub stopped_by_driver: bool,
    /// Stopped by the byte queue limit.
    pub stopped_by_limit: bool,
    /// Frozen for a change of the device.
    pub frozen: bool,
    /// Jiffies at its last transmission (0: never, or the driver does not say).
    pub trans_start_jiffies: u64,
    /// Bytes that the driver has and the hardware has not sent; `None`: the
    /// kernel does not count them.
    pub bytes_in_flight: Option<u32>,
    /// Packets that wait in its queueing discipline; `None`: it has none.
    pub packets_queued: Option<u32>,
}

impl Kernel {
    /// The `count` transmit queues at `array`.
    pub(super) fn tx_queues(
        &self,
        array: u64,
        count: u32,
        gaps: &mut Gaps,
    ) -> Result<Vec<TxQueue>> {
        if count > MOST_QUEUES {
            return Err(Error::corrupt(format!("a device of {count} transmit queues"), array));
        }
        let layout = self.layout::<NetdevQueueLayout>()?;
        let mut queues = Vec::new();
        for i in 0..u64::from(count) {
            let addr = array.wrapping_add(i.wrapping_mul(layout.size));
            if let Some(queue) = gaps.keep("a transmit queue", self.tx_queue(&layout, addr)) {
                queues.push(queue);
            }
        }
        Ok(queues)
    }

    fn tx_queue(&self, layout: &NetdevQueueLayout, addr: u64) -> Result<TxQueue> {
        let state = layout.state.read(self, addr)?;
        let queued = layout.queued.read_if_exists(self, addr)?;
        let completed = layout.completed.read_if_exists(self, addr)?;
        let qdisc = layout.qdisc.read(self, addr)?;
        Ok(TxQueue {
            addr,
            stopped_by_driver: state & DRIVER_OFF != 0,
            stopped_by_limit: state & STACK_OFF != 0,
            frozen: state & FROZEN != 0,
            trans_start_jiffies: layout.trans_start.read(self, addr)?,
            bytes_in_flight: queued.zip(completed).map(|(q, c)| q.wrapping_sub(c)),
            packets_queued: match qdisc {
                0 => None,
                qdisc => Some(self.layout::<QdiscLayout>()?.length.read(self, qdisc)?),
            },
        })
    }

    /// Name of the queueing discipline at `qdisc`.
    pub(super) fn qdisc_name(&self, qdisc: u64) -> Result<String> {
        let qdisc = not_null(qdisc, "the queueing discipline")?;
        let ops = self.layout::<QdiscLayout>()?.ops.read(self, qdisc)?;
        self.layout::<QdiscOpsLayout>()?.id.read(self, not_null(ops, "its operations")?)
    }
}
