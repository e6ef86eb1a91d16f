//! Who uses a file: as root or working directory, by a descriptor, by a
//! mapping.

use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::file::{FileLayout, FsLayout, PathLayout};
use super::{DentryLayout, OpenFile};
use crate::Kernel;
use crate::error::Result;
use crate::gaps::Gaps;
use crate::stack::hex;
use crate::task::{Task, TaskLayout};

/// The file that is sought.
#[derive(Debug, Clone)]
pub enum FileTarget {
    /// By its path.
    Path(String),
    /// By the address of its `struct inode`.
    Address(u64),
}

/// A task that uses it.
#[derive(Debug, Clone, Serialize)]
pub struct FileUser {
    /// Thread ID.
    pub pid: i32,
    /// Address of its `struct task_struct`.
    #[serde(serialize_with = "hex")]
    pub task: u64,
    /// Its name.
    pub comm: String,
    /// It is its root directory.
    pub root: bool,
    /// It is its working directory.
    pub cwd: bool,
    /// Descriptors it has it open by.
    pub fds: Vec<u32>,
    /// It is mapped.
    pub mmap: bool,
}

/// The tasks that use a file.
#[derive(Debug, Clone)]
pub struct FileUsers {
    /// In the order of the tasks.
    pub list: Vec<FileUser>,
    /// Why some may be missing.
    pub gaps: Gaps,
}

/// Tasks that one thread looks at: those that share files follow each other.
const CHUNK: usize = 256;

/// What was found out already: threads share all of it.
struct Search<'k> {
    kernel: &'k Kernel,
    target: &'k FileTarget,
    /// By `struct path` content: (vfsmount, dentry).
    places: FxHashMap<(u64, u64), bool>,
    /// By `struct files_struct`.
    files: FxHashMap<u64, Vec<u32>>,
    /// By `struct mm_struct`.
    mms: FxHashMap<u64, bool>,
    gaps: Gaps,
}

impl Kernel {
    /// The tasks that use `target`.
    pub fn file_users(&self, target: &FileTarget) -> Result<FileUsers> {
        let tasks = self.tasks()?;
        let found: Vec<(Vec<FileUser>, Gaps)> = tasks
            .list
            .par_chunks(CHUNK)
            .map(|tasks| {
                let mut search = Search {
                    kernel: self,
                    target,
                    places: FxHashMap::default(),
                    files: FxHashMap::default(),
                    mms: FxHashMap::default(),
                    gaps: Gaps::default(),
                };
                let users = tasks.iter().filter_map(|task| search.task(task)).collect();
                (users, search.gaps)
            })
            .collect();
        let mut users = FileUsers { list: Vec::new(), gaps: Gaps::default() };
        for (list, gaps) in found {
            users.list.extend(list);
            users.gaps.extend(gaps);
        }
        Ok(users)
    }
}

/// Files that processes have open, by superblock, each dentry once.
#[derive(Debug, Default)]
pub struct OpenFiles {
    /// By address of the `struct super_block`.
    pub by_super_block: FxHashMap<u64, Vec<OpenFile>>,
    /// Why some may be missing.
    pub gaps: Gaps,
}

impl Kernel {
    /// The files that processes have open.
    pub fn files_by_super_block(&self) -> Result<OpenFiles> {
        let layout = self.layout::<DentryLayout>()?;
        let tasks = self.tasks()?;
        let processes: Vec<&Task> =
            tasks.list.iter().filter(|task| task.is_leader() && task.mm != 0).collect();
        let found: Vec<_> = processes.par_iter().map(|task| self.files(task)).collect();
        let mut open = OpenFiles::default();
        let mut seen = FxHashSet::default();
        for files in found {
            let Some(files) = open.gaps.keep("open files of a process", files) else { continue };
            open.gaps.extend(files.gaps);
            for file in files.list {
                let Some(dentry) = file.dentry.filter(|dentry| seen.insert(*dentry)) else {
                    continue;
                };
                if let Some(sb) =
                    open.gaps.keep("a file's superblock", layout.sb.read(self, dentry))
                {
                    open.by_super_block.entry(sb).or_default().push(file);
                }
            }
        }
        Ok(open)
    }
}

impl Search<'_> {
    fn task(&mut self, task: &Task) -> Option<FileUser> {
        let (root, cwd) = self.directories(task).unwrap_or_else(|e| {
            self.gaps.add("directories of a task", &e);
            (false, false)
        });
        let fds = self.descriptors(task).unwrap_or_else(|e| {
            self.gaps.add("open files of a task", &e);
            Vec::new()
        });
        let mmap = self.mappings(task).unwrap_or_else(|e| {
            self.gaps.add("mappings of a task", &e);
            false
        });
        (root || cwd || mmap || !fds.is_empty()).then(|| FileUser {
            pid: task.pid,
            task: task.addr,
            comm: task.comm.clone(),
            root,
            cwd,
            fds,
            mmap,
        })
    }

    fn directories(&mut self, task: &Task) -> Result<(bool, bool)> {
        let kernel = self.kernel;
        let fs = kernel.layout::<TaskLayout>()?.fs.read(kernel, task.addr)?;
        if fs == 0 {
            // It has exited.
            return Ok((false, false));
        }
        let layout = kernel.layout::<FsLayout>()?;
        let root = self.is_path(layout.root.address(fs)?)?;
        Ok((root, self.is_path(layout.pwd.address(fs)?)?))
    }

    fn descriptors(&mut self, task: &Task) -> Result<Vec<u32>> {
        let kernel = self.kernel;
        let files = kernel.layout::<TaskLayout>()?.files.read(kernel, task.addr)?;
        if files == 0 {
            return Ok(Vec::new());
        }
        if let Some(fds) = self.files.get(&files) {
            return Ok(fds.clone());
        }
        let open = kernel.files(task)?;
        let fds: Vec<u32> = open.list.iter().filter(|f| self.is_open(f)).map(|f| f.fd).collect();
        self.gaps.extend(open.gaps);
        self.files.insert(files, fds.clone());
        Ok(fds)
    }

    fn is_open(&self, file: &OpenFile) -> bool {
        match self.target {
            FileTarget::Address(at) => [file.inode, file.dentry].contains(&Some(*at)),
            FileTarget::Path(path) => file.path.as_ref() == Some(path),
        }
    }

    fn mappings(&mut self, task: &Task) -> Result<bool> {
        if task.mm == 0 {
            return Ok(false);
        }
        if let Some(known) = self.mms.get(&task.mm) {
            return Ok(*known);
        }
        let kernel = self.kernel;
        let layout = kernel.layout::<FileLayout>()?;
        let vmas = kernel.vmas(task.mm)?;
        let mut found = false;
        for vma in vmas.list.iter().filter(|vma| vma.file != 0) {
            found = self.is_path(layout.path.address(vma.file)?)?;
            if found {
                break;
            }
        }
        self.gaps.extend(vmas.gaps);
        self.mms.insert(task.mm, found);
        Ok(found)
    }

    /// Whether the `struct path` at `addr` leads to the file.
    fn is_path(&mut self, addr: u64) -> Result<bool> {
        let kernel = self.kernel;
        let layout = kernel.layout::<PathLayout>()?;
        let place = (layout.mnt.read(kernel, addr)?, layout.dentry.read(kernel, addr)?);
        if let Some(known) = self.places.get(&place) {
            return Ok(*known);
        }
        let found = match self.target {
            FileTarget::Path(path) => kernel.path(place.0, place.1)? == *path,
            FileTarget::Address(at) => {
                let inode = kernel.layout::<DentryLayout>()?.inode.read(kernel, place.1)?;
                [place.1, inode].contains(at)
            }
        };
        self.places.insert(place, found);
        Ok(found)
    }
}
