//! Numbers of character and block devices, and what answers to them.
//!
//! `chrdevs` (fs/char_dev.c) has the ranges of numbers that were registered, in
//! 255 chains by major number: `struct char_device_struct`. What was added to
//! such a range is in `cdev_map`, a `struct kobj_map` (drivers/base/map.c) of
//! 255 chains of probes: a probe's `data` is its `struct cdev`. A driver that
//! registers both at once leaves its `cdev` in the range, too. `major_names`
//! (block/genhd.c) has the block drivers' `struct blk_major_name`.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::{Embedded, place_of, read_integer};
use crate::stack::hex;
use crate::symbol::SymbolAt;
use crate::{Kernel, layout};

layout! {
    /// `struct char_device_struct`, fs/char_dev.c
    pub struct CharDeviceLayout for "char_device_struct" {
        next: u64 = "next",
        major: u32 = "major",
        first_minor: u32 = "baseminor",
        minors: u32 = "minorct",
        name: str = "name",
        cdev: u64 = "cdev",
    }
}

layout! {
    /// `struct cdev`, include/linux/cdev.h
    pub struct CdevLayout for "cdev" {
        operations: u64 = "ops",
    }
}

layout! {
    /// `struct kobj_map`, drivers/base/map.c
    pub struct KobjMapLayout for "kobj_map" {
        probes: Embedded = "probes",
    }
}

layout! {
    /// `struct blk_major_name`, block/genhd.c
    pub struct BlkMajorNameLayout for "blk_major_name" {
        next: u64 = "next",
        major: u32 = "major",
        name: str = "name",
    }
}

/// Chains of a table (`CHRDEV_MAJOR_HASH_SIZE`, `BLKDEV_MAJOR_HASH_SIZE`).
const CHAINS: u64 = 255;
/// Ranges or probes of one chain.
const MOST: usize = 1 << 16;
/// Bits of a minor number (include/linux/kdev_t.h).
const MINOR_BITS: u32 = 20;

/// A registered range of character devices.
#[derive(Debug, Clone, Serialize)]
pub struct CharDevices {
    /// Major number.
    pub major: u32,
    /// First minor number.
    pub first_minor: u32,
    /// How many minor numbers.
    pub minors: u32,
    /// Its name.
    pub name: String,
    /// What answers to its first number.
    #[serde(flatten)]
    pub device: Option<CharDevice>,
}

/// What answers to a character device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CharDevice {
    /// Address of its `struct cdev`.
    #[serde(serialize_with = "hex")]
    pub cdev: u64,
    /// Its operations.
    pub operations: Option<SymbolAt>,
    /// Address of these.
    #[serde(serialize_with = "hex")]
    pub operations_addr: u64,
}

/// A block driver's number.
#[derive(Debug, Clone, Serialize)]
pub struct BlockMajor {
    /// Major number.
    pub major: u32,
    /// Its name.
    pub name: String,
    /// Address of the `struct gendisk` of a disk with that number: the one
    /// that came last. `None`: there is none.
    #[serde(serialize_with = "crate::stack::hex_option")]
    pub gendisk: Option<u64>,
    /// That disk's operations.
    pub operations: Option<SymbolAt>,
}

/// A probe of a `struct kobj_map`.
struct Probe {
    device: u32,
    data: u64,
}

impl Kernel {
    /// Character devices, in the order of /proc/devices' table.
    pub fn char_devices(&self) -> Result<(Vec<CharDevices>, Gaps)> {
        let layout = self.layout::<CharDeviceLayout>()?;
        let next = layout.next.offset()?;
        let (mut list, mut gaps) = (Vec::new(), Gaps::default());
        for first in self.chains(self.symbol("chrdevs")?)? {
            for addr in self.chain(first, next, "the character devices").take(MOST) {
                let read = |addr: u64| {
                    let major = layout.major.read(self, addr)?;
                    let first_minor = layout.first_minor.read(self, addr)?;
                    let cdev = layout.cdev.read(self, addr)?;
                    Ok(CharDevices {
                        major,
                        first_minor,
                        minors: layout.minors.read(self, addr)?,
                        name: layout.name.read(self, addr)?,
                        device: self.char_device(cdev, major, first_minor)?,
                    })
                };
                list.extend(gaps.keep("character devices", addr.and_then(read)));
            }
        }
        Ok((list, gaps))
    }

    /// What answers to a number: `cdev`, or where it is NULL what was added to
    /// the map.
    fn char_device(&self, cdev: u64, major: u32, minor: u32) -> Result<Option<CharDevice>> {
        let mut cdev = cdev;
        if cdev == 0 {
            let map = self.read_u64(self.symbol("cdev_map")?)?;
            let wanted = major << MINOR_BITS | minor;
            let probes = self.probes(map, major)?;
            cdev = probes.iter().find(|p| p.device == wanted).map_or(0, |p| p.data);
        }
        if cdev == 0 {
            return Ok(None);
        }
        let operations = self.layout::<CdevLayout>()?.operations.read(self, cdev)?;
        Ok(Some(CharDevice {
            cdev,
            operations: self.symbol_at(operations),
            operations_addr: operations,
        }))
    }

    /// The probes that may answer to `major`.
    fn probes(&self, map: u64, major: u32) -> Result<Vec<Probe>> {
        // `struct probe` is declared inside `struct kobj_map`; other drivers
        // have structures of that name.
        let map_type = self.ty("kobj_map")?;
        let probe = map_type.member("probes").and_then(|m| m.ty.strip().target()?.strip().target());
        let probe = probe.ok_or_else(|| Error::NoType("struct probe of kobj_map".into()))?;
        let place = |name: &str| {
            place_of(probe.strip(), name)
                .ok_or_else(|| Error::NoMember { ty: "probe".into(), names: name.into() })
        };
        let (next, device, data) = (place("next")?, place("dev")?, place("data")?);
        let heads = self.layout::<KobjMapLayout>()?.probes.address(map)?;
        let first = self.read_u64(heads.wrapping_add(u64::from(major) % CHAINS * 8))?;
        let chain = self.chain(first, next.offset, "the probes of device numbers").take(MOST);
        let read = |addr: Result<u64>| {
            let addr = addr?;
            let device = read_integer(self, addr.wrapping_add(device.offset), &device)? as u32;
            let data = self.read_u64(addr.wrapping_add(data.offset))?;
            Ok(Probe { device, data })
        };
        chain.map(read).collect()
    }

    /// Numbers of block drivers.
    pub fn block_majors(&self) -> Result<(Vec<BlockMajor>, Gaps)> {
        let layout = self.layout::<BlkMajorNameLayout>()?;
        let next = layout.next.offset()?;
        let (mut list, mut gaps) = (Vec::new(), Gaps::default());
        let disks = gaps.keep("disks", self.gendisks()).unwrap_or_default();
        for first in self.chains(self.symbol("major_names")?)? {
            for addr in self.chain(first, next, "the block drivers").take(MOST) {
                let read = |addr: u64| {
                    let major = layout.major.read(self, addr)?;
                    let disk = disks.iter().rev().find(|disk| disk.major == major);
                    Ok(BlockMajor {
                        major,
                        name: layout.name.read(self, addr)?,
                        gendisk: disk.map(|disk| disk.addr),
                        operations: disk.and_then(|disk| self.symbol_at(disk.operations)),
                    })
                };
                list.extend(gaps.keep("block drivers", addr.and_then(read)));
            }
        }
        Ok((list, gaps))
    }

    /// First elements of the chains of a table that are not empty.
    fn chains(&self, table: u64) -> Result<Vec<u64>> {
        let heads = self.read_bytes(table, CHAINS * 8)?;
        let word = |w: &[u8]| w.try_into().map(u64::from_le_bytes).unwrap_or(0);
        Ok(heads.chunks_exact(8).map(word).filter(|first| *first != 0).collect())
    }
}
