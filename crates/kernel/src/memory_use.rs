//! Where all memory went: the machine's pages by owner, without a rest that is
//! not told.
//!
//! The total is what the allocator manages (`MemTotal`). Owners come from the
//! kernel's own counters, with every CPU's part ([`crate::vmstat`]), so the
//! answer costs the same on any machine. They are made to exclude each other:
//! - stacks of tasks are areas of vmalloc (CONFIG_VMAP_STACK) and counted there,
//!   too (`nr_vmalloc_pages` counts every page that __vmalloc_area_node()
//!   allocates): their pages are taken out of vmalloc;
//! - shmem, buffers and the swap cache are part of `NR_FILE_PAGES`;
//! - the first chunk of per-CPU memory comes from memblock, not from the
//!   allocator: what `pcpu_nr_populated` has beyond it counts;
//! - a balloon that the host inflated takes pages out of the total, unless it
//!   gives them back on OOM (drivers/virtio/virtio_balloon.c).
//!
//! What the sum lacks was taken with alloc_pages() by somebody who does not
//! count: drivers' buffers, page pools, leaks. What it has too much (a page
//! that is mapped and in the swap cache) is told as an overlap.

use serde::Serialize;

use crate::Kernel;
use crate::error::Result;
use crate::gaps::Gaps;
use crate::layout;
use crate::memory::Memory;
use crate::vmstat::Counters;

layout! {
    /// `struct pcpu_chunk`, mm/percpu-internal.h
    pub struct PcpuChunkLayout for "pcpu_chunk" {
        nr_pages: i32 = "nr_pages",
    }
}

/// An owner of pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Its name.
    pub name: &'static str,
    /// Its pages.
    pub pages: u64,
}

/// Memory of the machine, by owner. Counts are pages.
#[derive(Debug, Clone, Serialize)]
pub struct MemoryUse {
    /// What the allocator manages.
    pub total: u64,
    /// The owners; with `unaccounted` less `overlap` they make the total.
    pub shares: Vec<Share>,
    /// What no counter knows.
    pub unaccounted: u64,
    /// What is counted twice.
    pub overlap: u64,
    /// RAM that the allocator never got, in parts.
    pub reserved: Vec<Share>,
    /// Pages that a balloon took for the host (not in the total, unless it can
    /// be asked for them).
    pub balloon: Option<u64>,
    /// What could not be read.
    pub gaps: Gaps,
}

impl MemoryUse {
    /// Pages of the owner `name`.
    pub fn pages(&self, name: &str) -> u64 {
        self.shares.iter().find(|share| share.name == name).map_or(0, |share| share.pages)
    }
}

impl Kernel {
    /// The machine's memory by owner.
    pub fn memory_use(&self, memory: &Memory) -> MemoryUse {
        let mut gaps = memory.gaps.clone();
        let first_chunk = gaps.keep("the first chunk of per-CPU memory", self.first_chunk());
        let mut used = shares(memory, first_chunk.unwrap_or(0));
        let events = gaps.keep("events", self.vm_events()).unwrap_or_default();
        used.balloon = balloon(&memory.counters, &events);
        used.reserved = self.reserved(memory, first_chunk, &mut gaps);
        used.gaps = gaps;
        used
    }

    /// Pages of the first chunk: static, reserved and dynamic part, all CPUs.
    fn first_chunk(&self) -> Result<u64> {
        let page = self.page_size();
        let fixed = self.symbol("__per_cpu_end")?.wrapping_sub(self.symbol("__per_cpu_start")?);
        let nr_pages = &self.layout::<PcpuChunkLayout>()?.nr_pages;
        let mut pages = fixed.min(1 << 30).div_ceil(page);
        for chunk in ["pcpu_first_chunk", "pcpu_reserved_chunk"] {
            match self.symbol(chunk).and_then(|at| self.read_u64(at))? {
                0 => {}
                chunk => pages += nr_pages.read(self, chunk)?.max(0) as u64,
            }
        }
        let units = self.read_u32(self.symbol("pcpu_nr_units")?)?;
        Ok(pages.saturating_mul(u64::from(units)))
    }

    /// RAM that is no part of the total.
    fn reserved(&self, memory: &Memory, first_chunk: Option<u64>, gaps: &mut Gaps) -> Vec<Share> {
        let page = memory.page_size.max(1);
        let present: u64 = memory.nodes.iter().map(|node| node.present).sum();
        let mut parts = Vec::new();
        // What only boot needs was given to the allocator.
        let range = |from: &str, to: &str| -> Result<u64> {
            Ok(self.symbol(to)?.saturating_sub(self.symbol(from)?))
        };
        let image = range("_text", "_end")
            .map(|all| all.saturating_sub(range("__init_begin", "__init_end").unwrap_or(0)));
        if let Some(bytes) = gaps.keep("size of the kernel's image", image) {
            parts.push(Share { name: "kernel image", pages: bytes.div_ceil(page) });
        }
        if let Some(map) = gaps.keep("records of pages", self.mem_map()) {
            let record = self.ty("struct page").ok().and_then(|ty| ty.size()).unwrap_or(0);
            let pages = map.len().saturating_mul(record).div_ceil(page);
            parts.push(Share { name: "records of pages (struct page)", pages });
        }
        if let Some(pages) = first_chunk {
            parts.push(Share { name: "per-CPU variables", pages });
        }
        let known: u64 = parts.iter().map(|share| share.pages).sum();
        let rest = present.saturating_sub(memory.total).saturating_sub(known);
        parts.push(Share { name: "other (firmware, boot, crashkernel)", pages: rest });
        parts
    }
}

/// Pages in balloons: counted since v6.19 (`NR_BALLOON_PAGES`), before as
/// events.
fn balloon(counters: &Counters, events: &Counters) -> Option<u64> {
    if let Some(pages) = counters.get("NR_BALLOON_PAGES") {
        return u64::try_from(pages).ok();
    }
    let inflated = events.get("BALLOON_INFLATE")?;
    u64::try_from(inflated - events.get("BALLOON_DEFLATE")?).ok()
}

/// The owners by the counters.
fn shares(memory: &Memory, first_chunk: u64) -> MemoryUse {
    let count = |name: &str| memory.counters.get(name).map_or(0, |v| v.max(0) as u64);
    let page_kib = (memory.page_size / 1024).max(1);
    let stacks = memory.kernel_stack_kib.unwrap_or(0) / page_kib;
    let shmem = memory.shmem.unwrap_or(0);
    let cached = memory.cached.unwrap_or(0);
    let (huge, _) = memory.huge_total_and_free();
    let shares: Vec<Share> = [
        ("free", memory.free),
        ("free, held by CPUs", memory.per_cpu_free),
        ("anonymous memory of processes", memory.anon.unwrap_or(0)),
        ("files in the page cache", cached.saturating_sub(shmem)),
        ("tmpfs and shared memory", shmem),
        ("block devices' cache (buffers)", memory.buffers.unwrap_or(0)),
        ("swap cache", memory.swap_cached.unwrap_or(0)),
        ("slab, reclaimable", memory.slab_reclaimable.unwrap_or(0)),
        ("slab, unreclaimable", memory.slab_unreclaimable.unwrap_or(0)),
        ("page tables", memory.page_tables.unwrap_or(0) + count("NR_SECONDARY_PAGETABLE")),
        ("kernel stacks", stacks),
        ("vmalloc", memory.vmalloc.unwrap_or(0).saturating_sub(stacks)),
        ("per-CPU memory", memory.per_cpu.unwrap_or(0).saturating_sub(first_chunk)),
        ("huge page pools", huge),
        ("other reclaimable of the kernel", count("NR_KERNEL_MISC_RECLAIMABLE")),
        ("compressed (zsmalloc)", count("NR_ZSPAGES")),
        ("GPU memory", count("NR_GPU_ACTIVE") + count("NR_GPU_RECLAIM")),
    ]
    .into_iter()
    .map(|(name, pages)| Share { name, pages })
    .collect();
    let sum: u64 = shares.iter().map(|share| share.pages).sum();
    MemoryUse {
        total: memory.total,
        unaccounted: memory.total.saturating_sub(sum),
        overlap: sum.saturating_sub(memory.total),
        shares,
        reserved: Vec::new(),
        balloon: None,
        gaps: Gaps::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        Memory {
            page_size: 4096,
            total: 1000,
            free: 400,
            per_cpu_free: 10,
            available: None,
            shmem: Some(50),
            buffers: Some(5),
            cached: Some(150),
            swap_cached: Some(0),
            anon: Some(100),
            mapped: None,
            slab_reclaimable: Some(20),
            slab_unreclaimable: Some(80),
            page_tables: Some(7),
            kernel_stack_kib: Some(160),
            vmalloc: Some(60),
            per_cpu: Some(30),
            huge_pages: Vec::new(),
            swap_total: None,
            swap_free: None,
            swap_areas: Vec::new(),
            commit_limit: None,
            committed: None,
            overcommit_policy: None,
            nodes: Vec::new(),
            counters: Counters::default(),
            gaps: Gaps::default(),
        }
    }

    #[test]
    fn shares_and_the_rest_make_the_total() {
        let used = shares(&memory(), 20);
        let sum: u64 = used.shares.iter().map(|share| share.pages).sum();
        assert_eq!(sum + used.unaccounted, used.total);
        assert_eq!((used.pages("files in the page cache"), used.pages("vmalloc")), (100, 20));
        assert_eq!((used.pages("per-CPU memory"), used.pages("kernel stacks")), (10, 40));
        assert_eq!((used.unaccounted, used.overlap), (158, 0));
    }

    #[test]
    fn what_is_counted_twice_is_told() {
        let used = shares(&Memory { anon: Some(600), ..memory() }, 20);
        assert_eq!((used.unaccounted, used.overlap), (0, 342));
    }

    #[test]
    fn balloons_are_counted_or_follow_from_events() {
        let table = |list: &[(&str, i64)]| {
            Counters(list.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect())
        };
        let events = table(&[("BALLOON_INFLATE", 70), ("BALLOON_DEFLATE", 20)]);
        assert_eq!(balloon(&Counters::default(), &events), Some(50));
        assert_eq!(balloon(&table(&[("NR_BALLOON_PAGES", 3)]), &events), Some(3));
        assert_eq!(balloon(&Counters::default(), &Counters::default()), None);
    }
}
