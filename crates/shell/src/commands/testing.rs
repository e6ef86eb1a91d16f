//! Values for the tests of rendering.

use kmortem_kernel::task::{Task, TaskState};

/// A task that sleeps.
pub(crate) fn task(pid: i32, comm: &str) -> Task {
    Task {
        addr: 0xffff_8880_0120_0000 + pid as u64 * 0x2000,
        pid,
        tgid: pid,
        ppid: 0,
        comm: comm.to_owned(),
        state: TaskState::Running,
        cpu: 0,
        active: false,
        flags: 0,
        stack: 0xffff_c900_0001_0000,
        mm: 0,
        signal: 0,
        last_arrival_ns: Some(1_000_000),
        start_ns: Some(0),
    }
}
