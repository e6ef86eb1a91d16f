//! Memory nodes and zones with their statistics, exact to the page.
//!
//! Counters are `vm_stat[]` of `struct zone` and `struct pglist_data`
//! (include/linux/mmzone.h), indexed by `enum zone_stat_item` and
//! `enum node_stat_item`. Each CPU holds back small differences
//! (`vm_stat_diff[]`, `vm_node_stat_diff[]`, `s8`) until they pass a threshold
//! (mm/vmstat.c). The values here are the sums of both; what the kernel prints
//! (`vm_zone_stat`, `vm_node_stat`, Mem-Info) lacks the differences.
//!
//! Counters keep the kernel's names and units: pages, but for `*_KB` (KiB) and
//! events (`WORKINGSET_*`, `PG*`, `NR_VMSCAN_*`). `NR_SLAB_*_B` are kept in
//! pages here; only cgroups count them in bytes (`vmstat_item_in_bytes`,
//! v5.9, d42f3245c7e2).

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::error::{Error, Result};
use crate::layout::{CString, Embedded};
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct pglist_data`, include/linux/mmzone.h
    pub struct NodeLayout for "pglist_data" {
        node_zones: Embedded = "node_zones",
        node_id: i32 = "node_id",
        node_start_pfn: u64 = "node_start_pfn",
        node_present_pages: u64 = "node_present_pages",
        node_spanned_pages: u64 = "node_spanned_pages",
        kswapd_failures: u32 = "kswapd_failures",
        per_cpu_nodestats: u64 = "per_cpu_nodestats",
        vm_stat: Embedded = "vm_stat",
    }
}

layout! {
    /// `struct zone`, include/linux/mmzone.h
    pub struct ZoneLayout for "zone" {
        watermark: Embedded = "_watermark" | "watermark",      // v4.20 (a921444382b4)
        watermark_boost: u64 = "watermark_boost",
        nr_reserved_highatomic: u64 = "nr_reserved_highatomic",
        lowmem_reserve: Embedded = "lowmem_reserve",
        zone_start_pfn: u64 = "zone_start_pfn",
        managed_pages: u64 = "managed_pages",
        spanned_pages: u64 = "spanned_pages",
        present_pages: u64 = "present_pages",
        name: CString = "name",
        free_area: Embedded = "free_area",
        vm_stat: Embedded = "vm_stat",
        per_cpu_pageset: u64 = "per_cpu_pageset" | "pageset",   // renamed and split in v5.14
        per_cpu_zonestats: u64 = "per_cpu_zonestats" | "pageset", // (28f836b6777b)
    }
}

layout! {
    /// `struct free_area`, include/linux/mmzone.h
    pub struct FreeAreaLayout for "free_area" {
        nr_free: u64 = "nr_free",
    }
}

layout! {
    /// `struct per_cpu_pages`, include/linux/mmzone.h
    pub struct PerCpuPagesLayout for "per_cpu_pages" {
        count: u32 = "count",
    }
}

layout! {
    /// `struct per_cpu_pageset`, include/linux/mmzone.h, until v5.14
    pub struct PerCpuPagesetLayout for "per_cpu_pageset" {
        pcp: Embedded = "pcp",
        vm_stat_diff: Embedded = "vm_stat_diff",
    }
}

layout! {
    /// `struct per_cpu_zonestat`, include/linux/mmzone.h, since v5.14
    pub struct PerCpuZonestatLayout for "per_cpu_zonestat" {
        vm_stat_diff: Embedded = "vm_stat_diff",
    }
}

layout! {
    /// `struct per_cpu_nodestat`, include/linux/mmzone.h
    pub struct PerCpuNodestatLayout for "per_cpu_nodestat" {
        vm_node_stat_diff: Embedded = "vm_node_stat_diff",
    }
}

layout! {
    /// `struct vm_event_state`, include/linux/vmstat.h
    pub struct VmEventsLayout for "vm_event_state" {
        event: Embedded = "event",
    }
}

/// No kernel has more zone types, page orders or watermarks.
const MOST_ELEMENTS: u64 = 64;
/// MAX_NUMNODES of the largest kernels is 1024 (CONFIG_NODES_SHIFT 10).
const MOST_NODES: u64 = 1 << 16;

/// Named counters in the kernel's order. As JSON: an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters(pub Vec<(String, i64)>);

impl Counters {
    /// The counter of that name, if this kernel has it.
    pub fn get(&self, name: &str) -> Option<i64> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }

    /// The first of `names` that this kernel has.
    pub fn get_any(&self, names: &[&str]) -> Option<i64> {
        names.iter().find_map(|name| self.get(name))
    }

    /// Adds `other`, name by name.
    pub fn add(&mut self, other: &Counters) {
        for (name, value) in &other.0 {
            match self.0.iter_mut().find(|(n, _)| n == name) {
                Some((_, sum)) => *sum = sum.wrapping_add(*value),
                None => self.0.push((name.clone(), *value)),
            }
        }
    }
}

impl Serialize for Counters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A zone of a memory node. Counts are pages.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Zone {
    /// Address of its `struct zone`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// The node that it belongs to.
    pub node: i32,
    /// "DMA", "DMA32", "Normal", "Movable", "Device".
    pub name: String,
    /// Watermark below which only urgent allocations succeed.
    pub min: u64,
    /// Watermark below which kswapd works.
    pub low: u64,
    /// Watermark at which kswapd rests.
    pub high: u64,
    /// What fragmentation adds to the watermarks for now. Not in them yet.
    pub boost: u64,
    /// Pages kept for urgent allocations of more than one page.
    pub reserved_highatomic: u64,
    /// Pages that allocations for higher zones leave free here, by zone.
    pub lowmem_reserve: Vec<i64>,
    /// Number of its first page.
    pub start_pfn: u64,
    /// Its pages with the holes.
    pub spanned: u64,
    /// Its pages that are RAM.
    pub present: u64,
    /// Its pages that the allocator has (present without reserved).
    pub managed: u64,
    /// Free pages (`NR_FREE_PAGES`).
    pub free: i64,
    /// Free pages that CPUs hold for themselves. Not in `free`.
    pub per_cpu_free: u64,
    /// Free blocks of 2^n pages, by n.
    pub free_blocks: Vec<u64>,
    /// All its counters.
    pub counters: Counters,
    /// The same without what each CPU holds back (`vm_stat[]` itself).
    #[serde(skip)]
    pub table: Counters,
}

impl Zone {
    /// Whether the allocator has any page here.
    pub fn is_populated(&self) -> bool {
        self.present != 0
    }
}

/// A memory node. Counts are pages.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Node {
    /// Address of its `struct pglist_data`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its number.
    pub id: i32,
    /// Number of its first page.
    pub start_pfn: u64,
    /// Its pages with the holes.
    pub spanned: u64,
    /// Its pages that are RAM.
    pub present: u64,
    /// How often kswapd ran in vain since it last reclaimed something.
    pub kswapd_failures: Option<u32>,
    /// Its zones, also the empty ones.
    pub zones: Vec<Zone>,
    /// Its counters.
    pub counters: Counters,
}

impl Kernel {
    /// The memory nodes that are online.
    pub fn nodes(&self) -> Result<Vec<Node>> {
        let cpus = self.per_cpu_offsets()?;
        node_addresses(self)?.into_iter().map(|addr| read_node(self, addr, &cpus)).collect()
    }
}

impl Kernel {
    /// Events since boot (`PGFAULT`, `OOM_KILL`, ...), of all possible CPUs:
    /// `vm_event_states`, numbered by `enum vm_event_item`.
    pub fn vm_events(&self) -> Result<Counters> {
        let place = self.layout::<VmEventsLayout>()?.event.place()?;
        let states = self.symbol("vm_event_states")?.wrapping_add(place.offset);
        let mut sums = vec![0u64; (place.size / 8) as usize];
        for (_, offset) in self.per_cpu_offsets()? {
            let raw = self.read_bytes(states.wrapping_add(offset), place.size)?;
            for (sum, part) in sums.iter_mut().zip(raw.chunks_exact(8)) {
                let part = part.try_into().map(u64::from_le_bytes).unwrap_or(0);
                *sum = sum.wrapping_add(part);
            }
        }
        let items = items(self, "enum vm_event_item")?;
        let value = |(name, i): (String, usize)| Some((name, *sums.get(i)? as i64));
        Ok(Counters(items.into_iter().filter_map(value).collect()))
    }
}

/// The kernel's own tables of counters, as they stand in memory: without what
/// each CPU holds back.
#[derive(Debug, Clone, serde::Serialize)]
pub struct VmTables {
    /// `vm_zone_stat`.
    pub zones: Counters,
    /// `vm_node_stat`.
    pub nodes: Counters,
    /// `vm_numa_stat`, until v5.14.
    pub numa: Counters,
    /// Events of all CPUs.
    pub events: Counters,
}

impl Kernel {
    /// `vm_zone_stat[]`, `vm_node_stat[]` and the events.
    pub fn vm_tables(&self) -> Result<VmTables> {
        let table = |symbol: &str, type_name: &str| -> Result<Counters> {
            let items = items(self, type_name)?;
            let len = items.iter().map(|(_, i)| i + 1).max().unwrap_or(0) as u64 * 8;
            let raw = self.read_bytes(self.symbol(symbol)?, len)?;
            Ok(fold(&raw, &[], items))
        };
        Ok(VmTables {
            zones: table("vm_zone_stat", "enum zone_stat_item")?,
            nodes: table("vm_node_stat", "enum node_stat_item")?,
            numa: table("vm_numa_stat", "enum numa_stat_item").unwrap_or_default(),
            events: self.vm_events()?,
        })
    }
}

/// Addresses of the nodes' `struct pglist_data`: `node_data[]`, or the only
/// one of a kernel without NUMA.
fn node_addresses(kernel: &Kernel) -> Result<Vec<u64>> {
    if let Ok(only) = kernel.symbol("contig_page_data") {
        return Ok(vec![only]);
    }
    let table = kernel.symbol("node_data")?;
    // node_states[] is an array of nodemask_t by enum node_states.
    let mask_size = kernel.ty("nodemask_t")?.size().unwrap_or(0);
    if mask_size == 0 || mask_size * 8 > MOST_NODES {
        return Err(Error::corrupt(format!("nodemask_t ({mask_size} bytes)"), table));
    }
    let online = enumerator(kernel, "enum node_states", "N_ONLINE")?;
    let masks = kernel.symbol("node_states")?;
    let mask = kernel.read_bytes(masks.wrapping_add(mask_size * online as u64), mask_size)?;
    bits(&mask).map(|node| kernel.read_u64(table.wrapping_add(node * 8))).collect()
}

/// Numbers of the bits that are set.
pub(crate) fn bits(mask: &[u8]) -> impl Iterator<Item = u64> + '_ {
    (0..mask.len() as u64 * 8).filter(|bit| mask[(bit / 8) as usize] >> (bit % 8) & 1 == 1)
}

/// Value of an enumerator.
pub(crate) fn enumerator(kernel: &Kernel, type_name: &str, name: &str) -> Result<i64> {
    let ty = kernel.ty(type_name)?;
    let found = ty.enumerators().find(|e| e.name == name);
    found.map(|e| e.value).ok_or_else(|| Error::NoType(format!("{name} in {type_name}")))
}

/// (name, index) of the counters that an enum numbers. Marks for ranges
/// (`NR_LRU_BASE`) and counts (`NR_VM_ZONE_STAT_ITEMS`) are no counters.
fn items(kernel: &Kernel, type_name: &str) -> Result<Vec<(String, usize)>> {
    let ty = kernel.ty(type_name)?;
    Ok(ty
        .enumerators()
        .filter(|e| is_counter(e.name))
        .filter_map(|e| Some((e.name.to_owned(), usize::try_from(e.value).ok()?)))
        .collect())
}

fn is_counter(name: &str) -> bool {
    !name.ends_with("_BASE") && !name.ends_with("_ITEMS")
}

/// `sums[]` (longs) plus, per CPU, `diffs[]` (signed bytes).
fn fold(sums: &[u8], diffs: &[Vec<u8>], items: Vec<(String, usize)>) -> Counters {
    let counter = |(name, index): (String, usize)| {
        let raw = sums.chunks_exact(8).nth(index)?.try_into().ok()?;
        let parts = diffs.iter().filter_map(|d| d.get(index)).map(|d| i64::from(*d as i8));
        Some((name, i64::from_le_bytes(raw).wrapping_add(parts.sum())))
    };
    Counters(items.into_iter().filter_map(counter).collect())
}

fn read_node(kernel: &Kernel, addr: u64, cpus: &[(u32, u64)]) -> Result<Node> {
    let layout = kernel.layout::<NodeLayout>()?;
    let zone = kernel.layout::<ZoneLayout>()?;
    let id = layout.node_id.read(kernel, addr)?;
    let stat = layout.vm_stat.place()?;
    let sums = kernel.read_bytes(addr.wrapping_add(stat.offset), stat.size)?;
    let mut diffs = Vec::new();
    let percpu = layout.per_cpu_nodestats.read_if_exists(kernel, addr)?.unwrap_or(0);
    if percpu != 0 {
        let diff = kernel.layout::<PerCpuNodestatLayout>()?.vm_node_stat_diff.place()?;
        diffs = read_diffs(kernel, percpu.wrapping_add(diff.offset), diff.size, cpus)?;
    }
    let count = layout.node_zones.place()?.size.checked_div(zone.size).unwrap_or(0);
    let zones = (0..count.min(MOST_ELEMENTS))
        .map(|i| {
            let at = layout.node_zones.address(addr)?.wrapping_add(i * zone.size);
            read_zone(kernel, &zone, at, id, cpus)
        })
        .collect::<Result<_>>()?;
    Ok(Node {
        addr,
        id,
        start_pfn: layout.node_start_pfn.read(kernel, addr)?,
        spanned: layout.node_spanned_pages.read(kernel, addr)?,
        present: layout.node_present_pages.read(kernel, addr)?,
        kswapd_failures: layout.kswapd_failures.read_if_exists(kernel, addr)?,
        zones,
        counters: fold(&sums, &diffs, items(kernel, "enum node_stat_item")?),
    })
}

/// The array of `len` bytes at the per-CPU address `at`, of each CPU.
fn read_diffs(kernel: &Kernel, at: u64, len: u64, cpus: &[(u32, u64)]) -> Result<Vec<Vec<u8>>> {
    cpus.iter().map(|(_, offset)| kernel.read_bytes(at.wrapping_add(*offset), len)).collect()
}

fn read_zone(
    kernel: &Kernel,
    layout: &ZoneLayout,
    addr: u64,
    node: i32,
    cpus: &[(u32, u64)],
) -> Result<Zone> {
    let marks = longs(kernel, layout.watermark.place()?, addr)?;
    let mark = |i: usize| marks.get(i).copied().unwrap_or(0) as u64;
    let stat = layout.vm_stat.place()?;
    let sums = kernel.read_bytes(addr.wrapping_add(stat.offset), stat.size)?;
    let present = layout.present_pages.read(kernel, addr)?;
    let mut diffs = Vec::new();
    let mut per_cpu_free = 0;
    // An empty zone's per-CPU parts are shared placeholders (boot_pageset).
    if present != 0 {
        let stats = layout.per_cpu_zonestats.read(kernel, addr)?;
        let (pcp_at, diff) = match kernel.layout::<PerCpuZonestatLayout>() {
            Ok(split) => (0, split.vm_stat_diff.place()?),
            Err(_) => {
                let both = kernel.layout::<PerCpuPagesetLayout>()?;
                (both.pcp.offset()?, both.vm_stat_diff.place()?)
            }
        };
        diffs = read_diffs(kernel, stats.wrapping_add(diff.offset), diff.size, cpus)?;
        let pages = layout.per_cpu_pageset.read(kernel, addr)?.wrapping_add(pcp_at);
        let count = &kernel.layout::<PerCpuPagesLayout>()?.count;
        for (_, offset) in cpus {
            per_cpu_free += u64::from(count.read(kernel, pages.wrapping_add(*offset))?);
        }
    }
    let counters = fold(&sums, &diffs, items(kernel, "enum zone_stat_item")?);
    Ok(Zone {
        addr,
        node,
        name: layout.name.read(kernel, addr)?,
        min: mark(0),
        low: mark(1),
        high: mark(2),
        boost: layout.watermark_boost.read_if_exists(kernel, addr)?.unwrap_or(0),
        reserved_highatomic: layout
            .nr_reserved_highatomic
            .read_if_exists(kernel, addr)?
            .unwrap_or(0),
        lowmem_reserve: longs(kernel, layout.lowmem_reserve.place()?, addr)?,
        start_pfn: layout.zone_start_pfn.read(kernel, addr)?,
        spanned: layout.spanned_pages.read(kernel, addr)?,
        present,
        managed: layout.managed_pages.read(kernel, addr)?,
        free: counters
            .get("NR_FREE_PAGES")
            .ok_or_else(|| Error::NoType("NR_FREE_PAGES in enum zone_stat_item".into()))?,
        per_cpu_free,
        free_blocks: free_blocks(kernel, layout, addr)?,
        counters,
        table: fold(&sums, &[], items(kernel, "enum zone_stat_item")?),
    })
}

/// A member that is an array of longs.
fn longs(kernel: &Kernel, place: crate::layout::Place, base: u64) -> Result<Vec<i64>> {
    let raw =
        kernel.read_bytes(base.wrapping_add(place.offset), place.size.min(8 * MOST_ELEMENTS))?;
    let word = |w: &[u8]| w.try_into().map(i64::from_le_bytes).unwrap_or(0);
    Ok(raw.chunks_exact(8).map(word).collect())
}

fn free_blocks(kernel: &Kernel, zone: &ZoneLayout, addr: u64) -> Result<Vec<u64>> {
    let area = kernel.layout::<FreeAreaLayout>()?;
    let place = zone.free_area.place()?;
    let orders = place.size.checked_div(area.size).unwrap_or(0).min(MOST_ELEMENTS);
    (0..orders)
        .map(|order| area.nr_free.read(kernel, addr + place.offset + order * area.size))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, index: usize) -> (String, usize) {
        (name.to_owned(), index)
    }

    #[test]
    fn differences_of_every_cpu_are_added() {
        let sums: Vec<u8> = [100i64, -3].iter().flat_map(|v| v.to_le_bytes()).collect();
        let diffs = vec![vec![5, 0], vec![0xfe, 4]];
        let folded = fold(&sums, &diffs, vec![item("A", 0), item("B", 1)]);
        assert_eq!((folded.get("A"), folded.get("B")), (Some(103), Some(1)));
    }

    #[test]
    fn a_counter_beyond_the_array_is_left_out() {
        let folded = fold(&[0; 8], &[], vec![item("A", 0), item("B", 1)]);
        assert_eq!((folded.get("A"), folded.get("B")), (Some(0), None));
    }

    #[test]
    fn marks_are_no_counters() {
        assert!(is_counter("NR_FREE_PAGES") && is_counter("WORKINGSET_NODES"));
        assert!(!is_counter("NR_LRU_BASE") && !is_counter("NR_VM_ZONE_STAT_ITEMS"));
    }

    #[test]
    fn counters_add_by_name() {
        let mut sum = Counters(vec![("A".into(), 1)]);
        sum.add(&Counters(vec![("B".into(), 7), ("A".into(), 2)]));
        assert_eq!(sum.0, [("A".to_owned(), 3), ("B".to_owned(), 7)]);
    }

    #[test]
    fn bits_count_from_the_lowest() {
        assert_eq!(bits(&[0b101, 0x80]).collect::<Vec<_>>(), [0, 2, 15]);
    }
}
