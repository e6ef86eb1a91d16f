//! Tasks: `struct task_struct` (include/linux/sched.h) of every process,
//! thread and idle loop.
//!
//! Thread group leaders are on the ring `init_task.tasks`, the threads of each
//! group on `signal_struct.thread_head`. The idle tasks of the CPUs are in no
//! list: `rq.idle` of each runqueue has them. Where the ring is broken (it is
//! only as sound as the kernel that died), the PID table gives the rest.

use std::collections::HashSet;

use rayon::prelude::*;
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::layout::Embedded;
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct task_struct`, include/linux/sched.h
    pub struct TaskLayout for "task_struct" {
        state: u64 = "__state" | "state",              // renamed in v5.14
        exit_state: i32 = "exit_state",
        flags: u32 = "flags",
        cpu: u32 = "thread_info.cpu" | "cpu",          // in thread_info again from v5.16
        on_cpu: i32 = "on_cpu",
        pid: i32 = "pid",
        tgid: i32 = "tgid",
        comm: str = "comm",
        stack: u64 = "stack",
        stack_vm_area: u64 = "stack_vm_area",
        thread_sp: u64 = "thread.sp" | "thread.cpu_context.sp",
        tasks: Embedded = "tasks",
        thread_node: Embedded = "thread_node",
        signal: u64 = "signal",
        group_leader: u64 = "group_leader",
        real_parent: u64 = "real_parent",
        mm: u64 = "mm",
        active_mm: u64 = "active_mm",
        prio: i32 = "prio",
        static_prio: i32 = "static_prio",
        normal_prio: i32 = "normal_prio",
        policy: u32 = "policy",
        utime: u64 = "utime",
        stime: u64 = "stime",
        nvcsw: u64 = "nvcsw",
        nivcsw: u64 = "nivcsw",
        start_time: u64 = "start_time",
        start_boottime: u64 = "start_boottime" | "real_start_time",  // renamed in v5.5
        last_arrival: u64 = "sched_info.last_arrival",
        last_switch_count: u64 = "last_switch_count",
        last_switch_time: u64 = "last_switch_time",
        files: u64 = "files",
        fs: u64 = "fs",
        nsproxy: u64 = "nsproxy",
        cgroups: u64 = "cgroups",
        cred: u64 = "cred",
        blocked_on: u64 = "blocked_on",
    }
}

layout! {
    /// `struct signal_struct`, include/linux/sched/signal.h
    pub struct SignalLayout for "signal_struct" {
        thread_head: Embedded = "thread_head",
        nr_threads: i32 = "nr_threads",
        oom_score_adj: i16 = "oom_score_adj",
    }
}

layout! {
    /// `struct rq`, kernel/sched/sched.h
    pub struct RunqueueLayout for "rq" {
        curr: u64 = "curr",
        idle: u64 = "idle",
        nr_running: u32 = "nr_running",
        clock: u64 = "clock",
    }
}

/// `PF_KTHREAD` (include/linux/sched.h): a kernel thread.
pub const PF_KTHREAD: u32 = 0x0020_0000;
/// `PF_EXITING`: getting shut down.
pub const PF_EXITING: u32 = 0x4;

/// What a task is doing, as `ps` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Running or ready to run.
    Running,
    /// Sleeping, a signal wakes it.
    Interruptible,
    /// Sleeping, nothing but what it waits for wakes it ("D").
    Uninterruptible,
    /// Sleeping uninterruptibly with nothing to do (`TASK_IDLE`).
    Idle,
    /// Stopped by a signal.
    Stopped,
    /// Stopped by a tracer.
    Traced,
    /// Dead, its parent has not looked yet.
    Zombie,
    /// Dead.
    Dead,
    /// A kernel thread parked by CPU hotplug.
    Parked,
    /// Not yet woken for the first time.
    New,
    /// Something this table has no name for.
    Other(u64),
}

impl TaskState {
    /// From `__state` and `exit_state`. The low bits have kept their meaning
    /// (include/linux/sched.h): 1 interruptible, 2 uninterruptible, 4 stopped,
    /// 8 traced; `TASK_NOLOAD` (0x400) makes an uninterruptible sleep an idle
    /// one. The exit states are 0x10 dead, 0x20 zombie.
    pub fn of(state: u64, exit_state: i32) -> TaskState {
        match (state, exit_state) {
            (_, e) if e & 0x20 != 0 => TaskState::Zombie,
            (_, e) if e & 0x10 != 0 => TaskState::Dead,
            (0, _) => TaskState::Running,
            (s, _) if s & 0x402 == 0x402 => TaskState::Idle,
            (s, _) if s & 2 != 0 => TaskState::Uninterruptible,
            (s, _) if s & 1 != 0 => TaskState::Interruptible,
            (s, _) if s & 4 != 0 => TaskState::Stopped,
            (s, _) if s & 8 != 0 => TaskState::Traced,
            (s, _) if s & 0x40 != 0 => TaskState::Parked,
            (s, _) if s & 0x80 != 0 => TaskState::Dead,
            (s, _) if s & 0x800 != 0 => TaskState::New,
            (s, _) => TaskState::Other(s),
        }
    }

    /// The two letters of crash(8)'s `ps`.
    pub fn crash_code(self) -> &'static str {
        match self {
            TaskState::Running => "RU",
            TaskState::Interruptible => "IN",
            TaskState::Uninterruptible => "UN",
            TaskState::Idle => "ID",
            TaskState::Stopped => "ST",
            TaskState::Traced => "TR",
            TaskState::Zombie => "ZO",
            TaskState::Dead => "DE",
            TaskState::Parked => "PA",
            TaskState::New => "NE",
            TaskState::Other(_) => "??",
        }
    }

    /// The letter of ps(1) and of the kernel's own task dumps.
    pub fn letter(self) -> char {
        match self {
            TaskState::Running | TaskState::New => 'R',
            TaskState::Interruptible => 'S',
            TaskState::Uninterruptible => 'D',
            TaskState::Idle => 'I',
            TaskState::Stopped => 'T',
            TaskState::Traced => 't',
            TaskState::Zombie => 'Z',
            TaskState::Dead => 'X',
            TaskState::Parked => 'P',
            TaskState::Other(_) => '?',
        }
    }
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Task {
    /// Address of its `struct task_struct`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Thread ID in the first PID namespace (0: an idle task).
    pub pid: i32,
    /// Process ID.
    pub tgid: i32,
    /// Process ID of its parent.
    pub ppid: i32,
    /// Its name (at most 15 bytes).
    pub comm: String,
    /// What it does.
    pub state: TaskState,
    /// CPU it runs on or last ran on.
    pub cpu: u32,
    /// Whether it is the one that its CPU was running.
    pub active: bool,
    /// `PF_*` flags.
    pub flags: u32,
    /// Lowest address of its kernel stack.
    #[serde(serialize_with = "hex")]
    pub stack: u64,
    /// Its memory (`struct mm_struct`), 0 for kernel threads.
    #[serde(serialize_with = "hex")]
    pub mm: u64,
    /// Address of `struct signal_struct`.
    #[serde(serialize_with = "hex")]
    pub signal: u64,
    /// When it last got a CPU, ns on the scheduler's clock.
    pub last_arrival_ns: Option<u64>,
    /// When it was started, ns after boot.
    pub start_ns: Option<u64>,
}

impl Task {
    /// Whether it is a kernel thread.
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & PF_KTHREAD != 0
    }

    /// Whether it leads its thread group (is "the process").
    pub fn is_leader(&self) -> bool {
        self.pid == self.tgid
    }
}

/// All tasks that could be found.
#[derive(Debug)]
pub struct TaskTable {
    /// Idle tasks by CPU, then the others by PID.
    pub list: Vec<Task>,
    /// Why some may be missing.
    pub broken: Vec<Error>,
    by_addr: FxHashMap<u64, usize>,
}

impl TaskTable {
    /// By address of its `task_struct`.
    pub fn at(&self, addr: u64) -> Option<&Task> {
        self.by_addr.get(&addr).map(|i| &self.list[*i])
    }

    /// By thread ID. Not for 0: every CPU's idle task has that.
    pub fn pid(&self, pid: i32) -> Option<&Task> {
        let first = self.list.partition_point(|t| t.pid < pid);
        self.list.get(first).filter(|t| t.pid == pid)
    }
}

impl Kernel {
    /// All tasks, read at the first question.
    pub fn tasks(&self) -> Result<&TaskTable> {
        self.tasks.get_or_init(|| read_tasks(self)).as_ref().map_err(Clone::clone)
    }

    /// The task that `cpu` was running (`rq.curr`).
    pub fn current(&self, cpu: u32) -> Result<u64> {
        let rq = self.layout::<RunqueueLayout>()?;
        rq.curr.read(self, self.per_cpu("runqueues", cpu)?)
    }
}

/// Tasks are read soon after they were found, while their pages are at hand,
/// and so many at a time on all cores.
const BATCH: usize = 1024;

fn read_tasks(kernel: &Kernel) -> Result<TaskTable> {
    let layout = kernel.layout::<TaskLayout>()?;
    let signal_layout = kernel.layout::<SignalLayout>()?;
    let runqueue = kernel.layout::<RunqueueLayout>()?;
    let mut broken = Vec::new();
    let mut found: Vec<u64> = Vec::new();
    let mut seen: HashSet<u64, rustc_hash::FxBuildHasher> = HashSet::default();
    let mut active: FxHashMap<u64, u32> = FxHashMap::default();

    for cpu in kernel.possible_cpus()? {
        let rq = kernel.per_cpu("runqueues", cpu)?;
        match (runqueue.idle.read(kernel, rq), runqueue.curr.read(kernel, rq)) {
            (Ok(idle), Ok(curr)) => {
                if idle != 0 && seen.insert(idle) {
                    found.push(idle);
                }
                if curr != 0 {
                    active.insert(curr, cpu);
                }
            }
            (Err(e), _) | (_, Err(e)) => broken.push(e),
        }
    }

    let mut list = Vec::new();
    let init = kernel.symbol("init_task")?;
    seen.insert(init);
    let head = layout.tasks.address(init)?;
    let mut whole = true;
    for leader in kernel.list(head, layout.tasks.offset()?, "the list of tasks") {
        let leader = match leader {
            Ok(leader) => leader,
            Err(e) => {
                broken.push(e);
                whole = false;
                break;
            }
        };
        if seen.insert(leader) {
            found.push(leader);
        }
        if found.len() >= BATCH {
            read_batch(kernel, &layout, &active, &found, &mut list, &mut broken);
            found.clear();
        }
        let threads = layout.signal.read(kernel, leader).and_then(|signal| {
            Ok(kernel.list(
                signal_layout.thread_head.address(signal)?,
                layout.thread_node.offset()?,
                "the threads of a process",
            ))
        });
        match threads {
            Ok(threads) => {
                for thread in threads {
                    match thread {
                        Ok(thread) if seen.insert(thread) => found.push(thread),
                        Ok(thread) if thread == leader => {}
                        // Else a thousand processes could share a million.
                        Ok(thread) => {
                            broken.push(Error::corrupt("a thread of two processes", thread));
                            whole = false;
                            break;
                        }
                        Err(e) => {
                            broken.push(e);
                            whole = false;
                            break;
                        }
                    }
                }
            }
            Err(e) => {
                broken.push(e);
                whole = false;
            }
        }
    }
    if !whole {
        match pid_table(kernel) {
            Ok(more) => found.extend(more.into_iter().filter(|addr| seen.insert(*addr))),
            Err(e) => broken.push(e),
        }
    }
    // A task may run that is in no list any more (it is exiting).
    found.extend(active.keys().filter(|addr| seen.insert(**addr)));
    read_batch(kernel, &layout, &active, &found, &mut list, &mut broken);
    list.sort_by_key(|t| (t.pid, if t.pid == 0 { t.cpu } else { 0 }, t.addr));
    let by_addr = list.iter().enumerate().map(|(i, t)| (t.addr, i)).collect();
    Ok(TaskTable { list, broken, by_addr })
}

fn read_batch(
    kernel: &Kernel,
    layout: &TaskLayout,
    active: &FxHashMap<u64, u32>,
    found: &[u64],
    list: &mut Vec<Task>,
    broken: &mut Vec<Error>,
) {
    let read = |addr: &u64| read_task(kernel, layout, *addr, active.get(addr).copied());
    let tasks: Vec<Result<Task>> = match found.len() < BATCH {
        // Threads cost more than some tasks do.
        true => found.iter().map(read).collect(),
        false => found.par_iter().map(read).collect(),
    };
    for task in tasks {
        match task {
            Ok(task) => list.push(task),
            Err(e) => broken.push(e),
        }
    }
}

fn read_task(
    kernel: &Kernel,
    layout: &TaskLayout,
    addr: u64,
    running_on: Option<u32>,
) -> Result<Task> {
    // `state` was a long and became an unsigned int: the layout knows.
    let state = layout.state.read(kernel, addr)?;
    let parent = layout.real_parent.read(kernel, addr)?;
    Ok(Task {
        addr,
        pid: layout.pid.read(kernel, addr)?,
        tgid: layout.tgid.read(kernel, addr)?,
        ppid: if parent == 0 { 0 } else { layout.tgid.read(kernel, parent).unwrap_or(0) },
        comm: layout.comm.read(kernel, addr)?,
        state: TaskState::of(state, layout.exit_state.read(kernel, addr)?),
        cpu: match running_on {
            Some(cpu) => cpu,
            None => layout.cpu.read(kernel, addr)?,
        },
        active: running_on.is_some(),
        flags: layout.flags.read(kernel, addr)?,
        stack: layout.stack.read(kernel, addr)?,
        mm: layout.mm.read(kernel, addr)?,
        signal: layout.signal.read(kernel, addr)?,
        last_arrival_ns: layout.last_arrival.read(kernel, addr).ok(),
        start_ns: layout.start_time.read(kernel, addr).ok(),
    })
}

/// Tasks from the PID table of the first PID namespace (`init_pid_ns.idr`,
/// an xarray of `struct pid`): each `struct pid` heads the chain of the tasks
/// that have it as their thread ID (`pid_links[PIDTYPE_PID]`).
fn pid_table(kernel: &Kernel) -> Result<Vec<u64>> {
    let root = kernel.object("init_pid_ns")?.field("idr.idr_rt")?.addr();
    let chains = kernel.object_at("pid", 0)?.field("tasks")?.addr();
    let node = kernel.object_at("task_struct", 0)?.field_any(&["pid_links", "thread_pid"])?.addr();
    let mut tasks = Vec::new();
    let mut seen: HashSet<u64, rustc_hash::FxBuildHasher> = HashSet::default();
    for pid in kernel.xarray(root)? {
        let (_, pid) = pid?;
        for task in kernel.hlist(pid.wrapping_add(chains), node, "the tasks of a PID") {
            let task = task?;
            if !seen.insert(task) {
                break;
            }
            tasks.push(task);
        }
    }
    Ok(tasks)
}
