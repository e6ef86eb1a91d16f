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

mod access;
mod alias;
pub mod content;
mod freelist;
pub mod layout;
pub mod object;
mod usage;

use rayon::prelude::*;
use serde::Serialize;

use crate::Kernel;
use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::stack::hex;

use access::SlabAccess;
use layout::KmemCacheLayout;
use usage::CacheReader;

/// MAX_NUMNODES of the largest kernels is 1024.
const MOST_NODES: u64 = 1 << 16;

/// A slab cache.
#[derive(Debug, Clone, Serialize)]
pub struct SlabCache {
    /// Address of its `struct kmem_cache`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its name: of caches that were merged the first one's.
    pub name: String,
    /// Names of the caches that were merged into it, as far as sysfs has them.
    /// None: that could not be read.
    pub aliases: Option<Vec<String>>,
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
    /// What could not be read, and why: the counts lack it.
    pub gaps: Gaps,
}

impl SlabCache {
    /// Whether all of it could be read, so that the counts are exact.
    pub fn is_exact(&self) -> bool {
        self.gaps.is_empty()
    }

    /// Whether a cache of that name is counted here.
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().flatten().any(|alias| alias == name)
    }

    /// Bytes of memory in its slabs, for slabs of the usual size.
    pub fn bytes(&self) -> u64 {
        self.slabs.saturating_mul(self.slab_size)
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
        let names = self.slab_names().ok();
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
            names: names.as_ref(),
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
    pub(crate) fn node_count(&self) -> Result<u64> {
        match self.symbol("nr_node_ids") {
            Ok(addr) => Ok(u64::from(self.read_u32(addr)?).clamp(1, MOST_NODES)),
            Err(_) => Ok(1), // without NUMA
        }
    }
}
