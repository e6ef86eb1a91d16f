//! `workqueues`, and the `works` that were running or waiting on them.

use kmortem_kernel::Kernel;
use kmortem_kernel::workqueue::{Work, Workqueue};

use crate::cell::{function, hex, hex_option, list};
use crate::schema::{Column, FillError, Rows, Table};

pub(crate) const WORKQUEUES: Table<Workqueue> = Table {
    name: "workqueues",
    doc: "a workqueue",
    columns: &[
        Column::address("addr", "its `struct workqueue_struct`", |_, q| hex(q.addr)),
        Column::text("name", "its name", |_, q| q.name.as_str().into()),
        Column::text("flags", "its `WQ_*` flags", |_, q| list(&q.flags)),
        Column::integer("most_active", "works that may run at a time", |_, q| q.most_active.into()),
        Column::integer("active", "works that run or may", |_, q| q.active.into()),
        Column::integer("inactive", "works that wait for their turn", |_, q| {
            q.inactive.len().into()
        }),
        Column::address("rescuer", "its `struct worker` for when memory is short", |_, q| {
            hex(q.rescuer)
        }),
    ],
    rows: |kernel, rows| {
        let all = kernel.workqueues()?;
        rows.gaps(&all.gaps);
        all.queues.iter().try_for_each(|queue| rows.push(queue))
    },
};

/// A work with where it has come to.
pub(crate) struct WorkRow {
    work: Work,
    state: &'static str,
    pool: Option<i32>,
    task: Option<u64>,
    running_ns: Option<u64>,
}

pub(crate) const WORKS: Table<WorkRow> = Table {
    name: "works",
    doc: "a work that was running or waiting",
    columns: &[
        Column::address("addr", "its `struct work_struct`", |_, r| hex(r.work.work)),
        Column::text("state", "running, scheduled (for a worker), pending or inactive", |_, r| {
            r.state.into()
        }),
        Column::text("function", "what it calls", |_, r| {
            r.work.symbol.as_ref().map(function).into()
        }),
        Column::text("queue", "its workqueue", |_, r| r.work.queue.as_deref().into()),
        Column::integer("pool", "number of its pool of workers", |_, r| r.pool.into()),
        Column::address("task", "the worker's task (`tasks.addr`)", |_, r| hex_option(r.task)),
        Column::quantity("running_ns", "ns", "how long it has run, where that is known", |_, r| {
            r.running_ns.into()
        }),
    ],
    rows: works,
};

fn works(kernel: &Kernel, rows: &mut Rows<'_, WorkRow>) -> Result<(), FillError> {
    let all = kernel.workqueues()?;
    rows.gaps(&all.gaps);
    let waiting = |work, state, pool, task| WorkRow { work, state, pool, task, running_ns: None };
    for pool in all.pools {
        let id = Some(pool.id);
        for worker in pool.workers {
            let task = Some(worker.task);
            if let Some(current) = worker.current {
                let row = waiting(current.work, "running", id, task);
                rows.push(&WorkRow { running_ns: current.running_ns, ..row })?;
            }
            for work in worker.scheduled {
                rows.push(&waiting(work, "scheduled", id, task))?;
            }
        }
        for work in pool.pending {
            rows.push(&waiting(work, "pending", id, None))?;
        }
    }
    for queue in all.queues {
        for work in queue.inactive {
            rows.push(&waiting(work, "inactive", None, None))?;
        }
    }
    Ok(())
}
