//! Runqueues: what each CPU runs and what waits for it.
//!
//! `runqueues` (`struct rq`, kernel/sched/sched.h) is per CPU. Each scheduling
//! class has its own queue in it: deadline (`dl.root`, a tree), real time
//! (`rt.active.queue`, one list per priority), fair (`cfs.tasks_timeline`, a
//! tree). An entity of the fair and real-time queues is a task, or a group of
//! tasks with a queue of its own (`my_q`). The running task stays on the
//! real-time list, and is taken out of the fair tree. Above all of them is the
//! CPU's one stop task (`stop`), which stops the others for migrations and for
//! the soft lockup watchdog: that it wants to run and does not tells of a CPU
//! that no longer schedules.

use rustc_hash::FxHashSet;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::layout::Embedded;
use crate::stack::hex;
use crate::task::{RunqueueLayout, TaskLayout};
use crate::{Kernel, layout};

layout! {
    /// More of `struct rq`, kernel/sched/sched.h
    pub struct RunqueueQueuesLayout for "rq" {
        stop: u64 = "stop",
        nr_switches: u64 = "nr_switches",
        nr_iowait: i32 = "nr_iowait.counter",
        fair: Embedded = "cfs",
        fair_tree: Embedded = "cfs.tasks_timeline",
        rt_array: Embedded = "rt.active",
        rt_queues: Embedded = "rt.active.queue",
        dl_tree: Embedded = "dl.root",
    }
}

layout! {
    /// `struct cfs_rq`, kernel/sched/sched.h
    pub struct FairQueueLayout for "cfs_rq" {
        tree: Embedded = "tasks_timeline",
    }
}

layout! {
    /// `struct sched_entity`, include/linux/sched.h
    pub struct FairEntityLayout for "sched_entity" {
        node: Embedded = "run_node",
        my_q: u64 = "my_q",
        vruntime: u64 = "vruntime",
        deadline: u64 = "deadline",
        delayed: bool = "sched_delayed",
    }
}

layout! {
    /// `struct sched_rt_entity`, include/linux/sched.h
    pub struct RtEntityLayout for "sched_rt_entity" {
        run_list: Embedded = "run_list",
        my_q: u64 = "my_q",
    }
}

layout! {
    /// `struct rt_rq`, kernel/sched/sched.h
    pub struct RtQueueLayout for "rt_rq" {
        queues: Embedded = "active.queue",
    }
}

layout! {
    /// `struct sched_dl_entity`, include/linux/sched.h
    pub struct DlEntityLayout for "sched_dl_entity" {
        node: Embedded = "rb_node",
        deadline: u64 = "deadline",
        server: bool = "dl_server",
    }
}

layout! {
    /// The entities in `struct task_struct`, include/linux/sched.h
    pub struct TaskEntitiesLayout for "task_struct" {
        fair: Embedded = "se",
        rt: Embedded = "rt",
        dl: Embedded = "dl",
        on_rq: i32 = "on_rq",
    }
}

/// Task groups do not nest deeper than cgroups may (`cgroup.max.depth` is
/// unlimited, but nobody does).
const DEEPEST: usize = 64;

/// A CPU's runqueue.
#[derive(Debug, Clone, Serialize)]
pub struct Runqueue {
    /// Its CPU.
    pub cpu: u32,
    /// Address of its `struct rq`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// The task that runs (address).
    #[serde(serialize_with = "hex")]
    pub current: u64,
    /// The CPU's idle task (address).
    #[serde(serialize_with = "hex")]
    pub idle: u64,
    /// Address of the fair queue's tree (`cfs.tasks_timeline`).
    #[serde(serialize_with = "hex")]
    pub fair_tree: u64,
    /// Address of the real-time queue (`rt.active`).
    #[serde(serialize_with = "hex")]
    pub rt_array: u64,
    /// Its clock when it was last updated, ns.
    pub clock_ns: u64,
    /// Tasks that run or want to.
    pub nr_running: u32,
    /// Context switches since boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nr_switches: Option<u64>,
    /// Tasks that sleep for I/O and slept off on this CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nr_iowait: Option<i32>,
    /// The CPU's stop task, if it runs or wants to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<QueuedTask>,
    /// Deadline tasks, the most urgent first.
    pub deadline: Vec<QueuedTask>,
    /// Real-time tasks, the highest priority first; the running one among them.
    pub realtime: Vec<QueuedTask>,
    /// Fair tasks in the order of the tree, without the running one.
    pub fair: Vec<QueuedTask>,
    /// Queues that could not be read to their end, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
}

/// A task on a runqueue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueuedTask {
    /// Address of its `struct task_struct`.
    #[serde(serialize_with = "hex")]
    pub task: u64,
    /// Thread ID.
    pub pid: i32,
    /// Name.
    pub comm: String,
    /// The kernel's priority: 0 to 99 real time (low is urgent), 100 to 139 fair.
    pub prio: i32,
    /// For fair tasks: virtual run time, ns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vruntime: Option<u64>,
    /// Virtual deadline of fair tasks (where the kernel has such), or deadline
    /// of deadline tasks, ns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// Asleep, and still in the tree until it has paid its time back.
    pub delayed: bool,
}

impl Kernel {
    /// Whether a task runs or wants to (`on_rq`).
    pub fn is_queued(&self, task: u64) -> Result<bool> {
        Ok(self.layout::<TaskEntitiesLayout>()?.on_rq.read(self, task)? != 0)
    }

    /// The runqueues of all possible CPUs.
    pub fn runqueues(&self) -> Result<Vec<Runqueue>> {
        self.possible_cpus()?.into_iter().map(|cpu| self.runqueue(cpu)).collect()
    }

    /// The runqueue of one CPU.
    pub fn runqueue(&self, cpu: u32) -> Result<Runqueue> {
        let layout = self.layout::<RunqueueLayout>()?;
        let queues = self.layout::<RunqueueQueuesLayout>()?;
        let addr = self.per_cpu("runqueues", cpu)?;
        let mut queue = Runqueue {
            cpu,
            addr,
            current: layout.curr.read(self, addr)?,
            idle: layout.idle.read(self, addr)?,
            fair_tree: queues.fair_tree.address(addr)?,
            rt_array: queues.rt_array.address(addr)?,
            clock_ns: layout.clock.read(self, addr)?,
            nr_running: layout.nr_running.read(self, addr)?,
            nr_switches: queues.nr_switches.read(self, addr).ok(),
            nr_iowait: queues.nr_iowait.read(self, addr).ok(),
            stop: None,
            deadline: Vec::new(),
            realtime: Vec::new(),
            fair: Vec::new(),
            unread: Vec::new(),
        };
        let mut walk = QueueWalk { kernel: self, seen: FxHashSet::default() };
        let walked = [
            ("stop", walk.stop(queues.stop.read(self, addr)).map(|stop| queue.stop = stop)),
            ("deadline", walk.deadline(&queues, addr, &mut queue.deadline)),
            ("realtime", walk.realtime(queues.rt_queues.read(self, addr), &mut queue.realtime, 0)),
            ("fair", walk.fair(queues.fair.read(self, addr), &mut queue.fair, 0)),
        ];
        for (which, result) in walked {
            if let Err(e) = result {
                queue.unread.push(format!("{which}: {e}"));
            }
        }
        Ok(queue)
    }
}

struct QueueWalk<'k> {
    kernel: &'k Kernel,
    /// Queues that were entered: a damaged group may name its parent's.
    seen: FxHashSet<u64>,
}

impl QueueWalk<'_> {
    fn enter(&mut self, queue: u64, depth: usize) -> Result<()> {
        if depth > DEEPEST || !self.seen.insert(queue) {
            return Err(Error::Loop { what: "a group's runqueue".into(), addr: queue });
        }
        Ok(())
    }

    fn stop(&self, task: Result<u64>) -> Result<Option<QueuedTask>> {
        let task = task?;
        if task == 0 {
            return Ok(None);
        }
        let on_rq = self.kernel.layout::<TaskEntitiesLayout>()?.on_rq.read(self.kernel, task)?;
        // TASK_ON_RQ_QUEUED or TASK_ON_RQ_MIGRATING
        (on_rq != 0).then(|| self.kernel.queued_task(task)).transpose()
    }

    fn fair(&mut self, queue: Result<u64>, out: &mut Vec<QueuedTask>, depth: usize) -> Result<()> {
        let kernel = self.kernel;
        let queue = queue?;
        self.enter(queue, depth)?;
        let layout = kernel.layout::<FairEntityLayout>()?;
        let tree = kernel.layout::<FairQueueLayout>()?.tree.read(kernel, queue)?;
        let in_task = kernel.layout::<TaskEntitiesLayout>()?.fair.offset()?;
        for entity in kernel.rbtree(tree, layout.node.offset()?, "a fair runqueue")? {
            let entity = entity?;
            // Kernels without groups have no such member.
            let group = layout.my_q.read_if_exists(kernel, entity)?.unwrap_or(0);
            if group != 0 {
                self.fair(Ok(group), out, depth + 1)?;
                continue;
            }
            let task = self.kernel.queued_task(entity.wrapping_sub(in_task))?;
            out.push(QueuedTask {
                vruntime: layout.vruntime.read(kernel, entity).ok(),
                deadline: layout.deadline.read(kernel, entity).ok(),
                delayed: layout.delayed.read(kernel, entity).unwrap_or(false),
                ..task
            });
        }
        Ok(())
    }

    fn realtime(
        &mut self,
        lists: Result<u64>,
        out: &mut Vec<QueuedTask>,
        depth: usize,
    ) -> Result<()> {
        let kernel = self.kernel;
        let lists = lists?;
        self.enter(lists, depth)?;
        let layout = kernel.layout::<RtEntityLayout>()?;
        let in_queue = kernel.layout::<RtQueueLayout>()?.queues.place()?;
        let in_task = kernel.layout::<TaskEntitiesLayout>()?.rt.offset()?;
        for list in 0..(in_queue.size / 16).min(256) {
            let head = lists.wrapping_add(list * 16);
            for entity in kernel.list(head, layout.run_list.offset()?, "a real-time runqueue") {
                let entity = entity?;
                let group = layout.my_q.read_if_exists(kernel, entity)?.unwrap_or(0);
                if group != 0 {
                    let lists = group.wrapping_add(in_queue.offset);
                    self.realtime(Ok(lists), out, depth + 1)?;
                    continue;
                }
                out.push(self.kernel.queued_task(entity.wrapping_sub(in_task))?);
            }
        }
        Ok(())
    }

    fn deadline(
        &mut self,
        queues: &RunqueueQueuesLayout,
        rq: u64,
        out: &mut Vec<QueuedTask>,
    ) -> Result<()> {
        let kernel = self.kernel;
        let layout = kernel.layout::<DlEntityLayout>()?;
        let in_task = kernel.layout::<TaskEntitiesLayout>()?.dl.offset()?;
        let tree = queues.dl_tree.read(kernel, rq)?;
        for entity in kernel.rbtree(tree, layout.node.offset()?, "a deadline runqueue")? {
            let entity = entity?;
            // A server runs other classes' tasks on time of its own: no task.
            if layout.server.read_if_exists(kernel, entity)? == Some(true) {
                continue;
            }
            let task = self.kernel.queued_task(entity.wrapping_sub(in_task))?;
            out.push(QueuedTask { deadline: layout.deadline.read(kernel, entity).ok(), ..task });
        }
        Ok(())
    }
}

impl Kernel {
    /// The task at `addr` as it stands on a runqueue.
    pub(crate) fn queued_task(&self, addr: u64) -> Result<QueuedTask> {
        let layout = self.layout::<TaskLayout>()?;
        Ok(QueuedTask {
            task: addr,
            pid: layout.pid.read(self, addr)?,
            comm: layout.comm.read(self, addr)?,
            prio: layout.prio.read(self, addr)?,
            vruntime: None,
            deadline: None,
            delayed: false,
        })
    }
}
