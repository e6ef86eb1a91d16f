//! Workqueues: what kernel threads do for others, and what waits for them.
//!
//! kernel/workqueue.c. Workers belong to a `struct worker_pool`; all pools are
//! in `worker_pool_idr`, two of each CPU and some that are bound to none. A
//! `struct workqueue_struct` (list `workqueues`) has a `struct pool_workqueue`
//! for each pool that it uses. Work that may run is on `worker_pool.worklist`, or
//! on `worker.scheduled` behind what that worker does; work over the queue's limit
//! is on `pool_workqueue.inactive_works` (`delayed_works` until v5.15). The word
//! `work_struct.data` of queued work points to its `pool_workqueue`, with flags in
//! the low bits. A pool notes in jiffies when a worker last took work from it:
//! that, and work still waiting, is a stall (`wq_watchdog_timer_fn`).

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::error::Result;
use crate::gaps::Gaps;
use crate::layout::Embedded;
use crate::stack::hex;
use crate::symbol::SymbolAt;
use crate::{Kernel, layout};

layout! {
    /// `struct worker_pool`, kernel/workqueue.c
    pub struct WorkerPoolLayout for "worker_pool" {
        cpu: i32 = "cpu",
        id: i32 = "id",
        flags: u32 = "flags",
        progress: u64 = "last_progress_ts" | "watchdog_ts",   // renamed in v7.1
        worklist: Embedded = "worklist",
        nr_workers: u32 = "nr_workers",
        nr_idle: u32 = "nr_idle",
        workers: Embedded = "workers",
        attrs: u64 = "attrs",
    }
}

layout! {
    /// `struct workqueue_attrs`, include/linux/workqueue.h
    pub struct WorkqueueAttrsLayout for "workqueue_attrs" {
        nice: i32 = "nice",
    }
}

layout! {
    /// `struct worker`, kernel/workqueue_internal.h
    pub struct WorkerLayout for "worker" {
        node: Embedded = "node",
        task: u64 = "task",
        work: u64 = "current_work",
        function: u64 = "current_func",
        pwq: u64 = "current_pwq",
        started: u64 = "current_start",   // jiffies, since v7.1
        last_active: u64 = "last_active",
        scheduled: Embedded = "scheduled",
        flags: u32 = "flags",
        id: i32 = "id",
        description: str = "desc",
    }
}

layout! {
    /// `struct pool_workqueue`, kernel/workqueue.c
    pub struct PoolWorkqueueLayout for "pool_workqueue" {
        pool: u64 = "pool",
        queue: u64 = "wq",
        active: i32 = "nr_active",
        inactive: Embedded = "inactive_works" | "delayed_works",
        node: Embedded = "pwqs_node",
    }
}

layout! {
    /// `struct workqueue_struct`, kernel/workqueue.c
    pub struct WorkqueueLayout for "workqueue_struct" {
        node: Embedded = "list",
        pool_queues: Embedded = "pwqs",
        name: str = "name",
        flags: u32 = "flags",
        most_active: i32 = "max_active" | "saved_max_active",
        rescuer: u64 = "rescuer",
    }
}

layout! {
    /// `struct work_struct`, include/linux/workqueue_types.h
    pub struct WorkLayout for "work_struct" {
        data: u64 = "data",
        entry: Embedded = "entry",
        function: u64 = "func",
    }
}

/// Work on one list, workers of a pool.
const MOST: usize = 1 << 20;
/// Bits of `worker.flags` (enum in kernel/workqueue.c).
const WORKER_IDLE: u32 = 1 << 2;
/// Bits of `worker_pool.flags` and `workqueue_struct.flags`.
const WQ_FLAGS: [(u32, &str); 7] = [
    (1 << 1, "UNBOUND"),
    (1 << 2, "FREEZABLE"),
    (1 << 3, "MEM_RECLAIM"),
    (1 << 4, "HIGHPRI"),
    (1 << 5, "CPU_INTENSIVE"),
    (1 << 6, "SYSFS"),
    (1 << 7, "POWER_EFFICIENT"),
];

/// All workqueues and the pools that serve them.
#[derive(Debug, Clone, Serialize)]
pub struct Workqueues {
    /// By number.
    pub pools: Vec<WorkerPool>,
    /// In the order in which the kernel lists them.
    pub queues: Vec<Workqueue>,
    /// Why some may be missing.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
}

/// A pool of workers.
#[derive(Debug, Clone, Serialize)]
pub struct WorkerPool {
    /// Address of its `struct worker_pool`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its number.
    pub id: i32,
    /// Its CPU; `None`: it is bound to none.
    pub cpu: Option<u32>,
    /// Its workers' nice value.
    pub nice: Option<i32>,
    /// How many workers it has.
    pub nr_workers: u32,
    /// How many of them have nothing to do.
    pub nr_idle: u32,
    /// How long ago a worker last took work, in ns; `None`: not known.
    pub progress_ago_ns: Option<u64>,
    /// How long the work that waits has waited for a worker, in ns: since the
    /// last progress. `None`: none waits.
    pub stalled_ns: Option<u64>,
    /// Work that waits for a worker, in order.
    pub pending: Vec<Work>,
    /// Its workers.
    pub workers: Vec<Worker>,
}

/// A worker.
#[derive(Debug, Clone, Serialize)]
pub struct Worker {
    /// Address of its `struct worker`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its number in the pool.
    pub id: i32,
    /// Address of its task.
    #[serde(serialize_with = "hex")]
    pub task: u64,
    /// Its task's ID.
    pub pid: Option<i32>,
    /// Its task's name.
    pub comm: Option<String>,
    /// What it does; `None`: nothing.
    pub current: Option<CurrentWork>,
    /// Work that it does next.
    pub scheduled: Vec<Work>,
    /// What its work says of itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// What a worker does.
#[derive(Debug, Clone, Serialize)]
pub struct CurrentWork {
    /// The work.
    #[serde(flatten)]
    pub work: Work,
    /// How long it has been at it, in ns; `None`: this kernel does not note it.
    pub running_ns: Option<u64>,
    /// It has been at it no longer than this: since it was idle last, in ns.
    pub running_at_most_ns: Option<u64>,
}

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Work {
    /// Address of its `struct work_struct`.
    #[serde(serialize_with = "hex")]
    pub work: u64,
    /// Address of its function.
    #[serde(serialize_with = "hex")]
    pub function: u64,
    /// Its function.
    pub symbol: Option<SymbolAt>,
    /// Name of its workqueue.
    pub queue: Option<String>,
}

/// A workqueue.
#[derive(Debug, Clone, Serialize)]
pub struct Workqueue {
    /// Address of its `struct workqueue_struct`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its name.
    pub name: String,
    /// Its flags.
    pub flags: Vec<&'static str>,
    /// How much of its work may run at once (by CPU or node).
    pub most_active: Option<i32>,
    /// Address of the `struct worker` that runs when memory is short, 0: none.
    #[serde(serialize_with = "hex")]
    pub rescuer: u64,
    /// Work that may run, or runs.
    pub active: u64,
    /// Work over the limit, in order.
    pub inactive: Vec<Work>,
    /// Numbers of the pools that serve it.
    pub pools: Vec<i32>,
}

impl Kernel {
    /// Workqueues, worker pools, workers and work.
    pub fn workqueues(&self) -> Result<Workqueues> {
        let mut gaps = Gaps::default();
        let mut reader = WorkReader::new(self)?;
        let queues = reader.queues(&mut gaps)?;
        // `struct idr` begins with the tree of its entries.
        let mut pools = Vec::new();
        for entry in self.xarray(self.symbol("worker_pool_idr")?)?.take(MOST) {
            let pool = entry.and_then(|(_, addr)| reader.pool(addr, &mut gaps));
            pools.extend(gaps.keep("worker pools", pool));
        }
        pools.sort_by_key(|pool| pool.id);
        Ok(Workqueues { pools, queues, gaps })
    }
}

/// What reading workqueues needs, looked up once.
struct WorkReader<'k> {
    kernel: &'k Kernel,
    pool: Arc<WorkerPoolLayout>,
    worker: Arc<WorkerLayout>,
    pwq: Arc<PoolWorkqueueLayout>,
    queue: Arc<WorkqueueLayout>,
    work: Arc<WorkLayout>,
    jiffies: u64,
    /// ns of a tick.
    tick_ns: Option<u64>,
    /// Name of the workqueue of each `struct pool_workqueue`.
    names: FxHashMap<u64, String>,
}

impl<'k> WorkReader<'k> {
    fn new(kernel: &'k Kernel) -> Result<WorkReader<'k>> {
        let hz = kernel.clock().ok().and_then(|clock| clock.hz);
        Ok(WorkReader {
            kernel,
            pool: kernel.layout()?,
            worker: kernel.layout()?,
            pwq: kernel.layout()?,
            queue: kernel.layout()?,
            work: kernel.layout()?,
            jiffies: kernel.read_u64(kernel.symbol("jiffies_64")?)?,
            tick_ns: hz.map(|hz| 1_000_000_000 / u64::from(hz.max(1))),
            names: FxHashMap::default(),
        })
    }

    fn queues(&mut self, gaps: &mut Gaps) -> Result<Vec<Workqueue>> {
        let kernel = self.kernel;
        let head = kernel.symbol("workqueues")?;
        let mut queues = Vec::new();
        for addr in kernel.list(head, self.queue.node.offset()?, "the workqueues").take(MOST) {
            let queue = addr.and_then(|addr| self.read_queue(addr, gaps));
            queues.extend(gaps.keep("workqueues", queue));
        }
        Ok(queues)
    }

    fn read_queue(&mut self, addr: u64, gaps: &mut Gaps) -> Result<Workqueue> {
        let (kernel, layout) = (self.kernel, self.queue.clone());
        let name = layout.name.read(kernel, addr)?;
        let flags = layout.flags.read(kernel, addr)?;
        let (mut active, mut inactive, mut pools) = (0, Vec::new(), Vec::new());
        let head = layout.pool_queues.address(addr)?;
        let node = self.pwq.node.offset()?;
        for pwq in kernel.list(head, node, "the pools of a workqueue").take(MOST) {
            let Some(pwq) = gaps.keep("pools of workqueues", pwq) else { break };
            self.names.insert(pwq, name.clone());
            let pool = self.pwq.pool.read(kernel, pwq)?;
            pools.push(self.pool.id.read(kernel, pool)?);
            active += u64::try_from(self.pwq.active.read(kernel, pwq)?).unwrap_or(0);
            inactive.extend(self.works(self.pwq.inactive.address(pwq)?, gaps));
        }
        Ok(Workqueue {
            addr,
            name,
            flags: WQ_FLAGS.iter().filter(|(bit, _)| flags & bit != 0).map(|f| f.1).collect(),
            most_active: layout.most_active.read(kernel, addr).ok(),
            rescuer: layout.rescuer.read(kernel, addr)?,
            active,
            inactive,
            pools,
        })
    }

    fn pool(&mut self, addr: u64, gaps: &mut Gaps) -> Result<WorkerPool> {
        let (kernel, layout) = (self.kernel, &self.pool);
        let pending = self.works(layout.worklist.address(addr)?, gaps);
        let mut workers = Vec::new();
        let node = self.worker.node.offset()?;
        let list = kernel.list(layout.workers.address(addr)?, node, "the workers of a pool");
        for worker in list.take(MOST) {
            let worker = worker.and_then(|worker| self.read_worker(worker, gaps));
            workers.extend(gaps.keep("workers", worker));
        }
        workers.sort_by_key(|worker| worker.id);
        let progress = gaps.keep("progress", layout.progress.read(kernel, addr));
        let progress_ago_ns = progress.and_then(|ts| self.ago(ts));
        let nice = layout
            .attrs
            .read(kernel, addr)
            .and_then(|attrs| kernel.layout::<WorkqueueAttrsLayout>()?.nice.read(kernel, attrs));
        Ok(WorkerPool {
            addr,
            id: layout.id.read(kernel, addr)?,
            cpu: u32::try_from(layout.cpu.read(kernel, addr)?).ok(),
            nice: gaps.keep("nice values", nice),
            nr_workers: layout.nr_workers.read(kernel, addr)?,
            nr_idle: layout.nr_idle.read(kernel, addr)?,
            progress_ago_ns,
            stalled_ns: progress_ago_ns.filter(|_| !pending.is_empty()),
            pending,
            workers,
        })
    }

    fn read_worker(&self, addr: u64, gaps: &mut Gaps) -> Result<Worker> {
        let (kernel, layout) = (self.kernel, &self.worker);
        let task = layout.task.read(kernel, addr)?;
        let known = kernel.tasks().ok().and_then(|tasks| tasks.at(task));
        let current = match layout.work.read(kernel, addr)? {
            0 => None,
            work => {
                let function = layout.function.read(kernel, addr)?;
                let queue = self.names.get(&layout.pwq.read(kernel, addr)?).cloned();
                let symbol = kernel.symbol_at(function);
                let started = layout.started.read_if_exists(kernel, addr)?;
                let idle = layout.last_active.read(kernel, addr)?;
                Some(CurrentWork {
                    work: Work { work, function, symbol, queue },
                    running_ns: started.and_then(|ts| self.ago(ts)),
                    running_at_most_ns: self.ago(idle).filter(|_| idle != 0),
                })
            }
        };
        let idle = layout.flags.read(kernel, addr)? & WORKER_IDLE != 0;
        Ok(Worker {
            addr,
            id: layout.id.read(kernel, addr)?,
            task,
            pid: known.map(|task| task.pid),
            comm: known.map(|task| task.comm.clone()),
            current,
            scheduled: self.works(layout.scheduled.address(addr)?, gaps),
            // What a worker was described as stays while it idles.
            description: match idle {
                true => String::new(),
                false => layout.description.read(kernel, addr)?,
            },
        })
    }

    /// The work on a list.
    fn works(&self, head: u64, gaps: &mut Gaps) -> Vec<Work> {
        let Some(entry) = gaps.keep("work", self.work.entry.offset()) else { return Vec::new() };
        let list = self.kernel.list(head, entry, "a list of work").take(MOST);
        list.filter_map(|addr| gaps.keep("work", addr.and_then(|addr| self.read_work(addr))))
            .collect()
    }

    fn read_work(&self, work: u64) -> Result<Work> {
        let function = self.work.function.read(self.kernel, work)?;
        let data = self.work.data.read(self.kernel, work)?;
        // The flags take 8 bits, 9 with CONFIG_DEBUG_OBJECTS_WORK.
        let queue = [0xffu64, 0x1ff].iter().find_map(|flags| self.names.get(&(data & !flags)));
        let symbol = self.kernel.symbol_at(function);
        Ok(Work { work, function, symbol, queue: queue.cloned() })
    }

    /// ns since a time in jiffies; `None` where the tick is not known, or the
    /// time lies ahead.
    fn ago(&self, ts: u64) -> Option<u64> {
        let ticks = u64::try_from(self.jiffies.wrapping_sub(ts) as i64).ok()?;
        ticks.checked_mul(self.tick_ns?)
    }
}
