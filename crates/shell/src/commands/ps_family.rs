//! `ps -p`, `-c`, `-g` and `-S`: how tasks hang together, and counts of them.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::task::{Task, TaskLayout, TaskTable};
use serde::Serialize;

use super::task_header;
use crate::output::Output;

/// A row of JSON: a task and those that belong to it.
#[derive(Serialize)]
struct Family<'a> {
    #[serde(flatten)]
    task: &'a Task,
    /// Its parents, the first one first; or its children; or its threads.
    related: Vec<&'a Task>,
}

/// `task_struct.real_parent`. Whoever brought up a CPU only looks as if its
/// idle task were a child: that one belongs to the first idle task.
fn parent<'t>(kernel: &Kernel, table: &'t TaskTable, task: &Task) -> Option<&'t Task> {
    if task.pid == 0 {
        return table.at(kernel.symbol("init_task").ok()?);
    }
    let layout = kernel.layout::<TaskLayout>().ok()?;
    table.at(layout.real_parent.read(kernel, task.addr).ok()?)
}

/// Each task below its parent, below that one's parent, and so on.
pub(super) fn parents(
    kernel: &Kernel,
    table: &TaskTable,
    chosen: &[&Task],
    out: &mut Output<'_>,
) -> io::Result<()> {
    for task in chosen {
        let mut line = vec![*task];
        let mut at = *task;
        // The first task is its own parent; a damaged chain may turn back.
        while let Some(up) = parent(kernel, table, at) {
            if line.iter().any(|seen| seen.addr == up.addr) {
                break;
            }
            line.push(up);
            at = up;
        }
        line.reverse();
        if out.is_json() {
            line.pop();
            out.row(&Family { task, related: line })?;
            continue;
        }
        for (depth, task) in line.into_iter().enumerate() {
            write!(out, "{:depth$}", "")?;
            task_header::render(out, task)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Each task with its children.
pub(super) fn children(
    kernel: &Kernel,
    table: &TaskTable,
    chosen: &[&Task],
    out: &mut Output<'_>,
) -> io::Result<()> {
    let parents: Vec<Option<u64>> =
        table.list.iter().map(|t| parent(kernel, table, t).map(|p| p.addr)).collect();
    for task in chosen {
        // Threads of a child have the same parent.
        let related = table
            .list
            .iter()
            .zip(&parents)
            .filter(|(child, parent)| **parent == Some(task.addr) && child.addr != task.addr);
        let related: Vec<&Task> = related.map(|(child, _)| child).collect();
        render_family(out, &Family { task, related }, "  (no children)")?;
    }
    Ok(())
}

/// The processes of `chosen`, each with its threads.
pub(super) fn threads(table: &TaskTable, chosen: &[&Task], out: &mut Output<'_>) -> io::Result<()> {
    let mut shown: Vec<i32> = Vec::new();
    for task in chosen {
        if shown.contains(&task.tgid) {
            continue;
        }
        shown.push(task.tgid);
        let group = table.list.iter().filter(|t| t.tgid == task.tgid);
        // The idle tasks are one group, by their number, led by the first.
        let leader = group.clone().find(|t| t.is_leader()).unwrap_or(task);
        let related = group.filter(|t| t.addr != leader.addr).collect();
        render_family(out, &Family { task: leader, related }, "  (no threads)")?;
    }
    Ok(())
}

fn render_family(out: &mut Output<'_>, family: &Family<'_>, none: &str) -> io::Result<()> {
    if out.is_json() {
        return out.row(family);
    }
    task_header::render(out, family.task)?;
    for task in &family.related {
        write!(out, "  ")?;
        task_header::render(out, task)?;
    }
    if family.related.is_empty() {
        writeln!(out, "{none}")?;
    }
    writeln!(out)
}

/// A row of JSON of `ps -S`.
#[derive(Serialize)]
struct StateCount {
    state: &'static str,
    tasks: usize,
}

/// How many tasks are in each state.
pub(super) fn states(chosen: &[&Task], out: &mut Output<'_>) -> io::Result<()> {
    let mut counts: Vec<StateCount> = Vec::new();
    for task in chosen {
        let state = task.state.crash_code();
        match counts.iter_mut().find(|c| c.state == state) {
            Some(count) => count.tasks += 1,
            None => counts.push(StateCount { state, tasks: 1 }),
        }
    }
    if out.is_json() {
        return out.rows(&counts);
    }
    counts.iter().try_for_each(|c| writeln!(out, "  {}: {}", c.state, c.tasks))
}
