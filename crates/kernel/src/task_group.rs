//! Task groups: cgroups as the scheduler sees them.
//!
//! Every `struct task_group` (kernel/sched/sched.h) has a `cfs_rq` per CPU (an
//! array of pointers, per-CPU memory in newer kernels) and, where
//! CONFIG_RT_GROUP_SCHED is set, an `rt_rq`. A group that has something to run
//! is an entity in its parent's queue; the entity's `my_q` is the group's own
//! queue. What runs now is out of the tree: `cfs_rq.curr` leads to it, through
//! the groups. A throttled group is taken out of its parent's queue, with all
//! that it has to run: only the tree of groups leads there.

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use crate::cgroup::CssLayout;
use crate::error::{Error, Result};
use crate::layout::Embedded;
use crate::sched::{
    FairEntityLayout, QueuedTask, RtEntityLayout, RtQueueLayout, TaskEntitiesLayout,
};
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct task_group`, kernel/sched/sched.h
    pub struct TaskGroupLayout for "task_group" {
        css: Embedded = "css",
        cfs_rq: u64 = "cfs_rq",
        rt_rq: u64 = "rt_rq",
        parent: u64 = "parent",
        siblings: Embedded = "siblings",
        children: Embedded = "children",
    }
}

layout! {
    /// `struct cfs_rq`, kernel/sched/sched.h: as a group's queue
    pub struct GroupQueueLayout for "cfs_rq" {
        curr: u64 = "curr",
        tree: Embedded = "tasks_timeline",
        group: u64 = "tg",
        queued: u32 = "nr_queued" | "nr_running",      // renamed in v6.15
        throttled: i32 = "throttled",
    }
}

layout! {
    /// `struct rt_rq`, kernel/sched/sched.h: as a group's queue
    pub struct RtGroupQueueLayout for "rt_rq" {
        group: u64 = "tg",
        throttled: i32 = "rt_throttled",
    }
}

/// No machine has more groups.
const MOST_GROUPS: usize = 1 << 20;
/// Nor nests them deeper.
const DEEPEST: usize = 64;

/// A member of a group's queue.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Queued {
    /// A task.
    Task {
        /// The task.
        #[serde(flatten)]
        task: QueuedTask,
        /// Whether it runs now.
        current: bool,
    },
    /// A group, with its queue on the same CPU.
    Group(GroupQueue),
}

/// A group's queue on one CPU.
#[derive(Debug, Clone, Serialize)]
pub struct GroupQueue {
    /// Address of its `struct task_group`.
    #[serde(serialize_with = "hex")]
    pub group: u64,
    /// Address of its `cfs_rq`, or `rt_rq`.
    #[serde(serialize_with = "hex")]
    pub queue: u64,
    /// Name of its cgroup.
    pub name: Option<String>,
    /// Out of time until its quota is refilled.
    pub throttled: bool,
    /// On real-time queues: the list that it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// What it has to run, in the order of the tree; what runs comes first.
    pub queued: Vec<Queued>,
}

/// The groups' queues of one CPU.
#[derive(Debug, Clone, Serialize)]
pub struct GroupQueues {
    /// The CPU.
    pub cpu: u32,
    /// Address of the task that it runs.
    #[serde(serialize_with = "hex")]
    pub current: u64,
    /// The real-time queue of the root group, where groups have such.
    pub realtime: Option<GroupQueue>,
    /// The fair queue of the root group.
    pub fair: Option<GroupQueue>,
    /// What could not be read, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
}

/// A group in the tree of groups.
struct Group {
    name: Option<String>,
    children: Vec<u64>,
    cfs_rq: Option<u64>,
    rt_rq: Option<u64>,
}

impl Kernel {
    /// What each of `cpus` has to run, by groups.
    pub fn group_queues(&self, cpus: &[u32]) -> Result<Vec<GroupQueues>> {
        let root = self.symbol("root_task_group").or_else(|_| self.symbol("init_task_group"))?;
        let groups = Groups::read(self, root)?;
        cpus.iter().map(|cpu| self.queues_of(&groups, root, *cpu)).collect()
    }

    fn queues_of(&self, groups: &Groups<'_>, root: u64, cpu: u32) -> Result<GroupQueues> {
        let current = self.current(cpu)?;
        let mut unread = groups.unread.clone();
        let mut walk = Walk { kernel: self, groups, cpu, current, seen: FxHashSet::default() };
        let mut keep = |result: Result<Option<GroupQueue>>| {
            result.map_err(|e| unread.push(e.to_string())).ok().flatten()
        };
        let realtime = keep(
            groups
                .rt_queue(root, cpu)
                .transpose()
                .and_then(|queue| queue.map(|queue| walk.realtime(queue, root, 0)).transpose()),
        );
        let fair = keep(
            groups
                .fair_queue(root, cpu)
                .transpose()
                .and_then(|queue| queue.map(|queue| walk.fair(queue, root, 0)).transpose()),
        );
        Ok(GroupQueues { cpu, current, realtime, fair, unread })
    }
}

struct Groups<'k> {
    kernel: &'k Kernel,
    by_addr: FxHashMap<u64, Group>,
    /// `cfs_rq` is per-CPU memory, no array of pointers.
    per_cpu: bool,
    unread: Vec<String>,
}

impl<'k> Groups<'k> {
    fn read(kernel: &'k Kernel, root: u64) -> Result<Groups<'k>> {
        let layout = kernel.layout::<TaskGroupLayout>()?;
        let ty = kernel.ty("task_group")?;
        let target = ty.member("cfs_rq").and_then(|member| member.ty.strip().target());
        let per_cpu = target.is_some_and(|t| {
            t.strip().c_name().contains("cfs_rq") && !t.strip().c_name().contains('*')
        });
        let mut groups =
            Groups { kernel, by_addr: FxHashMap::default(), per_cpu, unread: Vec::new() };
        let mut todo = vec![root];
        while let Some(addr) = todo.pop() {
            if groups.by_addr.len() >= MOST_GROUPS {
                return Err(Error::Loop { what: "the task groups".into(), addr });
            }
            if groups.by_addr.contains_key(&addr) {
                continue;
            }
            let mut children = Vec::new();
            if layout.children.exists() {
                let head = layout.children.address(addr)?;
                for child in kernel.list(head, layout.siblings.offset()?, "the task groups") {
                    match child {
                        Ok(child) => children.push(child),
                        Err(e) => {
                            groups.unread.push(e.to_string());
                            break;
                        }
                    }
                }
            }
            todo.extend(&children);
            let pointer = |pointer: Result<Option<u64>>| pointer.ok().flatten().filter(|p| *p != 0);
            let group = Group {
                name: groups.name(addr).ok().flatten(),
                children,
                cfs_rq: pointer(layout.cfs_rq.read_if_exists(kernel, addr)),
                rt_rq: pointer(layout.rt_rq.read_if_exists(kernel, addr)),
            };
            groups.by_addr.insert(addr, group);
        }
        Ok(groups)
    }

    /// Name of the group's cgroup ("/" for the root; autogroups have none).
    fn name(&self, group: u64) -> Result<Option<String>> {
        let css = self.kernel.layout::<TaskGroupLayout>()?.css.address(group)?;
        match self.kernel.layout::<CssLayout>()?.cgroup.read(self.kernel, css)? {
            0 => Ok(None),
            cgroup => self.kernel.cgroup_name(cgroup).map(Some),
        }
    }

    fn fair_queue(&self, group: u64, cpu: u32) -> Option<Result<u64>> {
        let queues = self.by_addr.get(&group)?.cfs_rq?;
        Some(match self.per_cpu {
            true => self.kernel.per_cpu_ptr(queues, cpu),
            false => self.kernel.read_u64(queues.wrapping_add(u64::from(cpu) * 8)),
        })
    }

    fn rt_queue(&self, group: u64, cpu: u32) -> Option<Result<u64>> {
        let queues = self.by_addr.get(&group)?.rt_rq?;
        Some(self.kernel.read_u64(queues.wrapping_add(u64::from(cpu) * 8)))
    }
}

struct Walk<'k> {
    kernel: &'k Kernel,
    groups: &'k Groups<'k>,
    cpu: u32,
    current: u64,
    /// Queues that were entered.
    seen: FxHashSet<u64>,
}

impl Walk<'_> {
    fn enter(&mut self, queue: u64, depth: usize) -> Result<()> {
        match depth <= DEEPEST && self.seen.insert(queue) {
            true => Ok(()),
            false => Err(Error::Loop { what: "a group's queue".into(), addr: queue }),
        }
    }

    fn name(&self, group: u64) -> Option<String> {
        self.groups.by_addr.get(&group)?.name.clone()
    }

    fn fair(&mut self, queue: u64, group: u64, depth: usize) -> Result<GroupQueue> {
        let kernel = self.kernel;
        self.enter(queue, depth)?;
        let layout = kernel.layout::<GroupQueueLayout>()?;
        let entity = kernel.layout::<FairEntityLayout>()?;
        let mut queued = Vec::new();
        let running = layout.curr.read(kernel, queue)?;
        if running != 0 {
            self.fair_entity(running, &entity, depth, true, &mut queued)?;
        }
        let tree = layout.tree.address(queue)?;
        for found in kernel.rbtree(tree, entity.node.offset()?, "a group's fair queue")? {
            self.fair_entity(found?, &entity, depth, false, &mut queued)?;
        }
        self.throttled_below(group, depth, &mut queued)?;
        let throttled = layout.throttled.read_if_exists(kernel, queue)?.unwrap_or(0) != 0;
        Ok(GroupQueue { group, queue, name: self.name(group), throttled, priority: None, queued })
    }

    fn fair_entity(
        &mut self,
        entity: u64,
        layout: &FairEntityLayout,
        depth: usize,
        running: bool,
        queued: &mut Vec<Queued>,
    ) -> Result<()> {
        let kernel = self.kernel;
        let queue = layout.my_q.read_if_exists(kernel, entity)?.unwrap_or(0);
        if queue != 0 {
            let group = kernel.layout::<GroupQueueLayout>()?.group.read(kernel, queue)?;
            queued.push(Queued::Group(self.fair(queue, group, depth + 1)?));
            return Ok(());
        }
        let addr = entity.wrapping_sub(kernel.layout::<TaskEntitiesLayout>()?.fair.offset()?);
        let current = addr == self.current;
        // `curr` of a queue may lag behind what the CPU runs.
        if !running || current {
            queued.push(Queued::Task { task: self.kernel.queued_task(addr)?, current });
        }
        Ok(())
    }

    /// Groups below `group` that have something to run and were not met in its
    /// queue.
    fn throttled_below(
        &mut self,
        group: u64,
        depth: usize,
        queued: &mut Vec<Queued>,
    ) -> Result<()> {
        let kernel = self.kernel;
        let layout = kernel.layout::<GroupQueueLayout>()?;
        let Some(known) = self.groups.by_addr.get(&group) else { return Ok(()) };
        for child in known.children.clone() {
            let Some(queue) = self.groups.fair_queue(child, self.cpu).transpose()? else {
                continue;
            };
            if self.seen.contains(&queue) {
                continue;
            }
            if layout.queued.read(kernel, queue)? != 0 {
                queued.push(Queued::Group(self.fair(queue, child, depth + 1)?));
                continue;
            }
            let mut below = Vec::new();
            self.enter(queue, depth)?;
            self.throttled_below(child, depth + 1, &mut below)?;
            if !below.is_empty() {
                let throttled = layout.throttled.read_if_exists(kernel, queue)?.unwrap_or(0) != 0;
                queued.push(Queued::Group(GroupQueue {
                    group: child,
                    queue,
                    name: self.name(child),
                    throttled,
                    priority: None,
                    queued: below,
                }));
            }
        }
        Ok(())
    }

    fn realtime(&mut self, queue: u64, group: u64, depth: usize) -> Result<GroupQueue> {
        let kernel = self.kernel;
        self.enter(queue, depth)?;
        let layout = kernel.layout::<RtGroupQueueLayout>()?;
        let entity = kernel.layout::<RtEntityLayout>()?;
        let lists = kernel.layout::<RtQueueLayout>()?.queues.place()?;
        let in_task = kernel.layout::<TaskEntitiesLayout>()?.rt.offset()?;
        let mut queued = Vec::new();
        for list in 0..(lists.size / 16).min(256) {
            let head = queue.wrapping_add(lists.offset + list * 16);
            for found in kernel.list(head, entity.run_list.offset()?, "a real-time queue") {
                let found = found?;
                let below = entity.my_q.read_if_exists(kernel, found)?.unwrap_or(0);
                if below == 0 {
                    let addr = found.wrapping_sub(in_task);
                    let task = QueuedTask { prio: list as i32, ..self.kernel.queued_task(addr)? };
                    queued.push(Queued::Task { task, current: addr == self.current });
                    continue;
                }
                let group = layout.group.read(kernel, below)?;
                let below = self.realtime(below, group, depth + 1)?;
                queued.push(Queued::Group(GroupQueue { priority: Some(list as u32), ..below }));
            }
        }
        let throttled = layout.throttled.read_if_exists(kernel, queue)?.unwrap_or(0) != 0;
        Ok(GroupQueue { group, queue, name: self.name(group), throttled, priority: None, queued })
    }
}
