//! Timers of the timer wheel.
//!
//! Each CPU has `timer_bases` (kernel/time/timer.c): one `struct timer_base`, or
//! with `CONFIG_NO_HZ_COMMON` two (standard, deferrable) or, since v6.9
//! (83a665dc99a7), three (local, global, deferrable). A base has the timers in
//! `vectors`, lists by how far away they are. Expiry is in jiffies; a timer that
//! sleeps for a task or for a delayed work tells so by its function.

use std::sync::Arc;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::Embedded;
use crate::stack::hex;
use crate::symbol::SymbolAt;
use crate::{Kernel, layout};

layout! {
    /// `struct timer_base`, kernel/time/timer.c
    pub struct TimerBaseLayout for "timer_base" {
        clk: u64 = "clk",
        next_expiry: u64 = "next_expiry",
        running: u64 = "running_timer",
        vectors: Embedded = "vectors",
    }
}

layout! {
    /// `struct timer_list`, include/linux/timer_types.h (timer.h until v6.9)
    pub struct TimerListLayout for "timer_list" {
        entry: Embedded = "entry",
        expires: u64 = "expires",
        function: u64 = "function",
        flags: u32 = "flags",
    }
}

layout! {
    /// `struct delayed_work`, include/linux/workqueue_types.h (workqueue.h
    /// until v6.8)
    pub struct DelayedWorkLayout for "delayed_work" {
        timer: Embedded = "timer",
        function: u64 = "work.func",
    }
}

layout! {
    /// `struct process_timer`, kernel/time/sleep_timeout.c (timer.c until v6.12)
    pub struct ProcessTimerLayout for "process_timer" {
        timer: Embedded = "timer",
        task: u64 = "task",
    }
}

/// Bits of `timer_list.flags` (include/linux/timer.h).
const TIMER_DEFERRABLE: u32 = 1 << 19;
const TIMER_PINNED: u32 = 1 << 20;

/// Lists of a base: 9 levels of 64.
const MOST_VECTORS: u64 = 1 << 12;
/// Timers of one base.
const MOST: usize = 1 << 22;

/// The timers of all CPUs.
#[derive(Debug, Clone, Serialize)]
pub struct Timers {
    /// `jiffies` when the machine died.
    pub jiffies: u64,
    /// Ticks per second.
    pub hz: Option<u32>,
    /// By CPU.
    pub bases: Vec<TimerBase>,
}

/// A timer base.
#[derive(Debug, Clone, Serialize)]
pub struct TimerBase {
    /// Address of its `struct timer_base`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its CPU.
    pub cpu: u32,
    /// "STD", "DEF", "LOCAL" or "GLOBAL".
    pub name: &'static str,
    /// Up to which jiffy it was worked off.
    pub clk: Option<u64>,
    /// Address of the timer whose function is running, 0: none.
    #[serde(serialize_with = "hex")]
    pub running: u64,
    /// The timers, the next to expire first.
    pub timers: Vec<Timer>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// A timer.
#[derive(Debug, Clone, Serialize)]
pub struct Timer {
    /// Address of its `struct timer_list`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// When it expires, in jiffies.
    pub expires: u64,
    /// Jiffies until it expires; negative: that was due.
    pub ticks_left: i64,
    /// The same in ns.
    pub expires_in_ns: Option<i64>,
    /// Address of the function that it calls.
    #[serde(serialize_with = "hex")]
    pub function: u64,
    /// The function.
    pub symbol: Option<SymbolAt>,
    /// May wait for an idle CPU to wake for something else.
    pub deferrable: bool,
    /// Stays on its CPU.
    pub pinned: bool,
    /// The delayed work that it queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work: Option<SymbolAt>,
    /// The task that it wakes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wakes: Option<Woken>,
}

/// A task that a timer wakes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Woken {
    /// Address of its `struct task_struct`.
    #[serde(serialize_with = "hex")]
    pub task: u64,
    /// Its thread ID.
    pub pid: i32,
    /// Its name.
    pub comm: String,
}

impl Kernel {
    /// The timers of the given CPUs.
    pub fn timers(&self, cpus: &[u32]) -> Result<Timers> {
        let jiffies =
            self.read_u64(self.symbol("jiffies_64").or_else(|_| self.symbol("jiffies"))?)?;
        let reader = TimerReader::new(self, jiffies)?;
        let bases_at = self.symbol("timer_bases")?;
        let count = self.timer_base_count();
        let names: &[&str] = match count {
            3 => &["LOCAL", "GLOBAL", "DEF"],
            _ => &["STD", "DEF"],
        };
        let mut bases = Vec::new();
        for cpu in cpus {
            let offset = self.per_cpu_offset(*cpu)?;
            for (name, n) in names.iter().zip(0..count) {
                let addr = bases_at.wrapping_add(offset).wrapping_add(n * reader.base.size);
                bases.push(reader.read_base(addr, *cpu, name));
            }
        }
        Ok(Timers { jiffies, hz: reader.hz, bases })
    }

    /// Timer bases of a CPU: by the variable's type, or where BTF does not have
    /// that (v5.10), two if the kernel may move timers between CPUs: that is
    /// built with `CONFIG_NO_HZ_COMMON`, too.
    fn timer_base_count(&self) -> u64 {
        let variable = self.btf().ok().and_then(|btf| btf.variable("timer_bases"));
        let by_type = variable.and_then(|ty| ty.strip().array_len());
        let moves = || self.symbol("sysctl_timer_migration").is_ok();
        by_type.unwrap_or_else(|| 1 + u64::from(moves())).clamp(1, 3)
    }

    /// The task at `addr`, if there is one.
    pub(crate) fn woken(&self, addr: u64) -> Option<Woken> {
        let task = self.tasks().ok()?.at(addr)?;
        Some(Woken { task: addr, pid: task.pid, comm: task.comm.clone() })
    }
}

/// What reading timers needs, looked up once.
struct TimerReader<'k> {
    kernel: &'k Kernel,
    base: Arc<TimerBaseLayout>,
    timer: Arc<TimerListLayout>,
    jiffies: u64,
    hz: Option<u32>,
    delayed_work: Option<u64>,
    process_timeout: Option<u64>,
}

impl<'k> TimerReader<'k> {
    fn new(kernel: &'k Kernel, jiffies: u64) -> Result<TimerReader<'k>> {
        Ok(TimerReader {
            kernel,
            base: kernel.layout::<TimerBaseLayout>()?,
            timer: kernel.layout::<TimerListLayout>()?,
            jiffies,
            hz: kernel.clock().ok().and_then(|clock| clock.hz),
            delayed_work: kernel.symbol("delayed_work_timer_fn").ok(),
            process_timeout: kernel.symbol("process_timeout").ok(),
        })
    }

    fn read_base(&self, addr: u64, cpu: u32, name: &'static str) -> TimerBase {
        let (kernel, layout) = (self.kernel, &self.base);
        let mut gaps = Gaps::default();
        let mut timers = Vec::new();
        if let Err(e) = self.read_timers(addr, &mut timers, &mut gaps) {
            gaps.add("timers", &e);
        }
        timers.sort_by_key(|t| t.expires);
        TimerBase {
            addr,
            cpu,
            name,
            clk: gaps.keep("clock", layout.clk.read(kernel, addr)),
            running: gaps.keep("running timer", layout.running.read(kernel, addr)).unwrap_or(0),
            timers,
            gaps,
        }
    }

    fn read_timers(&self, base: u64, timers: &mut Vec<Timer>, gaps: &mut Gaps) -> Result<()> {
        let place = self.base.vectors.place()?;
        let vectors = base.wrapping_add(place.offset);
        let entry = self.timer.entry.offset()?;
        let count = place.size / 8;
        if count > MOST_VECTORS {
            return Err(Error::corrupt(format!("a timer base of {count} lists"), base));
        }
        let heads = self.kernel.read_bytes(vectors, count * 8)?;
        for (head, n) in heads.chunks_exact(8).zip(0u64..) {
            if head.iter().all(|b| *b == 0) {
                continue;
            }
            let list = self.kernel.hlist(vectors.wrapping_add(n * 8), entry, "a list of timers");
            for timer in list.take(MOST - timers.len()) {
                match timer.and_then(|addr| self.read_timer(addr)) {
                    Ok(timer) => timers.push(timer),
                    Err(e) => gaps.add("timers", &e),
                }
            }
        }
        Ok(())
    }

    fn read_timer(&self, addr: u64) -> Result<Timer> {
        let (kernel, layout) = (self.kernel, &self.timer);
        let expires = layout.expires.read(kernel, addr)?;
        let function = layout.function.read(kernel, addr)?;
        let flags = layout.flags.read(kernel, addr)?;
        let ticks_left = expires.wrapping_sub(self.jiffies) as i64;
        let is = |known: Option<u64>| known == Some(function);
        Ok(Timer {
            addr,
            expires,
            ticks_left,
            expires_in_ns: self.hz.and_then(|hz| {
                ticks_left.checked_mul(1_000_000_000).map(|ns| ns / i64::from(hz.max(1)))
            }),
            function,
            symbol: kernel.symbol_at(function),
            deferrable: flags & TIMER_DEFERRABLE != 0,
            pinned: flags & TIMER_PINNED != 0,
            work: if is(self.delayed_work) { self.work_of(addr).ok().flatten() } else { None },
            wakes: if is(self.process_timeout) { self.task_of(addr).ok().flatten() } else { None },
        })
    }

    fn work_of(&self, timer: u64) -> Result<Option<SymbolAt>> {
        let layout = self.kernel.layout::<DelayedWorkLayout>()?;
        let work = timer.wrapping_sub(layout.timer.offset()?);
        Ok(self.kernel.symbol_at(layout.function.read(self.kernel, work)?))
    }

    fn task_of(&self, timer: u64) -> Result<Option<Woken>> {
        let layout = self.kernel.layout::<ProcessTimerLayout>()?;
        let holder = timer.wrapping_sub(layout.timer.offset()?);
        Ok(self.kernel.woken(layout.task.read(self.kernel, holder)?))
    }
}
