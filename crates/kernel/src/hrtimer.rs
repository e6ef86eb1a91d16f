//! High-resolution timers.
//!
//! Each CPU has a `struct hrtimer_cpu_base` in `hrtimer_bases`
//! (include/linux/hrtimer_defs.h) with one `clock_base` per clock, for expiry in
//! interrupt context and again for expiry in softirq context. The timers of a
//! clock base are in a tree by expiry: `active`, a `timerqueue_head` whose nodes
//! begin with their `rb_node` (a `timerqueue_linked_head` since v7.1). A base names its clock by
//! the function `get_time` until v6.18 (009eb5da29a9), and by its `index` in
//! `enum hrtimer_base_type`. `offset` is added to monotonic time.

use std::sync::Arc;

use serde::Serialize;

use crate::error::Result;
use crate::gaps::Gaps;
use crate::layout::Embedded;
use crate::stack::hex;
use crate::symbol::SymbolAt;
use crate::timer::Woken;
use crate::{Kernel, layout};

layout! {
    /// `struct hrtimer_cpu_base`, include/linux/hrtimer_defs.h
    pub struct HrtimerCpuBaseLayout for "hrtimer_cpu_base" {
        clock_base: Embedded = "clock_base",
    }
}

layout! {
    /// `struct hrtimer_clock_base`, include/linux/hrtimer_defs.h
    pub struct HrtimerClockBaseLayout for "hrtimer_clock_base" {
        index: u32 = "index",
        active: Embedded = "active",
        get_time: u64 = "get_time",
        offset: i64 = "offset",
        running: u64 = "running",
    }
}

layout! {
    /// `struct hrtimer`, include/linux/hrtimer_types.h (hrtimer.h until v6.9)
    pub struct HrtimerLayout for "hrtimer" {
        node: Embedded = "node",
        expires: i64 = "node.expires",
        soft_expires: i64 = "_softexpires",
        function: u64 = "function",
    }
}

layout! {
    /// `struct hrtimer_sleeper`, include/linux/hrtimer.h
    pub struct HrtimerSleeperLayout for "hrtimer_sleeper" {
        timer: Embedded = "timer",
        task: u64 = "task",
    }
}

/// Timers of one clock base.
const MOST: usize = 1 << 22;
/// Clock bases of a CPU are 8.
const MOST_BASES: u64 = 64;

/// The timers of a CPU.
#[derive(Debug, Clone, Serialize)]
pub struct HrtimerCpu {
    /// The CPU.
    pub cpu: u32,
    /// Address of its `struct hrtimer_cpu_base`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its clock bases.
    pub clocks: Vec<HrtimerClock>,
}

/// The timers of a clock.
#[derive(Debug, Clone, Serialize)]
pub struct HrtimerClock {
    /// Address of its `struct hrtimer_clock_base`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its position among the CPU's.
    pub index: u32,
    /// The function that reads the clock, or where bases have none, the base's
    /// name ("HRTIMER_BASE_MONOTONIC").
    pub name: Option<String>,
    /// The clock's time at death, in ns.
    pub now_ns: Option<i64>,
    /// Address of the timer whose function is running, 0: none.
    #[serde(serialize_with = "hex")]
    pub running: u64,
    /// The timers, the next to expire first.
    pub timers: Vec<Hrtimer>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// A timer.
#[derive(Debug, Clone, Serialize)]
pub struct Hrtimer {
    /// Address of its `struct hrtimer`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// From when on it may expire, ns of its clock.
    pub soft_expires_ns: i64,
    /// When it expires at the latest, ns of its clock.
    pub expires_ns: i64,
    /// ns until it expires; negative: that was due.
    pub expires_in_ns: Option<i64>,
    /// Address of the function that it calls.
    #[serde(serialize_with = "hex")]
    pub function: u64,
    /// The function.
    pub symbol: Option<SymbolAt>,
    /// The task that it wakes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wakes: Option<Woken>,
}

impl Kernel {
    /// The high-resolution timers of the given CPUs.
    pub fn hrtimers(&self, cpus: &[u32]) -> Result<Vec<HrtimerCpu>> {
        let reader = HrtimerReader {
            kernel: self,
            clock: self.layout::<HrtimerClockBaseLayout>()?,
            timer: self.layout::<HrtimerLayout>()?,
            monotonic_ns: self.clock().ok().map(|clock| clock.monotonic_ns),
            wakeup: self.symbol("hrtimer_wakeup").ok(),
        };
        let place = self.layout::<HrtimerCpuBaseLayout>()?.clock_base.place()?;
        let count = (place.size / reader.clock.size.max(1)).min(MOST_BASES);
        let one = |cpu: &u32| {
            let addr = self.per_cpu("hrtimer_bases", *cpu)?;
            let first = addr.wrapping_add(place.offset);
            let clock = |n| reader.read_clock(first.wrapping_add(n * reader.clock.size), n as u32);
            Ok(HrtimerCpu { cpu: *cpu, addr, clocks: (0..count).map(clock).collect() })
        };
        cpus.iter().map(one).collect()
    }
}

/// What reading timers needs, looked up once.
struct HrtimerReader<'k> {
    kernel: &'k Kernel,
    clock: Arc<HrtimerClockBaseLayout>,
    timer: Arc<HrtimerLayout>,
    monotonic_ns: Option<i64>,
    wakeup: Option<u64>,
}

impl HrtimerReader<'_> {
    fn read_clock(&self, addr: u64, index: u32) -> HrtimerClock {
        let (kernel, layout) = (self.kernel, &self.clock);
        let mut gaps = Gaps::default();
        let offset = gaps.keep("clock", layout.offset.read(kernel, addr));
        let now_ns = self.monotonic_ns.zip(offset).map(|(now, offset)| now.wrapping_add(offset));
        let mut timers = Vec::new();
        if let Err(e) = self.read_timers(addr, now_ns, &mut timers, &mut gaps) {
            gaps.add("timers", &e);
        }
        HrtimerClock {
            addr,
            index,
            name: gaps.keep("clock", self.clock_name(addr)).flatten(),
            now_ns,
            running: gaps.keep("running timer", layout.running.read(kernel, addr)).unwrap_or(0),
            timers,
            gaps,
        }
    }

    fn clock_name(&self, addr: u64) -> Result<Option<String>> {
        if let Some(function) = self.clock.get_time.read_if_exists(self.kernel, addr)? {
            return Ok(self.kernel.symbol_at(function).map(|s| s.name));
        }
        let index = self.clock.index.read(self.kernel, addr)?;
        let names = self.kernel.ty("enum hrtimer_base_type")?;
        let name = names.enumerators().find(|e| e.value == i64::from(index));
        Ok(name.map(|e| e.name.to_owned()))
    }

    fn read_timers(
        &self,
        base: u64,
        now_ns: Option<i64>,
        timers: &mut Vec<Hrtimer>,
        gaps: &mut Gaps,
    ) -> Result<()> {
        let root = self.clock.active.address(base)?;
        let node = self.timer.node.offset()?;
        for addr in self.kernel.rbtree(root, node, "the timers of a clock")?.take(MOST) {
            match addr.and_then(|addr| self.read_timer(addr, now_ns)) {
                Ok(timer) => timers.push(timer),
                Err(e) => gaps.add("timers", &e),
            }
        }
        Ok(())
    }

    fn read_timer(&self, addr: u64, now_ns: Option<i64>) -> Result<Hrtimer> {
        let (kernel, layout) = (self.kernel, &self.timer);
        let expires_ns = layout.expires.read(kernel, addr)?;
        let function = layout.function.read(kernel, addr)?;
        let wakes = if self.wakeup == Some(function) { self.task_of(addr).ok() } else { None };
        Ok(Hrtimer {
            addr,
            soft_expires_ns: layout.soft_expires.read(kernel, addr)?,
            expires_ns,
            expires_in_ns: now_ns.map(|now| expires_ns.wrapping_sub(now)),
            function,
            symbol: kernel.symbol_at(function),
            wakes: wakes.flatten(),
        })
    }

    fn task_of(&self, timer: u64) -> Result<Option<Woken>> {
        let layout = self.kernel.layout::<HrtimerSleeperLayout>()?;
        let sleeper = timer.wrapping_sub(layout.timer.offset()?);
        Ok(self.kernel.woken(layout.task.read(self.kernel, sleeper)?))
    }
}
