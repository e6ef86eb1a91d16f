//! Mounted file systems of a mount namespace (fs/mount.h).
//!
//! `mnt_namespace.mounts` is a tree of `mount.mnt_node` by mount ID since v6.8
//! (2eea9ce4310d); before, `mnt_namespace.list` is a ring of `mount.mnt_list`
//! in which open /proc/*/mounts files keep cursors (v5.8, 9f6c61f96f2d):
//! mounts that are none, with the flag `MNT_CURSOR`.

use serde::Serialize;

use super::{FileSystemTypeLayout, MountLayout, SuperBlockLayout, VfsmountLayout, major_minor};
use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::Embedded;
use crate::stack::{hex, hex_option};
use crate::task::{Task, TaskLayout};
use crate::{Kernel, layout};

layout! {
    /// `struct nsproxy`, include/linux/nsproxy.h
    pub struct NsproxyLayout for "nsproxy" {
        mnt_ns: u64 = "mnt_ns",
        net_ns: u64 = "net_ns",
    }
}

layout! {
    /// `struct mnt_namespace`, fs/mount.h. `mounts` was a count before it was
    /// the tree: only its node tells them apart.
    pub struct MntNamespaceLayout for "mnt_namespace" {
        tree: Embedded = "mounts.rb_node",
        list: Embedded = "list",
    }
}

/// No namespace holds more (fs.mount-max is 100,000 unless raised).
const MOST: usize = 1 << 20;
/// `MNT_CURSOR` (include/linux/mount.h until v6.8).
const MNT_CURSOR: u32 = 0x1000_0000;

/// Options of one mount (`MNT_*`, include/linux/mount.h) as /proc/mounts
/// writes them.
const MOUNT_OPTIONS: &[(u32, &str)] = &[
    (1, "nosuid"),
    (2, "nodev"),
    (4, "noexec"),
    (8, "noatime"),
    (0x10, "nodiratime"),
    (0x20, "relatime"),
];
/// `MNT_READONLY`.
const MNT_READONLY: u32 = 0x40;
/// Options of the file system (`SB_*`, include/linux/fs.h).
const SB_OPTIONS: &[(u64, &str)] =
    &[(1 << 4, "sync"), (1 << 7, "dirsync"), (1 << 6, "mand"), (1 << 25, "lazytime")];
/// `SB_RDONLY`.
const SB_RDONLY: u64 = 1;

/// A mounted file system.
#[derive(Debug, Clone, Serialize)]
pub struct Mount {
    /// Address of its `struct mount`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Address of the `struct vfsmount` in it.
    #[serde(serialize_with = "hex")]
    pub vfsmount: u64,
    /// Address of its `struct super_block`.
    #[serde(serialize_with = "hex_option")]
    pub super_block: Option<u64>,
    /// Mount ID, as in /proc/PID/mountinfo.
    pub id: Option<i32>,
    /// Type of file system ("ext4", "fuse.sshfs").
    pub fs_type: Option<String>,
    /// What was mounted ("/dev/vda1", "tmpfs").
    pub device: Option<String>,
    /// Major and minor number of the device (0, n: none behind it).
    pub dev: Option<(u32, u32)>,
    /// Where it is mounted.
    pub path: Option<String>,
    /// Options ("rw", "sync", "nosuid"): of the file system, then of the mount.
    pub options: Vec<&'static str>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// The mounts of a namespace.
#[derive(Debug, Clone, Serialize)]
pub struct Mounts {
    /// Address of the `struct mnt_namespace`.
    #[serde(serialize_with = "hex")]
    pub namespace: u64,
    /// The mounts, in the kernel's order.
    pub list: Vec<Mount>,
    /// Why some may be missing.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

impl Kernel {
    /// Mounts that the first process sees.
    pub fn mounts(&self) -> Result<Mounts> {
        // Kernel threads have a namespace of their own since v7.0: the init
        // process has the one that people mean.
        let init = self.tasks()?.pid(1).map(|task| task.addr);
        let seen = init.map(|task| self.namespaces(task));
        let namespaces = match seen {
            Some(Ok(namespaces)) => namespaces,
            _ => self.namespaces(self.symbol("init_task")?)?,
        };
        self.mounts_in(self.layout::<NsproxyLayout>()?.mnt_ns.read(self, namespaces)?)
    }

    /// Mounts that `task` sees.
    pub fn mounts_of(&self, task: &Task) -> Result<Mounts> {
        let namespaces = self.namespaces(task.addr)?;
        self.mounts_in(self.layout::<NsproxyLayout>()?.mnt_ns.read(self, namespaces)?)
    }

    /// `task_struct.nsproxy`. A task that has exited has none.
    pub(crate) fn namespaces(&self, task: u64) -> Result<u64> {
        match self.layout::<TaskLayout>()?.nsproxy.read(self, task)? {
            0 => Err(Error::Null("the task's namespaces (it has exited)".into())),
            namespaces => Ok(namespaces),
        }
    }

    /// Mounts of the `struct mnt_namespace` at `namespace`.
    pub fn mounts_in(&self, namespace: u64) -> Result<Mounts> {
        let layout = self.layout::<MntNamespaceLayout>()?;
        let mount = self.layout::<MountLayout>()?;
        let mut gaps = Gaps::default();
        let mut list = Vec::new();
        let what = "the mounts of a namespace";
        let tree = layout.tree.exists();
        let walk: Box<dyn Iterator<Item = Result<u64>>> = if tree {
            Box::new(self.rbtree(layout.tree.address(namespace)?, mount.node.offset()?, what)?)
        } else {
            Box::new(self.list(layout.list.address(namespace)?, mount.list.offset()?, what))
        };
        for addr in walk.take(MOST) {
            match addr {
                Ok(addr) => match self.read_mount(addr, !tree) {
                    Ok(found) => list.extend(found),
                    Err(e) => gaps.add("a mount", &e),
                },
                Err(e) => gaps.add("mounts", &e),
            }
        }
        Ok(Mounts { namespace, list, gaps })
    }

    /// The mount at `addr`; `None` for a cursor.
    fn read_mount(&self, addr: u64, may_be_cursor: bool) -> Result<Option<Mount>> {
        let mount = self.layout::<MountLayout>()?;
        let layout = self.layout::<VfsmountLayout>()?;
        let sb_layout = self.layout::<SuperBlockLayout>()?;
        let vfsmount = mount.mnt.address(addr)?;
        let flags = layout.flags.read(self, vfsmount)?;
        if may_be_cursor && flags & MNT_CURSOR != 0 {
            return Ok(None);
        }
        let mut gaps = Gaps::default();
        let root = layout.root.read(self, vfsmount);
        let path = root.and_then(|root| self.path(vfsmount, root));
        let super_block = gaps.keep("superblock", layout.sb.read(self, vfsmount));
        let sb_flags =
            super_block.and_then(|sb| gaps.keep("flags", sb_layout.flags.read(self, sb)));
        Ok(Some(Mount {
            addr,
            vfsmount,
            super_block,
            id: gaps.keep("id", mount.id.read(self, addr)),
            fs_type: super_block.and_then(|sb| gaps.keep("type", self.fs_type(sb))),
            device: gaps.keep("device", self.device_name(&mount, addr)),
            dev: super_block
                .and_then(|sb| gaps.keep("device number", sb_layout.dev.read(self, sb)))
                .map(major_minor),
            path: gaps.keep("path", path),
            options: options(flags, sb_flags),
            gaps,
        }))
    }

    /// NULL prints as "none" (show_vfsmnt, fs/proc_namespace.c).
    fn device_name(&self, mount: &MountLayout, addr: u64) -> Result<String> {
        match mount.devname.read(self, addr)? {
            0 => Ok("none".into()),
            name => self.read_cstring(name, 4096),
        }
    }

    /// Type of the file system at `sb`, with its subtype ("fuse.sshfs").
    pub(crate) fn fs_type(&self, sb: u64) -> Result<String> {
        let layout = self.layout::<SuperBlockLayout>()?;
        let fs_type = layout.fs_type.read(self, sb)?;
        let mut name = self.layout::<FileSystemTypeLayout>()?.name.read(self, fs_type)?;
        let subtype = layout.subtype.read(self, sb).unwrap_or(0);
        if subtype != 0
            && let Ok(subtype) = self.read_cstring(subtype, 256)
        {
            name = format!("{name}.{subtype}");
        }
        Ok(name)
    }
}

fn options(flags: u32, sb_flags: Option<u64>) -> Vec<&'static str> {
    let read_only = flags & MNT_READONLY != 0 || sb_flags.is_some_and(|f| f & SB_RDONLY != 0);
    let of_mount = MOUNT_OPTIONS.iter().filter(|o| flags & o.0 != 0).map(|o| o.1);
    let of_sb = SB_OPTIONS.iter().filter(|o| sb_flags.unwrap_or(0) & o.0 != 0).map(|o| o.1);
    std::iter::once(if read_only { "ro" } else { "rw" }).chain(of_sb).chain(of_mount).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_only_by_itself_or_by_its_file_system() {
        assert_eq!(options(0x1027, Some(0)), ["rw", "nosuid", "nodev", "noexec", "relatime"]);
        assert_eq!(options(0x40, Some(0)), ["ro"]);
        assert_eq!(options(0, Some(1 | 1 << 4)), ["ro", "sync"]);
        assert_eq!(options(0x20, None), ["rw", "relatime"]);
    }
}
