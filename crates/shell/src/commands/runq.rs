//! `runq`: what each CPU runs, and what waits for it.

use std::io::{self, Write};

use kmortem_kernel::sched::{QueuedTask, Runqueue};
use kmortem_kernel::task::{Task, TaskTable};

use super::{failed, ps_times, tasks};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::target;

pub(crate) const COMMAND: Command = Command {
    name: "runq",
    summary: "shows what each CPU runs and what waits for it",
    arguments: "",
    options: &[
        Opt::flag('t', "each CPU's clock, and when its task got it"),
        Opt::flag('m', "how long each CPU's task has had it"),
        Opt::value('c', "CPUS", "these CPUs only (0,2-3)"),
        Opt::later('g'),
        Opt::later('T'),
        Opt::later('d'),
    ],
    details: "\
Numbers in brackets are the kernel's priorities: 0 to 99 real time, 100 to 139
fair. Tasks of the fair queue stand in the order in which they would run.",
    examples: &[("", "all runqueues"), ("-m", "for how long each task has run")],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "a CPU",
        members: "`cpu` `addr` `current` `idle` `clock_ns` `nr_running` `deadline` `realtime` `fair` `nr_switches` `nr_iowait` `rt_array` `fair_tree`",
    }],
    each: None,
    run,
};

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let kernel = session.kernel();
    let mut queues = kernel.runqueues().map_err(failed(COMMAND.name))?;
    if let Some(cpus) = args.value('c') {
        let possible: Vec<u32> = queues.iter().map(|q| q.cpu).collect();
        let cpus = target::cpus(COMMAND.name, cpus, &possible)?;
        queues.retain(|q| cpus.contains(&q.cpu));
    }
    if out.is_json() {
        out.rows(&queues)?;
    } else {
        let table = tasks(COMMAND.name, session, out)?;
        match args.letters().filter(|l| "tm".contains(*l)).last() {
            Some('t') => render_clocks(out, &queues, table)?,
            Some(_) => render_times(out, &queues, table)?,
            None => render(out, &queues, table)?,
        }
    }
    for queue in &queues {
        for reason in &queue.unread {
            out.note(format_args!("CPU {}: {reason}", queue.cpu))?;
        }
    }
    Ok(())
}

fn render(out: &mut dyn Write, queues: &[Runqueue], table: &TaskTable) -> io::Result<()> {
    for (i, queue) in queues.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        writeln!(out, "CPU {} RUNQUEUE: {:016x}", queue.cpu, queue.addr)?;
        write!(out, "  CURRENT: ")?;
        render_current(out, queue, table.at(queue.current))?;
        if !queue.deadline.is_empty() {
            writeln!(out, "  DL RB_ROOT:")?;
            render_queue(out, &queue.deadline)?;
        }
        writeln!(out, "  RT PRIO_ARRAY: {:016x}", queue.rt_array)?;
        render_queue(out, &queue.realtime)?;
        writeln!(out, "  CFS RB_ROOT: {:016x}", queue.fair_tree)?;
        render_queue(out, &queue.fair)?;
    }
    Ok(())
}

fn render_queue(out: &mut dyn Write, queue: &[QueuedTask]) -> io::Result<()> {
    if queue.is_empty() {
        return writeln!(out, "     [no tasks queued]");
    }
    for task in queue {
        let delayed = if task.delayed { " [DELAYED]" } else { "" };
        writeln!(
            out,
            "     [{:>3}] PID: {:<5}  TASK: {:016x}  COMMAND: \"{}\"{delayed}",
            task.prio, task.pid, task.task, task.comm
        )?;
    }
    Ok(())
}

fn render_current(out: &mut dyn Write, queue: &Runqueue, task: Option<&Task>) -> io::Result<()> {
    match task {
        Some(task) => writeln!(
            out,
            "PID: {:<5}  TASK: {:016x}  COMMAND: \"{}\"",
            task.pid, task.addr, task.comm
        ),
        None => writeln!(out, "PID: -      TASK: {:016x}  COMMAND: -", queue.current),
    }
}

/// The CPUs' clocks, and below each when its task got it.
fn render_clocks(out: &mut dyn Write, queues: &[Runqueue], table: &TaskTable) -> io::Result<()> {
    let width = queues.iter().map(|q| q.clock_ns.to_string().len()).max().unwrap_or(0);
    let cpus = queues.iter().map(|q| q.cpu.to_string().len()).max().unwrap_or(0);
    for queue in queues {
        writeln!(out, " CPU {:>cpus$}: {:0width$}", queue.cpu, queue.clock_ns)?;
        let task = table.at(queue.current);
        let since = task.and_then(|t| t.last_arrival_ns);
        let since = since.map_or(format!("{:>width$}", "-"), |ns| format!("{ns:0width$}"));
        write!(out, "{:indent$}{since}  ", "", indent = cpus + 7)?;
        render_current(out, queue, task)?;
    }
    Ok(())
}

/// How long each CPU's task has had it.
fn render_times(out: &mut dyn Write, queues: &[Runqueue], table: &TaskTable) -> io::Result<()> {
    let cpus = queues.iter().map(|q| q.cpu.to_string().len()).max().unwrap_or(0);
    for queue in queues {
        let task = table.at(queue.current);
        let since = task.and_then(|t| t.last_arrival_ns);
        let since = since.map(|then| ps_times::days(queue.clock_ns.saturating_sub(then)));
        write!(out, " CPU {:>cpus$}: [{}]  ", queue.cpu, since.unwrap_or("-".to_owned()))?;
        render_current(out, queue, task)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_show_priorities() {
        let queued = |pid: i32, prio, comm: &str, delayed| QueuedTask {
            task: 0xffff_8880_0120_0000,
            pid,
            comm: comm.to_owned(),
            prio,
            vruntime: None,
            deadline: None,
            delayed,
        };
        let mut text = Vec::new();
        render_queue(&mut text, &[]).unwrap();
        render_queue(&mut text, &[queued(21, 120, "ksoftirqd/1", false)]).unwrap();
        render_queue(&mut text, &[queued(16, 0, "migration/0", true)]).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}
