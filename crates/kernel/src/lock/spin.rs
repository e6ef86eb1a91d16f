//! CPUs that spin for a lock: their stacks end in the slow path of a spinlock
//! or read-write lock (kernel/locking/q{spin,rw}lock.c), interrupted there.
//!
//! The slow path is written so that its first argument, the lock, stays in its
//! register (rdi) while it spins; the lock's own word must agree: the lowest byte
//! of `struct qspinlock` says that it is held, the CPU at the end of its queue is
//! in the upper bits (include/asm-generic/qspinlock_types.h). Who holds it is not
//! noted anywhere.

use rayon::prelude::*;
use serde::Serialize;

use super::TaskRef;
use crate::Kernel;
use crate::error::Result;
use crate::stack::{hex, hex_option};
use crate::symbol::SymbolAt;
use crate::task::Task;

/// A CPU that spins.
#[derive(Debug, Clone, Serialize)]
pub struct Spin {
    /// The CPU.
    pub cpu: u32,
    /// What it runs.
    pub task: TaskRef,
    /// Address of the function that spins.
    #[serde(serialize_with = "hex")]
    pub pc: u64,
    /// Name of the function.
    pub function: String,
    /// The lock, as the register of the first argument says: a guess. None:
    /// what it points to is no lock that is held.
    #[serde(serialize_with = "hex_option")]
    pub lock: Option<u64>,
    /// The variable that the lock is, or lies in.
    pub symbol: Option<SymbolAt>,
    /// The lock's word.
    pub word: Option<u32>,
}

/// Functions that spin for a lock.
fn is_slow_path(function: &str) -> bool {
    function.ends_with("queued_spin_lock_slowpath")
        || matches!(function, "queued_read_lock_slowpath" | "queued_write_lock_slowpath")
}

/// Whether a lock with this word is held, on a machine of `cpus` CPUs.
fn is_held(word: u32, cpus: u32, function: &str) -> bool {
    match function.ends_with("queued_spin_lock_slowpath") {
        // Held: 1, or 3 where a hypervisor is asked to wait.
        true => matches!(word & 0xff, 1 | 3) && word >> 18 <= cpus,
        // A writer's byte, or readers from bit 9 on.
        false => word != 0 && word >> 9 <= cpus,
    }
}

impl Kernel {
    /// CPUs that spin for a lock.
    pub fn spinning_cpus(&self) -> Result<Vec<Spin>> {
        let cpus = self.nr_cpu_ids()?;
        let running: Vec<&Task> = self.tasks()?.list.iter().filter(|task| task.active).collect();
        let mut spins: Vec<Spin> =
            running.par_iter().filter_map(|task| self.spin_of(task, cpus)).collect();
        spins.sort_by_key(|spin| spin.cpu);
        Ok(spins)
    }

    fn spin_of(&self, task: &Task, cpus: u32) -> Option<Spin> {
        let stack = self.stack(task);
        let mut interrupted = stack.frames.iter().filter(|frame| frame.is_interrupted());
        let frame = interrupted.find(|frame| is_slow_path(frame.function()))?;
        let function = frame.function().to_owned();
        let argument = frame.registers.and_then(|registers| registers.argument());
        let word = argument.and_then(|lock| self.read_u32(lock).ok());
        let held = word.is_some_and(|word| is_held(word, cpus, &function));
        let lock = argument.filter(|_| held);
        Some(Spin {
            cpu: task.cpu,
            task: self.task_ref(task.addr),
            pc: frame.pc,
            function,
            lock,
            symbol: lock.and_then(|lock| self.symbol_at(lock)),
            word: word.filter(|_| held),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::is_held;

    #[test]
    fn a_held_lock_says_so() {
        let spin = "native_queued_spin_lock_slowpath";
        assert!(is_held(1, 2, spin));
        // Pending, and CPU 1 at the end of the queue.
        assert!(is_held(1 | 1 << 8 | 2 << 18, 2, spin));
        assert!(!is_held(0, 2, spin) && !is_held(1 << 8, 2, spin));
        assert!(!is_held(0x8100_0001, 2, spin), "a CPU that is not there");
        assert!(is_held(0xff, 2, "queued_read_lock_slowpath"));
    }
}
