//! Slab caches: how many objects each has, how many are in use.
//!
//! SLUB (mm/slub.c): a slab is one block of pages cut into objects; `struct
//! slab` (mm/slab.h, v5.17; `struct page` before) says how many it has
//! (`objects`) and how many are handed out (`inuse`). Full slabs are on no
//! list, so the total comes from the node's counters, and what is in use is the
//! total without the free objects, which are
//! - in slabs on the node's `partial` list: `objects - inuse`;
//! - in slabs on a CPU's `partial` chain: the same (until v7.0);
//! - in a CPU's active slab: the same, plus its private `freelist`, whose
//!   objects count as `inuse` (until v7.0);
//! - in sheaves (v6.18, 2d517aa09bbc): arrays of free objects, which count as
//!   `inuse` in their slabs, of each CPU (`main`, `spare`) and of each node's
//!   barn. Those in `rcu_free` wait for a grace period: somebody may still read
//!   them, so they count as in use here, as they do with kfree_rcu().
//!
//! All possible CPUs are visited: a panic takes CPUs offline that still have
//! their slabs.

use rayon::prelude::*;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::{CString, Embedded, Member};
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct kmem_cache`, mm/slab.h (include/linux/slub_def.h until v6.7)
    pub struct KmemCacheLayout for "kmem_cache" {
        list: Embedded = "list",
        name: CString = "name",
        bytes: u32 = "size",
        object_size: u32 = "object_size",
        align: u32 = "align",
        flags: u64 = "flags",
        refcount: i32 = "refcount",
        ctor: u64 = "ctor",
        free_pointer: u64 = "offset",
        random: u64 = "random",
        oo: u32 = "oo.x",
        node: Embedded = "node",
        /// Node and barn in pairs, since v7.1.
        per_node: Embedded = "per_node",
        cpu_slab: u64 = "cpu_slab",
        cpu_sheaves: u64 = "cpu_sheaves",
    }
}

layout! {
    /// `struct kmem_cache_per_node_ptrs`, mm/slab.h
    pub struct PerNodeLayout for "kmem_cache_per_node_ptrs" {
        node: u64 = "node",
        barn: u64 = "barn",
    }
}

layout! {
    /// `struct kmem_cache_node`, mm/slub.c (mm/slab.h until v6.8)
    pub struct KmemCacheNodeLayout for "kmem_cache_node" {
        partial: Embedded = "partial",
        nr_partial: u64 = "nr_partial",
        nr_slabs: u64 = "nr_slabs",
        total_objects: u64 = "total_objects",
        barn: u64 = "barn",
    }
}

layout! {
    /// `struct kmem_cache_cpu`, mm/slub.c, until v7.0
    pub struct KmemCacheCpuLayout for "kmem_cache_cpu" {
        freelist: u64 = "freelist",
        slab: u64 = "slab" | "page",            // renamed in v5.17
        partial: u64 = "partial",
    }
}

layout! {
    /// `struct slab`, mm/slab.h, since v5.17
    pub struct SlabLayout for "slab" {
        list: Embedded = "slab_list",
        next: Embedded = "next",
        inuse: u32 = "inuse",
        objects: u32 = "objects",
    }
}

layout! {
    /// `struct page`, include/linux/mm_types.h: as a slab, until v5.17
    pub struct PageSlabLayout for "page" {
        list: Embedded = "slab_list" | "lru",
        next: Embedded = "next",
        inuse: u32 = "inuse",
        objects: u32 = "objects",
    }
}

layout! {
    /// `struct slub_percpu_sheaves`, mm/slub.c
    pub struct PerCpuSheavesLayout for "slub_percpu_sheaves" {
        main: u64 = "main",
        spare: u64 = "spare",
        rcu_free: u64 = "rcu_free",
    }
}

layout! {
    /// `struct slab_sheaf`, mm/slub.c
    pub struct SheafLayout for "slab_sheaf" {
        barn_list: Embedded = "barn_list",
        filled: u32 = "size",
    }
}

layout! {
    /// `struct node_barn`, mm/slub.c
    pub struct BarnLayout for "node_barn" {
        sheaves_full: Embedded = "sheaves_full",
    }
}

/// MAX_NUMNODES of the largest kernels is 1024.
const MOST_NODES: u64 = 1 << 16;
/// `MAX_OBJS_PER_PAGE` (mm/slub.c): `objects` has 15 bits.
const MOST_OBJECTS: u32 = 1 << 15;
/// `OO_SHIFT` (mm/slub.c): order above, objects per slab below.
const OO_SHIFT: u32 = 16;

/// A slab cache.
#[derive(Debug, Clone, Serialize)]
pub struct SlabCache {
    /// Address of its `struct kmem_cache`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its name; caches that were merged share the first one's.
    pub name: String,
    /// Bytes of an object as its users see it.
    pub object_size: u32,
    /// Bytes from object to object.
    pub size: u32,
    /// Bytes of a slab (new ones; older ones may be smaller when memory was
    /// short).
    pub slab_size: u64,
    /// Objects in such a slab.
    pub objects_per_slab: u32,
    /// Slabs.
    pub slabs: u64,
    /// Slabs on the nodes' partial lists.
    pub partial_slabs: u64,
    /// Objects in all slabs.
    pub objects: u64,
    /// Objects that are in use. An upper bound where `gaps` has reasons.
    pub allocated: u64,
    /// Of these freed, waiting for an RCU grace period in a sheaf.
    pub awaiting_rcu: u64,
    /// Caches and aliases that share it (`refcount`); negative: never merged.
    pub users: i32,
    /// `SLAB_*` flags.
    #[serde(serialize_with = "hex")]
    pub flags: u64,
    /// What could not be read, and why.
    pub gaps: Gaps,
}

impl SlabCache {
    /// Bytes of memory in its slabs, for slabs of the usual size.
    pub fn bytes(&self) -> u64 {
        self.slabs.saturating_mul(self.slab_size)
    }
}

/// Where a slab keeps its counts: `struct slab`, or `struct page` before it.
struct SlabAccess<'k> {
    kernel: &'k Kernel,
    list: u64,
    next: Option<u64>,
    inuse: SlabCounts,
}

enum SlabCounts {
    Slab(std::sync::Arc<SlabLayout>),
    Page(std::sync::Arc<PageSlabLayout>),
}

/// Objects of one slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    objects: u32,
    inuse: u32,
}

impl<'k> SlabAccess<'k> {
    fn new(kernel: &'k Kernel) -> Result<SlabAccess<'k>> {
        if let Ok(slab) = kernel.layout::<SlabLayout>() {
            return Ok(SlabAccess {
                kernel,
                list: slab.list.offset()?,
                next: slab.next.offset().ok(),
                inuse: SlabCounts::Slab(slab),
            });
        }
        let page = kernel.layout::<PageSlabLayout>()?;
        Ok(SlabAccess {
            kernel,
            list: page.list.offset()?,
            next: page.next.offset().ok(),
            inuse: SlabCounts::Page(page),
        })
    }

    fn counts(&self, slab: u64) -> Result<Counts> {
        let (objects, inuse) = match &self.inuse {
            SlabCounts::Slab(layout) => (&layout.objects, &layout.inuse),
            SlabCounts::Page(layout) => (&layout.objects, &layout.inuse),
        };
        let counts = Counts {
            objects: objects.read(self.kernel, slab)?,
            inuse: inuse.read(self.kernel, slab)?,
        };
        if counts.inuse > counts.objects {
            let what = format!("a slab with {} of {} objects", counts.inuse, counts.objects);
            return Err(Error::corrupt(what, slab));
        }
        Ok(counts)
    }

    fn free(&self, slab: u64) -> Result<u64> {
        self.counts(slab).map(|c| u64::from(c.objects - c.inuse))
    }
}

impl Kernel {
    /// All slab caches, in the kernel's order. A cache that can't be read
    /// wholly says so itself.
    pub fn slab_caches(&self) -> Result<Vec<SlabCache>> {
        let layout = self.layout::<KmemCacheLayout>()?;
        if !layout.oo.exists() {
            return Err(Error::Unavailable("this kernel's slab allocator is not SLUB".into()));
        }
        let access = SlabAccess::new(self)?;
        let cpus = self.per_cpu_offsets()?;
        let nodes = self.node_count()?;
        let head = self.symbol("slab_caches")?;
        let mut caches = Vec::new();
        let mut broken = None;
        for addr in self.list(head, layout.list.offset()?, "the slab caches") {
            match addr {
                Ok(addr) => caches.push(addr),
                Err(e) => broken = Some(e),
            }
        }
        let read = |addr: &u64| CacheReader {
            kernel: self,
            layout: &layout,
            access: &access,
            addr: *addr,
            gaps: Gaps::default(),
        };
        let mut caches: Vec<SlabCache> =
            caches.par_iter().map(|addr| read(addr).read(&cpus, nodes)).collect();
        // The list ends early: the last cache that was found tells.
        match (broken, caches.last_mut()) {
            (Some(e), Some(last)) => last.gaps.add("the caches behind this one", &e),
            (Some(e), None) => return Err(e),
            (None, _) => {}
        }
        Ok(caches)
    }

    /// One more than the highest possible node number.
    fn node_count(&self) -> Result<u64> {
        match self.symbol("nr_node_ids") {
            Ok(addr) => Ok(u64::from(self.read_u32(addr)?).clamp(1, MOST_NODES)),
            Err(_) => Ok(1), // without NUMA
        }
    }
}

/// Reads one cache.
struct CacheReader<'k> {
    kernel: &'k Kernel,
    layout: &'k KmemCacheLayout,
    access: &'k SlabAccess<'k>,
    addr: u64,
    gaps: Gaps,
}

impl CacheReader<'_> {
    fn field<T: crate::layout::Value>(&mut self, what: &str, member: &Member<T>) -> Option<T::Out> {
        let read = member.read(self.kernel, self.addr);
        self.gaps.keep(what, read)
    }

    fn read(mut self, cpus: &[(u32, u64)], nodes: u64) -> SlabCache {
        let layout = self.layout;
        let oo = self.field("slab order", &layout.oo).unwrap_or(0);
        let order = oo >> OO_SHIFT;
        let page_size = self.kernel.image().page_size();
        let mut cache = SlabCache {
            addr: self.addr,
            name: self.field("name", &layout.name).unwrap_or_default(),
            object_size: self.field("object size", &layout.object_size).unwrap_or(0),
            size: self.field("size", &layout.bytes).unwrap_or(0),
            slab_size: page_size.checked_shl(order).unwrap_or(0),
            objects_per_slab: oo & ((1 << OO_SHIFT) - 1),
            slabs: 0,
            partial_slabs: 0,
            objects: 0,
            allocated: 0,
            awaiting_rcu: 0,
            users: self.field("users", &layout.refcount).unwrap_or(0),
            flags: self.field("flags", &layout.flags).unwrap_or(0),
            gaps: Gaps::default(),
        };
        let mut free = 0;
        for (node, barn) in self.nodes(nodes) {
            if node != 0 {
                match self.node(node, &mut cache) {
                    Ok(in_node) => free += in_node,
                    Err(e) => self.gaps.add("a node", &e),
                }
            }
            match self.barn(barn) {
                Ok(in_barn) => free += in_barn,
                Err(e) => self.gaps.add("a barn", &e),
            }
        }
        free += self.cpu_slabs(cpus);
        free += self.cpu_sheaves(cpus, &mut cache);
        cache.allocated = cache.objects.saturating_sub(free);
        if free > cache.objects {
            let what = format!("{free} free of {} objects", cache.objects);
            self.gaps.add("counts", &Error::corrupt(what, self.addr));
        }
        cache.gaps = self.gaps;
        cache
    }

    /// (node, barn) of each memory node; 0: none.
    fn nodes(&mut self, count: u64) -> Vec<(u64, u64)> {
        let layout = self.layout;
        let mut nodes = Vec::new();
        for i in 0..count {
            let pair = if layout.node.exists() {
                self.node_by_number(i)
            } else {
                self.node_and_barn_by_number(i)
            };
            match pair {
                Ok(pair) => nodes.push(pair),
                Err(e) => self.gaps.add("its nodes", &e),
            }
        }
        nodes
    }

    fn node_by_number(&self, i: u64) -> Result<(u64, u64)> {
        let node =
            self.kernel.read_u64(self.layout.node.address(self.addr)?.wrapping_add(i * 8))?;
        let barn = &self.kernel.layout::<KmemCacheNodeLayout>()?.barn;
        let barn = if node == 0 { None } else { barn.read_if_exists(self.kernel, node)? };
        Ok((node, barn.unwrap_or(0)))
    }

    fn node_and_barn_by_number(&self, i: u64) -> Result<(u64, u64)> {
        let pair = self.kernel.layout::<PerNodeLayout>()?;
        let at = self.layout.per_node.address(self.addr)?.wrapping_add(i * pair.size);
        let barn = pair.barn.read_if_exists(self.kernel, at)?.unwrap_or(0);
        Ok((pair.node.read(self.kernel, at)?, barn))
    }

    /// Counts a node's slabs; returns the free objects on its partial list.
    fn node(&mut self, node: u64, cache: &mut SlabCache) -> Result<u64> {
        let kernel = self.kernel;
        let layout = kernel.layout::<KmemCacheNodeLayout>()?;
        cache.partial_slabs += layout.nr_partial.read(kernel, node)?;
        // Without CONFIG_SLUB_DEBUG nobody counts the full slabs.
        cache.slabs += layout.nr_slabs.read(kernel, node)?;
        cache.objects += layout.total_objects.read(kernel, node)?;
        let head = layout.partial.address(node)?;
        let mut free = 0;
        for slab in kernel.list(head, self.access.list, "the partial slabs of a cache") {
            let slab = match slab {
                Ok(slab) => slab,
                Err(e) => {
                    self.gaps.add("a partial list", &e);
                    break;
                }
            };
            match self.access.free(slab) {
                Ok(count) => free += count,
                Err(e) => self.gaps.add("a partial slab", &e),
            }
        }
        Ok(free)
    }

    /// Free objects in the full sheaves of a barn.
    fn barn(&self, barn: u64) -> Result<u64> {
        if barn == 0 {
            return Ok(0);
        }
        let sheaf = self.kernel.layout::<SheafLayout>()?;
        let head = self.kernel.layout::<BarnLayout>()?.sheaves_full.address(barn)?;
        let mut free = 0;
        for at in self.kernel.list(head, sheaf.barn_list.offset()?, "the sheaves of a barn") {
            free += u64::from(sheaf.filled.read(self.kernel, at?)?);
        }
        Ok(free)
    }

    /// Free objects that CPUs hold in their slabs.
    fn cpu_slabs(&mut self, cpus: &[(u32, u64)]) -> u64 {
        if !self.layout.cpu_slab.exists() {
            return 0;
        }
        let Some(slabs) = self.field("the CPUs' slabs", &self.layout.cpu_slab) else { return 0 };
        let mut free = 0;
        for (cpu, offset) in cpus {
            match self.cpu_slab(slabs.wrapping_add(*offset)) {
                Ok(count) => free += count,
                Err(e) => self.gaps.add(&format!("CPU {cpu}"), &e),
            }
        }
        free
    }

    fn cpu_slab(&mut self, at: u64) -> Result<u64> {
        let kernel = self.kernel;
        let layout = kernel.layout::<KmemCacheCpuLayout>()?;
        let mut free = 0;
        let active = layout.slab.read(kernel, at)?;
        if active != 0 {
            let counts = self.access.counts(active)?;
            free += u64::from(counts.objects - counts.inuse);
            let first = layout.freelist.read(kernel, at)?;
            match self.freelist(first, active, counts) {
                Ok(count) => free += count,
                Err(e) => self.gaps.add("a CPU's freelist", &e),
            }
        }
        let partial = layout.partial.read_if_exists(kernel, at)?.unwrap_or(0);
        if let (true, Some(next)) = (partial != 0, self.access.next) {
            for slab in kernel.chain(partial, next, "the partial slabs of a CPU") {
                free += self.access.free(slab?)?;
            }
        }
        Ok(free)
    }

    /// Length of a freelist: each free object has the pointer to the next one
    /// at `kmem_cache.offset`.
    fn freelist(&self, first: u64, slab: u64, counts: Counts) -> Result<u64> {
        if first == 0 {
            return Ok(0);
        }
        let kernel = self.kernel;
        let offset = self.layout.free_pointer.read(kernel, self.addr)?;
        let size = u64::from(self.layout.bytes.read(kernel, self.addr)?);
        let random = self.layout.random.read_if_exists(kernel, self.addr)?;
        let start = kernel.page_address(slab)?;
        let slab_memory = start..start.saturating_add(u64::from(counts.objects) * size);
        let mut object = first;
        let mut length = 0;
        while object != 0 {
            if !slab_memory.contains(&object) {
                return Err(Error::corrupt("a pointer to a free object out of its slab", object));
            }
            length += 1;
            if length > counts.objects.min(MOST_OBJECTS) {
                return Err(Error::Loop { what: "a freelist".into(), addr: object });
            }
            let at = object.wrapping_add(offset);
            let stored = kernel.read_u64(at)?;
            object = decode(stored, at, random, &slab_memory);
        }
        Ok(u64::from(length))
    }

    /// Free objects in the CPUs' sheaves.
    fn cpu_sheaves(&mut self, cpus: &[(u32, u64)], cache: &mut SlabCache) -> u64 {
        if !self.layout.cpu_sheaves.exists() {
            return 0;
        }
        let sheaves = self.field("the CPUs' sheaves", &self.layout.cpu_sheaves).unwrap_or(0);
        if sheaves == 0 {
            return 0;
        }
        let mut free = 0;
        for (cpu, offset) in cpus {
            match self.sheaves_of_cpu(sheaves.wrapping_add(*offset)) {
                Ok((ready, waiting)) => {
                    free += ready;
                    cache.awaiting_rcu += waiting;
                }
                Err(e) => self.gaps.add(&format!("CPU {cpu}"), &e),
            }
        }
        free
    }

    /// (free, waiting for RCU) in one CPU's sheaves.
    fn sheaves_of_cpu(&self, at: u64) -> Result<(u64, u64)> {
        let layout = self.kernel.layout::<PerCpuSheavesLayout>()?;
        let filled = &self.kernel.layout::<SheafLayout>()?.filled;
        let count = |member: &Member<u64>| match member.read_if_exists(self.kernel, at)? {
            None | Some(0) => Ok::<_, Error>(0),
            Some(sheaf) => filled.read(self.kernel, sheaf).map(u64::from),
        };
        Ok((count(&layout.main)? + count(&layout.spare)?, count(&layout.rcu_free)?))
    }
}

/// A free pointer as it is stored at `at`. CONFIG_SLAB_FREELIST_HARDENED mixes
/// it with the cache's random number and its own address, byte-swapped since
/// v5.7 (1ad53d9fa3f6): the reading that stays in the slab is right.
fn decode(stored: u64, at: u64, random: Option<u64>, slab: &std::ops::Range<u64>) -> u64 {
    let Some(random) = random else { return stored };
    let swapped = stored ^ random ^ at.swap_bytes();
    let plain = stored ^ random ^ at;
    let fits = |pointer: u64| pointer == 0 || slab.contains(&pointer);
    if !fits(swapped) && fits(plain) { plain } else { swapped }
}

#[cfg(test)]
mod tests {
    use super::decode;

    const SLAB: std::ops::Range<u64> = 0xffff_8880_0100_0000..0xffff_8880_0100_1000;

    #[test]
    fn free_pointers_are_plain_without_hardening() {
        assert_eq!(decode(0xffff_8880_0100_0040, 0, None, &SLAB), 0xffff_8880_0100_0040);
    }

    #[test]
    fn hardened_free_pointers_are_decoded_in_both_forms() {
        let (at, next, random) = (SLAB.start + 0x20, SLAB.start + 0x40, 0x1234_5678_9abc_def0);
        assert_eq!(decode(next ^ random ^ at.swap_bytes(), at, Some(random), &SLAB), next);
        assert_eq!(decode(next ^ random ^ at, at, Some(random), &SLAB), next);
        assert_eq!(decode(random ^ at.swap_bytes(), at, Some(random), &SLAB), 0);
    }

    #[test]
    fn an_overwritten_free_pointer_does_not_become_one_in_the_slab() {
        let at = SLAB.start;
        let found = decode(0x4141_4141_4141_4141, at, Some(7), &SLAB);
        assert!(!SLAB.contains(&found) && found != 0);
    }
}
