//! Mounts, open files and their paths.
//!
//! A place in the tree of names is a `struct path`: a `vfsmount` (embedded in
//! `struct mount`, fs/mount.h) and a `dentry` (include/linux/dcache.h). Files
//! of a task are `task_struct.files` (`struct files_struct`,
//! include/linux/fdtable.h); mounts hang on their `struct mnt_namespace`.

mod file;
mod inode;
mod mount;
mod path;
mod user;

pub use file::{FileKind, FileLayout, OpenFile, TaskFiles};
pub use inode::{DentryPlace, InodePages};
pub use mount::{Mount, Mounts, NsproxyLayout};
pub use user::{FileTarget, FileUser, FileUsers, OpenFiles};

use crate::layout;
use crate::layout::{CString, Embedded};

layout! {
    /// `struct mount`, fs/mount.h
    pub struct MountLayout for "mount" {
        parent: u64 = "mnt_parent",
        mountpoint: u64 = "mnt_mountpoint",
        mnt: Embedded = "mnt",
        devname: u64 = "mnt_devname",
        // The namespace's mounts are a tree since v6.8 (2eea9ce4310d).
        node: Embedded = "mnt_node",
        list: Embedded = "mnt_list",
        id: i32 = "mnt_id",
        namespace: u64 = "mnt_ns",
    }
}

layout! {
    /// `struct vfsmount`, include/linux/mount.h
    pub struct VfsmountLayout for "vfsmount" {
        root: u64 = "mnt_root",
        sb: u64 = "mnt_sb",
        flags: u32 = "mnt_flags",
    }
}

layout! {
    /// `struct dentry`, include/linux/dcache.h
    pub struct DentryLayout for "dentry" {
        parent: u64 = "d_parent",
        name: u64 = "d_name.name",
        name_len: u32 = "d_name.len",
        inode: u64 = "d_inode",
        hashed: u64 = "d_hash.pprev",
        op: u64 = "d_op",
        sb: u64 = "d_sb",
    }
}

layout! {
    /// `struct inode`, include/linux/fs.h
    pub struct InodeLayout for "inode" {
        mode: u16 = "i_mode",
        ino: u64 = "i_ino",
        rdev: u32 = "i_rdev",
        bytes: u64 = "i_size",
        io_list: Embedded = "i_io_list",
        private: u64 = "i_private",
        mapping: u64 = "i_mapping",
        sb: u64 = "i_sb",
        block_bits: u8 = "i_blkbits",
    }
}

layout! {
    /// `struct super_block`, include/linux/fs.h
    pub struct SuperBlockLayout for "super_block" {
        dev: u32 = "s_dev",
        fs_type: u64 = "s_type",
        subtype: u64 = "s_subtype",
        flags: u64 = "s_flags",
        bdev: u64 = "s_bdev",
        bdi: u64 = "s_bdi",
    }
}

layout! {
    /// `struct file_system_type`, include/linux/fs.h
    pub struct FileSystemTypeLayout for "file_system_type" {
        name: CString = "name",
    }
}

/// Major and minor number of a `dev_t` (include/linux/kdev_t.h: 12 and 20
/// bits).
pub(crate) fn major_minor(dev: u32) -> (u32, u32) {
    (dev >> 20, dev & 0xf_ffff)
}
