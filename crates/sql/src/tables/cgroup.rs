//! `cgroups`: the control groups of all hierarchies.

use kmortem_kernel::Kernel;
use kmortem_kernel::cgroup::Cgroup;
use kmortem_kernel::memcg::MemoryCgroup;

use crate::cell::{Cell, hex};
use crate::schema::{Column, FillError, Rows, Table};

fn memory<T: Into<Cell>>(group: &Cgroup, of: impl Fn(&MemoryCgroup) -> T) -> Cell {
    group.memory.as_ref().map_or(Cell::Null, |memory| of(memory).into())
}

pub(crate) const CGROUPS: Table<Cgroup> = Table {
    name: "cgroups",
    doc: "a control group; its memory columns are NULL without a memory controller",
    columns: &[
        Column::address("addr", "its `struct cgroup`", |_, g| hex(g.addr)),
        Column::text("path", "its path", |_, g| g.path.as_str().into()),
        Column::integer("hierarchy", "as /proc/cgroups numbers it; 0: v2", |_, g| {
            g.hierarchy.into()
        }),
        Column::flag("v2", "it is in the unified hierarchy", |_, g| g.v2.into()),
        Column::integer("level", "0 is the root", |_, g| g.level.into()),
        Column::flag("dying", "it is removed and still held", |_, g| g.dying.into()),
        Column::integer("tasks", "tasks in it (not below)", |_, g| g.tasks.into()),
        Column::integer(
            "pids",
            "tasks that the pids controller counts, with those below",
            |_, g| g.pids.as_ref().map(|p| p.current).into(),
        ),
        Column::integer("pids_max", "limit of that; NULL: none", |_, g| {
            g.pids.as_ref().and_then(|p| p.max).into()
        }),
        Column::quantity("memory_usage", "bytes", "memory charged to it and below", |_, g| {
            memory(g, |m| m.usage)
        }),
        Column::quantity("memory_peak", "bytes", "the most it had", |_, g| memory(g, |m| m.peak)),
        Column::quantity("memory_max", "bytes", "beyond it, OOM; NULL: no limit", |_, g| {
            memory(g, |m| m.max)
        }),
        Column::quantity("memory_high", "bytes", "beyond it, throttled; NULL: no limit", |_, g| {
            memory(g, |m| m.high)
        }),
        Column::quantity("swap_usage", "bytes", "swap (v1: memory and swap)", |_, g| {
            memory(g, |m| m.swap_usage)
        }),
        Column::quantity("swap_max", "bytes", "limit of that; NULL: none", |_, g| {
            memory(g, |m| m.swap_max)
        }),
        Column::integer("oom_events", "times it ran out of memory", |_, g| {
            memory(g, |m| m.events.get("oom"))
        }),
        Column::integer("oom_kills", "tasks killed for that", |_, g| {
            memory(g, |m| m.events.get("oom_kill"))
        }),
    ],
    rows,
};

fn rows(kernel: &Kernel, rows: &mut Rows<'_, Cgroup>) -> Result<(), FillError> {
    for group in kernel.cgroups()? {
        rows.gaps(&group.gaps);
        if let Some(memory) = &group.memory {
            rows.gaps(&memory.gaps);
        }
        rows.push(&group)?;
    }
    Ok(())
}
