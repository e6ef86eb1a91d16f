//! Finds what a sleeping task waits for, on its own stack.
//!
//! A task that sleeps for a lock has put a node of its own on the lock's ring,
//! and that node is a local variable of the function that waits: it lies on
//! the task's stack and holds a pointer to the task.
//!
//! | node | kernel file | pointer to the task |
//! |---|---|---|
//! | `mutex_waiter`, `rwsem_waiter`, `semaphore_waiter` | kernel/locking/ | `task` |
//! | `rt_mutex_waiter` | kernel/locking/rtmutex_common.h | `task`; `task_struct.pi_blocked_on` points to it |
//! | `swait_queue` (completions) | include/linux/swait.h | `task` |
//! | `wait_queue_entry` (alone, in `wait_page_queue`, in `wait_bit_queue_entry`) | include/linux/wait.h | `private` |
//! | `futex_q` | kernel/futex/futex.h | `task` |
//!
//! So each word of the stack that points to the task is tried. Stacks hold
//! leavings of earlier calls too: a node counts only if its neighbours on the
//! ring point back to it. The ring leads to the lock: its head is the one
//! node that is no waiter. Newer kernels have no head in the lock but a
//! `first_waiter`; there the lock is what `task_struct.blocked_on` or `blocker`
//! says, or a word of the stack, if its first waiter is on the ring.

use std::sync::Arc;

use super::node::{
    BlockedLayout, CompletionLayout, FutexLayout, MutexWaiterLayout, PercpuRwsemLayout,
    PiStateLayout, RtMutexWaiterLayout, RwsemWaiterLayout, SemaphoreWaiterLayout, SwaitHeadLayout,
    SwaitLayout, WaitBitLayout, WaitEntryLayout, WaitHeadLayout, WaitPageLayout,
};
use super::owner::{MutexLayout, RwSemaphoreLayout, SemaphoreLayout};
use super::ring::{Ring, Rings};
use super::{Lock, LockKind, Mode, Owner, Wait, WaitEvidence};
use crate::Kernel;
use crate::error::Result;
use crate::layout::Member;
use crate::stack::{Frame, Stack};
use crate::task::{Task, TaskLayout};

/// `FUT_OFF_INODE` (include/linux/futex.h): the key names a file, not a
/// process; the two low bits of the offset are flags.
const FUT_OFF_INODE: u32 = 1;
const FUT_OFF_FLAGS: u32 = 3;
/// `RWSEM_WAITING_FOR_READ`
const WAITING_FOR_READ: u32 = 1;

impl Kernel {
    /// What `task`, whose stack is `stack`, sleeps for; `None` for a task that
    /// runs, or waits for nothing that can be named (a timer, a signal).
    pub fn waits_for(&self, task: &Task, stack: &Stack) -> Option<Wait> {
        self.waits_for_among(task, stack, &Rings::default())
    }

    /// The same for one of many tasks, which share what is known of `rings`.
    pub(super) fn waits_for_among(
        &self,
        task: &Task,
        stack: &Stack,
        rings: &Rings,
    ) -> Option<Wait> {
        if task.active {
            return None;
        }
        let search = Search::new(self, task, stack, rings).ok()?;
        let found = search.on_stack().or_else(|| search.in_task().ok().flatten())?;
        Some(Wait {
            waiter: self.task_ref(task.addr),
            lock: found.lock,
            mode: found.mode,
            node: found.node,
            known_by: found.known_by,
        })
    }
}

struct Found {
    lock: Lock,
    mode: Option<Mode>,
    node: u64,
    known_by: WaitEvidence,
}

impl Found {
    fn on_ring(lock: Lock, node: u64) -> Found {
        Found { lock, mode: None, node, known_by: WaitEvidence::OnRing }
    }
}

struct Search<'a> {
    kernel: &'a Kernel,
    task: &'a Task,
    stack: &'a Stack,
    rings: &'a Rings,
    /// Address of the first word: the stack pointer.
    base: u64,
    words: Vec<u64>,
}

impl<'a> Search<'a> {
    fn new(
        kernel: &'a Kernel,
        task: &'a Task,
        stack: &'a Stack,
        rings: &'a Rings,
    ) -> Result<Search<'a>> {
        let range = kernel.stack_range(task)?;
        let sp = kernel.layout::<TaskLayout>()?.thread_sp.read(kernel, task.addr)? & !7;
        let base = sp.clamp(range.start, range.end);
        let bytes = kernel.read_bytes(base, range.end - base)?;
        let words = bytes.chunks_exact(8).filter_map(|word| word.first_chunk());
        let words = words.map(|word| u64::from_le_bytes(*word));
        Ok(Search { kernel, task, stack, rings, base, words: words.collect() })
    }

    /// The innermost node on the stack: the task can only have fallen asleep
    /// over that one.
    fn on_stack(&self) -> Option<Found> {
        let pointers = self.words.iter().zip(0u64..).filter(|(word, _)| **word == self.task.addr);
        for (_, index) in pointers {
            let at = self.base + index * 8;
            let found = self
                .kernel_lock(at)
                .or_else(|_| self.wait_queue(at))
                .or_else(|_| self.swait(at))
                .or_else(|_| self.futex(at));
            if let Ok(found) = found {
                return Some(found);
            }
        }
        None
    }

    /// What fields of the task_struct say.
    fn in_task(&self) -> Result<Option<Found>> {
        let layout = self.kernel.layout::<BlockedLayout>()?;
        let read = |field: &Member<u64>| field.read(self.kernel, self.task.addr).unwrap_or(0);
        let found = |kind, addr, node| {
            let lock = Lock::new(self.kernel, kind, addr);
            Some(Found { lock, mode: None, node, known_by: WaitEvidence::TaskField })
        };
        let rt_waiter = read(&layout.pi_blocked_on);
        if rt_waiter != 0 {
            let layout = self.kernel.layout::<RtMutexWaiterLayout>()?;
            let lock = layout.lock.read(self.kernel, rt_waiter)?;
            return Ok(found(LockKind::RtMutex, lock, rt_waiter));
        }
        let mutex = read(&layout.blocked_on);
        if mutex != 0 {
            return Ok(found(LockKind::Mutex, mutex, 0));
        }
        // BLOCKER_TYPE_*, include/linux/hung_task.h
        let blocker = read(&layout.blocker);
        let (kind, mode) = match blocker & 3 {
            _ if blocker == 0 => return Ok(None),
            0 => (LockKind::Mutex, None),
            1 => (LockKind::Semaphore, None),
            2 => (LockKind::RwSemaphore, Some(Mode::Read)),
            _ => (LockKind::RwSemaphore, Some(Mode::Write)),
        };
        Ok(found(kind, blocker & !3, 0).map(|found| Found { mode, ..found }))
    }

    /// Name of the function whose frame holds the stack address `at`.
    fn function_at(&self, at: u64) -> &str {
        // A frame record (arm64) may lie in the middle of its function's frame.
        let start = |frame: &Frame| frame.at.min(frame.sp);
        let frame = self.stack.frames.iter().rev().find(|frame| start(frame) <= at);
        frame.map_or("", |frame| frame.function())
    }

    /// A node of mutexes, read-write semaphores or semaphores whose pointer to
    /// the task is at `at`.
    fn kernel_lock(&self, at: u64) -> Result<Found, ()> {
        let kernel = self.kernel;
        let function = self.function_at(at);
        let kind = sleeping_lock(function).ok_or(())?;
        let layout = match kind {
            LockKind::Mutex => {
                let layout = kernel.layout::<MutexWaiterLayout>().map_err(drop)?;
                (layout.task.offset(), layout.list.offset())
            }
            LockKind::RwSemaphore => {
                let layout = kernel.layout::<RwsemWaiterLayout>().map_err(drop)?;
                (layout.task.offset(), layout.list.offset())
            }
            _ => {
                let layout = kernel.layout::<SemaphoreWaiterLayout>().map_err(drop)?;
                (layout.task.offset(), layout.list.offset())
            }
        };
        let (task_at, list_at) = (layout.0.map_err(drop)?, layout.1.map_err(drop)?);
        let waiter = at.wrapping_sub(task_at);
        let node = waiter.wrapping_add(list_at);
        let ring = self.ring(node)?;
        let lock = self.lock_of(kind, &ring, task_at.wrapping_sub(list_at)).ok_or(())?;
        let mode = (kind == LockKind::RwSemaphore).then(|| {
            let layout = kernel.layout::<RwsemWaiterLayout>().ok()?;
            let kind = layout.kind.read(kernel, waiter).ok()?;
            Some(if kind == WAITING_FOR_READ { Mode::Read } else { Mode::Write })
        });
        let found = Found::on_ring(Lock::new(kernel, kind, lock), waiter);
        Ok(Found { mode: mode.flatten(), ..found })
    }

    /// The ring that `node` is on, if both neighbours point back.
    fn ring(&self, node: u64) -> Result<Arc<Ring>, ()> {
        self.rings.of(self.kernel, node).ok_or(())
    }

    fn lock_of(&self, kind: LockKind, ring: &Ring, task_from_node: u64) -> Option<u64> {
        let kernel = self.kernel;
        let (list, first) = match kind {
            LockKind::Mutex => {
                let layout = kernel.layout::<MutexLayout>().ok()?;
                (layout.wait_list.offset(), layout.first_waiter.offset())
            }
            LockKind::RwSemaphore => {
                let layout = kernel.layout::<RwSemaphoreLayout>().ok()?;
                (layout.wait_list.offset(), layout.first_waiter.offset())
            }
            _ => {
                let layout = kernel.layout::<SemaphoreLayout>().ok()?;
                (layout.wait_list.offset(), layout.first_waiter.offset())
            }
        };
        if let Ok(list) = list {
            let head = ring.head(|node| self.is_waiter(node, task_from_node))?;
            return head.checked_sub(list);
        }
        let first = first.ok()?;
        let noted = kernel.layout::<BlockedLayout>().ok()?;
        let noted = [&noted.blocked_on, &noted.blocker]
            .map(|field| field.read(kernel, self.task.addr).unwrap_or(0) & !3);
        noted.iter().chain(&self.words).copied().find(|lock| {
            let candidate = lock >> 63 == 1 && lock & 7 == 0;
            let waiter = || kernel.read_u64(lock.wrapping_add(first));
            candidate && waiter().is_ok_and(|waiter| ring.contains(waiter))
        })
    }

    /// Whether a ring's node is a waiter: it points to a task and lies on that
    /// task's stack.
    fn is_waiter(&self, node: u64, task_from_node: u64) -> bool {
        let kernel = self.kernel;
        let Ok(task) = kernel.read_u64(node.wrapping_add(task_from_node)) else { return false };
        let task = kernel.tasks().ok().and_then(|tasks| tasks.at(task));
        task.and_then(|task| kernel.stack_range(task).ok())
            .is_some_and(|range| range.contains(&node))
    }

    /// A completion, or another simple wait queue.
    fn swait(&self, at: u64) -> Result<Found, ()> {
        let kernel = self.kernel;
        let layout = kernel.layout::<SwaitLayout>().map_err(drop)?;
        let task_at = layout.task.offset().map_err(drop)?;
        let node_at = layout.node.offset().map_err(drop)?;
        let node = at.wrapping_sub(task_at).wrapping_add(node_at);
        let ring = self.ring(node)?;
        let tasks = kernel.tasks().map_err(drop)?;
        let is_waiter = |node: u64| {
            let task = kernel.read_u64(node.wrapping_sub(node_at).wrapping_add(task_at));
            task.is_ok_and(|task| tasks.at(task).is_some())
        };
        let list = ring.head(is_waiter).ok_or(())?;
        let head_layout = kernel.layout::<SwaitHeadLayout>().map_err(drop)?;
        let head = list.wrapping_sub(head_layout.list.offset().map_err(drop)?);
        let (kind, addr) = match self.function_at(at).contains("wait_for_com") {
            true => {
                let layout = kernel.layout::<CompletionLayout>().map_err(drop)?;
                (LockKind::Completion, head.wrapping_sub(layout.wait.offset().map_err(drop)?))
            }
            false => (LockKind::SwaitQueue, head),
        };
        Ok(Found::on_ring(Lock::new(kernel, kind, addr), at.wrapping_sub(task_at)))
    }

    /// A wait queue: of its own, of a folio's or a word's bit, or of a per-CPU
    /// read-write semaphore.
    fn wait_queue(&self, at: u64) -> Result<Found, ()> {
        let kernel = self.kernel;
        let layout = kernel.layout::<WaitEntryLayout>().map_err(drop)?;
        let entry = at.wrapping_sub(layout.private.offset().map_err(drop)?);
        let func = layout.func.read(kernel, entry).map_err(drop)?;
        if !kernel.is_text(func) {
            return Err(());
        }
        let func_at = layout.func.offset().map_err(drop)?;
        let node_at = layout.node.offset().map_err(drop)?;
        let ring = self.ring(entry.wrapping_add(node_at))?;
        let wakes_by = |name: &str| kernel.symbol(name).is_ok_and(|addr| addr == func);
        if wakes_by("wake_page_function") {
            return self.folio_bit(entry).map_err(drop);
        }
        if wakes_by("wake_bit_function") || wakes_by("var_wake_function") {
            return self.word_bit(entry).map_err(drop);
        }
        // Entries name the function that wakes them, heads have no such word.
        let is_entry = |node: u64| {
            let func = kernel.read_u64(node.wrapping_sub(node_at).wrapping_add(func_at));
            func.is_ok_and(|func| kernel.is_text(func))
        };
        let list = ring.head(is_entry).ok_or(())?;
        let head_layout = kernel.layout::<WaitHeadLayout>().map_err(drop)?;
        let head = list.wrapping_sub(head_layout.list.offset().map_err(drop)?);
        let (kind, addr) = match self.function_at(at).contains("percpu_rwsem") {
            true => {
                let layout = kernel.layout::<PercpuRwsemLayout>().map_err(drop)?;
                let waiters = layout.waiters.offset().map_err(drop)?;
                (LockKind::PercpuRwSemaphore, head.wrapping_sub(waiters))
            }
            false => (LockKind::WaitQueue, head),
        };
        Ok(Found::on_ring(Lock::new(kernel, kind, addr), entry))
    }

    fn folio_bit(&self, entry: u64) -> Result<Found> {
        let layout = self.kernel.layout::<WaitPageLayout>()?;
        let wait = entry.wrapping_sub(layout.wait.offset()?);
        let bit = layout.bit.read(self.kernel, wait)?;
        let folio = layout.folio.read(self.kernel, wait)?;
        let lock = Lock::new(self.kernel, LockKind::FolioBit, folio);
        let flags = self.kernel.ty("pageflags").ok();
        let name = flags.and_then(|ty| ty.enumerators().find(|e| e.value == i64::from(bit)));
        let bit_name = name.map(|e| e.name.to_owned());
        Ok(Found::on_ring(Lock { bit: Some(bit), bit_name, ..lock }, wait))
    }

    fn word_bit(&self, entry: u64) -> Result<Found> {
        let layout = self.kernel.layout::<WaitBitLayout>()?;
        let wait = entry.wrapping_sub(layout.entry.offset()?);
        let word = layout.word.read(self.kernel, wait)?;
        // -1: the whole variable.
        let bit = Some(layout.bit.read(self.kernel, wait)?).filter(|bit| *bit >= 0);
        let lock = Lock::new(self.kernel, LockKind::Bit, word);
        Ok(Found::on_ring(Lock { bit, ..lock }, wait))
    }

    /// A futex; its ring (of the hash bucket) is not needed to name it.
    fn futex(&self, at: u64) -> Result<Found, ()> {
        let kernel = self.kernel;
        if !self.function_at(at).contains("futex") {
            return Err(());
        }
        let layout = kernel.layout::<FutexLayout>().map_err(drop)?;
        let q = at.wrapping_sub(layout.task.offset().map_err(drop)?);
        let word = layout.word.read(kernel, q).map_err(drop)?;
        let offset = layout.offset.read(kernel, q).map_err(drop)?;
        // NULL once it has been woken.
        let queued = layout.lock_ptr.read(kernel, q).is_ok_and(|lock| lock >> 63 == 1);
        if offset >= 4096 || !queued {
            return Err(());
        }
        let in_page = u64::from(offset & !FUT_OFF_FLAGS);
        let (addr, mm) = match offset & FUT_OFF_INODE {
            0 if word & 0xfff == 0 => (word | in_page, layout.context.read(kernel, q).ok()),
            0 => return Err(()),
            _ => (word.wrapping_shl(12).wrapping_add(in_page), None),
        };
        let owner = self.futex_owner(layout.pi_state.read(kernel, q).unwrap_or(0));
        let owner = owner.unwrap_or(Owner::Unknown);
        let kind = LockKind::Futex;
        let lock = Lock { kind, addr, symbol: None, bit: None, bit_name: None, mm, owner };
        Ok(Found::on_ring(lock, q))
    }

    /// Priority-inheriting futexes tell the kernel who holds them.
    fn futex_owner(&self, pi_state: u64) -> Option<Owner> {
        let layout = self.kernel.layout::<PiStateLayout>().ok()?;
        let owner = (pi_state != 0).then(|| layout.owner.read(self.kernel, pi_state).ok())??;
        (owner != 0).then(|| Owner::Task(self.kernel.task_ref(owner)))
    }
}

/// The kind of lock that a function of kernel/locking waits for.
fn sleeping_lock(function: &str) -> Option<LockKind> {
    if function.contains("mutex_lock") && !function.contains("rt_mutex") {
        Some(LockKind::Mutex)
    } else if function.starts_with("rwsem_")
        || function.contains("down_read")
        || function.contains("down_write")
    {
        Some(LockKind::RwSemaphore)
    } else if function.trim_start_matches('_').starts_with("down") {
        Some(LockKind::Semaphore)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_tell_the_kind_of_lock() {
        assert_eq!(sleeping_lock("__mutex_lock"), Some(LockKind::Mutex));
        assert_eq!(sleeping_lock("__ww_mutex_lock"), Some(LockKind::Mutex));
        assert_eq!(sleeping_lock("rwsem_down_write_slowpath"), Some(LockKind::RwSemaphore));
        assert_eq!(sleeping_lock("__down_read_common"), Some(LockKind::RwSemaphore));
        assert_eq!(sleeping_lock("___down_common"), Some(LockKind::Semaphore));
        assert_eq!(sleeping_lock("__down"), Some(LockKind::Semaphore));
        assert_eq!(sleeping_lock("rt_mutex_slowlock"), None);
        assert_eq!(sleeping_lock("schedule_timeout"), None);
        assert_eq!(sleeping_lock("shutdown"), None);
    }
}
