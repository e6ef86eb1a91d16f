//! `runq -g`: what each CPU has to run, by task groups.

use std::io::{self, Write};

use kmortem_kernel::task::TaskTable;
use kmortem_kernel::task_group::{GroupQueue, GroupQueues, Queued};

use super::{failed, tasks};
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;

/// Shows the queues of `cpus`.
pub(super) fn show(
    session: &Session,
    cpus: &[u32],
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let hidden = session.hidden_cpus();
    let mut queues = session.kernel().group_queues(cpus).map_err(failed("runq"))?;
    if out.is_json() {
        queues.retain(|queue| !hidden.contains(&queue.cpu));
        out.rows(&queues)?;
    } else {
        let table = tasks("runq", session, out)?;
        for (i, cpu) in queues.iter().enumerate() {
            if i > 0 {
                writeln!(out)?;
            }
            if hidden.contains(&cpu.cpu) {
                writeln!(out, "CPU {} [OFFLINE]", cpu.cpu)?;
                continue;
            }
            render(out, cpu, table)?;
        }
    }
    let mut told: Vec<&str> = Vec::new();
    for reason in queues.iter().flat_map(|queues| &queues.unread) {
        if !told.contains(&reason.as_str()) {
            told.push(reason);
            out.note(reason)?;
        }
    }
    Ok(())
}

fn render(out: &mut dyn Write, queues: &GroupQueues, table: &TaskTable) -> io::Result<()> {
    writeln!(out, "CPU {}", queues.cpu)?;
    match table.at(queues.current) {
        Some(task) => writeln!(
            out,
            "  CURRENT: PID: {:<5}  TASK: {:016x}  COMMAND: \"{}\"",
            task.pid, task.addr, task.comm
        )?,
        None => writeln!(out, "  CURRENT: {:016x}", queues.current)?,
    }
    if let Some(root) = &queues.realtime {
        writeln!(out, "  ROOT_TASK_GROUP: {:016x}  RT_RQ: {:016x}", root.group, root.queue)?;
        render_realtime(out, root, 0)?;
    }
    if let Some(root) = &queues.fair {
        writeln!(out, "  ROOT_TASK_GROUP: {:016x}  CFS_RQ: {:016x}", root.group, root.queue)?;
        render_fair(out, root, 0)?;
    }
    Ok(())
}

/// ` <name> (THROTTLED)`
fn traits(group: &GroupQueue) -> String {
    let name = group.name.as_ref().map_or(String::new(), |name| format!(" <{name}>"));
    format!("{name}{}", if group.throttled { " (THROTTLED)" } else { "" })
}

fn render_fair(out: &mut dyn Write, group: &GroupQueue, depth: usize) -> io::Result<()> {
    let indent = 5 + 3 * depth;
    if group.queued.is_empty() {
        return writeln!(out, "{:indent$}[no tasks queued]", "");
    }
    for queued in &group.queued {
        match queued {
            Queued::Task { task, current } => {
                let current = if *current { " [CURRENT]" } else { "" };
                let delayed = if task.delayed { " [DELAYED]" } else { "" };
                writeln!(
                    out,
                    "{:indent$}[{:>3}] PID: {:<5}  TASK: {:016x}  COMMAND: \"{}\"{current}{delayed}",
                    "", task.prio, task.pid, task.task, task.comm
                )?;
            }
            Queued::Group(below) => {
                write!(out, "{:indent$}TASK_GROUP: {:016x}", "", below.group)?;
                writeln!(out, "  CFS_RQ: {:016x} {}", below.queue, traits(below))?;
                render_fair(out, below, depth + 1)?;
            }
        }
    }
    Ok(())
}

fn render_realtime(out: &mut dyn Write, group: &GroupQueue, depth: usize) -> io::Result<()> {
    let indent = 5 + 6 * depth;
    if group.queued.is_empty() {
        return writeln!(out, "{:indent$}[no tasks queued]", "");
    }
    for queued in &group.queued {
        match queued {
            Queued::Task { task, .. } => writeln!(
                out,
                "{:indent$}[{:>3}] PID: {:<5}  TASK: {:016x}  COMMAND: \"{}\"",
                "", task.prio, task.pid, task.task, task.comm
            )?,
            Queued::Group(below) => {
                let priority = below.priority.unwrap_or(0);
                write!(out, "{:indent$}[{priority:>3}] TASK_GROUP: {:016x}", "", below.group)?;
                writeln!(out, "  RT_RQ: {:016x}{}", below.queue, traits(below))?;
                render_realtime(out, below, depth + 1)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::sched::QueuedTask;

    #[test]
    fn groups_stand_in_their_parents() {
        let task = |pid, current| Queued::Task {
            task: QueuedTask {
                task: 0xffff_8880_0120_0000 + pid as u64,
                pid,
                comm: "stress".to_owned(),
                prio: 120,
                vruntime: None,
                deadline: None,
                delayed: false,
            },
            current,
        };
        let group = |name: Option<&str>, throttled, priority, queued| GroupQueue {
            group: 0xffff_8880_0200_0000,
            queue: 0xffff_8880_0300_0000,
            name: name.map(str::to_owned),
            throttled,
            priority,
            queued,
        };
        let inner = group(Some("job"), true, None, vec![task(12, false)]);
        let idle = group(None, false, None, Vec::new());
        let fair = vec![task(11, true), Queued::Group(inner), Queued::Group(idle)];
        let rt = group(Some("rt"), false, Some(9), vec![task(13, false)]);
        let mut text = Vec::new();
        render_fair(&mut text, &group(None, false, None, fair), 0).unwrap();
        render_realtime(&mut text, &group(None, false, None, vec![Queued::Group(rt)]), 0).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}
