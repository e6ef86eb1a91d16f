//! SLUB's structures, with the names that their members have had.

use crate::Kernel;
use crate::layout;
use crate::layout::{CString, Embedded};

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
        free_pointer: u32 = "offset",
        random: u64 = "random",
        red_left_pad: u32 = "red_left_pad",
        oo: u32 = "oo.x",
        node: Embedded = "node",
        /// Node and barn in pairs, since v7.1.
        per_node: Embedded = "per_node",
        cpu_slab: u64 = "cpu_slab",
        cpu_sheaves: u64 = "cpu_sheaves",
        sysfs: u64 = "kobj.sd",
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
        /// With CONFIG_SLUB_DEBUG only.
        full: Embedded = "full",
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
        slab_cache: u64 = "slab_cache",
        freelist: u64 = "freelist",
        inuse: u32 = "inuse",
        objects: u32 = "objects",
    }
}

layout! {
    /// `struct page`, include/linux/mm_types.h: as a slab, until v5.17
    pub struct PageSlabLayout for "page" {
        list: Embedded = "slab_list" | "lru",
        next: Embedded = "next",
        slab_cache: u64 = "slab_cache",
        freelist: u64 = "freelist",
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
        objects: Embedded = "objects",
    }
}

layout! {
    /// `struct node_barn`, mm/slub.c
    pub struct BarnLayout for "node_barn" {
        sheaves_full: Embedded = "sheaves_full",
    }
}

/// Mask of a cache's flag `SLAB_name`: `enum _slab_flag_bits` numbers them since
/// v6.9 (cc61eb851461), before they had fixed values (include/linux/slab.h).
pub fn flag(kernel: &Kernel, name: &str, before: u64) -> u64 {
    let Ok(bits) = kernel.ty("enum _slab_flag_bits") else { return before };
    let wanted = |e: &str| e.strip_prefix("_SLAB_").is_some_and(|e| e == name);
    let bit = bits.enumerators().find(|e| wanted(e.name)).map(|e| e.value);
    bit.and_then(|bit| 1u64.checked_shl(u32::try_from(bit).ok()?)).unwrap_or(0)
}
