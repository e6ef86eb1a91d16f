//! The CPU and I/O controllers of control groups.
//!
//! A group's share of CPU time is in its `struct task_group`
//! (kernel/sched/sched.h): `shares` is `cpu.shares` of v1 times 1024, and what
//! v2 calls weight is `shares * 100 / 1024`. `cfs_bandwidth` has the quota of
//! `cpu.max` and how often it ran out.
//!
//! Its I/O is counted by device in `struct blkcg_gq` (block/blk-cgroup.h):
//! `iostat.cur` is what the last flush added up, of the groups below, too.

use serde::Serialize;

use crate::cgroup::controller_slot;
use crate::error::Result;
use crate::layout::Embedded;
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct task_group`, kernel/sched/sched.h: as a controller's state
    pub struct CpuGroupLayout for "task_group" {
        css: Embedded = "css",
        shares: u64 = "shares",
        idle: i32 = "idle",
        quota: u64 = "cfs_bandwidth.quota",
        period: u64 = "cfs_bandwidth.period",
        nr_periods: u32 = "cfs_bandwidth.nr_periods",
        nr_throttled: u32 = "cfs_bandwidth.nr_throttled",
        throttled_time: u64 = "cfs_bandwidth.throttled_time",
    }
}

layout! {
    /// `struct blkcg`, block/blk-cgroup.h
    pub struct BlkcgLayout for "blkcg" {
        css: Embedded = "css",
        blkg_list: Embedded = "blkg_list",
    }
}

layout! {
    /// `struct blkcg_gq`, block/blk-cgroup.h: a group on a device
    pub struct BlkcgDeviceLayout for "blkcg_gq" {
        node: Embedded = "blkcg_node",
        bytes: Embedded = "iostat.cur.bytes",
        ios: Embedded = "iostat.cur.ios",
    }
}

/// `scale_load()`: shares are kept with 10 more bits on 64-bit machines.
const SHARES_SHIFT: u32 = 10;

/// CPU time of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CpuCgroup {
    /// Address of its `struct task_group`.
    #[serde(serialize_with = "hex")]
    pub task_group: u64,
    /// `cpu.weight` of v2 (100 by default).
    pub weight: u64,
    /// Runs only when nothing else wants to.
    pub idle: bool,
    /// `cpu.max`: so much in each period, ns; none: no limit.
    pub quota_ns: Option<u64>,
    /// The period, ns.
    pub period_ns: Option<u64>,
    /// Periods that have passed with something to run.
    pub periods: Option<u32>,
    /// In how many of them it ran out of quota.
    pub throttled: Option<u32>,
    /// For how long it was held, all CPUs together.
    pub throttled_ns: Option<u64>,
}

/// I/O of a group and those below it, all devices together, as of the last
/// flush of the counters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IoCgroup {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Devices that it has used.
    pub devices: u32,
}

impl Kernel {
    /// The state of a controller ("cpu_cgrp_subsys") in the group at `cgroup`.
    fn controller_state(&self, cgroup: u64, controller: &str) -> Result<Option<u64>> {
        let Some(slot) = controller_slot(self, controller)? else { return Ok(None) };
        Ok(Some(self.read_u64(cgroup.wrapping_add(slot))?).filter(|state| *state != 0))
    }

    /// CPU time of the group at `cgroup`; none where the controller is off.
    pub fn cgroup_cpu(&self, cgroup: u64) -> Result<Option<CpuCgroup>> {
        let Some(css) = self.controller_state(cgroup, "cpu_cgrp_subsys")? else { return Ok(None) };
        let layout = self.layout::<CpuGroupLayout>()?;
        let addr = css.wrapping_sub(layout.css.offset()?);
        let quota = layout.quota.read_if_exists(self, addr)?;
        let shares = layout.shares.read(self, addr)? >> SHARES_SHIFT;
        Ok(Some(CpuCgroup {
            task_group: addr,
            weight: (shares.saturating_mul(100) + 512) / 1024,
            idle: layout.idle.read_if_exists(self, addr)?.unwrap_or(0) > 0,
            // RUNTIME_INF
            quota_ns: quota.filter(|quota| *quota != u64::MAX),
            period_ns: layout.period.read_if_exists(self, addr)?,
            periods: layout.nr_periods.read_if_exists(self, addr)?,
            throttled: layout.nr_throttled.read_if_exists(self, addr)?,
            throttled_ns: layout.throttled_time.read_if_exists(self, addr)?,
        }))
    }

    /// I/O of the group at `cgroup`; none where the controller is off.
    pub fn cgroup_io(&self, cgroup: u64) -> Result<Option<IoCgroup>> {
        let Some(css) = self.controller_state(cgroup, "io_cgrp_subsys")? else { return Ok(None) };
        let layout = self.layout::<BlkcgLayout>()?;
        let device = self.layout::<BlkcgDeviceLayout>()?;
        let head = layout.blkg_list.address(css.wrapping_sub(layout.css.offset()?))?;
        let mut io = IoCgroup::default();
        for at in self.hlist(head, device.node.offset()?, "the devices of a cgroup") {
            let at = at?;
            // BLKG_IOSTAT_READ, BLKG_IOSTAT_WRITE
            let count = |member: u64, i: u64| self.read_u64(member.wrapping_add(i * 8));
            let (bytes, ios) = (device.bytes.address(at)?, device.ios.address(at)?);
            io.read_bytes = io.read_bytes.saturating_add(count(bytes, 0)?);
            io.written_bytes = io.written_bytes.saturating_add(count(bytes, 1)?);
            io.reads = io.reads.saturating_add(count(ios, 0)?);
            io.writes = io.writes.saturating_add(count(ios, 1)?);
            io.devices += 1;
        }
        Ok(Some(io))
    }
}
