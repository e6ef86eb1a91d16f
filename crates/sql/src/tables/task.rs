//! `tasks`: every thread, as `ps` shows them.

use std::sync::OnceLock;

use kmortem_kernel::mm::TaskMemory;
use kmortem_kernel::task::{Task, TaskLayout};
use kmortem_kernel::{Error, Kernel};

use crate::cell::{Cell, hex, word};
use crate::schema::{BATCH, Column, FillError, Rows, Table};

/// A task, and its memory once a column asks for that.
pub(crate) struct TaskRow {
    task: Task,
    memory: OnceLock<Result<Option<TaskMemory>, Error>>,
}

impl TaskRow {
    /// From its memory; NULL for a kernel thread.
    fn memory<T: Into<Cell>>(&self, kernel: &Kernel, of: impl Fn(&TaskMemory) -> T) -> Cell {
        match self.memory.get_or_init(|| kernel.task_memory(&self.task)) {
            Ok(Some(memory)) => of(memory).into(),
            Ok(None) => Cell::Null,
            Err(error) => Cell::Unread(error.to_string()),
        }
    }
}

/// Bytes of a count of pages, which reads below zero while parts of it are in
/// flight.
fn bytes(kernel: &Kernel, pages: i64) -> i64 {
    pages.max(0).saturating_mul(kernel.page_size() as i64)
}

fn layout(kernel: &Kernel) -> Result<std::sync::Arc<TaskLayout>, Error> {
    kernel.layout::<TaskLayout>()
}

pub(crate) const TASKS: Table<TaskRow> = Table {
    name: "tasks",
    doc: "a thread; idle tasks have PID 0",
    columns: &[
        Column::address("addr", "its `struct task_struct`", |_, r| hex(r.task.addr)),
        Column::integer("pid", "thread ID in the first PID namespace", |_, r| r.task.pid.into()),
        Column::integer("tgid", "process ID", |_, r| r.task.tgid.into()),
        Column::integer("ppid", "process ID of its parent", |_, r| r.task.ppid.into()),
        Column::text("comm", "its name", |_, r| r.task.comm.as_str().into()),
        Column::text("state", "state as `ps` shows it (RU, IN, UN, ID, ...)", |_, r| {
            r.task.state.crash_code().into()
        }),
        Column::text("state_name", "state as a word", |_, r| word(&r.task.state)),
        Column::integer("cpu", "CPU that it runs on, or ran on last", |_, r| r.task.cpu.into()),
        Column::flag("active", "its CPU was running it", |_, r| r.task.active.into()),
        Column::flag("kernel_thread", "it has no user space", |_, r| {
            (r.task.is_kernel_thread() || r.task.pid == 0).into()
        }),
        Column::flag("leader", "it leads its thread group", |_, r| r.task.is_leader().into()),
        Column::integer("flags", "`PF_*` flags", |_, r| r.task.flags.into()),
        Column::address("stack", "lowest address of its kernel stack", |_, r| hex(r.task.stack)),
        Column::address("mm", "its `struct mm_struct`", |_, r| hex(r.task.mm)),
        Column::address("signal", "its `struct signal_struct`", |_, r| hex(r.task.signal)),
        Column::integer("prio", "priority as the scheduler sees it", |kernel, r| {
            layout(kernel).and_then(|l| l.prio.read(kernel, r.task.addr)).into()
        }),
        Column::integer("policy", "scheduling policy (`SCHED_*`)", |kernel, r| {
            layout(kernel).and_then(|l| l.policy.read(kernel, r.task.addr)).into()
        }),
        Column::quantity(
            "last_ran_ns",
            "ns",
            "when it got a CPU last, scheduler's clock",
            |_, r| r.task.last_arrival_ns.into(),
        ),
        Column::quantity("start_ns", "ns", "when it was started, after boot", |_, r| {
            r.task.start_ns.into()
        }),
        Column::quantity("user_ns", "ns", "time it ran in user space", |kernel, r| {
            layout(kernel).and_then(|l| l.utime.read(kernel, r.task.addr)).into()
        }),
        Column::quantity("system_ns", "ns", "time it ran in the kernel", |kernel, r| {
            layout(kernel).and_then(|l| l.stime.read(kernel, r.task.addr)).into()
        }),
        Column::integer("voluntary_switches", "times it gave up its CPU", |kernel, r| {
            layout(kernel).and_then(|l| l.nvcsw.read(kernel, r.task.addr)).into()
        }),
        Column::integer("involuntary_switches", "times its CPU was taken", |kernel, r| {
            layout(kernel).and_then(|l| l.nivcsw.read(kernel, r.task.addr)).into()
        }),
        Column::quantity("vsz_bytes", "bytes", "mapped address space", |kernel, r| {
            r.memory(kernel, |m| bytes(kernel, i64::try_from(m.total_vm).unwrap_or(i64::MAX)))
        }),
        Column::quantity("rss_bytes", "bytes", "resident memory", |kernel, r| {
            r.memory(kernel, |m| bytes(kernel, m.rss()))
        }),
        Column::quantity("rss_anon_bytes", "bytes", "of that anonymous", |kernel, r| {
            r.memory(kernel, |m| bytes(kernel, m.rss_anon))
        }),
        Column::quantity("rss_file_bytes", "bytes", "of that from files", |kernel, r| {
            r.memory(kernel, |m| bytes(kernel, m.rss_file))
        }),
        Column::quantity("rss_shmem_bytes", "bytes", "of that shared", |kernel, r| {
            r.memory(kernel, |m| bytes(kernel, m.rss_shmem))
        }),
        Column::quantity("swap_bytes", "bytes", "swapped out", |kernel, r| {
            r.memory(kernel, |m| bytes(kernel, m.swap))
        }),
        Column::quantity("page_tables_bytes", "bytes", "page tables", |kernel, r| {
            r.memory(kernel, |m| m.page_tables_bytes)
        }),
        Column::integer("mappings", "number of its mappings", |kernel, r| {
            r.memory(kernel, |m| m.mappings)
        }),
        Column::integer("oom_score_adj", "-1000 (never killed) to 1000 (first)", |kernel, r| {
            kernel.oom_score_adj(&r.task).into()
        }),
        Column::text("exe", "path of its program", |kernel, r| kernel.executable(&r.task).into()),
        Column::text("argv", "its command line, from its own memory", |kernel, r| {
            if r.task.mm == 0 {
                return Cell::Null;
            }
            kernel.task_arguments(&r.task).map(|words| words.join(" ")).into()
        }),
        Column::text("cgroup", "its control group (v2)", |kernel, r| {
            kernel.task_cgroup(&r.task).into()
        }),
    ],
    rows,
};

fn rows(kernel: &Kernel, rows: &mut Rows<'_, TaskRow>) -> Result<(), FillError> {
    let table = kernel.tasks()?;
    table.broken.iter().for_each(|error| rows.remark(format_args!("some may be missing: {error}")));
    for batch in table.list.chunks(BATCH) {
        let of = |task: &Task| TaskRow { task: task.clone(), memory: OnceLock::new() };
        let batch: Vec<TaskRow> = batch.iter().map(of).collect();
        rows.push_all(&batch)?;
    }
    Ok(())
}
