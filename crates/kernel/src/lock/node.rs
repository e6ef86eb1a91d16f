//! The structures of those who wait: nodes on the rings of locks and queues,
//! and the rings' heads. They are laid out as `list_head` nodes beside a
//! pointer to the waiting task.

use crate::layout;
use crate::layout::Embedded;

layout! {
    /// What `struct task_struct` notes of waits, include/linux/sched.h
    pub struct BlockedLayout for "task_struct" {
        pi_blocked_on: u64 = "pi_blocked_on",
        blocked_on: u64 = "blocked_on",
        blocker: u64 = "blocker",
    }
}

layout! {
    /// `struct mutex_waiter`; the others of kernel/locking begin alike
    pub struct MutexWaiterLayout for "mutex_waiter" {
        list: Embedded = "list",
        task: u64 = "task",
    }
}

layout! {
    /// `struct rwsem_waiter`, kernel/locking/rwsem.c
    pub struct RwsemWaiterLayout for "rwsem_waiter" {
        list: Embedded = "list",
        task: u64 = "task",
        kind: u32 = "type",
    }
}

layout! {
    /// `struct semaphore_waiter`, kernel/locking/semaphore.c
    pub struct SemaphoreWaiterLayout for "semaphore_waiter" {
        list: Embedded = "list",
        task: u64 = "task",
    }
}

layout! {
    /// `struct rt_mutex_waiter`, kernel/locking/rtmutex_common.h
    pub struct RtMutexWaiterLayout for "rt_mutex_waiter" {
        lock: u64 = "lock",
        task: u64 = "task",
    }
}

layout! {
    /// `struct swait_queue`, include/linux/swait.h
    pub struct SwaitLayout for "swait_queue" {
        task: u64 = "task",
        node: Embedded = "task_list",
    }
}

layout! {
    /// `struct swait_queue_head`, include/linux/swait.h
    pub struct SwaitHeadLayout for "swait_queue_head" {
        list: Embedded = "task_list",
    }
}

layout! {
    /// `struct completion`, include/linux/completion.h
    pub struct CompletionLayout for "completion" {
        wait: Embedded = "wait",
    }
}

layout! {
    /// `struct wait_queue_entry`, include/linux/wait.h
    pub struct WaitEntryLayout for "wait_queue_entry" {
        private: u64 = "private",
        func: u64 = "func",
        node: Embedded = "entry",
    }
}

layout! {
    /// `struct wait_queue_head`, include/linux/wait.h
    pub struct WaitHeadLayout for "wait_queue_head" {
        list: Embedded = "head",
    }
}

layout! {
    /// `struct wait_page_queue`, include/linux/pagemap.h
    pub struct WaitPageLayout for "wait_page_queue" {
        folio: u64 = "folio" | "page",
        bit: i32 = "bit_nr",
        wait: Embedded = "wait",
    }
}

layout! {
    /// `struct wait_bit_queue_entry`, include/linux/wait_bit.h
    pub struct WaitBitLayout for "wait_bit_queue_entry" {
        word: u64 = "key.flags",
        bit: i32 = "key.bit_nr",
        entry: Embedded = "wq_entry",
    }
}

layout! {
    /// `struct percpu_rw_semaphore`, include/linux/percpu-rwsem.h
    pub struct PercpuRwsemLayout for "percpu_rw_semaphore" {
        waiters: Embedded = "waiters",
    }
}

layout! {
    /// `struct futex_q`, kernel/futex/futex.h
    pub struct FutexLayout for "futex_q" {
        task: u64 = "task",
        lock_ptr: u64 = "lock_ptr",
        context: u64 = "key.both.ptr",
        word: u64 = "key.both.word",
        offset: u32 = "key.both.offset",
        pi_state: u64 = "pi_state",
    }
}

layout! {
    /// `struct futex_pi_state`, kernel/futex/futex.h
    pub struct PiStateLayout for "futex_pi_state" {
        owner: u64 = "owner",
    }
}
