//! The object that an address lies in, and whether it is in use: a pointer
//! into a free object is how a use after free shows.

use std::ops::Range;

use serde::Serialize;

use crate::Kernel;
use crate::error::{Error, Result};
use crate::page::PageUse;
use crate::stack::hex;

use super::access::{Counts, SlabAccess};
use super::freelist::FreePointers;
use super::layout::{
    BarnLayout, KmemCacheCpuLayout, KmemCacheLayout, KmemCacheNodeLayout, PerCpuSheavesLayout,
    PerNodeLayout, SheafLayout,
};

/// A sheaf holds less: `sheaf_capacity` is some dozens.
const MOST_IN_SHEAF: u32 = 1 << 16;

/// Whether an object is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "list")]
pub enum ObjectState {
    /// Handed out, or so the cache believes.
    Allocated,
    /// Freed, waiting for an RCU grace period.
    AwaitingRcu,
    /// Free: on this list.
    Free(String),
    /// A list that might have it can't be read, for this reason.
    Unknown(String),
}

/// An object of a slab cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlabObject {
    /// Address of the `struct kmem_cache`.
    #[serde(serialize_with = "hex")]
    pub cache: u64,
    /// The cache's name.
    pub cache_name: String,
    /// Address of the slab: its `struct slab`, or its first `struct page`.
    #[serde(serialize_with = "hex")]
    pub slab: u64,
    /// Where the object starts.
    #[serde(serialize_with = "hex")]
    pub start: u64,
    /// Its size as its users see it, bytes.
    pub size: u32,
    /// Its number in the slab.
    pub index: u32,
    /// Whether it is in use.
    #[serde(flatten)]
    pub state: ObjectState,
}

impl Kernel {
    /// Name of the cache whose slab memory `addr` lies in.
    pub fn slab_cache_at(&self, addr: u64) -> Result<Option<String>> {
        let Some(slab) = self.slab_at(addr)? else { return Ok(None) };
        let cache = SlabAccess::new(self)?.cache(slab)?;
        self.layout::<KmemCacheLayout>()?.name.read(self, cache).map(Some)
    }

    /// The slab whose memory `addr` lies in.
    fn slab_at(&self, addr: u64) -> Result<Option<u64>> {
        if !self.space().direct_map().is_some_and(|map| map.contains(&addr)) {
            return Ok(None);
        }
        let mut page = self.page(self.space().translate(addr)?)?;
        if page.usage == PageUse::Tail {
            page = self.page_at(page.head)?;
        }
        Ok((page.usage == PageUse::Slab).then_some(page.addr))
    }

    /// The slab object that `addr` lies in; none: that is no slab memory, or
    /// lies between objects.
    pub fn slab_object(&self, addr: u64) -> Result<Option<SlabObject>> {
        let Some(slab) = self.slab_at(addr)? else { return Ok(None) };
        let access = SlabAccess::new(self)?;
        let cache = access.cache(slab)?;
        let layout = self.layout::<KmemCacheLayout>()?;
        let counts = access.counts(slab)?;
        let size = u64::from(layout.bytes.read(self, cache)?);
        let pad = u64::from(layout.red_left_pad.read_if_exists(self, cache)?.unwrap_or(0));
        let first = self.page_address(slab)?;
        let Some(index) = addr.wrapping_sub(first).checked_div(size) else {
            return Err(Error::corrupt("the object size of a slab cache", cache));
        };
        if index >= u64::from(counts.objects) {
            return Ok(None);
        }
        let start = first + index * size + pad;
        let slab_memory = first..first + u64::from(counts.objects) * size;
        let search = Search { kernel: self, access, cache, slab, slab_memory, counts };
        let state = search.state_of(start);
        Ok(Some(SlabObject {
            cache,
            cache_name: layout.name.read(self, cache)?,
            slab,
            start,
            size: layout.object_size.read(self, cache)?,
            index: index as u32,
            state: state.unwrap_or_else(|e| ObjectState::Unknown(e.to_string())),
        }))
    }
}

/// Looks for one object on all lists that free ones are on.
struct Search<'k> {
    kernel: &'k Kernel,
    access: SlabAccess<'k>,
    cache: u64,
    slab: u64,
    slab_memory: Range<u64>,
    counts: Counts,
}

impl Search<'_> {
    fn state_of(&self, object: u64) -> Result<ObjectState> {
        let chain = FreePointers::of(self.kernel, self.cache)?;
        let free =
            |first: u64| chain.walk(self.kernel, first, &self.slab_memory, self.counts.objects);
        if free(self.access.freelist(self.slab)?)?.contains(&object) {
            return Ok(ObjectState::Free("the slab's".into()));
        }
        let cache = self.kernel.layout::<KmemCacheLayout>()?;
        let cpus = self.kernel.per_cpu_offsets()?;
        if let Some(slabs) = cache.cpu_slab.read_if_exists(self.kernel, self.cache)? {
            let cpu_slab = self.kernel.layout::<KmemCacheCpuLayout>()?;
            for (cpu, offset) in &cpus {
                let at = slabs.wrapping_add(*offset);
                if cpu_slab.slab.read(self.kernel, at)? == self.slab
                    && free(cpu_slab.freelist.read(self.kernel, at)?)?.contains(&object)
                {
                    return Ok(ObjectState::Free(format!("CPU {cpu}'s")));
                }
            }
        }
        match cache.cpu_sheaves.read_if_exists(self.kernel, self.cache)? {
            None | Some(0) => Ok(ObjectState::Allocated),
            Some(sheaves) => self.in_sheaves(object, sheaves, &cpus),
        }
    }

    fn in_sheaves(&self, object: u64, sheaves: u64, cpus: &[(u32, u64)]) -> Result<ObjectState> {
        let kernel = self.kernel;
        let layout = kernel.layout::<PerCpuSheavesLayout>()?;
        for (cpu, offset) in cpus {
            let at = sheaves.wrapping_add(*offset);
            for member in [&layout.main, &layout.spare] {
                if self.sheaf_has(member.read(kernel, at)?, object)? {
                    return Ok(ObjectState::Free(format!("a sheaf of CPU {cpu}'s")));
                }
            }
            if self.sheaf_has(layout.rcu_free.read(kernel, at)?, object)? {
                return Ok(ObjectState::AwaitingRcu);
            }
        }
        for barn in self.barns()? {
            let sheaf = kernel.layout::<SheafLayout>()?;
            let head = kernel.layout::<BarnLayout>()?.sheaves_full.address(barn)?;
            for at in kernel.list(head, sheaf.barn_list.offset()?, "the sheaves of a barn") {
                if self.sheaf_has(at?, object)? {
                    return Ok(ObjectState::Free("a sheaf of a barn's".into()));
                }
            }
        }
        Ok(ObjectState::Allocated)
    }

    fn sheaf_has(&self, sheaf: u64, object: u64) -> Result<bool> {
        if sheaf == 0 {
            return Ok(false);
        }
        let layout = self.kernel.layout::<SheafLayout>()?;
        let filled = layout.filled.read(self.kernel, sheaf)?;
        if filled > MOST_IN_SHEAF {
            return Err(Error::corrupt(format!("a sheaf of {filled} objects"), sheaf));
        }
        let at = layout.objects.address(sheaf)?;
        let raw = self.kernel.read_bytes(at, u64::from(filled) * 8)?;
        Ok(raw.chunks_exact(8).any(|word| word == object.to_le_bytes()))
    }

    /// The barns of the cache's nodes.
    fn barns(&self) -> Result<Vec<u64>> {
        let kernel = self.kernel;
        let cache = kernel.layout::<KmemCacheLayout>()?;
        let mut barns = Vec::new();
        for i in 0..kernel.node_count()? {
            if cache.node.exists() {
                let node = kernel.read_u64(cache.node.address(self.cache)?.wrapping_add(i * 8))?;
                let barn = &kernel.layout::<KmemCacheNodeLayout>()?.barn;
                if node != 0 {
                    barns.extend(barn.read_if_exists(kernel, node)?);
                }
            } else {
                let pair = kernel.layout::<PerNodeLayout>()?;
                let at = cache.per_node.address(self.cache)?.wrapping_add(i * pair.size);
                barns.push(pair.barn.read(kernel, at)?);
            }
        }
        barns.retain(|barn| *barn != 0);
        Ok(barns)
    }
}
