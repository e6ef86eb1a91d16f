//! `runq`: what each CPU runs, and what waits for it.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::sched::{QueuedTask, Runqueue};
use kmortem_kernel::task::{Task, TaskLayout, TaskTable};
use serde::Serialize;

use super::{failed, ps_times, runq_groups, tasks};
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
        Opt::flag('T', "how far each CPU's clock is behind the one that ticked last"),
        Opt::flag('g', "by task groups, with the names of their cgroups"),
        Opt::flag('d', "tasks that say that they are queued, whether they are or not"),
    ],
    details: "\
Numbers in brackets are the kernel's priorities: 0 to 99 real time, 100 to 139
fair. Tasks of the fair queue stand in the order of its tree: of virtual run time
up to 6.5, of virtual deadlines since. [DELAYED] tasks sleep, and are in the tree
until they have paid their time back. -g shows throttled groups, too.",
    examples: &[
        ("", "all runqueues"),
        ("-m", "for how long each task has run"),
        ("-g", "by task groups"),
        ("-T -c 0", "the clock of CPU 0"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "a CPU",
            members: "`cpu` `addr` `current` `idle` `fair_tree` `rt_array` `clock_ns` `nr_running` `nr_switches` `nr_iowait` `stop` `deadline` `realtime` `fair` `unread`",
        },
        Rows {
            options: "-g",
            row: "a CPU",
            members: "`cpu` `current` `realtime` `fair`: the root group's queues (`group` `queue` `name` `throttled` `queued`: tasks and groups), `unread`",
        },
        Rows { options: "-d", row: "a CPU", members: "`cpu` `queued`" },
    ],
    each: None,
    run,
};

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let kernel = session.kernel();
    let chosen = cpus(kernel, args)?;
    match args.letters().filter(|l| "tmTgd".contains(*l)).last() {
        Some('g') => return runq_groups::show(session, &chosen, out),
        Some('d') => return show_queued(session, &chosen, out),
        _ => {}
    }
    let mut queues = kernel.runqueues().map_err(failed(COMMAND.name))?;
    queues.retain(|queue| chosen.contains(&queue.cpu));
    let hidden = session.hidden_cpus();
    if out.is_json() {
        queues.retain(|queue| !hidden.contains(&queue.cpu));
        out.rows(&queues)?;
    } else {
        let table = tasks(COMMAND.name, session, out)?;
        match args.letters().filter(|l| "tmT".contains(*l)).last() {
            Some('T') => render_lags(out, &queues)?,
            Some('t') => render_clocks(out, &queues, table, &hidden)?,
            Some(_) => render_times(out, &queues, table, &hidden)?,
            None => render(out, &queues, table, &hidden)?,
        }
    }
    for queue in &queues {
        for reason in &queue.unread {
            out.note(format_args!("CPU {}: {reason}", queue.cpu))?;
        }
    }
    Ok(())
}

/// The CPUs that are meant.
fn cpus(kernel: &Kernel, args: &Args) -> Result<Vec<u32>, CommandError> {
    let possible = kernel.possible_cpus().map_err(failed(COMMAND.name))?;
    match args.value('c') {
        Some(cpus) => target::cpus(COMMAND.name, cpus, &possible),
        None => Ok(possible),
    }
}

/// A row of JSON of `runq -d`.
#[derive(Serialize)]
struct Queued<'a> {
    cpu: u32,
    queued: Vec<&'a Task>,
}

/// Tasks whose own word says that they are on a queue.
fn show_queued(session: &Session, cpus: &[u32], out: &mut Output<'_>) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let table = tasks(COMMAND.name, session, out)?;
    let queued = |task: &&Task| kernel.is_queued(task.addr).unwrap_or(false);
    let queued: Vec<&Task> = table.list.iter().filter(queued).collect();
    let layout = kernel.layout::<TaskLayout>().map_err(failed(COMMAND.name))?;
    for (i, cpu) in cpus.iter().enumerate() {
        let queued: Vec<&Task> = queued.iter().copied().filter(|t| t.cpu == *cpu).collect();
        if out.is_json() {
            out.row(&Queued { cpu: *cpu, queued })?;
            continue;
        }
        writeln!(out, "{}CPU {cpu}", if i > 0 { "\n" } else { "" })?;
        for task in &queued {
            let prio = layout.prio.read(kernel, task.addr);
            let prio = prio.map_or("-".to_owned(), |prio| prio.to_string());
            let (pid, addr, comm) = (task.pid, task.addr, &task.comm);
            writeln!(
                out,
                "     [{prio:>3}] PID: {pid:<5}  TASK: {addr:016x}  COMMAND: \"{comm}\""
            )?;
        }
        if queued.is_empty() {
            writeln!(out, "     [no tasks queued]")?;
        }
    }
    Ok(())
}

/// How far the CPUs' clocks are behind the latest, the latest first.
fn render_lags(out: &mut dyn Write, queues: &[Runqueue]) -> io::Result<()> {
    let mut queues: Vec<&Runqueue> = queues.iter().collect();
    queues.sort_by_key(|queue| std::cmp::Reverse(queue.clock_ns));
    let latest = queues.first().map_or(0, |queue| queue.clock_ns);
    for queue in queues {
        let lag = (latest - queue.clock_ns) as f64 / 1e9;
        writeln!(out, "  CPU {}: {lag:.2} secs", queue.cpu)?;
    }
    Ok(())
}

fn render(
    out: &mut dyn Write,
    queues: &[Runqueue],
    table: &TaskTable,
    hidden: &[u32],
) -> io::Result<()> {
    for (i, queue) in queues.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        if hidden.contains(&queue.cpu) {
            writeln!(out, "CPU {} [OFFLINE]", queue.cpu)?;
            continue;
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
fn render_clocks(
    out: &mut dyn Write,
    queues: &[Runqueue],
    table: &TaskTable,
    hidden: &[u32],
) -> io::Result<()> {
    let width = queues.iter().map(|q| q.clock_ns.to_string().len()).max().unwrap_or(0);
    let cpus = queues.iter().map(|q| q.cpu.to_string().len()).max().unwrap_or(0);
    for queue in queues {
        if hidden.contains(&queue.cpu) {
            writeln!(out, " CPU {:>cpus$}: [OFFLINE]", queue.cpu)?;
            continue;
        }
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
fn render_times(
    out: &mut dyn Write,
    queues: &[Runqueue],
    table: &TaskTable,
    hidden: &[u32],
) -> io::Result<()> {
    let cpus = queues.iter().map(|q| q.cpu.to_string().len()).max().unwrap_or(0);
    for queue in queues {
        if hidden.contains(&queue.cpu) {
            writeln!(out, " CPU {:>cpus$}: [OFFLINE]", queue.cpu)?;
            continue;
        }
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
