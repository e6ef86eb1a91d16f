//! `frames`: every frame of every task's kernel stack.

use kmortem_kernel::Kernel;
use kmortem_kernel::stack::{Frame, StackEnd, Trust};
use kmortem_kernel::task::Task;
use rayon::prelude::*;

use crate::cell::{Cell, hex};
use crate::schema::{BATCH, Column, FillError, Rows, Table};

/// A frame with what it belongs to.
pub(crate) struct FrameRow {
    task: u64,
    pid: i32,
    depth: usize,
    frame: Frame,
}

pub(crate) const FRAMES: Table<FrameRow> = Table {
    name: "frames",
    doc: "a frame of a task's kernel stack",
    columns: &[
        Column::address("task", "its `struct task_struct` (`tasks.addr`)", |_, r| hex(r.task)),
        Column::integer("pid", "the task's thread ID", |_, r| r.pid.into()),
        Column::integer("depth", "0 is the innermost", |_, r| r.depth.into()),
        Column::text("function", "the function; NULL: no symbol there", |_, r| {
            r.frame.symbol.as_ref().map(|s| s.name.as_str()).into()
        }),
        Column::integer("offset", "bytes into the function", |_, r| {
            r.frame.symbol.as_ref().map(|s| s.offset).into()
        }),
        Column::text("module", "the module that it is in", |_, r| {
            r.frame.symbol.as_ref().and_then(|s| s.module.as_deref()).into()
        }),
        Column::address("pc", "where the code goes on, or was interrupted", |_, r| hex(r.frame.pc)),
        Column::address("at", "where on the stack `pc` stands", |_, r| hex(r.frame.at)),
        Column::address("sp", "stack pointer of the function", |_, r| hex(r.frame.sp)),
        Column::text("stack", "the stack that it runs on, if not the task's own", |_, r| {
            r.frame.stack.map(|kind| kind.name()).into()
        }),
        Column::flag("interrupted", "an exception or interrupt stopped it here", |_, r| {
            r.frame.is_interrupted().into()
        }),
        Column::text("trust", "how it is known: registers, unwound, guess", |_, r| {
            let word = match r.frame.trust {
                Trust::Registers => "registers",
                Trust::Unwound => "unwound",
                Trust::Guess(_) => "guess",
            };
            word.into()
        }),
        Column::text("reason", "why it is a guess", |_, r| match &r.frame.trust {
            Trust::Guess(reason) => reason.as_str().into(),
            _ => Cell::Null,
        }),
    ],
    rows,
};

fn rows(kernel: &Kernel, rows: &mut Rows<'_, FrameRow>) -> Result<(), FillError> {
    let table = kernel.tasks()?;
    table.broken.iter().for_each(|error| rows.remark(format_args!("some may be missing: {error}")));
    for batch in table.list.chunks(BATCH) {
        let stacks: Vec<_> = batch.par_iter().map(|task| kernel.stack(task)).collect();
        for (task, stack) in batch.iter().zip(stacks) {
            if let StackEnd::Broken { reason } = &stack.end {
                rows.remark(format_args!("the stack of PID {} breaks off: {reason}", task.pid));
            }
            of_stack(task, stack.frames).try_for_each(|row| rows.push(&row))?;
        }
    }
    Ok(())
}

fn of_stack(task: &Task, frames: Vec<Frame>) -> impl Iterator<Item = FrameRow> {
    let (task, pid) = (task.addr, task.pid);
    frames.into_iter().enumerate().map(move |(depth, frame)| FrameRow { task, pid, depth, frame })
}
