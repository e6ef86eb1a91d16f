//! Names of slab caches that were merged into others.
//!
//! A new cache of a size and kind that exists shares the existing one
//! (`__kmem_cache_alias`, mm/slub.c): "crasher_leak" may be counted under
//! "PING". Only sysfs remembers the new name: /sys/kernel/slab has a symbolic
//! link for each, to the directory of the cache that is used. The links are
//! `struct kernfs_node`s (include/linux/kernfs.h) among the children of
//! `slab_kset`'s directory, and point to the node in `kmem_cache.kobj.sd`.

use rustc_hash::FxHashMap;

use crate::error::{Error, Result};
use crate::layout::{CString, Embedded};
use crate::{Kernel, layout};

layout! {
    /// `struct kset`, include/linux/kobject.h
    pub struct KsetLayout for "kset" {
        directory: u64 = "kobj.sd",
    }
}

layout! {
    /// `struct kernfs_node`, include/linux/kernfs.h
    pub struct KernfsNodeLayout for "kernfs_node" {
        name: CString = "name",
        flags: u16 = "flags",
        rb: Embedded = "rb",
        children: Embedded = "dir.children",
        target: u64 = "symlink.target_kn",
    }
}

/// `KERNFS_TYPE_MASK` and `KERNFS_LINK` (include/linux/kernfs.h).
const TYPE_MASK: u16 = 0xf;
const LINK: u16 = 4;

impl Kernel {
    /// Names in /sys/kernel/slab by the kernfs node of the cache that they
    /// mean. A cache's own name is among them.
    pub(crate) fn slab_names(&self) -> Result<FxHashMap<u64, Vec<String>>> {
        let kset = self.read_u64(self.symbol("slab_kset")?)?;
        if kset == 0 {
            return Err(Error::Null("slab_kset".into()));
        }
        let directory = self.layout::<KsetLayout>()?.directory.read(self, kset)?;
        let node = self.layout::<KernfsNodeLayout>()?;
        let children = node.children.address(directory)?;
        let mut names: FxHashMap<u64, Vec<String>> = FxHashMap::default();
        for child in self.rbtree(children, node.rb.offset()?, "the entries of /sys/kernel/slab")? {
            let child = child?;
            if node.flags.read(self, child)? & TYPE_MASK == LINK {
                let target = node.target.read(self, child)?;
                names.entry(target).or_default().push(node.name.read(self, child)?);
            }
        }
        Ok(names)
    }
}
