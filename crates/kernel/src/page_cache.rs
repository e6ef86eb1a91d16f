//! The page cache: which file a cached page belongs to, and what each file has
//! cached.
//!
//! `address_space` (include/linux/fs.h) is the cache of an inode (`host`):
//! `nrpages` counts its pages, the xarray `i_pages` holds them, marked where
//! they are dirty or under writeback (`PAGECACHE_TAG_DIRTY`, mark 0). The inodes
//! of a file system are on the ring `super_block.s_inodes`, the file systems on
//! `super_blocks` (fs/super.c). A name of an inode is one of its dentries
//! (`i_dentry`): a file without one is cached but can't be opened by name.

use rayon::prelude::*;
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::Embedded;
use crate::page::{Page, PageUse};
use crate::stack::hex;
use crate::vfs::{DentryLayout, InodeLayout};
use crate::{Kernel, layout};

layout! {
    /// `struct address_space`, include/linux/fs.h
    pub struct AddressSpaceLayout for "address_space" {
        host: u64 = "host",
        nrpages: u64 = "nrpages",
        pages: Embedded = "i_pages",
        flags: u64 = "flags",
    }
}

layout! {
    /// `struct inode`, include/linux/fs.h: its place among others
    pub struct CachedInodeLayout for "inode" {
        mapping: u64 = "i_mapping",
        data: Embedded = "i_data",
        sb: u64 = "i_sb",
        sb_list: Embedded = "i_sb_list",
        dentries: Embedded = "i_dentry",
        nlink: u32 = "i_nlink",
    }
}

layout! {
    /// `struct super_block`, include/linux/fs.h: its place and its inodes
    pub struct SuperBlockListLayout for "super_block" {
        list: Embedded = "s_list",
        inodes: Embedded = "s_inodes",
        id: str = "s_id",
    }
}

layout! {
    /// `struct dentry`, include/linux/dcache.h: its place in its inode's list
    pub struct DentryAliasLayout for "dentry" {
        alias: Embedded = "d_u.d_alias" | "d_alias",
    }
}

/// A path is no longer; trees may be deeper than names are long.
const MOST_NAMES: usize = 1 << 12;

/// A file with its part of the page cache. Counts are pages.
#[derive(Debug, Clone, Serialize)]
pub struct CachedFile {
    /// Address of its `struct inode`.
    #[serde(serialize_with = "hex")]
    pub inode: u64,
    /// Address of its `struct address_space`.
    #[serde(serialize_with = "hex")]
    pub mapping: u64,
    /// Address of its `struct super_block`.
    #[serde(serialize_with = "hex")]
    pub super_block: u64,
    /// Type of its file system.
    pub fs_type: String,
    /// What the file system is on ("vda1").
    pub device: String,
    /// Its number.
    pub ino: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Its cached pages.
    pub pages: u64,
    /// Hard links; 0: it is deleted.
    pub links: Option<u32>,
}

/// Names of directories and mounts, for paths of inodes.
pub struct InodePaths {
    /// A mount (`struct vfsmount`) of each super block.
    mounts: FxHashMap<u64, u64>,
}

impl Kernel {
    /// All files that have pages in the cache, by file system.
    pub fn cached_files(&self) -> Result<(Vec<CachedFile>, Gaps)> {
        let layout = self.layout::<SuperBlockListLayout>()?;
        let mut gaps = Gaps::default();
        let mut super_blocks = Vec::new();
        let head = self.symbol("super_blocks")?;
        for super_block in self.list(head, layout.list.offset()?, "the super blocks") {
            super_blocks.extend(gaps.keep("super blocks", super_block));
        }
        let of_each: Vec<_> = super_blocks.par_iter().map(|at| self.cached_files_of(*at)).collect();
        let mut files = Vec::new();
        for found in of_each {
            let (list, missing) = found?;
            files.extend(list);
            gaps.extend(missing);
        }
        Ok((files, gaps))
    }

    /// The files of one file system that have pages in the cache.
    fn cached_files_of(&self, super_block: u64) -> Result<(Vec<CachedFile>, Gaps)> {
        let layout = self.layout::<SuperBlockListLayout>()?;
        let at = self.layout::<CachedInodeLayout>()?.sb_list.offset()?;
        let mut gaps = Gaps::default();
        let fs_type = gaps.keep("file system", self.fs_type(super_block)).unwrap_or_default();
        let device: Option<String> = gaps.keep("device", layout.id.read(self, super_block));
        let device = device.unwrap_or_default();
        let mut files = Vec::new();
        for inode in self.list(layout.inodes.address(super_block)?, at, "the inodes") {
            let file =
                inode.and_then(|inode| self.cached_file(inode, super_block, &fs_type, &device));
            match file {
                Ok(file) => files.extend(file),
                Err(e) if e.is_interrupted() => return Err(e),
                Err(e) => gaps.add("inodes", &e),
            }
        }
        Ok((files, gaps))
    }

    fn cached_file(
        &self,
        inode: u64,
        super_block: u64,
        fs_type: &str,
        device: &str,
    ) -> Result<Option<CachedFile>> {
        let layout = self.layout::<CachedInodeLayout>()?;
        let cache = self.layout::<AddressSpaceLayout>()?;
        // Its own pages: `i_mapping` of a device file leads to the device's.
        let mapping = layout.data.address(inode)?;
        let pages = cache.nrpages.read(self, mapping)?;
        if pages == 0 {
            return Ok(None);
        }
        let common = self.layout::<InodeLayout>()?;
        Ok(Some(CachedFile {
            inode,
            mapping,
            super_block,
            fs_type: fs_type.to_owned(),
            device: device.to_owned(),
            ino: common.ino.read(self, inode)?,
            size: common.bytes.read(self, inode)?,
            pages,
            links: layout.nlink.read_if_exists(self, inode)?,
        }))
    }

    /// The mounts by super block.
    pub fn inode_paths(&self) -> InodePaths {
        let mut mounts = FxHashMap::default();
        for mount in self.mounts().map(|mounts| mounts.list).unwrap_or_default() {
            if let Some(super_block) = mount.super_block {
                mounts.entry(super_block).or_insert(mount.vfsmount);
            }
        }
        InodePaths { mounts }
    }

    /// A path of an inode; none where it has no name (any more).
    pub fn inode_path(&self, paths: &InodePaths, inode: u64) -> Result<Option<String>> {
        let layout = self.layout::<CachedInodeLayout>()?;
        let alias = self.layout::<DentryAliasLayout>()?.alias.offset()?;
        let head = layout.dentries.address(inode)?;
        let Some(dentry) = self.hlist(head, alias, "the names of an inode").next() else {
            return Ok(None);
        };
        let dentry = dentry?;
        let super_block = layout.sb.read(self, inode)?;
        let deleted = if self.is_deleted(dentry)? { " (deleted)" } else { "" };
        let path = match paths.mounts.get(&super_block) {
            Some(vfsmount) => self.path(*vfsmount, dentry)?,
            None => self.path_in_file_system(dentry)?,
        };
        Ok(Some(format!("{path}{deleted}")))
    }

    /// Names from the root of its file system, for those that are mounted
    /// nowhere (shmem, hugetlb, those of other namespaces).
    fn path_in_file_system(&self, dentry: u64) -> Result<String> {
        let layout = self.layout::<DentryLayout>()?;
        let mut names = Vec::new();
        let mut at = dentry;
        for _ in 0..MOST_NAMES {
            let parent = layout.parent.read(self, at)?;
            let len = layout.name_len.read(self, at)?.min(4096);
            let name = self.read_bytes(layout.name.read(self, at)?, u64::from(len))?;
            let name = String::from_utf8_lossy(&name).into_owned();
            if parent == at {
                if names.is_empty() {
                    names.push(name.trim_start_matches('/').to_owned());
                }
                names.reverse();
                return Ok(format!("/{}", names.join("/")));
            }
            names.push(name);
            at = parent;
        }
        Err(Error::Loop { what: "a path".into(), addr: dentry })
    }

    /// The file that a page of the page cache belongs to.
    pub fn page_file(&self, page: &Page) -> Result<Option<String>> {
        let head = if page.usage == PageUse::Tail { &self.page_at(page.head)? } else { page };
        if head.usage != PageUse::File {
            return Ok(None);
        }
        let inode = self.layout::<AddressSpaceLayout>()?.host.read(self, head.mapping)?;
        if inode == 0 {
            return Ok(None); // swap cache
        }
        self.inode_path(&self.inode_paths(), inode)
    }

    /// Dirty pages of a mapping, and those being written: its marked entries.
    pub fn dirty_pages(&self, mapping: u64) -> Result<u64> {
        let cache = self.layout::<AddressSpaceLayout>()?;
        let bits = self.page_flags()?;
        let mask = |wanted: &str| {
            bits.iter().find(|(name, _)| *name == wanted).map_or(0, |(_, bit)| 1u64 << bit)
        };
        let (dirty, writeback, head) = (mask("dirty"), mask("writeback"), mask("head"));
        let layout = self.layout::<crate::page::PageLayout>()?;
        let mut pages = 0;
        for entry in self.xarray(cache.pages.address(mapping)?)? {
            let (_, entry) = entry?;
            // Bit 0: a shadow of a page that was evicted.
            if entry & 1 == 1 {
                continue;
            }
            let flags = layout.flags.read(self, entry)?;
            if flags & (dirty | writeback) != 0 {
                pages += if flags & head != 0 { self.compound_pages(entry) } else { 1 };
            }
        }
        Ok(pages)
    }

    /// Pages of the larger page whose first record is at `head`.
    pub fn compound_pages(&self, head: u64) -> u64 {
        let Ok(layout) = self.layout::<crate::page::PageLayout>() else { return 1 };
        let mut pages = 1;
        // Its tails point to it.
        while pages < 1 << 18 {
            let tail = head.wrapping_add(pages * layout.size);
            let info = layout.compound.read(self, tail);
            if info.map(|info| crate::page::head_of(tail, info)).ok() != Some(head) {
                break;
            }
            pages *= 2;
        }
        pages
    }
}
