//! The memory controller of control groups: `struct mem_cgroup`
//! (include/linux/memcontrol.h).
//!
//! Usage and limits are `struct page_counter`s, in pages. Statistics are
//! numbered by `enum node_stat_item` and, behind those, `enum
//! memcg_stat_item`; `memory_stats[]` (mm/memcontrol.c) has the names that
//! memory.stat and the OOM report print, and this module uses.
//!
//! A group's statistics contain its children's, and reach it late:
//! - until v5.12 in batches: `vmstats[]` plus `vmstats_percpu->stat[]` of every
//!   CPU, of the group and of every group below;
//! - since v5.13 (2d146aa3aa84) by rstat: `vmstats.state[]` plus what is on its
//!   way up: `state_pending[]` and, per CPU, `state[] - state_prev[]`, of the
//!   group and of every group below;
//! - since v6.10 (ff48c71c26aa) the arrays have no unused entries:
//!   `mem_cgroup_stats_index[]` tells the places. First plus one (0: none), soon
//!   after as they are (0xff: none).
//!
//! The values here are complete: what the kernel would print after a flush.

use rayon::prelude::*;
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::cgroup::CssLayout;
use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::{CString, Embedded, Member};
use crate::stack::hex;
use crate::vmstat::Counters;
use crate::{Kernel, layout};

layout! {
    /// `struct mem_cgroup`, include/linux/memcontrol.h
    pub struct MemCgroupLayout for "mem_cgroup" {
        css: Embedded = "css",
        memory: Embedded = "memory",
        swap: Embedded = "swap",
        memsw: Embedded = "memsw",
        kmem: Embedded = "kmem",
        oom_group: bool = "oom_group",
        under_oom: i32 = "under_oom",
        memory_events: Embedded = "memory_events",
        memory_events_local: Embedded = "memory_events_local",
        /// A pointer since v6.0, the struct itself or an array before.
        vmstats: Embedded = "vmstats",
        vmstats_percpu: u64 = "vmstats_percpu",
    }
}

layout! {
    /// `struct page_counter`, include/linux/page_counter.h
    pub struct PageCounterLayout for "page_counter" {
        usage: i64 = "usage",
        min: u64 = "min",
        low: u64 = "low",
        high: u64 = "high",
        max: u64 = "max" | "limit",             // renamed in v4.19
        watermark: u64 = "watermark",
        failcnt: u64 = "failcnt",
        track_failcnt: bool = "track_failcnt",  // v1 only, where it exists
    }
}

layout! {
    /// `struct memcg_vmstats`, mm/memcontrol.c, since v5.13
    pub struct MemcgVmstatsLayout for "memcg_vmstats" {
        state: Embedded = "state",
        state_pending: Embedded = "state_pending",
    }
}

layout! {
    /// `struct memcg_vmstats_percpu`, mm/memcontrol.c
    pub struct MemcgVmstatsPercpuLayout for "memcg_vmstats_percpu" {
        state: Embedded = "state" | "stat",     // renamed with rstat, v5.13
        state_prev: Embedded = "state_prev",
    }
}

layout! {
    /// `struct memory_stat`, mm/memcontrol.c
    pub struct MemoryStatLayout for "memory_stat" {
        name: CString = "name",
        ratio: u32 = "ratio",                   // v5.8 to v5.11
        idx: u32 = "idx",
    }
}

/// Statistics arrays are shorter than this many longs.
const MOST_STATS: u64 = 1024;

/// Memory of a control group. Bytes; a limit that is none is no limit.
#[derive(Debug, Clone, Serialize)]
pub struct MemoryCgroup {
    /// Address of its `struct mem_cgroup`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Charged to it and to the groups below it. The root's own is not counted.
    pub usage: u64,
    /// Highest usage it had.
    pub peak: Option<u64>,
    /// memory.max: beyond it, OOM.
    pub max: Option<u64>,
    /// memory.high: beyond it, throttled.
    pub high: Option<u64>,
    /// memory.low: protected if it can be.
    pub low: Option<u64>,
    /// memory.min: protected.
    pub min: Option<u64>,
    /// How often usage met the limit. None where the kernel does not count it:
    /// then `events` has "max".
    pub failures: Option<u64>,
    /// Swap used (v2), or memory and swap together (v1).
    pub swap_usage: Option<u64>,
    /// Limit of that.
    pub swap_max: Option<u64>,
    /// Kernel memory (in `usage`).
    pub kernel: Option<u64>,
    /// Whether an OOM kills the whole group (memory.oom.group).
    pub oom_group: bool,
    /// memory.events: low, high, max, oom, oom_kill, ... of it and below it.
    pub events: Counters,
    /// memory.events.local: its own.
    pub events_local: Counters,
    /// memory.stat: bytes, but for events (`workingset_*`, `pg*`).
    pub stat: Counters,
    /// What could not be read, and why.
    pub gaps: Gaps,
}

/// One statistic: its name, its place in the arrays, its unit in bytes (1 for
/// events too).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stat {
    name: String,
    index: usize,
    unit: i64,
}

/// What a group knows of its statistics.
struct OwnStats {
    /// Arrived.
    state: Vec<i64>,
    /// Its own, on its way to it and to all above it.
    pending: Vec<i64>,
}

impl Kernel {
    /// The memory controllers of groups, by address of their states. `states`
    /// are all of a hierarchy, parents before children.
    pub(crate) fn memory_cgroups(
        &self,
        states: &[u64],
        v2: bool,
    ) -> FxHashMap<u64, Result<MemoryCgroup>> {
        let table = stat_table(self);
        let own: Vec<Result<OwnStats>> =
            states.par_iter().map(|css| own_stats(self, *css)).collect();
        let sums = add_pending(self, states, own);
        states
            .par_iter()
            .zip(sums)
            .map(|(css, sums)| (*css, read(self, *css, v2, &table, sums)))
            .collect()
    }
}

/// Each group's statistics with what is on its way from it and from below.
/// A group below that can't be read makes the sums above it incomplete: an
/// error for those too.
fn add_pending(
    kernel: &Kernel,
    states: &[u64],
    own: Vec<Result<OwnStats>>,
) -> Vec<Result<Vec<i64>>> {
    let place: FxHashMap<u64, usize> = states.iter().enumerate().map(|(i, s)| (*s, i)).collect();
    let css = kernel.layout::<CssLayout>();
    let parent_of = |state: u64| {
        let css = css.as_ref().ok()?;
        css.parent.read(kernel, state).ok().and_then(|p| place.get(&p).copied())
    };
    let mut below: Vec<Result<Vec<i64>>> = vec![Ok(Vec::new()); states.len()];
    let mut sums = Vec::with_capacity(states.len());
    // Children first: they hand their pending values up.
    for (i, own) in own.into_iter().enumerate().rev() {
        let pending = std::mem::replace(&mut below[i], Ok(Vec::new()));
        let (sum, up) = match (own, pending) {
            (Ok(own), Ok(mut pending)) => {
                add(&mut pending, &own.pending);
                let mut sum = own.state;
                add(&mut sum, &pending);
                (Ok(sum), Ok(pending))
            }
            (Err(e), _) | (_, Err(e)) => (Err(e.clone()), Err(e)),
        };
        sums.push(sum);
        // Parents come first in `states`: a parent further on is corruption.
        if let Some(parent) = parent_of(states[i]).filter(|p| *p < i) {
            match (&mut below[parent], up) {
                (Ok(sum), Ok(up)) => add(sum, &up),
                (slot @ Ok(_), Err(e)) => *slot = Err(e),
                (Err(_), _) => {}
            }
        }
    }
    sums.reverse();
    sums
}

fn add(sum: &mut Vec<i64>, more: &[i64]) {
    if sum.len() < more.len() {
        sum.resize(more.len(), 0);
    }
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum = sum.wrapping_add(*more);
    }
}

/// A member that is an array of longs.
fn longs(kernel: &Kernel, member: &Member<Embedded>, base: u64) -> Result<Vec<i64>> {
    let size = member.place()?.size.min(8 * MOST_STATS);
    let raw = kernel.read_bytes(member.address(base)?, size)?;
    let word = |w: &[u8]| w.try_into().map(i64::from_le_bytes).unwrap_or(0);
    Ok(raw.chunks_exact(8).map(word).collect())
}

fn own_stats(kernel: &Kernel, css: u64) -> Result<OwnStats> {
    let layout = kernel.layout::<MemCgroupLayout>()?;
    let addr = css.wrapping_sub(layout.css.offset()?);
    let percpu = kernel.layout::<MemcgVmstatsPercpuLayout>()?;
    let (state, mut pending) = match kernel.layout::<MemcgVmstatsLayout>() {
        Ok(vmstats) => {
            let at = layout.vmstats.address(addr)?;
            let by_pointer = layout.vmstats.place()?.size == 8;
            let at = if by_pointer { kernel.read_u64(at)? } else { at };
            (longs(kernel, &vmstats.state, at)?, longs(kernel, &vmstats.state_pending, at)?)
        }
        // Until v5.12: an array of atomics.
        Err(_) => (longs(kernel, &layout.vmstats, addr)?, Vec::new()),
    };
    let parts = layout.vmstats_percpu.read(kernel, addr)?;
    for (_, offset) in kernel.per_cpu_offsets()? {
        let part = parts.wrapping_add(offset);
        add(&mut pending, &longs(kernel, &percpu.state, part)?);
        if percpu.state_prev.exists() {
            let seen = longs(kernel, &percpu.state_prev, part)?;
            add(&mut pending, &seen.iter().map(|v| v.wrapping_neg()).collect::<Vec<_>>());
        }
    }
    Ok(OwnStats { state, pending })
}

/// `memory_stats[]` with the places of the values.
fn stat_table(kernel: &Kernel) -> Result<Vec<Stat>> {
    let layout = kernel.layout::<MemoryStatLayout>()?;
    let table = kernel.symbol("memory_stats")?;
    // It ends where the next symbol starts.
    let size = kernel.kallsyms()?.lookup(table).map_or(0, |found| found.size);
    let places = match kernel.symbol("mem_cgroup_stats_index") {
        Ok(at) => {
            let count = crate::vmstat::enumerator(kernel, "enum memcg_stat_item", "MEMCG_NR_STAT")?;
            let count = u64::try_from(count).unwrap_or(0).min(MOST_STATS);
            Some(kernel.read_bytes(at, count)?)
        }
        Err(_) => None,
    };
    let page = kernel.page_size() as i64;
    let mut stats = Vec::new();
    for i in 0..(size / layout.size.max(1)).min(MOST_STATS) {
        let at = table.wrapping_add(i * layout.size);
        let Ok(name) = layout.name.read(kernel, at) else { break };
        let idx = layout.idx.read(kernel, at)? as usize;
        let Some(index) = place_of_stat(places.as_deref(), idx) else { continue };
        let unit = match layout.ratio.read_if_exists(kernel, at)? {
            Some(ratio) => i64::from(ratio),
            None => unit_of(item_name(kernel, idx)?, page),
        };
        stats.push(Stat { name, index, unit });
    }
    Ok(stats)
}

/// Where the value of item `idx` lies in the arrays.
fn place_of_stat(places: Option<&[u8]>, idx: usize) -> Option<usize> {
    let Some(places) = places else { return Some(idx) };
    let place = usize::from(*places.get(idx)?);
    // Some node items are never counted by group: their mark tells the scheme.
    if places.contains(&0xff) { (place != 0xff).then_some(place) } else { place.checked_sub(1) }
}

/// Name of the enumerator that numbers an item.
fn item_name(kernel: &Kernel, idx: usize) -> Result<&str> {
    for name in ["enum memcg_stat_item", "enum node_stat_item"] {
        let ty = kernel.ty(name)?;
        let counter = |name: &str| !name.ends_with("_BASE") && !name.contains("NR_VM_");
        let found = ty.enumerators().find(|e| e.value == idx as i64 && counter(e.name));
        if let Some(found) = found {
            return Ok(found.name);
        }
    }
    Err(Error::NoType(format!("item {idx} of the memory statistics")))
}

/// `memcg_page_state_unit()`: pages, but for items counted in bytes or KiB,
/// and events.
fn unit_of(item: &str, page: i64) -> i64 {
    if item.ends_with("_KB") {
        1024
    } else if item.ends_with("_B") || item.starts_with("WORKINGSET_") || item.starts_with("PG") {
        1
    } else {
        page
    }
}

fn read(
    kernel: &Kernel,
    css: u64,
    v2: bool,
    table: &Result<Vec<Stat>>,
    sums: Result<Vec<i64>>,
) -> Result<MemoryCgroup> {
    let layout = kernel.layout::<MemCgroupLayout>()?;
    let counter = kernel.layout::<PageCounterLayout>()?;
    let addr = css.wrapping_sub(layout.css.offset()?);
    let page = kernel.page_size();
    // PAGE_COUNTER_MAX: LONG_MAX pages' worth of bytes.
    let unlimited = i64::MAX as u64 / page;
    let limit = |pages: u64| (pages < unlimited).then(|| pages * page);
    let usage = |at: u64| {
        let pages = counter.usage.read(kernel, at)?;
        Ok::<_, Error>(u64::try_from(pages).unwrap_or(0).saturating_mul(page))
    };
    let memory = layout.memory.address(addr)?;
    let optional = |member: &Member<u64>| member.read_if_exists(kernel, memory);
    let mut gaps = Gaps::default();
    let swap = if v2 { &layout.swap } else { &layout.memsw };
    let swap = if swap.exists() { Some(swap.address(addr)?) } else { None };
    let stat = table.clone().and_then(|table| Ok(named(&table, &sums?)));
    let stat = gaps.keep("statistics", stat).unwrap_or_default();
    let kernel_memory = match stat.get("kernel").and_then(|bytes| u64::try_from(bytes).ok()) {
        Some(bytes) => Some(bytes),
        // Before v5.18 (a8c49af3be5f) only v1 counted it.
        None if !v2 && layout.kmem.exists() => {
            gaps.keep("kernel memory", layout.kmem.address(addr).and_then(usage))
        }
        None => None,
    };
    Ok(MemoryCgroup {
        addr,
        usage: usage(memory)?,
        peak: optional(&counter.watermark)?.map(|pages| pages.saturating_mul(page)),
        max: limit(counter.max.read(kernel, memory)?),
        high: optional(&counter.high)?.and_then(limit),
        low: optional(&counter.low)?.and_then(limit),
        min: optional(&counter.min)?.and_then(limit),
        failures: if counter.track_failcnt.read_if_exists(kernel, memory)? == Some(false) {
            None
        } else {
            optional(&counter.failcnt)?
        },
        swap_usage: swap.map(usage).transpose()?,
        swap_max: swap.map(|at| counter.max.read(kernel, at)).transpose()?.and_then(limit),
        kernel: kernel_memory,
        oom_group: layout.oom_group.read_if_exists(kernel, addr)?.unwrap_or(false),
        events: gaps
            .keep("events", events(kernel, &layout.memory_events, addr))
            .unwrap_or_default(),
        events_local: gaps
            .keep("local events", events(kernel, &layout.memory_events_local, addr))
            .unwrap_or_default(),
        stat,
        gaps,
    })
}

/// The statistics under their names. Sums below zero are parts in flight.
fn named(table: &[Stat], sums: &[i64]) -> Counters {
    let value = |stat: &Stat| {
        let value = sums.get(stat.index)?.max(&0);
        Some((stat.name.clone(), value.saturating_mul(stat.unit)))
    };
    Counters(table.iter().filter_map(value).collect())
}

/// `memory_events[]`, numbered by `enum memcg_memory_event`.
fn events(kernel: &Kernel, member: &Member<Embedded>, addr: u64) -> Result<Counters> {
    let values = longs(kernel, member, addr)?;
    let ty = kernel.ty("enum memcg_memory_event")?;
    let event = |name: &str, value: i64| {
        let value = values.get(usize::try_from(value).ok()?)?;
        Some((name.strip_prefix("MEMCG_")?.to_lowercase(), *value))
    };
    let counted = ty.enumerators().filter(|e| !e.name.starts_with("MEMCG_NR_"));
    Ok(Counters(counted.filter_map(|e| event(e.name, e.value)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_as_they_are_without_a_table() {
        assert_eq!(place_of_stat(None, 7), Some(7));
    }

    #[test]
    fn places_plus_one_have_zero_for_none() {
        let places = [0, 1, 2, 0];
        assert_eq!(place_of_stat(Some(&places), 1), Some(0));
        assert_eq!(place_of_stat(Some(&places), 3), None);
        assert_eq!(place_of_stat(Some(&places), 9), None);
    }

    #[test]
    fn plain_places_have_ff_for_none() {
        let places = [0, 1, 0xff, 2];
        assert_eq!(place_of_stat(Some(&places), 0), Some(0));
        assert_eq!(place_of_stat(Some(&places), 2), None);
        assert_eq!(place_of_stat(Some(&places), 3), Some(2));
    }

    #[test]
    fn units_follow_the_items_names() {
        assert_eq!(unit_of("NR_ANON_MAPPED", 4096), 4096);
        assert_eq!(unit_of("NR_SLAB_RECLAIMABLE_B", 4096), 1);
        assert_eq!(unit_of("NR_KERNEL_STACK_KB", 4096), 1024);
        assert_eq!(unit_of("WORKINGSET_REFAULT_ANON", 4096), 1);
        assert_eq!(unit_of("PGDEMOTE_DIRECT", 4096), 1);
    }

    #[test]
    fn a_value_in_flight_is_not_negative() {
        let table = vec![
            Stat { name: "anon".into(), index: 1, unit: 4096 },
            Stat { name: "gone".into(), index: 9, unit: 1 },
        ];
        assert_eq!(named(&table, &[5, 2]).0, [("anon".to_owned(), 8192)]);
        assert_eq!(named(&table, &[5, -2]).get("anon"), Some(0));
    }
}
