//! Who holds a lock, as the lock's own words say.
//!
//! - `mutex.owner`: the holder's task_struct; bit 0 somebody waits, bit 1 and 2
//!   it is being handed to a waiter (kernel/locking/mutex.h).
//! - `rw_semaphore.count`: bit 0 a writer holds it, bits 8 to 62 how many readers
//!   do; `owner`: the writer, or with bit 0 set the reader that came last (which
//!   may long be gone), bits 1 and 2 are flags (kernel/locking/rwsem.c).
//! - `rt_mutex_base.owner`: the holder; bit 0 somebody waits.
//! - `semaphore` has no owner; newer kernels note the `last_holder` for the hung
//!   task detector (CONFIG_DETECT_HUNG_TASK_BLOCKER).

use serde::Serialize;

use super::{LockKind, TaskRef};
use crate::error::Result;
use crate::layout::Embedded;
use crate::{Kernel, layout};

layout! {
    /// `struct mutex`, include/linux/mutex_types.h
    pub struct MutexLayout for "mutex" {
        owner: u64 = "owner.counter" | "rtmutex.owner",
        wait_list: Embedded = "wait_list",
        first_waiter: u64 = "first_waiter",
    }
}

layout! {
    /// `struct rw_semaphore`, include/linux/rwsem.h
    pub struct RwSemaphoreLayout for "rw_semaphore" {
        count: u64 = "count.counter",
        owner: u64 = "owner.counter",
        wait_list: Embedded = "wait_list",
        first_waiter: u64 = "first_waiter",
    }
}

layout! {
    /// `struct semaphore`, include/linux/semaphore.h
    pub struct SemaphoreLayout for "semaphore" {
        count: u32 = "count",
        last_holder: u64 = "last_holder",
        wait_list: Embedded = "wait_list",
        first_waiter: u64 = "first_waiter",
    }
}

layout! {
    /// `struct rt_mutex_base`, include/linux/rtmutex.h
    pub struct RtMutexBaseLayout for "rt_mutex_base" {
        owner: u64 = "owner",
    }
}

layout! {
    /// `struct rt_mutex` before v5.15
    pub struct RtMutexLayout for "rt_mutex" {
        owner: u64 = "owner" | "rtmutex.owner",
    }
}

/// A task_struct is aligned to more than this; locks keep flags below.
const FLAGS: u64 = 7;

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "held_by")]
pub enum Owner {
    /// A task holds it alone.
    Task(TaskRef),
    /// Readers share it.
    Readers {
        /// How many.
        count: u64,
        /// The one that came last. It may have let go since.
        #[serde(skip_serializing_if = "Option::is_none")]
        last: Option<TaskRef>,
    },
    /// The last task that took it, which may not hold it any more.
    Last(TaskRef),
    /// Nobody, at this moment.
    Nobody,
    /// The kernel does not note who.
    Unknown,
}

impl Owner {
    /// The one task that certainly holds it.
    pub fn certain(&self) -> Option<&TaskRef> {
        match self {
            Owner::Task(task) => Some(task),
            _ => None,
        }
    }
}

/// What a read-write semaphore's words say.
#[derive(Debug, PartialEq, Eq)]
enum RwState {
    Writer(u64),
    Readers { count: u64, last: u64 },
    Free,
}

fn rw_state(count: u64, owner: u64) -> RwState {
    let readers = count >> 8 & ((1 << 55) - 1);
    match (count & 1, readers) {
        (1, _) => RwState::Writer(owner & !FLAGS),
        (_, 0) => RwState::Free,
        (_, count) => RwState::Readers { count, last: owner & !FLAGS },
    }
}

impl Kernel {
    /// Who holds the mutex at `addr`.
    pub fn mutex_owner(&self, addr: u64) -> Result<Owner> {
        let word = self.layout::<MutexLayout>()?.owner.read(self, addr)?;
        Ok(self.sole_owner(word & !FLAGS))
    }

    /// Who holds the `struct rw_semaphore` at `addr`.
    pub fn rwsem_owner(&self, addr: u64) -> Result<Owner> {
        let layout = self.layout::<RwSemaphoreLayout>()?;
        let state = rw_state(layout.count.read(self, addr)?, layout.owner.read(self, addr)?);
        Ok(match state {
            // It has been taken, and its taker has not signed yet.
            RwState::Writer(0) => Owner::Unknown,
            RwState::Writer(task) => Owner::Task(self.task_ref(task)),
            RwState::Readers { count, last } => {
                Owner::Readers { count, last: (last != 0).then(|| self.task_ref(last)) }
            }
            RwState::Free => Owner::Nobody,
        })
    }

    /// Who holds the `struct rt_mutex_base` (or older `struct rt_mutex`).
    pub fn rt_mutex_owner(&self, addr: u64) -> Result<Owner> {
        let word = match self.layout::<RtMutexBaseLayout>() {
            Ok(layout) => layout.owner.read(self, addr)?,
            Err(_) => self.layout::<RtMutexLayout>()?.owner.read(self, addr)?,
        };
        Ok(self.sole_owner(word & !1))
    }

    /// Who took the semaphore at `addr` last, where the kernel notes that.
    pub fn semaphore_owner(&self, addr: u64) -> Result<Owner> {
        let layout = self.layout::<SemaphoreLayout>()?;
        if layout.count.read(self, addr)? != 0 {
            return Ok(Owner::Nobody);
        }
        Ok(match layout.last_holder.read_if_exists(self, addr)? {
            None | Some(0) => Owner::Unknown,
            Some(task) => Owner::Last(self.task_ref(task)),
        })
    }

    /// Who holds a lock; unknown where it can't be read.
    pub(super) fn owner_of(&self, kind: LockKind, addr: u64) -> Owner {
        let owner = match kind {
            LockKind::Mutex => self.mutex_owner(addr),
            LockKind::RwSemaphore => self.rwsem_owner(addr),
            LockKind::RtMutex => self.rt_mutex_owner(addr),
            LockKind::Semaphore => self.semaphore_owner(addr),
            _ => Ok(Owner::Unknown),
        };
        owner.unwrap_or(Owner::Unknown)
    }

    fn sole_owner(&self, task: u64) -> Owner {
        if task == 0 { Owner::Nobody } else { Owner::Task(self.task_ref(task)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: u64 = 0xffff_8881_0000_4000;

    #[test]
    fn a_writer_alone_holds_a_semaphore() {
        assert_eq!(rw_state(1, TASK), RwState::Writer(TASK));
        // Readers that failed and have not taken themselves off again.
        assert_eq!(rw_state(1 | 2 | 1 << 8, TASK | 2), RwState::Writer(TASK));
    }

    #[test]
    fn readers_are_counted() {
        let state = rw_state(3 << 8 | 2, TASK | 1);
        assert_eq!(state, RwState::Readers { count: 3, last: TASK });
    }

    #[test]
    fn nobody_may_hold_a_semaphore_with_waiters() {
        assert_eq!(rw_state(2, 0), RwState::Free);
        assert_eq!(rw_state(2 | 4, TASK | 1), RwState::Free);
    }
}
