//! `slab_caches`: the slab allocator's caches, as `kmem -s` shows them.

use kmortem_kernel::Kernel;
use kmortem_kernel::slab::SlabCache;

use crate::cell::{hex, list};
use crate::schema::{Column, FillError, Rows, Table};

pub(crate) const SLAB_CACHES: Table<SlabCache> = Table {
    name: "slab_caches",
    doc: "a cache of the slab allocator",
    columns: &[
        Column::address("addr", "its `struct kmem_cache`", |_, c| hex(c.addr)),
        Column::text("name", "its name", |_, c| c.name.as_str().into()),
        Column::text("aliases", "other names of the same cache", |_, c| {
            c.aliases.as_ref().map(|names| list(names)).into()
        }),
        Column::quantity("object_size", "bytes", "size that users asked for", |_, c| {
            c.object_size.into()
        }),
        Column::quantity("size", "bytes", "size of an object with what surrounds it", |_, c| {
            c.size.into()
        }),
        Column::quantity("slab_size", "bytes", "size of a slab", |_, c| c.slab_size.into()),
        Column::integer("objects_per_slab", "objects in a slab", |_, c| c.objects_per_slab.into()),
        Column::integer("slabs", "slabs", |_, c| c.slabs.into()),
        Column::integer("partial_slabs", "slabs with room, on the nodes' lists", |_, c| {
            c.partial_slabs.into()
        }),
        Column::integer("objects", "objects that fit into its slabs", |_, c| c.objects.into()),
        Column::integer("allocated", "objects in use", |_, c| c.allocated.into()),
        Column::quantity("bytes", "bytes", "memory that its slabs take", |_, c| c.bytes().into()),
        Column::flag("exact", "the counts were read in full", |_, c| c.is_exact().into()),
    ],
    rows,
};

fn rows(kernel: &Kernel, rows: &mut Rows<'_, SlabCache>) -> Result<(), FillError> {
    for cache in kernel.slab_caches()? {
        rows.gaps(&cache.gaps);
        rows.push(&cache)?;
    }
    Ok(())
}
