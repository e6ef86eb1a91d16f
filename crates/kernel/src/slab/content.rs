//! What a slab cache holds: its slabs as far as lists lead to them, and which
//! of their objects are free.
//!
//! Slabs that are in use to the last object are on no list (unless the kernel
//! debugs them). Until v7.0 each CPU has an active slab and a chain of partial
//! ones, then sheaves of free objects ([`super`]); each node has a list of
//! partial slabs.

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use crate::Kernel;
use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::page::PageUse;
use crate::stack::{hex, hex_list};

use super::access::SlabAccess;
use super::freelist::FreePointers;
use super::layout::{
    BarnLayout, KmemCacheCpuLayout, KmemCacheLayout, KmemCacheNodeLayout, PerCpuSheavesLayout,
    PerNodeLayout, SheafLayout, flag,
};

/// Values of these flags before v6.9.
const RED_ZONE: u64 = 0x400;
const STORE_USER: u64 = 0x1_0000;
/// `sheaf_capacity` is some dozens.
const MOST_IN_SHEAF: u32 = 1 << 16;

/// A slab.
#[derive(Debug, Clone, Serialize)]
pub struct Slab {
    /// Its `struct slab`, or its first `struct page`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its memory.
    #[serde(serialize_with = "hex")]
    pub memory: u64,
    /// Its memory node.
    pub node: i32,
    /// Its objects.
    pub total: u32,
    /// Those in use, or in sheaves.
    pub allocated: u32,
    /// The CPU whose active slab it is.
    pub cpu: Option<u32>,
    /// Its objects one by one, where they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<Slot>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// An object's place in a slab.
#[derive(Debug, Clone, Serialize)]
pub struct Slot {
    /// Address of the object.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Whether it is free.
    pub free: bool,
    /// The sheaf that has it, where the kernel has sheaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sheaf: Option<String>,
}

/// What a CPU has of a cache.
#[derive(Debug, Clone, Serialize)]
pub struct CpuSlabs {
    /// The CPU.
    pub cpu: u32,
    /// Address of its `struct kmem_cache_cpu` (`slub_percpu_sheaves` since v7.0).
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its active slab.
    pub slab: Option<Slab>,
    /// Its partial slabs.
    pub partial: Vec<Slab>,
    /// Its sheaves.
    pub sheaves: Vec<Sheaf>,
}

/// A sheaf of a CPU.
#[derive(Debug, Clone, Serialize)]
pub struct Sheaf {
    /// `main`, `spare` or `rcu_free`.
    pub name: &'static str,
    /// Address of the `struct slab_sheaf`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Addresses of its free objects.
    #[serde(serialize_with = "hex_list")]
    pub objects: Vec<u64>,
}

/// What a memory node has of a cache.
#[derive(Debug, Clone, Serialize)]
pub struct NodeSlabs {
    /// Address of its `struct kmem_cache_node`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// The node.
    pub node: u64,
    /// All its slabs (`nr_slabs`).
    pub slabs: u64,
    /// Those that are partial (`nr_partial`).
    pub nr_partial: u64,
    /// Its active slabs of CPUs.
    pub per_cpu: u64,
    /// Its partial slabs, without their objects.
    pub partial: Vec<Slab>,
    /// Its full slabs, where the kernel tracks them.
    pub full: Option<Vec<Slab>>,
}

/// What a cache holds.
#[derive(Debug, Clone, Serialize)]
pub struct CacheContent {
    /// By CPU.
    pub cpus: Vec<CpuSlabs>,
    /// By node.
    pub nodes: Vec<NodeSlabs>,
    /// What could not be read.
    pub gaps: Gaps,
}

/// Reads slabs of one cache.
pub struct SlabReader<'k> {
    kernel: &'k Kernel,
    access: SlabAccess<'k>,
    chain: FreePointers,
    cache: u64,
    step: u64,
    pad: u64,
    /// Whether full slabs are on a list.
    tracks_full: bool,
    per_cpu: Vec<(u32, u64)>,
    /// Active slab and first private free object, by CPU.
    active: Vec<(u32, u64, u64)>,
    /// Objects in sheaves.
    in_sheaves: FxHashMap<u64, String>,
    /// (node, first frame, frames) of all zones.
    zones: Vec<(i32, u64, u64)>,
}

impl Kernel {
    /// A reader of the slabs of the `struct kmem_cache` at `cache`.
    pub fn slab_reader(&self, cache: u64) -> Result<SlabReader<'_>> {
        let layout = self.layout::<KmemCacheLayout>()?;
        let flags = layout.flags.read(self, cache)?;
        let pad = u64::from(layout.red_left_pad.read_if_exists(self, cache)?.unwrap_or(0));
        let step = u64::from(layout.bytes.read(self, cache)?);
        if step == 0 {
            return Err(Error::corrupt("the object size of a slab cache", cache));
        }
        let mut reader = SlabReader {
            kernel: self,
            access: SlabAccess::new(self)?,
            chain: FreePointers::of(self, cache)?,
            cache,
            step,
            pad: if flags & flag(self, "RED_ZONE", RED_ZONE) != 0 { pad } else { 0 },
            tracks_full: flags & flag(self, "STORE_USER", STORE_USER) != 0,
            per_cpu: self.per_cpu_offsets()?,
            active: Vec::new(),
            in_sheaves: FxHashMap::default(),
            zones: Vec::new(),
        };
        for zone in self.nodes()?.iter().flat_map(|node| &node.zones) {
            reader.zones.push((zone.node, zone.start_pfn, zone.spanned));
        }
        reader.find_active()?;
        Ok(reader)
    }

    /// The slab and cache that `addr` (of memory, or of a `struct page`) belongs
    /// to; none: it is no slab memory.
    pub fn slab_of(&self, addr: u64) -> Result<Option<(u64, u64)>> {
        let mut page = match self.page_record(addr) {
            Some(_) => self.page_at(addr)?,
            None => self.page(self.space().translate(addr)?)?,
        };
        if page.usage == PageUse::Tail {
            page = self.page_at(page.head)?;
        }
        if page.usage != PageUse::Slab {
            return Ok(None);
        }
        Ok(Some((SlabAccess::new(self)?.cache(page.addr)?, page.addr)))
    }
}

impl SlabReader<'_> {
    /// Its active slabs, and what its sheaves hold.
    fn find_active(&mut self) -> Result<()> {
        let kernel = self.kernel;
        let layout = kernel.layout::<KmemCacheLayout>()?;
        if let Some(slabs) = layout.cpu_slab.read_if_exists(kernel, self.cache)? {
            let cpu_slab = kernel.layout::<KmemCacheCpuLayout>()?;
            for (cpu, offset) in &self.per_cpu {
                let at = slabs.wrapping_add(*offset);
                let slab = cpu_slab.slab.read(kernel, at)?;
                self.active.push((*cpu, slab, cpu_slab.freelist.read(kernel, at)?));
            }
        }
        for cpu in self.sheaves_of_cpus()? {
            for Sheaf { name, objects, .. } in &cpu.sheaves {
                let label = format!("cpu {} {name} sheaf", cpu.cpu);
                self.in_sheaves.extend(objects.iter().map(|object| (*object, label.clone())));
            }
        }
        for (node, objects) in self.barns()? {
            let label = format!("node {node} barn");
            self.in_sheaves.extend(objects.into_iter().map(|object| (object, label.clone())));
        }
        Ok(())
    }

    /// All that lists lead to, for these CPUs.
    pub fn content(&self, cpus: Option<&[u32]>) -> Result<CacheContent> {
        let wanted = |cpu: u32| cpus.is_none_or(|cpus| cpus.contains(&cpu));
        let kernel = self.kernel;
        let layout = kernel.layout::<KmemCacheLayout>()?;
        let mut gaps = Gaps::default();
        let mut list: Vec<CpuSlabs> = self.sheaves_of_cpus()?;
        list.retain(|cpu| wanted(cpu.cpu));
        let mut by_node: FxHashMap<i32, u64> = FxHashMap::default();
        if let Some(slabs) = layout.cpu_slab.read_if_exists(kernel, self.cache)? {
            let cpu_slab = kernel.layout::<KmemCacheCpuLayout>()?;
            for (cpu, offset) in &self.per_cpu {
                let at = slabs.wrapping_add(*offset);
                let active = cpu_slab.slab.read(kernel, at)?;
                let slab = match active {
                    0 => None,
                    addr => gaps.keep("a CPU's slab", self.slab(addr, true)),
                };
                if let Some(slab) = slab.as_ref().filter(|_| wanted(*cpu)) {
                    *by_node.entry(slab.node).or_default() += 1;
                }
                if wanted(*cpu) {
                    let partial = self.cpu_partial(&cpu_slab, at, &mut gaps);
                    list.push(CpuSlabs { cpu: *cpu, addr: at, slab, partial, sheaves: Vec::new() });
                }
            }
        }
        let mut nodes = Vec::new();
        for (number, addr) in self.nodes()? {
            if addr != 0 {
                let per_cpu = by_node.get(&(number as i32)).copied().unwrap_or(0);
                let node = self.node(number, addr, per_cpu, &mut gaps);
                nodes.extend(gaps.keep("a node", node));
            }
        }
        Ok(CacheContent { cpus: list, nodes, gaps })
    }

    fn cpu_partial(&self, layout: &KmemCacheCpuLayout, at: u64, gaps: &mut Gaps) -> Vec<Slab> {
        let first = layout.partial.read_if_exists(self.kernel, at).ok().flatten().unwrap_or(0);
        let Some(next) = self.access.next else { return Vec::new() };
        let chain = self.kernel.chain(first, next, "the partial slabs of a CPU");
        chain
            .filter_map(|slab| gaps.keep("a partial slab", slab.and_then(|at| self.slab(at, true))))
            .collect()
    }

    fn node(&self, number: u64, addr: u64, per_cpu: u64, gaps: &mut Gaps) -> Result<NodeSlabs> {
        let layout = self.kernel.layout::<KmemCacheNodeLayout>()?;
        let mut list = |head: u64, what: &'static str| -> Vec<Slab> {
            let walk = self.kernel.list(head, self.access.list, what);
            walk.filter_map(|slab| gaps.keep(what, slab.and_then(|at| self.slab(at, false))))
                .collect()
        };
        Ok(NodeSlabs {
            addr,
            node: number,
            slabs: layout.nr_slabs.read(self.kernel, addr)?,
            nr_partial: layout.nr_partial.read(self.kernel, addr)?,
            per_cpu,
            partial: list(layout.partial.address(addr)?, "the partial slabs of a cache"),
            full: match layout.full.address(addr) {
                Ok(head) if self.tracks_full => Some(list(head, "the full slabs of a cache")),
                _ => None,
            },
        })
    }

    /// (number, `struct kmem_cache_node`) of the memory nodes.
    fn nodes(&self) -> Result<Vec<(u64, u64)>> {
        Ok(self.nodes_and_barns()?.into_iter().map(|(number, node, _)| (number, node)).collect())
    }

    /// (number, node, barn) of the memory nodes.
    fn nodes_and_barns(&self) -> Result<Vec<(u64, u64, u64)>> {
        let kernel = self.kernel;
        let layout = kernel.layout::<KmemCacheLayout>()?;
        let mut nodes = Vec::new();
        for i in 0..kernel.node_count()? {
            if layout.node.exists() {
                let at = layout.node.address(self.cache)?.wrapping_add(i * 8);
                let node = kernel.read_u64(at)?;
                let barn = &kernel.layout::<KmemCacheNodeLayout>()?.barn;
                let barn = if node == 0 { None } else { barn.read_if_exists(kernel, node)? };
                nodes.push((i, node, barn.unwrap_or(0)));
            } else {
                let pair = kernel.layout::<PerNodeLayout>()?;
                let at = layout.per_node.address(self.cache)?.wrapping_add(i * pair.size);
                let barn = pair.barn.read_if_exists(kernel, at)?.unwrap_or(0);
                nodes.push((i, pair.node.read(kernel, at)?, barn));
            }
        }
        Ok(nodes)
    }

    fn sheaves_of_cpus(&self) -> Result<Vec<CpuSlabs>> {
        let kernel = self.kernel;
        let member = &kernel.layout::<KmemCacheLayout>()?.cpu_sheaves;
        let sheaves = member.read_if_exists(kernel, self.cache)?.unwrap_or(0);
        if sheaves == 0 {
            return Ok(Vec::new());
        }
        let layout = kernel.layout::<PerCpuSheavesLayout>()?;
        let mut cpus = Vec::new();
        for (cpu, offset) in &self.per_cpu {
            let addr = sheaves.wrapping_add(*offset);
            let mut of_cpu = Vec::new();
            let all =
                [("main", &layout.main), ("spare", &layout.spare), ("rcu_free", &layout.rcu_free)];
            for (name, member) in all {
                match member.read_if_exists(kernel, addr)? {
                    None | Some(0) => {}
                    Some(addr) => of_cpu.push(Sheaf { name, addr, objects: self.sheaf(addr)? }),
                }
            }
            let partial = Vec::new();
            cpus.push(CpuSlabs { cpu: *cpu, addr, slab: None, partial, sheaves: of_cpu });
        }
        Ok(cpus)
    }

    /// (node, free objects) of the nodes' barns.
    fn barns(&self) -> Result<Vec<(u64, Vec<u64>)>> {
        let kernel = self.kernel;
        let mut barns = Vec::new();
        for (number, _, barn) in self.nodes_and_barns()? {
            if barn == 0 {
                continue;
            }
            let sheaf = kernel.layout::<SheafLayout>()?;
            let head = kernel.layout::<BarnLayout>()?.sheaves_full.address(barn)?;
            let mut objects = Vec::new();
            for at in kernel.list(head, sheaf.barn_list.offset()?, "the sheaves of a barn") {
                objects.extend(self.sheaf(at?)?);
            }
            barns.push((number, objects));
        }
        Ok(barns)
    }

    fn sheaf(&self, sheaf: u64) -> Result<Vec<u64>> {
        let layout = self.kernel.layout::<SheafLayout>()?;
        let filled = layout.filled.read(self.kernel, sheaf)?;
        if filled > MOST_IN_SHEAF {
            return Err(Error::corrupt(format!("a sheaf of {filled} objects"), sheaf));
        }
        let raw = self.kernel.read_bytes(layout.objects.address(sheaf)?, u64::from(filled) * 8)?;
        let word = |w: &[u8]| w.try_into().map(u64::from_le_bytes).unwrap_or(0);
        Ok(raw.chunks_exact(8).map(word).collect())
    }

    /// The slab at `addr`; with each of its objects where they are wanted.
    pub fn slab(&self, addr: u64, objects: bool) -> Result<Slab> {
        let counts = self.access.counts(addr)?;
        let memory = self.kernel.page_address(addr)?;
        let mut slab = Slab {
            addr,
            memory,
            node: self.node_of(addr)?,
            total: counts.objects,
            allocated: counts.inuse,
            cpu: None,
            objects: Vec::new(),
            gaps: Gaps::default(),
        };
        if !objects {
            return Ok(slab);
        }
        let bytes = memory..memory.saturating_add(u64::from(counts.objects) * self.step);
        let mut free: FxHashSet<u64> = FxHashSet::default();
        let mut lists = vec![self.access.freelist(addr)?];
        if let Some((cpu, _, first)) = self.active.iter().find(|(_, active, _)| *active == addr) {
            slab.cpu = Some(*cpu);
            lists.push(*first);
        }
        for first in lists {
            match self.chain.walk(self.kernel, first, &bytes, counts.objects) {
                Ok(found) => free.extend(found),
                Err(e) => slab.gaps.add("a freelist", &e),
            }
        }
        if slab.cpu.is_some() {
            slab.allocated = counts.objects.saturating_sub(free.len() as u32);
        }
        slab.objects = (0..u64::from(counts.objects))
            .map(|i| {
                let addr = memory + i * self.step + self.pad;
                let sheaf = self.in_sheaves.get(&addr).cloned();
                Slot { addr, free: sheaf.is_some() || free.contains(&addr), sheaf }
            })
            .collect();
        Ok(slab)
    }

    /// Bytes from object to object.
    pub fn step(&self) -> u64 {
        self.step
    }

    fn node_of(&self, slab: u64) -> Result<i32> {
        let pfn = self.kernel.page_phys(slab)? / self.kernel.page_size();
        let zone = self.zones.iter().find(|(_, first, n)| pfn >= *first && pfn - first < *n);
        Ok(zone.map_or(0, |(node, ..)| *node))
    }
}
