//! One slab: `struct slab` since v5.17 (d122019bf061), `struct page` before.

use std::sync::Arc;

use crate::Kernel;
use crate::error::{Error, Result};

use super::layout::{PageSlabLayout, SlabLayout};

/// Where a slab keeps its counts: `struct slab`, or `struct page` before it.
pub(super) struct SlabAccess<'k> {
    kernel: &'k Kernel,
    /// Offset of the node in the partial list.
    pub(super) list: u64,
    /// Offset of the link in a CPU's chain of partial slabs.
    pub(super) next: Option<u64>,
    members: Members,
}

enum Members {
    Slab(Arc<SlabLayout>),
    Page(Arc<PageSlabLayout>),
}

/// Objects of one slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) objects: u32,
    pub(super) inuse: u32,
}

impl<'k> SlabAccess<'k> {
    /// Finds which of the two this kernel has.
    pub(super) fn new(kernel: &'k Kernel) -> Result<SlabAccess<'k>> {
        if let Ok(slab) = kernel.layout::<SlabLayout>() {
            return Ok(SlabAccess {
                kernel,
                list: slab.list.offset()?,
                next: slab.next.offset().ok(),
                members: Members::Slab(slab),
            });
        }
        let page = kernel.layout::<PageSlabLayout>()?;
        Ok(SlabAccess {
            kernel,
            list: page.list.offset()?,
            next: page.next.offset().ok(),
            members: Members::Page(page),
        })
    }

    /// Its objects.
    pub(super) fn counts(&self, slab: u64) -> Result<Counts> {
        let (objects, inuse) = match &self.members {
            Members::Slab(layout) => (&layout.objects, &layout.inuse),
            Members::Page(layout) => (&layout.objects, &layout.inuse),
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

    /// How many of its objects are free.
    pub(super) fn free(&self, slab: u64) -> Result<u64> {
        self.counts(slab).map(|c| u64::from(c.objects - c.inuse))
    }

    /// Address of the cache that it belongs to.
    pub(super) fn cache(&self, slab: u64) -> Result<u64> {
        match &self.members {
            Members::Slab(layout) => layout.slab_cache.read(self.kernel, slab),
            Members::Page(layout) => layout.slab_cache.read(self.kernel, slab),
        }
    }

    /// Its first free object that no CPU has for itself.
    pub(super) fn freelist(&self, slab: u64) -> Result<u64> {
        match &self.members {
            Members::Slab(layout) => layout.freelist.read(self.kernel, slab),
            Members::Page(layout) => layout.freelist.read(self.kernel, slab),
        }
    }
}
