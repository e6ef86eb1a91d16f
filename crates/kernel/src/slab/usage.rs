//! Counts one cache's objects.

use rustc_hash::FxHashMap;

use crate::Kernel;
use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::Member;

use super::SlabCache;
use super::access::{Counts, SlabAccess};
use super::freelist::FreePointers;
use super::layout::{
    BarnLayout, KmemCacheCpuLayout, KmemCacheLayout, KmemCacheNodeLayout, PerCpuSheavesLayout,
    PerNodeLayout, SheafLayout,
};

/// `OO_SHIFT` (mm/slub.c): order above, objects per slab below.
const OO_SHIFT: u32 = 16;

/// Reads one cache.
pub(super) struct CacheReader<'k> {
    pub(super) kernel: &'k Kernel,
    pub(super) layout: &'k KmemCacheLayout,
    pub(super) access: &'k SlabAccess<'k>,
    pub(super) names: Option<&'k FxHashMap<u64, Vec<String>>>,
    pub(super) addr: u64,
    pub(super) gaps: Gaps,
}

impl CacheReader<'_> {
    fn field<T: crate::layout::Value>(&mut self, what: &str, member: &Member<T>) -> Option<T::Out> {
        let read = member.read(self.kernel, self.addr);
        self.gaps.keep(what, read)
    }

    /// Reads and counts it.
    pub(super) fn read(mut self, cpus: &[(u32, u64)], nodes: u64) -> SlabCache {
        let layout = self.layout;
        let oo = self.field("slab order", &layout.oo).unwrap_or(0);
        let order = oo >> OO_SHIFT;
        let page_size = self.kernel.page_size();
        let mut cache = SlabCache {
            addr: self.addr,
            name: self.field("name", &layout.name).unwrap_or_else(|| "<unreadable>".into()),
            aliases: None,
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
        cache.aliases = self.aliases(&cache.name);
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

    /// Other names that lead to this cache.
    fn aliases(&self, name: &str) -> Option<Vec<String>> {
        let node = self.layout.sysfs.read(self.kernel, self.addr).ok()?;
        let names = self.names?.get(&node).map_or(&[][..], Vec::as_slice);
        Some(names.iter().filter(|alias| *alias != name).cloned().collect())
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

    /// Length of a CPU's private freelist in its active slab.
    fn freelist(&self, first: u64, slab: u64, counts: Counts) -> Result<u64> {
        let size = u64::from(self.layout.bytes.read(self.kernel, self.addr)?);
        let start = self.kernel.page_address(slab)?;
        let memory = start..start.saturating_add(u64::from(counts.objects) * size);
        let chain = FreePointers::of(self.kernel, self.addr)?;
        Ok(chain.walk(self.kernel, first, &memory, counts.objects)?.len() as u64)
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
