//! Control groups: hierarchies, groups, who is in them.
//!
//! `cgroup_roots` (kernel/cgroup/cgroup.c) is the ring of hierarchies:
//! `cgrp_dfl_root` is cgroup v2, every other a mounted v1 hierarchy. A group
//! is a `struct cgroup` (include/linux/cgroup-defs.h): its own state `self`
//! hangs its children together, `kn` has its name, `subsys[]` the controllers'
//! states, `cset_links` the css_sets whose tasks are in it. A task points to
//! its css_set: one group in every hierarchy.

use rayon::prelude::*;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::gaps::Gaps;
use crate::layout::{CString, Embedded};
use crate::memcg::MemoryCgroup;
use crate::stack::hex;
use crate::task::{Task, TaskLayout};
use crate::{Kernel, layout};

layout! {
    /// `struct cgroup`, include/linux/cgroup-defs.h
    pub struct CgroupLayout for "cgroup" {
        self_css: Embedded = "self",
        level: i32 = "level",
        kn: u64 = "kn",
        subsys: Embedded = "subsys",
        root: u64 = "root",
        cset_links: Embedded = "cset_links",
    }
}

layout! {
    /// `struct cgroup_subsys_state`, include/linux/cgroup-defs.h
    pub struct CssLayout for "cgroup_subsys_state" {
        cgroup: u64 = "cgroup",
        children: Embedded = "children",
        sibling: Embedded = "sibling",
        id: i32 = "id",
        flags: u32 = "flags",
        parent: u64 = "parent",
    }
}

layout! {
    /// `struct cgroup_root`, include/linux/cgroup-defs.h
    pub struct CgroupRootLayout for "cgroup_root" {
        root_list: Embedded = "root_list",
        hierarchy_id: i32 = "hierarchy_id",
        subsys_mask: u32 = "subsys_mask",
        cgrp: Embedded = "cgrp",
        name: str = "name",
    }
}

layout! {
    /// `struct cgroup_subsys`, include/linux/cgroup-defs.h
    pub struct CgroupSubsysLayout for "cgroup_subsys" {
        id: i32 = "id",
        name: CString = "name",
        legacy_name: u64 = "legacy_name",
    }
}

layout! {
    /// `struct cgrp_cset_link`, kernel/cgroup/cgroup-internal.h
    pub struct CsetLinkLayout for "cgrp_cset_link" {
        cgrp: u64 = "cgrp",
        cset: u64 = "cset",
        cset_link: Embedded = "cset_link",
        cgrp_link: Embedded = "cgrp_link",
    }
}

layout! {
    /// `struct css_set`, include/linux/cgroup-defs.h
    pub struct CssSetLayout for "css_set" {
        dfl_cgrp: u64 = "dfl_cgrp",
        nr_tasks: i32 = "nr_tasks",
        cgrp_links: Embedded = "cgrp_links",
    }
}

layout! {
    /// `struct kernfs_node`, include/linux/kernfs.h
    pub struct KernfsNameLayout for "kernfs_node" {
        name: CString = "name",
    }
}

layout! {
    /// `struct pids_cgroup`, kernel/cgroup/pids.c
    pub struct PidsLayout for "pids_cgroup" {
        css: Embedded = "css",
        counter: i64 = "counter",
        limit: i64 = "limit",
    }
}

/// `CSS_DYING` (include/linux/cgroup-defs.h): removed, something still holds it.
const CSS_DYING: u32 = 1 << 4;
/// `PIDS_MAX` (kernel/cgroup/pids.c): PID_MAX_LIMIT + 1, no limit.
const PIDS_MAX: i64 = (4 << 20) + 1;
/// The kernel allows INT_MAX levels; paths of more do not exist.
const DEEPEST: usize = 4096;
/// No machine has more groups; beyond it is corruption.
const MOST: usize = 1 << 22;

/// A hierarchy of control groups.
#[derive(Debug, Clone, Serialize)]
pub struct CgroupHierarchy {
    /// Address of its `struct cgroup_root`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its number, as in /proc/PID/cgroup.
    pub id: i32,
    /// Whether it is cgroup v2.
    pub v2: bool,
    /// Name of a named v1 hierarchy ("systemd").
    pub name: String,
    /// Its controllers.
    pub controllers: Vec<String>,
    /// Address of its root group.
    #[serde(serialize_with = "hex")]
    root: u64,
}

/// A control group.
#[derive(Debug, Clone, Serialize)]
pub struct Cgroup {
    /// Address of its `struct cgroup`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its path below the hierarchy's root, "/" for that.
    pub path: String,
    /// Number of its hierarchy.
    pub hierarchy: i32,
    /// Whether that is cgroup v2.
    pub v2: bool,
    /// Levels below the root.
    pub level: i32,
    /// It was removed, something still holds it (charged memory, mostly).
    pub dying: bool,
    /// Threads in it, not counting its children's.
    pub tasks: Option<u64>,
    /// ID of its memory controller's state.
    pub memory_id: Option<i32>,
    /// Its memory, where the memory controller is on.
    pub memory: Option<MemoryCgroup>,
    /// Its number of processes and threads, where the pids controller is on.
    pub pids: Option<PidsCgroup>,
    /// What could not be read, and why.
    pub gaps: Gaps,
}

/// The pids controller of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PidsCgroup {
    /// Tasks in it and below it.
    pub current: i64,
    /// Most that are allowed; none: no limit.
    pub max: Option<i64>,
}

/// A group that a task is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Membership {
    /// Number of the hierarchy.
    pub hierarchy: i32,
    /// Whether that is cgroup v2.
    pub v2: bool,
    /// Address of the `struct cgroup`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its path.
    pub path: String,
}

/// A group and the controllers' states that it has.
struct Found {
    addr: u64,
    path: String,
    memory: u64,
    pids: u64,
}

impl Kernel {
    /// The hierarchies: v2, and each v1 hierarchy that is mounted.
    pub fn cgroup_hierarchies(&self) -> Result<Vec<CgroupHierarchy>> {
        let layout = self.layout::<CgroupRootLayout>()?;
        let v2 = self.symbol("cgrp_dfl_root").ok();
        let head = self.symbol("cgroup_roots")?;
        let mut hierarchies = Vec::new();
        for addr in self.list(head, layout.root_list.offset()?, "the cgroup hierarchies") {
            let addr = addr?;
            let v2 = v2 == Some(addr);
            hierarchies.push(CgroupHierarchy {
                addr,
                id: layout.hierarchy_id.read(self, addr)?,
                v2,
                name: layout.name.read(self, addr)?,
                controllers: controllers(self, layout.subsys_mask.read(self, addr)?, v2)?,
                root: layout.cgrp.address(addr)?,
            });
        }
        Ok(hierarchies)
    }

    /// All groups of all hierarchies, parents before their children.
    pub fn cgroups(&self) -> Result<Vec<Cgroup>> {
        let mut cgroups = Vec::new();
        for hierarchy in self.cgroup_hierarchies()? {
            let mut gaps = Gaps::default();
            let found = walk(self, &hierarchy, &mut gaps)?;
            let memory = found.iter().map(|f| f.memory).filter(|m| *m != 0).collect::<Vec<_>>();
            let memory = self.memory_cgroups(&memory, hierarchy.v2);
            let first = cgroups.len();
            cgroups.par_extend(
                found.par_iter().map(|found| read_cgroup(self, &hierarchy, found, &memory)),
            );
            // What the walk missed is told by the root.
            if let Some(root) = cgroups.get_mut(first) {
                root.gaps.extend(gaps);
            }
        }
        Ok(cgroups)
    }

    /// Path of a task's group in cgroup v2.
    pub fn task_cgroup(&self, task: &Task) -> Result<String> {
        let cset = css_set(self, task)?;
        self.cgroup_path(self.layout::<CssSetLayout>()?.dfl_cgrp.read(self, cset)?)
    }

    /// A task's groups in all hierarchies, as /proc/PID/cgroup lists them.
    pub fn task_cgroups(&self, task: &Task) -> Result<Vec<Membership>> {
        let cset = css_set(self, task)?;
        let link = self.layout::<CsetLinkLayout>()?;
        let root = self.layout::<CgroupRootLayout>()?;
        let cgroup = self.layout::<CgroupLayout>()?;
        let v2 = self.symbol("cgrp_dfl_root").ok();
        let head = self.layout::<CssSetLayout>()?.cgrp_links.address(cset)?;
        let mut groups = Vec::new();
        for at in self.list(head, link.cgrp_link.offset()?, "the cgroups of a task") {
            let addr = link.cgrp.read(self, at?)?;
            let hierarchy = cgroup.root.read(self, addr)?;
            groups.push(Membership {
                hierarchy: root.hierarchy_id.read(self, hierarchy)?,
                v2: v2 == Some(hierarchy),
                addr,
                path: self.cgroup_path(addr)?,
            });
        }
        Ok(groups)
    }

    /// Path of the `struct cgroup` at `addr` below its hierarchy's root.
    pub fn cgroup_path(&self, addr: u64) -> Result<String> {
        if addr == 0 {
            return Err(Error::Null("a cgroup".into()));
        }
        let layout = self.layout::<CgroupLayout>()?;
        let css = self.layout::<CssLayout>()?;
        let own = layout.self_css.offset()?;
        let mut names = Vec::new();
        let mut at = addr;
        loop {
            let parent = css.parent.read(self, at.wrapping_add(own))?;
            if parent == 0 {
                break;
            }
            if names.len() == DEEPEST {
                return Err(Error::Loop { what: "the parents of a cgroup".into(), addr });
            }
            names.push(name_of(self, &layout, at)?);
            at = parent.wrapping_sub(own);
        }
        if names.is_empty() {
            return Ok("/".into());
        }
        Ok(names.iter().rev().flat_map(|name| ["/", name]).collect())
    }
}

impl Kernel {
    /// The last part of a group's path; "/" for the root.
    pub fn cgroup_name(&self, addr: u64) -> Result<String> {
        let name = name_of(self, &*self.layout::<CgroupLayout>()?, addr)?;
        Ok(if name.is_empty() { "/".to_owned() } else { name })
    }
}

fn css_set(kernel: &Kernel, task: &Task) -> Result<u64> {
    match kernel.layout::<TaskLayout>()?.cgroups.read(kernel, task.addr)? {
        0 => Err(Error::Null(format!("the css_set of {}", task.comm))),
        cset => Ok(cset),
    }
}

fn name_of(kernel: &Kernel, layout: &CgroupLayout, addr: u64) -> Result<String> {
    let node = layout.kn.read(kernel, addr)?;
    if node == 0 {
        return Err(Error::Null("the directory of a cgroup".into()));
    }
    kernel.layout::<KernfsNameLayout>()?.name.read(kernel, node)
}

/// Names of the controllers in a mask of their numbers: `cgroup_subsys[]`.
fn controllers(kernel: &Kernel, mask: u32, v2: bool) -> Result<Vec<String>> {
    let layout = kernel.layout::<CgroupSubsysLayout>()?;
    let table = kernel.symbol("cgroup_subsys")?;
    let mut names = Vec::new();
    for id in (0..32u64).filter(|id| mask >> id & 1 == 1) {
        let subsys = kernel.read_u64(table.wrapping_add(id * 8))?;
        // "io" is called "blkio" in v1.
        let legacy = if v2 { 0 } else { layout.legacy_name.read(kernel, subsys)? };
        names.push(match legacy {
            0 => layout.name.read(kernel, subsys)?,
            legacy => kernel.read_cstring(legacy, 64)?,
        });
    }
    Ok(names)
}

/// Address of `subsys[]`'s entry of the controller whose `struct
/// cgroup_subsys` is `symbol`. None: this kernel has no such controller.
pub(crate) fn controller_slot(kernel: &Kernel, symbol: &str) -> Result<Option<u64>> {
    let Some(subsys) = kernel.symbol_if_built(symbol)? else { return Ok(None) };
    let id = kernel.layout::<CgroupSubsysLayout>()?.id.read(kernel, subsys)?;
    let place = kernel.layout::<CgroupLayout>()?.subsys.place()?;
    let at = u64::try_from(id).ok().map(|id| id * 8).filter(|at| *at < place.size);
    let at = at.ok_or_else(|| Error::corrupt(format!("the number of {symbol} ({id})"), subsys))?;
    Ok(Some(place.offset + at))
}

/// The groups of a hierarchy, parents first.
fn walk(kernel: &Kernel, hierarchy: &CgroupHierarchy, gaps: &mut Gaps) -> Result<Vec<Found>> {
    let layout = kernel.layout::<CgroupLayout>()?;
    let css = kernel.layout::<CssLayout>()?;
    let own = layout.self_css.offset()?;
    let memory = controller_slot(kernel, "memory_cgrp_subsys")?;
    let pids = controller_slot(kernel, "pids_cgrp_subsys")?;
    let state = |addr: u64, slot: Option<u64>, gaps: &mut Gaps| {
        let read = slot.map(|slot| kernel.read_u64(addr.wrapping_add(slot)));
        read.and_then(|read| gaps.keep("a controller's state", read)).unwrap_or(0)
    };
    let mut seen = rustc_hash::FxHashSet::default();
    let mut groups = Vec::new();
    let mut next = vec![(hierarchy.root, String::from("/"))];
    while let Some((addr, path)) = next.pop() {
        if !seen.insert(addr) || groups.len() == MOST {
            gaps.add("the cgroups", &Error::Loop { what: "the tree of cgroups".into(), addr });
            continue;
        }
        let head = css.children.address(addr.wrapping_add(own))?;
        let mut children = Vec::new();
        for child in kernel.list(head, css.sibling.offset()?, "the children of a cgroup") {
            let named = child.and_then(|child| {
                let child = child.wrapping_sub(own);
                let name = name_of(kernel, &layout, child)?;
                Ok((child, format!("{}/{name}", path.trim_end_matches('/'))))
            });
            match named {
                Ok(child) => children.push(child),
                Err(e) => {
                    gaps.add(&format!("a child of {path}"), &e);
                    if matches!(e, Error::Loop { .. }) {
                        break;
                    }
                }
            }
        }
        next.extend(children.into_iter().rev());
        let (memory, pids) = (state(addr, memory, gaps), state(addr, pids, gaps));
        groups.push(Found { addr, path, memory, pids });
    }
    Ok(groups)
}

type MemoryResults = rustc_hash::FxHashMap<u64, Result<MemoryCgroup>>;

fn read_cgroup(
    kernel: &Kernel,
    hierarchy: &CgroupHierarchy,
    found: &Found,
    memory: &MemoryResults,
) -> Cgroup {
    let mut gaps = Gaps::default();
    let flags = kernel.layout::<CgroupLayout>().and_then(|layout| {
        let own = layout.self_css.address(found.addr)?;
        let flags = kernel.layout::<CssLayout>()?.flags.read(kernel, own)?;
        Ok((layout.level.read(kernel, found.addr)?, flags))
    });
    let (level, flags) = gaps.keep("state", flags).unwrap_or_default();
    let memory = match memory.get(&found.memory) {
        Some(result) => gaps.keep("memory", result.clone()),
        None => None,
    };
    let memory_id = (found.memory != 0)
        .then(|| kernel.layout::<CssLayout>().and_then(|css| css.id.read(kernel, found.memory)));
    let pids = (found.pids != 0).then(|| read_pids(kernel, found.pids));
    Cgroup {
        addr: found.addr,
        path: found.path.clone(),
        hierarchy: hierarchy.id,
        v2: hierarchy.v2,
        level,
        dying: flags & CSS_DYING != 0,
        tasks: gaps.keep("tasks", count_tasks(kernel, found.addr)),
        memory_id: memory_id.and_then(|id| gaps.keep("memory controller", id)),
        memory,
        pids: pids.and_then(|pids| gaps.keep("pids", pids)),
        gaps,
    }
}

/// Threads of all css_sets that are linked to the group.
fn count_tasks(kernel: &Kernel, addr: u64) -> Result<u64> {
    let link = kernel.layout::<CsetLinkLayout>()?;
    let cset = kernel.layout::<CssSetLayout>()?;
    let head = kernel.layout::<CgroupLayout>()?.cset_links.address(addr)?;
    let mut tasks = 0u64;
    for at in kernel.list(head, link.cset_link.offset()?, "the css_sets of a cgroup") {
        let count = cset.nr_tasks.read(kernel, link.cset.read(kernel, at?)?)?;
        tasks = tasks.saturating_add(u64::try_from(count).unwrap_or(0));
    }
    Ok(tasks)
}

fn read_pids(kernel: &Kernel, css: u64) -> Result<PidsCgroup> {
    let layout = kernel.layout::<PidsLayout>()?;
    let addr = css.wrapping_sub(layout.css.offset()?);
    let limit = layout.limit.read(kernel, addr)?;
    Ok(PidsCgroup {
        current: layout.counter.read(kernel, addr)?,
        max: (limit < PIDS_MAX).then_some(limit),
    })
}
