//! Queues of virtio devices (include/linux/virtio.h).
//!
//! A `struct virtio_device` embeds its `struct device`, on the bus "virtio",
//! and has its queues on the ring `vqs`. How much of a ring is in use tells a
//! device that no longer answers from one that has nothing to do.

use serde::Serialize;

use crate::device::{DeviceDriverLayout, DeviceLayout};
use crate::error::Result;
use crate::gaps::Gaps;
use crate::layout::{CString, Embedded};
use crate::stack::hex;
use crate::virtio_ring::Vring;
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
        name: CString = "dev.kobj.name",
        driver: u64 = "dev.driver",
        kind: u32 = "id.device",
        failed: bool = "failed",
        features: u64 = "features",
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
    /// Its ring; `None`: not found, or a packed one in order.
    pub ring: Option<Vring>,
    /// Whether that is a packed one; `None`: the kernel's types don't tell.
    pub packed: Option<bool>,
}

/// A virtio device.
#[derive(Debug, Clone, Serialize)]
pub struct VirtioDevice {
    /// Address of its `struct virtio_device`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its name ("virtio0").
    pub name: Option<String>,
    /// What it is ("network card").
    pub kind: &'static str,
    /// Its number of that (virtio specification, 5).
    pub id: u32,
    /// Its driver.
    pub driver: Option<String>,
    /// The driver has given it up.
    pub failed: bool,
    /// Bits of the features that device and driver agreed on.
    #[serde(serialize_with = "hex")]
    pub features: u64,
    /// Names of those that all devices share.
    pub feature_names: Vec<&'static str>,
    /// Its queues.
    pub queues: Vec<Virtqueue>,
}

/// Kinds of devices (include/uapi/linux/virtio_ids.h).
fn kind_name(id: u32) -> &'static str {
    match id {
        1 => "network card",
        2 => "block device",
        3 => "console",
        4 => "entropy source",
        5 => "memory balloon",
        8 => "SCSI host",
        9 => "9P transport",
        16 => "GPU",
        18 => "input device",
        19 => "socket device",
        20 => "crypto device",
        24 => "memory device",
        25 => "sound device",
        26 => "file system",
        27 => "pmem",
        _ => "other device",
    }
}

/// Features of the transport (include/uapi/linux/virtio_config.h, virtio_ring.h).
const FEATURES: [(u32, &str); 11] = [
    (28, "RING_INDIRECT_DESC"),
    (29, "RING_EVENT_IDX"),
    (32, "VERSION_1"),
    (33, "ACCESS_PLATFORM"),
    (34, "RING_PACKED"),
    (35, "IN_ORDER"),
    (36, "ORDER_PLATFORM"),
    (37, "SR_IOV"),
    (38, "NOTIFICATION_DATA"),
    (39, "NOTIF_CONFIG_DATA"),
    (40, "RING_RESET"),
];

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
        self.virtqueues(parent.wrapping_sub(virtio.device.offset()?))
    }

    /// The virtio devices, in the order in which they came.
    pub fn virtio_devices(&self) -> Result<(Vec<VirtioDevice>, Gaps)> {
        let (mut devices, mut gaps) = (Vec::new(), Gaps::default());
        let layout = self.layout::<VirtioDeviceLayout>()?;
        for device in self.bus_devices("virtio_bus")? {
            let read = |device: u64| {
                let addr = device.wrapping_sub(layout.device.offset()?);
                let features = layout.features.read(self, addr)?;
                let driver = match layout.driver.read(self, addr)? {
                    0 => None,
                    driver => self.layout::<DeviceDriverLayout>()?.name.read(self, driver).ok(),
                };
                let id = layout.kind.read(self, addr)?;
                let agreed = FEATURES.iter().filter(|(bit, _)| features >> bit & 1 == 1);
                Ok(VirtioDevice {
                    addr,
                    name: layout.name.read(self, addr).ok(),
                    kind: kind_name(id),
                    id,
                    driver,
                    failed: layout.failed.read(self, addr)?,
                    features,
                    feature_names: agreed.map(|feature| feature.1).collect(),
                    queues: self.virtqueues(addr)?,
                })
            };
            devices.extend(gaps.keep("virtio devices", device.and_then(read)));
        }
        Ok((devices, gaps))
    }

    /// The queues of the `struct virtio_device` at `device`.
    fn virtqueues(&self, device: u64) -> Result<Vec<Virtqueue>> {
        let virtio = self.layout::<VirtioDeviceLayout>()?;
        let queue = self.layout::<VirtqueueLayout>()?;
        let head = virtio.queues.address(device)?;
        let ring = self.list(head, queue.list.offset()?, "the queues of a virtio device");
        let queues = ring.take(MOST).map(|addr| {
            let addr = addr?;
            Ok(Virtqueue {
                addr,
                index: queue.index.read(self, addr)?,
                name: queue.name.read(self, addr).ok(),
                free: queue.free.read(self, addr)?,
                size: queue.most.read_if_exists(self, addr)?,
                ring: self.vring(addr)?,
                packed: self.has_packed_ring(addr),
            })
        });
        queues.collect()
    }
}
