//! `cpus`: the processors and what they ran.

use kmortem_kernel::Kernel;
use kmortem_kernel::sched::Runqueue;

use crate::cell::{Cell, hex};
use crate::schema::{Column, FillError, Rows, Table};

/// A possible CPU.
pub(crate) struct CpuRow {
    cpu: u32,
    online: Result<bool, kmortem_kernel::Error>,
    queue: Result<Runqueue, kmortem_kernel::Error>,
}

impl CpuRow {
    fn queue<T: Into<Cell>>(&self, of: impl Fn(&Runqueue) -> T) -> Cell {
        self.queue.as_ref().map(of).map_err(Clone::clone).into()
    }
}

pub(crate) const CPUS: Table<CpuRow> = Table {
    name: "cpus",
    doc: "a possible CPU, with its run queue",
    columns: &[
        Column::integer("cpu", "its number", |_, r| r.cpu.into()),
        Column::flag("online", "it counted as online; a panic takes the others offline", |_, r| {
            r.online.clone().into()
        }),
        Column::address("runqueue", "its `struct rq`", |_, r| match &r.queue {
            Ok(queue) => hex(queue.addr),
            Err(error) => Cell::Unread(error.to_string()),
        }),
        Column::address("task", "what it was running (`tasks.addr`)", |_, r| match &r.queue {
            Ok(queue) => hex(queue.current),
            Err(error) => Cell::Unread(error.to_string()),
        }),
        Column::integer("running", "tasks that run or want to", |_, r| r.queue(|q| q.nr_running)),
        Column::integer("switches", "task switches since boot", |_, r| r.queue(|q| q.nr_switches)),
        Column::integer("iowait", "tasks that slept on it waiting for I/O", |_, r| {
            r.queue(|q| q.nr_iowait)
        }),
        Column::quantity("clock_ns", "ns", "the run queue's clock", |_, r| r.queue(|q| q.clock_ns)),
    ],
    rows,
};

fn rows(kernel: &Kernel, rows: &mut Rows<'_, CpuRow>) -> Result<(), FillError> {
    let online = kernel.cpus("online");
    for cpu in kernel.possible_cpus()? {
        let online = online.as_ref().map(|list| list.contains(&cpu)).map_err(Clone::clone);
        rows.push(&CpuRow { cpu, online, queue: kernel.runqueue(cpu) })?;
    }
    Ok(())
}
