//! Open files of a task: `files_struct` (include/linux/fdtable.h).
//!
//! `files_struct.fdt` points to the `struct fdtable`: `open_fds` and
//! `close_on_exec` are bitmaps of `max_fds` bits, `fd` the array of pointers to
//! `struct file`. Threads of a process share it; its root and working
//! directory are in `task_struct.fs` (`struct fs_struct`).

use serde::Serialize;

use super::{DentryLayout, InodeLayout, MountLayout};
use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::Embedded;
use crate::stack::{hex, hex_option};
use crate::task::{Task, TaskLayout};
use crate::{Kernel, layout};

layout! {
    /// `struct files_struct`, include/linux/fdtable.h
    pub struct FilesLayout for "files_struct" {
        fdt: u64 = "fdt",
    }
}

layout! {
    /// `struct fdtable`, include/linux/fdtable.h
    pub struct FdtableLayout for "fdtable" {
        max_fds: u32 = "max_fds",
        fd: u64 = "fd",
        open_fds: u64 = "open_fds",
        close_on_exec: u64 = "close_on_exec",
    }
}

layout! {
    /// `struct file`, include/linux/fs.h
    pub struct FileLayout for "file" {
        path: Embedded = "f_path" | "__f_path",
        inode: u64 = "f_inode",
        flags: u32 = "f_flags",
        mode: u32 = "f_mode",
        pos: u64 = "f_pos",
        op: u64 = "f_op",
        private_data: u64 = "private_data",
    }
}

layout! {
    /// `struct path`, include/linux/path.h
    pub struct PathLayout for "path" {
        mnt: u64 = "mnt",
        dentry: u64 = "dentry",
    }
}

layout! {
    /// `struct fs_struct`, include/linux/fs_struct.h
    pub struct FsLayout for "fs_struct" {
        root: Embedded = "root",
        pwd: Embedded = "pwd",
        umask: u32 = "umask",
    }
}

layout! {
    /// `struct mm_struct`, include/linux/mm_types.h
    pub struct MmFileLayout for "mm_struct" {
        exe_file: u64 = "exe_file",
    }
}

/// Pointers from here to the end of the address space are errors
/// (include/linux/err.h).
const FIRST_ERROR: u64 = (-4095i64) as u64;

/// Tables grow with use (fs.nr_open bounds them, a million unless raised).
const MOST_FDS: u32 = 1 << 26;

/// What a file is, from its inode's mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// Symbolic link (opened with O_PATH).
    Symlink,
    /// Pipe.
    Fifo,
    /// Socket.
    Socket,
    /// None of these: eventfd, epoll, timerfd ...
    Other,
}

impl FileKind {
    /// From `inode.i_mode` (`S_IFMT`, include/uapi/linux/stat.h).
    pub fn of(mode: u16) -> FileKind {
        match mode & 0o170_000 {
            0o100_000 => FileKind::Regular,
            0o040_000 => FileKind::Directory,
            0o020_000 => FileKind::CharDevice,
            0o060_000 => FileKind::BlockDevice,
            0o120_000 => FileKind::Symlink,
            0o010_000 => FileKind::Fifo,
            0o140_000 => FileKind::Socket,
            _ => FileKind::Other,
        }
    }

    /// As crash(8) writes it.
    pub fn crash_code(self) -> &'static str {
        match self {
            FileKind::Regular => "REG",
            FileKind::Directory => "DIR",
            FileKind::CharDevice => "CHR",
            FileKind::BlockDevice => "BLK",
            FileKind::Symlink => "LNK",
            FileKind::Fifo => "FIFO",
            FileKind::Socket => "SOCK",
            FileKind::Other => "UNKN",
        }
    }
}

/// An open file.
#[derive(Debug, Clone, Serialize)]
pub struct OpenFile {
    /// File descriptor.
    pub fd: u32,
    /// Address of its `struct file`.
    #[serde(serialize_with = "hex")]
    pub file: u64,
    /// Address of its `struct dentry`.
    #[serde(serialize_with = "hex_option")]
    pub dentry: Option<u64>,
    /// Address of its `struct inode`.
    #[serde(serialize_with = "hex_option")]
    pub inode: Option<u64>,
    /// What it is.
    pub kind: Option<FileKind>,
    /// Path, or the kernel's name for what has none ("pipe:[123]").
    pub path: Option<String>,
    /// Whether that name is gone from its directory.
    pub deleted: Option<bool>,
    /// `O_*` flags it was opened with.
    pub flags: Option<u32>,
    /// Position in bytes.
    pub position: Option<u64>,
    /// Whether exec closes it.
    pub close_on_exec: Option<bool>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// The open files of a task.
#[derive(Debug, Clone, Serialize)]
pub struct TaskFiles {
    /// Address of its `struct files_struct`.
    #[serde(serialize_with = "hex")]
    pub files_struct: u64,
    /// Root directory.
    pub root: Option<String>,
    /// Working directory.
    pub cwd: Option<String>,
    /// Open files by descriptor.
    pub list: Vec<OpenFile>,
    /// What could not be read.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

impl Kernel {
    /// Root, working directory and open files of `task`.
    pub fn files(&self, task: &Task) -> Result<TaskFiles> {
        let layout = self.layout::<TaskLayout>()?;
        let fs_layout = self.layout::<FsLayout>()?;
        let files_struct = layout.files.read(self, task.addr)?;
        if files_struct == 0 {
            return Err(Error::Null("the task's table of files (it has exited)".into()));
        }
        let mut gaps = Gaps::default();
        let fs = layout.fs.read(self, task.addr);
        let fs = fs.and_then(|fs| match fs {
            0 => Err(Error::Null("fs".into())),
            fs => Ok(fs),
        });
        let (mut root, mut cwd) = (None, None);
        if let Some(fs) = gaps.keep("root and working directory", fs) {
            let at = |member: &crate::layout::Member<Embedded>| self.path_at(member.address(fs)?);
            root = gaps.keep("root directory", at(&fs_layout.root));
            cwd = gaps.keep("working directory", at(&fs_layout.pwd));
        }
        let list = match self.read_fds(files_struct, &mut gaps) {
            Ok(list) => list,
            Err(e) => {
                gaps.add("open files", &e);
                Vec::new()
            }
        };
        Ok(TaskFiles { files_struct, root, cwd, list, gaps })
    }

    /// Path of the program that `task` runs; `None` for kernel threads.
    pub fn executable(&self, task: &Task) -> Result<Option<String>> {
        if task.mm == 0 {
            return Ok(None);
        }
        match self.layout::<MmFileLayout>()?.exe_file.read(self, task.mm)? {
            0 => Ok(None),
            file => self.file_path(file).map(Some),
        }
    }

    /// Path of the `struct file` at `file`.
    pub fn file_path(&self, file: u64) -> Result<String> {
        self.path_at(self.layout::<FileLayout>()?.path.address(file)?)
    }

    /// Whether the `struct file` at `file` is of a mount that only the kernel
    /// has (`kern_mount`, fs/namespace.c), and so in no tree of names: shared
    /// memory, say. Such a mount has an error in place of a namespace.
    pub fn is_file_without_place(&self, file: u64) -> Result<bool> {
        let path = self.layout::<FileLayout>()?.path.address(file)?;
        let vfsmount = self.layout::<PathLayout>()?.mnt.read(self, path)?;
        let layout = self.layout::<MountLayout>()?;
        let mount = vfsmount.wrapping_sub(layout.mnt.offset()?);
        Ok(layout.namespace.read(self, mount)? >= FIRST_ERROR)
    }

    /// Path that the `struct path` at `addr` names.
    pub fn path_at(&self, addr: u64) -> Result<String> {
        let layout = self.layout::<PathLayout>()?;
        self.path(layout.mnt.read(self, addr)?, layout.dentry.read(self, addr)?)
    }

    fn read_fds(&self, files_struct: u64, gaps: &mut Gaps) -> Result<Vec<OpenFile>> {
        let layout = self.layout::<FdtableLayout>()?;
        let fdt = self.layout::<FilesLayout>()?.fdt.read(self, files_struct)?;
        let max = layout.max_fds.read(self, fdt)?;
        if max > MOST_FDS {
            return Err(Error::corrupt(format!("a table of {max} files"), fdt));
        }
        let len = u64::from(max.div_ceil(64)) * 8;
        let open = self.read_bytes(layout.open_fds.read(self, fdt)?, len)?;
        let close = layout.close_on_exec.read(self, fdt).and_then(|at| self.read_bytes(at, len));
        let close = gaps.keep("close-on-exec flags", close);
        let array = layout.fd.read(self, fdt)?;
        let mut list = Vec::new();
        for fd in bits(&open, max) {
            match self.read_u64(array.wrapping_add(u64::from(fd) * 8)) {
                // Reserved, and not yet installed.
                Ok(0) => {}
                Ok(file) => {
                    let close_on_exec = close.as_ref().map(|bits| is_set(bits, fd));
                    list.push(self.read_file(fd, file, close_on_exec)?);
                }
                Err(e) => gaps.add("a file", &e),
            }
        }
        Ok(list)
    }

    fn read_file(&self, fd: u32, file: u64, close_on_exec: Option<bool>) -> Result<OpenFile> {
        let layout = self.layout::<FileLayout>()?;
        let path_layout = self.layout::<PathLayout>()?;
        let dentry_layout = self.layout::<DentryLayout>()?;
        let inode_layout = self.layout::<InodeLayout>()?;
        let mut gaps = Gaps::default();
        let path = layout.path.address(file)?;
        let dentry = gaps.keep("dentry", path_layout.dentry.read(self, path));
        let inode = layout.inode.read(self, file).or_else(|e| match dentry {
            Some(dentry) => dentry_layout.inode.read(self, dentry),
            None => Err(e),
        });
        let inode = gaps.keep("inode", inode);
        let mode = inode.and_then(|i| gaps.keep("type", inode_layout.mode.read(self, i)));
        Ok(OpenFile {
            fd,
            file,
            dentry,
            inode,
            kind: mode.map(FileKind::of),
            path: gaps.keep("path", self.path_at(path)),
            deleted: dentry.and_then(|d| gaps.keep("deleted", self.is_deleted(d))),
            flags: gaps.keep("flags", layout.flags.read(self, file)),
            position: gaps.keep("position", layout.pos.read(self, file)),
            close_on_exec,
            gaps,
        })
    }
}

fn is_set(bits: &[u8], n: u32) -> bool {
    bits.get((n / 8) as usize).is_some_and(|byte| byte >> (n % 8) & 1 == 1)
}

/// Numbers below `max` whose bit is set.
fn bits(bitmap: &[u8], max: u32) -> impl Iterator<Item = u32> {
    let bytes = bitmap.iter().zip((0u32..).step_by(8)).filter(|(byte, _)| **byte != 0);
    bytes
        .flat_map(|(byte, first)| {
            (0..8).filter(move |i| byte >> i & 1 == 1).map(move |i| first + i)
        })
        .take_while(move |n| *n < max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmaps_are_little_endian_words() {
        let mut map = [0u8; 16];
        map[0] = 0b1000_0111;
        map[8] = 1;
        map[15] = 0x80;
        assert_eq!(bits(&map, 128).collect::<Vec<_>>(), [0, 1, 2, 7, 64, 127]);
        assert_eq!(bits(&map, 64).collect::<Vec<_>>(), [0, 1, 2, 7]);
        assert!(is_set(&map, 127) && !is_set(&map, 126) && !is_set(&map, 1000));
    }

    #[test]
    fn modes_are_named_as_crash_does() {
        let code = |mode| FileKind::of(mode).crash_code();
        assert_eq!(code(0o100_644), "REG");
        assert_eq!(code(0o020_600), "CHR");
        assert_eq!(code(0o140_777), "SOCK");
        assert_eq!(code(0o600), "UNKN");
    }
}
