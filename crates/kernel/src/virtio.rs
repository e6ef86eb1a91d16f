//! Queues of virtio devices (include/linux/virtio.h).
//!
//! A `struct virtio_device` embeds its `struct device`, on the bus "virtio",
//! and has its queues on the ring `vqs`. How much of a ring is in use tells a
//! device that no longer answers from one that has nothing to do.

use serde::Serialize;

use crate::device::DeviceLayout;
use crate::error::Result;
use crate::layout::{CString, Embedded};
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct bus_type`, include/linux/device/bus.h
    pub struct BusTypeLayout for "bus_type" {
        name: CString = "name",
    }
}

layout! {
    /// `struct virtio_device`, include/linux/virtio.h
    pub struct VirtioDeviceLayout for "virtio_device" {
        device: Embedded = "dev",
        queues: Embedded = "vqs",
    }
}

layout! {
    /// `struct virtqueue`, include/linux/virtio.h
    pub struct VirtqueueLayout for "virtqueue" {
        list: Embedded = "list",
        name: CString = "name",
        index: u32 = "index",
        free: u32 = "num_free",
        most: u32 = "num_max", // since v6.1
    }
}

/// A device has no more queues.
const MOST: usize = 1 << 16;

/// A queue of a virtio device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Virtqueue {
    /// Address of its `struct virtqueue`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its number on the device.
    pub index: u32,
    /// Its name ("input.0", "req.0").
    pub name: Option<String>,
    /// Descriptors that are free.
    pub free: u32,
    /// Most descriptors that the device allows for it; `None`: the kernel does
    /// not keep that.
    pub size: Option<u32>,
}

impl Kernel {
    /// Queues of the virtio device that is the parent of `device` (a disk's or
    /// an interface's); none when the parent is of another kind.
    pub(crate) fn parent_virtqueues(&self, device: u64) -> Result<Vec<Virtqueue>> {
        let layout = self.layout::<DeviceLayout>()?;
        let parent = layout.parent.read(self, device)?;
        if parent == 0 {
            return Ok(Vec::new());
        }
        let bus = layout.bus.read(self, parent)?;
        if bus == 0 || self.layout::<BusTypeLayout>()?.name.read(self, bus)? != "virtio" {
            return Ok(Vec::new());
        }
        let virtio = self.layout::<VirtioDeviceLayout>()?;
        let queue = self.layout::<VirtqueueLayout>()?;
        let head = virtio.queues.address(parent.wrapping_sub(virtio.device.offset()?))?;
        let ring = self.list(head, queue.list.offset()?, "the queues of a virtio device");
        let queues = ring.take(MOST).map(|addr| {
            let addr = addr?;
            Ok(Virtqueue {
                addr,
                index: queue.index.read(self, addr)?,
                name: queue.name.read(self, addr).ok(),
                free: queue.free.read(self, addr)?,
                size: queue.most.read_if_exists(self, addr)?,
            })
        });
        queues.collect()
    }
}
