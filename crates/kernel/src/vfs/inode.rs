//! Inodes: their pages in memory, which of them are dirty, where a dentry is.
//!
//! `inode.i_mapping` (`struct address_space`, include/linux/fs.h) has the pages
//! of a file in the xarray `i_pages`; what was evicted is left as a value. An
//! inode to be written back stands on a list of its device's `struct
//! bdi_writeback` (include/linux/backing-dev-defs.h), one for each cgroup.

use serde::Serialize;

use super::{DentryLayout, FileKind, InodeLayout, Mount, SuperBlockLayout};
use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::Embedded;
use crate::stack::{hex, hex_option};
use crate::{Kernel, layout};

layout! {
    /// `struct address_space`, include/linux/fs.h
    pub struct AddressSpaceLayout for "address_space" {
        host: u64 = "host",
        pages: Embedded = "i_pages",
        nrpages: u64 = "nrpages",
    }
}

layout! {
    /// `struct backing_dev_info`, include/linux/backing-dev-defs.h
    pub struct BackingDevLayout for "backing_dev_info" {
        writebacks: Embedded = "wb_list",
    }
}

layout! {
    /// `struct bdi_writeback`, include/linux/backing-dev-defs.h
    pub struct WritebackLayout for "bdi_writeback" {
        node: Embedded = "bdi_node",
        dirty: Embedded = "b_dirty",
        io: Embedded = "b_io",
        more_io: Embedded = "b_more_io",
        dirty_time: Embedded = "b_dirty_time",
    }
}

/// A dentry with what it leads to.
#[derive(Debug, Clone, Serialize)]
pub struct DentryPlace {
    /// Address of its `struct dentry`.
    #[serde(serialize_with = "hex")]
    pub dentry: u64,
    /// Address of its `struct inode`; none: the name is known not to exist.
    #[serde(serialize_with = "hex_option")]
    pub inode: Option<u64>,
    /// Address of its `struct super_block`.
    #[serde(serialize_with = "hex")]
    pub super_block: u64,
    /// What it is.
    pub kind: Option<FileKind>,
    /// Its path, through the first mount of its file system that has it.
    pub path: Option<String>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// The pages of an inode that are in memory.
#[derive(Debug, Clone, Serialize)]
pub struct InodePages {
    /// Address of its `struct inode`.
    #[serde(serialize_with = "hex")]
    pub inode: u64,
    /// Address of its `struct address_space`.
    #[serde(serialize_with = "hex")]
    pub mapping: u64,
    /// How many pages the kernel counts.
    pub count: u64,
}

impl Kernel {
    /// The dentry at `addr`, its path in one of `mounts`.
    pub fn dentry_place(&self, addr: u64, mounts: &[Mount]) -> Result<DentryPlace> {
        let layout = self.layout::<DentryLayout>()?;
        let super_block = layout.sb.read(self, addr)?;
        let inode = Some(layout.inode.read(self, addr)?).filter(|inode| *inode != 0);
        let mut gaps = Gaps::default();
        let mode = match inode {
            Some(inode) => gaps.keep("type", self.layout::<InodeLayout>()?.mode.read(self, inode)),
            None => None,
        };
        let of_this = mounts.iter().filter(|mount| mount.super_block == Some(super_block));
        let mut path = None;
        for mount in of_this {
            match self.path(mount.vfsmount, addr) {
                // Another mount may have more of the file system.
                Ok(found) if found.starts_with("(unreachable)") => {}
                found => {
                    path = gaps.keep("path", found);
                    break;
                }
            }
        }
        let path = match path {
            None if gaps.is_empty() => gaps.keep("path", self.path_unmounted(addr)),
            path => path,
        };
        Ok(DentryPlace {
            dentry: addr,
            inode,
            super_block,
            kind: mode.map(FileKind::of),
            path,
            gaps,
        })
    }

    /// The superblock of the inode or dentry at `addr`, if it is one of those
    /// of `mounts`.
    pub fn super_block_of(&self, addr: u64, mounts: &[Mount]) -> Result<Option<u64>> {
        let inode = self.layout::<InodeLayout>()?.sb.read(self, addr);
        let dentry = self.layout::<DentryLayout>()?.sb.read(self, addr);
        let known = |sb: &u64| mounts.iter().any(|mount| mount.super_block == Some(*sb));
        Ok([inode, dentry].into_iter().flatten().find(known))
    }

    /// How many pages the inode at `inode` has in memory.
    pub fn inode_pages(&self, inode: u64) -> Result<InodePages> {
        let mapping = match self.layout::<InodeLayout>()?.mapping.read(self, inode)? {
            0 => return Err(Error::Null("the inode's mapping".into())),
            mapping => mapping,
        };
        let count = self.layout::<AddressSpaceLayout>()?.nrpages.read(self, mapping)?;
        Ok(InodePages { inode, mapping, count })
    }

    /// (index, address of the `struct page`) of the pages in the `struct
    /// address_space` at `mapping`, ascending. A folio shows by its first page.
    pub fn mapping_pages(&self, mapping: u64) -> Result<impl Iterator<Item = Result<(u64, u64)>>> {
        let pages = self.layout::<AddressSpaceLayout>()?.pages.address(mapping)?;
        let entries = self.xarray(pages)?;
        // A value stands for a page that was evicted, or is in swap.
        Ok(entries.filter(|entry| entry.as_ref().map_or(true, |(_, page)| page & 1 == 0)))
    }

    /// Inodes of the `struct super_block` at `sb` that are to be written back.
    pub fn dirty_inodes(&self, sb: u64) -> Result<(Vec<u64>, Gaps)> {
        let inode_layout = self.layout::<InodeLayout>()?;
        let layout = self.layout::<WritebackLayout>()?;
        let mut gaps = Gaps::default();
        let bdi = match self.layout::<SuperBlockLayout>()?.bdi.read(self, sb)? {
            0 => return Ok((Vec::new(), gaps)),
            bdi => bdi,
        };
        let head = self.layout::<BackingDevLayout>()?.writebacks.address(bdi)?;
        let node = inode_layout.io_list.offset()?;
        let mut list = Vec::new();
        for writeback in self.list(head, layout.node.offset()?, "the writebacks of a device") {
            let Some(writeback) = gaps.keep("writeback", writeback) else { break };
            for inodes in [&layout.dirty, &layout.io, &layout.more_io, &layout.dirty_time] {
                for inode in self.list(inodes.address(writeback)?, node, "a list of dirty inodes") {
                    let of =
                        inode.and_then(|inode| Ok((inode, inode_layout.sb.read(self, inode)?)));
                    match gaps.keep("a dirty inode", of) {
                        Some((inode, of)) if of == sb => list.push(inode),
                        Some(_) => {}
                        None => break,
                    }
                }
            }
        }
        Ok((list, gaps))
    }
}
