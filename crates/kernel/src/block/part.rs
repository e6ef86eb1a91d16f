//! Finding disks and partitions, whatever this kernel keeps them in.
//!
//! The devices of `block_class` are all there are. Where that list is broken
//! (filtered pages), the inodes of the block devices (`blockdev_superblock`,
//! block/bdev.c) give the rest: all of them since v5.11, before only those that
//! were opened.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::GendiskLayout;
use crate::device::DeviceLayout;
use crate::error::Result;
use crate::gaps::Gaps;
use crate::layout::Embedded;
use crate::{Kernel, layout};

layout! {
    /// `struct block_device`, include/linux/blk_types.h, since v5.11
    pub struct BlockDeviceLayout for "block_device" {
        device: Embedded = "bd_device",
        disk: u64 = "bd_disk",
        start_sector: u64 = "bd_start_sect",
        sectors: u64 = "bd_nr_sectors",
        number: u8 = "bd_partno" | "__bd_flags",   // the flags' low 8 bits since v6.10
        stats: u64 = "bd_stats",
    }
}

layout! {
    /// `struct hd_struct`, include/linux/genhd.h, until v5.11
    pub struct HdStructLayout for "hd_struct" {
        device: Embedded = "__dev",
        start_sector: u64 = "start_sect",
        sectors: u64 = "nr_sects",
        number: u8 = "partno",
        stats: u64 = "dkstats",
    }
}

layout! {
    /// `struct bdev_inode`, block/bdev.c (fs/block_dev.c until v5.15)
    pub struct BdevInodeLayout for "bdev_inode" {
        bdev: Embedded = "bdev",
        inode: Embedded = "vfs_inode",
    }
}

layout! {
    /// `struct super_block`, include/linux/fs.h
    pub struct SuperBlockInodesLayout for "super_block" {
        inodes: Embedded = "s_inodes",
    }
}

layout! {
    /// `struct inode`, include/linux/fs.h
    pub struct InodeLinkLayout for "inode" {
        link: Embedded = "i_sb_list",
    }
}

/// No machine has more disks and partitions.
const MOST: usize = 1 << 20;

/// A disk's or partition's device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// Its `struct device`.
    pub(super) device: u64,
    /// Its disk's `struct gendisk`.
    pub(super) disk: u64,
    /// Whether it is the whole disk.
    pub(super) whole: bool,
}

impl Kernel {
    /// Every disk and partition once.
    pub(super) fn block_devices(&self, parts: &Parts, gaps: &mut Gaps) -> Vec<Found> {
        let mut found = Vec::new();
        let mut whole_list = true;
        let mut fail = |e: &crate::Error| {
            gaps.add("disks", e);
            whole_list = false;
        };
        match self.class_devices("block_class") {
            Ok(devices) => {
                for device in devices {
                    let part = device.and_then(|device| {
                        let whole = self.device_type(device)? == "disk";
                        Ok(Found { device, disk: parts.disk(self, device, whole)?, whole })
                    });
                    match part {
                        Ok(part) => found.push(part),
                        Err(e) => fail(&e),
                    }
                }
            }
            Err(e) => fail(&e),
        }
        if !whole_list {
            match self.devices_of_inodes(parts, gaps) {
                Ok(more) => found.extend(more),
                Err(e) => gaps.add("inodes of block devices", &e),
            }
        }
        let mut seen = FxHashSet::default();
        found.retain(|part| seen.insert(part.device));
        found
    }

    fn devices_of_inodes(&self, parts: &Parts, gaps: &mut Gaps) -> Result<Vec<Found>> {
        let layout = self.layout::<BdevInodeLayout>()?;
        let bdev_layout = self.layout::<BlockDeviceLayout>()?;
        let sb = self.read_u64(self.symbol("blockdev_superblock")?)?;
        let head = self.layout::<SuperBlockInodesLayout>()?.inodes.address(sb)?;
        let link = self.layout::<InodeLinkLayout>()?.link.offset()?;
        let mut found = Vec::new();
        for inode in self.list(head, link, "the inodes of block devices").take(MOST) {
            let part = inode.and_then(|inode| {
                let container = inode.wrapping_sub(layout.inode.offset()?);
                let bdev = layout.bdev.address(container)?;
                let disk = bdev_layout.disk.read(self, bdev)?;
                parts.of_block_device(self, bdev, disk)
            });
            found.extend(gaps.keep("a block device", part).flatten());
        }
        Ok(found)
    }
}

/// What holds the device of a disk or partition.
pub(super) enum Parts {
    BlockDevice(Arc<BlockDeviceLayout>),
    HdStruct(Arc<HdStructLayout>),
}

impl Parts {
    pub(super) fn of(kernel: &Kernel) -> Result<Parts> {
        match kernel.layout::<HdStructLayout>() {
            Ok(layout) => Ok(Parts::HdStruct(layout)),
            Err(_) => Ok(Parts::BlockDevice(kernel.layout()?)),
        }
    }

    /// The part whose device is at `device`.
    pub(super) fn of_device(&self, device: u64) -> Result<u64> {
        let offset = match self {
            Parts::BlockDevice(l) => l.device.offset()?,
            Parts::HdStruct(l) => l.device.offset()?,
        };
        Ok(device.wrapping_sub(offset))
    }

    /// The disk that the part with `device` belongs to.
    pub(super) fn disk(&self, kernel: &Kernel, device: u64, whole: bool) -> Result<u64> {
        match self {
            Parts::BlockDevice(l) => l.disk.read(kernel, self.of_device(device)?),
            Parts::HdStruct(_) => {
                // A partition's parent device is its disk's.
                let parent = kernel.layout::<DeviceLayout>()?.parent.read(kernel, device);
                let of_disk = if whole { device } else { parent? };
                let part0 = kernel.layout::<GendiskLayout>()?.part0.offset()?;
                Ok(self.of_device(of_disk)?.wrapping_sub(part0))
            }
        }
    }

    /// What the `struct block_device` of an inode stands for. Before v5.11 it
    /// is no home of a device: only its disk is taken from it.
    fn of_block_device(&self, kernel: &Kernel, bdev: u64, disk: u64) -> Result<Option<Found>> {
        if disk == 0 {
            return Ok(None);
        }
        Ok(Some(match self {
            Parts::BlockDevice(l) => Found {
                device: l.device.address(bdev)?,
                disk,
                whole: l.number.read(kernel, bdev)? == 0,
            },
            Parts::HdStruct(l) => {
                let part0 = kernel.layout::<GendiskLayout>()?.part0.address(disk)?;
                Found { device: l.device.address(part0)?, disk, whole: true }
            }
        }))
    }

    pub(super) fn sectors(&self, kernel: &Kernel, part: u64) -> Result<u64> {
        match self {
            Parts::BlockDevice(l) => l.sectors.read(kernel, part),
            Parts::HdStruct(l) => l.sectors.read(kernel, part),
        }
    }

    pub(super) fn start_sector(&self, kernel: &Kernel, part: u64) -> Result<u64> {
        match self {
            Parts::BlockDevice(l) => l.start_sector.read(kernel, part),
            Parts::HdStruct(l) => l.start_sector.read(kernel, part),
        }
    }

    pub(super) fn number(&self, kernel: &Kernel, part: u64) -> Result<u8> {
        match self {
            Parts::BlockDevice(l) => l.number.read(kernel, part),
            Parts::HdStruct(l) => l.number.read(kernel, part),
        }
    }

    pub(super) fn stats(&self, kernel: &Kernel, part: u64) -> Result<u64> {
        match self {
            Parts::BlockDevice(l) => l.stats.read(kernel, part),
            Parts::HdStruct(l) => l.stats.read(kernel, part),
        }
    }
}
