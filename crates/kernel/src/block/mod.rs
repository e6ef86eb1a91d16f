//! Disks, their partitions and what is in flight to them.
//!
//! Disks and partitions are the devices of `block_class`. Since v5.11
//! (0d02129e76ed) each is a `struct block_device` that embeds its device and
//! points to its `struct gendisk`; before, a `struct hd_struct`, of which the
//! whole disk's is embedded in the gendisk (`part0`).
//!
//! What is in flight: a queue of blk-mq (`mq_ops` set) knows by its requests
//! (see `request.rs`); a driver that takes bios counts in per-CPU
//! `disk_stats.in_flight`.

mod origin;
mod part;
mod request;

pub use origin::{RequestOrigin, RequestWaiter};
pub use request::{Request, RequestState};

use part::{Found, Parts};
use serde::Serialize;

use crate::device::DeviceLayout;
use crate::error::Result;
use crate::gaps::Gaps;
use crate::layout::Embedded;
use crate::stack::{hex, hex_option};
use crate::virtio::Virtqueue;
use crate::{Kernel, layout};

layout! {
    /// `struct gendisk`, include/linux/blkdev.h (genhd.h until v5.18)
    pub struct GendiskLayout for "gendisk" {
        major: u32 = "major",
        first_minor: u32 = "first_minor",
        name: str = "disk_name",
        queue: u64 = "queue",
        fops: u64 = "fops",
        // Embedded where it is a `struct hd_struct`, else a pointer.
        part0: Embedded = "part0",
    }
}

layout! {
    /// `struct disk_stats`, include/linux/part_stat.h
    pub struct DiskStatsLayout for "disk_stats" {
        ios: Embedded = "ios",
        sectors: Embedded = "sectors",
        in_flight: Embedded = "in_flight",
    }
}

/// A partition.
#[derive(Debug, Clone, Serialize)]
pub struct Partition {
    /// Address of its `struct block_device` (`struct hd_struct` before v5.11).
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its name ("vda1").
    pub name: Option<String>,
    /// Its number on the disk.
    pub number: Option<u8>,
    /// Where it starts, in sectors of 512 bytes.
    pub start_sector: Option<u64>,
    /// Its size in sectors of 512 bytes.
    pub sectors: Option<u64>,
}

/// Requests that a driver has been given and has not completed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct InFlight {
    /// Reads.
    pub reads: u64,
    /// Everything else (the kernel's `op_is_write`: odd operations), and
    /// flushes.
    pub writes: u64,
}

impl InFlight {
    /// Both.
    pub fn total(&self) -> u64 {
        self.reads + self.writes
    }
}

/// Completed work since the disk came, as in /proc/diskstats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Completed {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
}

/// A disk.
#[derive(Debug, Clone, Serialize)]
pub struct Disk {
    /// Address of its `struct gendisk`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its name ("vda").
    pub name: Option<String>,
    /// Major number.
    pub major: Option<u32>,
    /// First minor number.
    pub minor: Option<u32>,
    /// Address of its `struct request_queue`.
    #[serde(serialize_with = "hex_option")]
    pub queue: Option<u64>,
    /// Size in sectors of 512 bytes.
    pub sectors: Option<u64>,
    /// Driver of the device behind it ("virtio_blk"); `None` for loop, ram and
    /// device-mapper disks.
    pub driver: Option<String>,
    /// Symbol of its operations ("virtblk_fops", "dm_blk_dops").
    pub operations: Option<String>,
    /// I/O scheduler ("mq-deadline", "none"); `None` where the driver takes
    /// bios itself.
    pub scheduler: Option<String>,
    /// What the driver was given and has not completed.
    pub in_flight: Option<InFlight>,
    /// What was completed.
    pub completed: Option<Completed>,
    /// Requests that are neither free nor completed, oldest first.
    pub requests: Vec<Request>,
    /// Queues of the virtio device behind it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub virtqueues: Vec<Virtqueue>,
    /// Its partitions.
    pub partitions: Vec<Partition>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// A disk's numbers.
pub(crate) struct Gendisk {
    /// Address of its `struct gendisk`.
    pub(crate) addr: u64,
    /// Major number.
    pub(crate) major: u32,
    /// Address of its operations.
    pub(crate) operations: u64,
}

/// All disks.
#[derive(Debug, Clone, Serialize)]
pub struct Disks {
    /// The disks, in the order in which the kernel found them.
    pub list: Vec<Disk>,
    /// Why some may be missing.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

impl Kernel {
    /// The disks.
    pub fn disks(&self) -> Result<Disks> {
        let parts = Parts::of(self)?;
        let now = self.clock().ok().map(|clock| clock.monotonic_ns);
        let mut gaps = Gaps::default();
        let mut list: Vec<Disk> = Vec::new();
        let mut partitions = Vec::new();
        for found in self.block_devices(&parts, &mut gaps) {
            if !found.whole {
                partitions.push(found);
                continue;
            }
            match self.read_disk(&parts, found.device, found.disk, now) {
                Ok(disk) => list.push(disk),
                Err(e) => gaps.add("a disk", &e),
            }
        }
        for Found { disk, device, .. } in partitions {
            match list.iter_mut().find(|d| d.addr == disk) {
                Some(disk) => match self.read_partition(&parts, device) {
                    Ok(partition) => disk.partitions.push(partition),
                    Err(e) => disk.gaps.add("a partition", &e),
                },
                None => gaps.add("a partition", &crate::Error::corrupt("its disk", disk)),
            }
        }
        Ok(Disks { list, gaps })
    }

    /// The disks with their number and operations, in the order in which they
    /// came. Cheaper than [`disks`](Self::disks).
    pub(crate) fn gendisks(&self) -> Result<Vec<Gendisk>> {
        let layout = self.layout::<GendiskLayout>()?;
        let found = self.block_devices(&Parts::of(self)?, &mut Gaps::default());
        let read = |found: Found| {
            let addr = found.disk;
            let major = layout.major.read(self, addr)?;
            Ok(Gendisk { addr, major, operations: layout.fops.read(self, addr)? })
        };
        found.into_iter().filter(|found| found.whole).map(read).collect()
    }

    fn read_disk(&self, parts: &Parts, device: u64, addr: u64, now: Option<i64>) -> Result<Disk> {
        let layout = self.layout::<GendiskLayout>()?;
        let part0 = parts.of_device(device)?;
        let mut gaps = Gaps::default();
        let queue = gaps.keep("queue", layout.queue.read(self, addr)).filter(|q| *q != 0);
        let stats = gaps.keep("statistics", parts.stats(self, part0)).filter(|s| *s != 0);
        let totals = stats.and_then(|s| gaps.keep("statistics", self.disk_totals(s)));
        let (completed, counted) = totals.unzip();
        let mut requests = Vec::new();
        let mut in_flight = None;
        let mut scheduler = None;
        if let Some(queue) = queue {
            match self.is_multi_queue(queue) {
                Ok(true) => {
                    scheduler = gaps.keep("scheduler", self.scheduler(queue));
                    requests = self.requests(queue, now, &mut gaps);
                    // A hole among the requests would make the count a lie.
                    if gaps.is_empty() {
                        in_flight = Some(request::in_flight(&requests));
                    }
                }
                Ok(false) => in_flight = counted,
                Err(e) => gaps.add("queue", &e),
            }
        }
        let fops = gaps.keep("operations", layout.fops.read(self, addr));
        Ok(Disk {
            addr,
            name: gaps.keep("name", layout.name.read(self, addr)),
            major: gaps.keep("major", layout.major.read(self, addr)),
            minor: gaps.keep("minor", layout.first_minor.read(self, addr)),
            queue,
            sectors: gaps.keep("size", parts.sectors(self, part0)),
            driver: gaps.keep("driver", self.device_driver(device)).flatten(),
            operations: fops.and_then(|f| self.symbol_at(f)).map(|s| s.name),
            scheduler,
            in_flight,
            completed,
            requests,
            virtqueues: gaps
                .keep("virtio queues", self.parent_virtqueues(device))
                .unwrap_or_default(),
            partitions: Vec::new(),
            gaps,
        })
    }

    fn read_partition(&self, parts: &Parts, device: u64) -> Result<Partition> {
        let addr = parts.of_device(device)?;
        Ok(Partition {
            addr,
            name: self.layout::<DeviceLayout>()?.name.read(self, device).ok(),
            number: parts.number(self, addr).ok(),
            start_sector: parts.start_sector(self, addr).ok(),
            sectors: parts.sectors(self, addr).ok(),
        })
    }

    /// Sums of the per-CPU `disk_stats`. The arrays are by `STAT_READ` (0) and
    /// `STAT_WRITE` (1), `in_flight` by direction; one CPU's part of a sum may
    /// be negative.
    fn disk_totals(&self, stats: u64) -> Result<(Completed, InFlight)> {
        let layout = self.layout::<DiskStatsLayout>()?;
        let mut sums = [0u64; 6];
        let arrays = [&layout.ios, &layout.sectors, &layout.in_flight];
        for cpu in self.possible_cpus()? {
            let base = self.per_cpu_ptr(stats, cpu)?;
            for (array, sum) in arrays.iter().zip(sums.chunks_exact_mut(2)) {
                let at = array.address(base)?;
                for (i, sum) in (0u64..).zip(sum) {
                    *sum = sum.wrapping_add(self.read_u64(at.wrapping_add(i * 8))?);
                }
            }
        }
        let [reads, writes, sectors_read, sectors_written, reading, writing] = sums;
        let completed = Completed {
            reads,
            writes,
            bytes_read: sectors_read.wrapping_mul(512),
            bytes_written: sectors_written.wrapping_mul(512),
        };
        // Below zero means that one was counted twice: part_in_flight says 0.
        let floor = |n: u64| (n as i64).max(0) as u64;
        Ok((completed, InFlight { reads: floor(reading), writes: floor(writing) }))
    }
}
