//! Memory of the whole machine: what `free`, /proc/meminfo and crash(8)'s
//! `kmem -i` tell.
//!
//! Everything comes from counters (mm/page_alloc.c `_totalram_pages`, the
//! nodes' and zones' statistics, `vm_committed_as`): no page is visited, so it
//! costs the same on 64 MB and on 24 TB, and a filtered dump has it all.
//! Formulas: fs/proc/meminfo.c, mm/show_mem.c (`si_mem_available`),
//! mm/util.c (`vm_commit_limit`), block/bdev.c (`nr_blockdev_pages`).
//!
//! All counts are pages unless a name says otherwise.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::Embedded;
use crate::stack::hex;
use crate::swap::SwapArea;
use crate::vmstat::{Counters, Node};
use crate::{Kernel, layout};

layout! {
    /// `struct hstate`, include/linux/hugetlb.h
    pub struct HstateLayout for "hstate" {
        order: u32 = "order",
        nr_huge_pages: u64 = "nr_huge_pages",
        free_huge_pages: u64 = "free_huge_pages",
        resv_huge_pages: u64 = "resv_huge_pages",
        surplus_huge_pages: u64 = "surplus_huge_pages",
        name: str = "name",
    }
}

layout! {
    /// `struct super_block`, include/linux/fs.h: its inodes only
    pub struct InodesLayout for "super_block" {
        s_inodes: Embedded = "s_inodes",
    }
}

layout! {
    /// `struct inode`, include/linux/fs.h: its place in the superblock's list
    pub struct InodePagesLayout for "inode" {
        i_sb_list: Embedded = "i_sb_list",
        i_mapping: u64 = "i_mapping",
    }
}

layout! {
    /// `struct address_space`, include/linux/fs.h: its size only
    pub struct CachedPagesLayout for "address_space" {
        nrpages: u64 = "nrpages",
    }
}

/// HUGE_MAX_HSTATE is 2 on x86_64, at most 8 elsewhere.
const MOST_HUGE_SIZES: u32 = 64;
/// MAX_SWAPFILES is at most 32.
const MOST_SWAP_TYPES: u64 = 32;

/// Memory of the machine, in pages.
#[derive(Debug, Clone, Serialize)]
pub struct Memory {
    /// Bytes per page.
    pub page_size: u64,
    /// What the allocator manages (`MemTotal`).
    pub total: u64,
    /// Free (`MemFree`).
    pub free: u64,
    /// Free pages that CPUs hold for themselves (in neither `free` nor any use).
    pub per_cpu_free: u64,
    /// What could be had without swapping (`MemAvailable`).
    pub available: Option<u64>,
    /// Pages of tmpfs, shared anonymous and System V memory (`Shmem`, what
    /// free(1) calls shared).
    pub shmem: Option<u64>,
    /// Page cache of block devices (`Buffers`).
    pub buffers: Option<u64>,
    /// Page cache of files, shmem included (`Cached`).
    pub cached: Option<u64>,
    /// Pages that are in memory and in swap (`SwapCached`).
    pub swap_cached: Option<u64>,
    /// Anonymous memory mapped by processes (`AnonPages`).
    pub anon: Option<u64>,
    /// File pages mapped by processes (`Mapped`).
    pub mapped: Option<u64>,
    /// Slab that shrinkers can give back (`SReclaimable`).
    pub slab_reclaimable: Option<u64>,
    /// Slab that nobody gives back (`SUnreclaim`).
    pub slab_unreclaimable: Option<u64>,
    /// Page tables (`PageTables`).
    pub page_tables: Option<u64>,
    /// Kernel stacks, KiB (`KernelStack`).
    pub kernel_stack_kib: Option<u64>,
    /// vmalloc memory in use (`VmallocUsed`).
    pub vmalloc: Option<u64>,
    /// Per-CPU memory, all CPUs together (`Percpu`).
    pub per_cpu: Option<u64>,
    /// Huge page pools, by size.
    pub huge_pages: Vec<HugePages>,
    /// Swap, all areas together.
    pub swap_total: Option<u64>,
    /// Of that free.
    pub swap_free: Option<u64>,
    /// The swap areas.
    pub swap_areas: Vec<SwapArea>,
    /// What may be promised under strict overcommit (`CommitLimit`).
    pub commit_limit: Option<u64>,
    /// What is promised (`Committed_AS`), with every CPU's part.
    pub committed: Option<i64>,
    /// `vm.overcommit_memory`: 0 by guess, 1 always, 2 strict.
    pub overcommit_policy: Option<u32>,
    /// The nodes with their zones.
    pub nodes: Vec<Node>,
    /// All zones' and nodes' counters together.
    pub counters: Counters,
    /// What of the above could not be read, and why.
    pub gaps: Gaps,
}

impl Memory {
    /// Pages in use: all but the free ones.
    pub fn used(&self) -> u64 {
        self.total.saturating_sub(self.free)
    }

    /// Slab of both kinds.
    pub fn slab(&self) -> Option<u64> {
        Some(self.slab_reclaimable? + self.slab_unreclaimable?)
    }

    /// Pages in huge page pools: (all, free).
    pub fn huge_total_and_free(&self) -> (u64, u64) {
        let sum = |count: fn(&HugePages) -> u64| {
            self.huge_pages.iter().map(|h| count(h).saturating_mul(h.pages)).sum()
        };
        (sum(|h| h.total), sum(|h| h.free))
    }
}

/// A pool of huge pages of one size. Counts are huge pages.
#[derive(Debug, Clone, Serialize)]
pub struct HugePages {
    /// Address of its `struct hstate`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// "hugepages-2048kB"
    pub name: String,
    /// Small pages in one huge page.
    pub pages: u64,
    /// All of the pool.
    pub total: u64,
    /// Free ones.
    pub free: u64,
    /// Promised, not yet handed out.
    pub reserved: u64,
    /// Beyond the pool's configured size.
    pub surplus: u64,
}

impl Kernel {
    /// Memory of the whole machine. Fails only where its size or the counters of
    /// its nodes can't be read; whatever else can't is told in `gaps`.
    pub fn memory(&self) -> Result<Memory> {
        let nodes = self.nodes()?;
        let total = self.symbol("_totalram_pages").or_else(|_| self.symbol("totalram_pages"))?;
        let total = self.read_u64(total)?;
        let mut counters = Counters::default();
        let mut per_cpu_free = 0;
        for node in &nodes {
            counters.add(&node.counters);
            for zone in &node.zones {
                counters.add(&zone.counters);
                per_cpu_free += zone.per_cpu_free;
            }
        }
        let free = counters
            .get("NR_FREE_PAGES")
            .ok_or_else(|| Error::Unavailable("no memory zone can be read".into()))?;
        let page_size = self.page_size();
        let mut gaps = Gaps::default();
        let count = |names: &[&str]| counters.get_any(names).and_then(|v| u64::try_from(v).ok());

        let buffers = buffers(self);
        let buffers = gaps.keep("buffers", buffers);
        let swap_total = gaps.keep("swap size", self.variable("total_swap_pages"));
        let swap_cached = match count(&["NR_SWAPCACHE"]) {
            Some(pages) => Some(pages),
            None if swap_total == Some(0) => Some(0),
            None => {
                let pages = swap_cache(self);
                gaps.keep("swap cache", pages)
            }
        };
        let huge_pages = huge_pages(self);
        let huge_pages = gaps.keep("huge pages", huge_pages).unwrap_or_default();
        let swap_areas = self.swap_areas();
        let committed = self.symbol("vm_committed_as").and_then(|a| self.percpu_counter(a));
        let commit_limit = commit_limit(self, total, &huge_pages);
        let per_cpu = per_cpu_pages(self);
        let policy =
            self.symbol("sysctl_overcommit_memory").and_then(|symbol| self.read_u32(symbol));
        let reserve = gaps.keep("the reserve of all zones", self.variable("totalreserve_pages"));

        let mut memory = Memory {
            page_size,
            total,
            free: free.max(0) as u64,
            per_cpu_free,
            available: None,
            shmem: count(&["NR_SHMEM"]),
            buffers,
            cached: count(&["NR_FILE_PAGES"])
                .zip(swap_cached)
                .zip(buffers)
                .map(|((file, swap), buffers)| file.saturating_sub(swap + buffers)),
            swap_cached,
            anon: count(&["NR_ANON_MAPPED"]),
            mapped: count(&["NR_FILE_MAPPED"]),
            slab_reclaimable: count(&["NR_SLAB_RECLAIMABLE_B", "NR_SLAB_RECLAIMABLE"]),
            slab_unreclaimable: count(&["NR_SLAB_UNRECLAIMABLE_B", "NR_SLAB_UNRECLAIMABLE"]),
            page_tables: count(&["NR_PAGETABLE"]),
            kernel_stack_kib: count(&["NR_KERNEL_STACK_KB"]),
            // Newer kernels count it by node, older ones in a variable.
            vmalloc: count(&["NR_VMALLOC"])
                .or_else(|| gaps.keep("vmalloc memory", self.variable("nr_vmalloc_pages"))),
            per_cpu: gaps.keep("per-CPU memory", per_cpu),
            huge_pages,
            swap_total,
            swap_free: gaps
                .keep("free swap", self.variable("nr_swap_pages"))
                .map(|v| (v as i64).max(0) as u64),
            swap_areas: gaps.keep("swap areas", swap_areas).unwrap_or_default(),
            commit_limit: gaps.keep("commit limit", commit_limit),
            committed: gaps.keep("committed memory", committed),
            overcommit_policy: gaps.keep("overcommit policy", policy),
            nodes,
            counters,
            gaps: Gaps::default(),
        };
        memory.available = reserve.and_then(|reserve| available(&memory, reserve));
        memory.gaps = gaps;
        Ok(memory)
    }
}

impl Kernel {
    /// A global `unsigned long` (or an atomic one).
    fn variable(&self, name: &str) -> Result<u64> {
        self.read_u64(self.symbol(name)?)
    }
}

/// Page cache of block devices: `nr_blockdev_pages()`, the pages of every
/// inode of the bdev pseudo filesystem.
fn buffers(kernel: &Kernel) -> Result<u64> {
    let inode = kernel.layout::<InodePagesLayout>()?;
    let mapping = kernel.layout::<CachedPagesLayout>()?;
    let superblock = kernel.read_u64(kernel.symbol("blockdev_superblock")?)?;
    if superblock == 0 {
        return Err(Error::Null("blockdev_superblock".into()));
    }
    let head = kernel.layout::<InodesLayout>()?.s_inodes.address(superblock)?;
    let mut pages = 0u64;
    for device in kernel.list(head, inode.i_sb_list.offset()?, "the block devices' inodes") {
        let at = inode.i_mapping.read(kernel, device?)?;
        pages = pages.saturating_add(mapping.nrpages.read(kernel, at)?);
    }
    Ok(pages)
}

/// Pages in the swap cache before v5.12 (b6038942480e) counted them in
/// `NR_SWAPCACHE`: those of the address spaces `swapper_spaces[type][n]`.
fn swap_cache(kernel: &Kernel) -> Result<u64> {
    let mapping = kernel.layout::<CachedPagesLayout>()?;
    let spaces = kernel.symbol("swapper_spaces")?;
    let counts = kernel.symbol("nr_swapper_spaces")?;
    let mut pages = 0u64;
    for kind in 0..MOST_SWAP_TYPES {
        let first = kernel.read_u64(spaces.wrapping_add(kind * 8))?;
        let count = kernel.read_u32(counts.wrapping_add(kind * 4))?;
        if first == 0 || count == 0 {
            // Areas are numbered from 0; behind the last used type the arrays
            // may end (MAX_SWAPFILES depends on the configuration).
            if kind >= u64::from(kernel.read_u32(kernel.symbol("nr_swapfiles")?)?) {
                break;
            }
            continue;
        }
        // One space per 64 MiB of swap.
        for i in 0..u64::from(count).min(1 << 24) {
            let at = first.wrapping_add(i * mapping.size);
            pages = pages.saturating_add(mapping.nrpages.read(kernel, at)?);
        }
    }
    Ok(pages)
}

fn huge_pages(kernel: &Kernel) -> Result<Vec<HugePages>> {
    let Some(table) = kernel.symbol_if_built("hstates")? else {
        return Ok(Vec::new()); // built without hugetlbfs
    };
    let layout = kernel.layout::<HstateLayout>()?;
    let count = kernel.read_u32(kernel.symbol("hugetlb_max_hstate")?)?;
    if count > MOST_HUGE_SIZES {
        return Err(Error::corrupt(format!("the count of huge page sizes ({count})"), table));
    }
    let mut pools = Vec::new();
    for i in 0..u64::from(count) {
        let addr = table.wrapping_add(i * layout.size);
        let order = layout.order.read(kernel, addr)?;
        pools.push(HugePages {
            addr,
            name: layout.name.read(kernel, addr)?,
            pages: 1u64
                .checked_shl(order)
                .ok_or_else(|| Error::corrupt(format!("huge page order {order}"), addr))?,
            total: layout.nr_huge_pages.read(kernel, addr)?,
            free: layout.free_huge_pages.read(kernel, addr)?,
            reserved: layout.resv_huge_pages.read(kernel, addr)?,
            surplus: layout.surplus_huge_pages.read(kernel, addr)?,
        });
    }
    Ok(pools)
}

/// `vm_commit_limit()`.
fn commit_limit(kernel: &Kernel, total: u64, huge: &[HugePages]) -> Result<u64> {
    let kbytes = kernel.read_u64(kernel.symbol("sysctl_overcommit_kbytes")?)?;
    let swap = kernel.read_u64(kernel.symbol("total_swap_pages")?)?;
    let page_kib = (kernel.page_size() / 1024).max(1);
    let ram = if kbytes != 0 {
        kbytes / page_kib
    } else {
        let ratio = kernel.read_u32(kernel.symbol("sysctl_overcommit_ratio")?)?;
        let huge: u64 = huge.iter().map(|h| h.total.saturating_mul(h.pages)).sum();
        total.saturating_sub(huge).saturating_mul(u64::from(ratio)) / 100
    };
    Ok(ram.saturating_add(swap))
}

/// `pcpu_nr_pages()`: populated pages of one unit times the units.
fn per_cpu_pages(kernel: &Kernel) -> Result<u64> {
    let populated = kernel.read_u64(kernel.symbol("pcpu_nr_populated")?)?;
    let units = kernel.read_u32(kernel.symbol("pcpu_nr_units")?)?;
    Ok(populated.saturating_mul(u64::from(units)))
}

/// `si_mem_available()`: free pages without the reserve, and what of page
/// cache and reclaimable memory lies above the low watermarks (or half of it).
fn available(memory: &Memory, reserve: u64) -> Option<u64> {
    let zones = memory.nodes.iter().flat_map(|n| &n.zones);
    let low: u64 = zones.map(|zone| zone.low).sum();
    let count = |name: &str| memory.counters.get(name).and_then(|v| u64::try_from(v).ok());
    let cache = count("NR_ACTIVE_FILE")? + count("NR_INACTIVE_FILE")?;
    let reclaimable = memory.slab_reclaimable? + count("NR_KERNEL_MISC_RECLAIMABLE").unwrap_or(0);
    let spare = |pages: u64| pages - (pages / 2).min(low);
    Some((memory.free + spare(cache) + spare(reclaimable)).saturating_sub(reserve))
}
