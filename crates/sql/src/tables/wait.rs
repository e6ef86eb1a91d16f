//! `waits`: which task waits for which lock, and who holds it.

use kmortem_kernel::Kernel;
use kmortem_kernel::lock::{Owner, TaskRef, Wait};

use crate::cell::{hex, hex_option, word};
use crate::schema::{Column, FillError, Rows, Table};

pub(crate) const WAITS: Table<Wait> = Table {
    name: "waits",
    doc: "a task that waits for a lock or an event",
    columns: &[
        Column::address("task", "who waits (`tasks.addr`)", |_, w| hex(w.waiter.addr)),
        Column::integer("pid", "the waiter's thread ID", |_, w| pid(&w.waiter).into()),
        Column::text("kind", "mutex, rw_semaphore, completion, ...", |_, w| word(&w.lock.kind)),
        Column::address("lock", "the lock", |_, w| hex(w.lock.addr)),
        Column::text("name", "its name, where it has one", |_, w| w.lock.name().into()),
        Column::text("mode", "read or write", |_, w| word(&w.mode)),
        Column::text("held_by", "task, readers, last, nobody or unknown", |_, w| {
            let held_by = match &w.lock.owner {
                Owner::Task(_) => "task",
                Owner::Readers { .. } => "readers",
                Owner::Last(_) => "last",
                Owner::Nobody => "nobody",
                Owner::Unknown => "unknown",
            };
            held_by.into()
        }),
        Column::address("owner", "that task, or the last one known to hold it", |_, w| {
            hex_option(owner(w).map(|task| task.addr))
        }),
        Column::integer("owner_pid", "its thread ID", |_, w| owner(w).and_then(pid).into()),
        Column::text("known_by", "what shows that it waits", |_, w| word(&w.known_by)),
    ],
    rows,
};

fn pid(task: &TaskRef) -> Option<i32> {
    task.task.as_ref().map(|name| name.pid)
}

fn owner(wait: &Wait) -> Option<&TaskRef> {
    match &wait.lock.owner {
        Owner::Task(task) | Owner::Last(task) => Some(task),
        Owner::Readers { last, .. } => last.as_ref(),
        Owner::Nobody | Owner::Unknown => None,
    }
}

fn rows(kernel: &Kernel, rows: &mut Rows<'_, Wait>) -> Result<(), FillError> {
    kernel.wait_graph()?.waits.iter().try_for_each(|wait| rows.push(wait))
}
