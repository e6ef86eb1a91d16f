//! Who waits for what, and who holds it.
//!
//! A sleeping lock keeps its waiters on a ring whose nodes lie on the waiting
//! tasks' own stacks ([`waiter`]). Who holds it is a word of the lock
//! ([`owner`]). Together they give the wait graph ([`graph`]): chains that end
//! at a task which sleeps for another reason, and cycles, which are deadlocks.
//! CPUs that spin for a lock show it in their registers ([`spin`]).

use serde::Serialize;

use crate::Kernel;
use crate::stack::hex;
use crate::symbol::SymbolAt;

mod graph;
pub(crate) mod node;
mod owner;
mod ring;
mod spin;
mod waiter;

pub use graph::WaitGraph;
pub use owner::Owner;
pub use spin::Spin;

/// What kinds of things a task can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LockKind {
    /// `struct mutex`.
    Mutex,
    /// `struct rw_semaphore`.
    RwSemaphore,
    /// `struct percpu_rw_semaphore`.
    PercpuRwSemaphore,
    /// `struct semaphore`.
    Semaphore,
    /// `struct rt_mutex_base` (`struct rt_mutex` before v5.15).
    RtMutex,
    /// A futex: a lock of user space.
    Futex,
    /// `struct completion`: an event that somebody must report.
    Completion,
    /// `struct swait_queue_head` of another use.
    SwaitQueue,
    /// `struct wait_queue_head`.
    WaitQueue,
    /// A bit of a page's or folio's flags: its lock, or its writeback.
    FolioBit,
    /// A bit of some other word.
    Bit,
}

/// A task as the holder of a lock, or a waiter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskRef {
    /// Address of its `struct task_struct`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its thread ID and name; none when no such task exists (any more).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskName>,
}

/// What people call a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskName {
    /// Thread ID.
    pub pid: i32,
    /// Name.
    pub comm: String,
}

/// What a task waits for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lock {
    /// Its kind.
    pub kind: LockKind,
    /// Its kernel address: the lock, the wait queue's head, the folio, the
    /// word that holds the bit. For futexes: the user address, or the offset in
    /// the file that processes share (then without `mm`).
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// The variable that it is, or lies in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<SymbolAt>,
    /// For the bit of a word or a folio: which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bit: Option<i32>,
    /// That bit's name, for a folio's flags ("PG_locked").
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bit_name: Option<String>,
    /// For futexes: the `struct mm_struct` that the address belongs to.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "hex_option")]
    pub mm: Option<u64>,
    /// Who holds it.
    pub owner: Owner,
}

impl Lock {
    fn new(kernel: &Kernel, kind: LockKind, addr: u64) -> Lock {
        let owner = kernel.owner_of(kind, addr);
        let symbol = kernel.symbol_at(addr);
        Lock { kind, addr, symbol, bit: None, bit_name: None, mm: None, owner }
    }

    /// Its variable as people write it: "name [module]", "name+0x10".
    pub fn name(&self) -> Option<String> {
        let symbol = self.symbol.as_ref()?;
        let mut name = symbol.name.clone();
        if symbol.offset != 0 {
            name.push_str(&format!("+{:#x}", symbol.offset));
        }
        if let Some(module) = &symbol.module {
            name.push_str(&format!(" [{module}]"));
        }
        Some(name)
    }
}

/// How a waiter wants a lock that can be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// With others.
    Read,
    /// Alone.
    Write,
}

/// What shows that a task waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitEvidence {
    /// Its node on its own stack is on the lock's ring.
    OnRing,
    /// `task_struct.pi_blocked_on`, `blocked_on` or `blocker` points to it.
    TaskField,
}

/// A task that waits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Wait {
    /// Who.
    pub waiter: TaskRef,
    /// For what.
    pub lock: Lock,
    /// How it wants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Address of its waiter structure on its stack.
    #[serde(serialize_with = "hex")]
    pub node: u64,
    /// What shows it.
    pub known_by: WaitEvidence,
}

fn hex_option<S: serde::Serializer>(value: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => hex(value, to),
        None => to.serialize_none(),
    }
}

impl Kernel {
    fn task_ref(&self, addr: u64) -> TaskRef {
        let task = self.tasks().ok().and_then(|tasks| tasks.at(addr));
        let task = task.map(|t| TaskName { pid: t.pid, comm: t.comm.clone() });
        TaskRef { addr, task }
    }
}
