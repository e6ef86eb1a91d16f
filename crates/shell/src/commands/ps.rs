//! `ps`: the tasks.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::mm::TaskMemory;
use kmortem_kernel::task::{Task, TaskLayout, TaskTable};
use rayon::prelude::*;
use serde::Serialize;

use super::{ps_family, ps_process, ps_times, tasks};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::{pattern, target};

pub(crate) const COMMAND: Command = Command {
    name: "ps",
    summary: "lists the tasks",
    arguments: "[PID | TASK | NAME | 'REGEX']...",
    options: &[
        Opt::flag('u', "tasks of user space only"),
        Opt::flag('k', "kernel threads only"),
        Opt::flag('G', "leaders of thread groups only"),
        Opt::flag('A', "only what the CPUs were running"),
        Opt::value('y', "POLICY", "of these policies (NORMAL,FIFO,RR,BATCH,IDLE,DEADLINE or 0-6)"),
        Opt::flag('s', "kernel stack pointers in place of task addresses"),
        Opt::flag('H', "without the header"),
        Opt::flag('l', "last run first, with the scheduler's time stamp"),
        Opt::flag('m', "last run first, with the time since then"),
        Opt::flag('t', "run time, start time, user and system time"),
        Opt::flag('p', "with the line of parents"),
        Opt::flag('c', "with the children"),
        Opt::flag('g', "with the threads"),
        Opt::flag('S', "how many tasks are in each state"),
        Opt::flag('a', "arguments and environment, of user memory"),
        Opt::flag('r', "resource limits"),
        Opt::value('C', "CPUS", "with -l or -m: by CPU (0,2-3 or `all`)"),
    ],
    details: "\
`>` marks what a CPU was running. VSZ and RSS are KiB, RSS with the part that
each CPU or thread keeps for itself; `-` stands where the dump has no answer.
States: RU running, IN interruptible, UN uninterruptible, ID idle, ST stopped,
TR traced, ZO zombie, DE dead, PA parked, NE new.",
    examples: &[
        ("", "all tasks"),
        ("-u", "tasks of user space"),
        ("-m", "how long ago each one ran"),
        ("-p 1", "who started PID 1"),
        ("kthreadd", "all tasks named kthreadd"),
        ("'^kworker.*'", "all tasks with names that a regular expression matches"),
        ("-m -C 0", "what ran on CPU 0, last one first"),
        ("-r 1", "the limits of process 1"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "a task",
            members: "`addr` `pid` `tgid` `ppid` `comm` `state` `cpu` `active` `flags` `stack` `mm` `signal` `last_arrival_ns` `start_ns`, `memory`, `memory_percent`",
        },
        Rows {
            options: "-l, -m",
            row: "a task",
            members: "as `ps` without `memory`, and `since_ns`",
        },
        Rows { options: "-t", row: "a task", members: "and `run_time_ns` `user_ns` `system_ns`" },
        Rows {
            options: "-p, -c, -g",
            row: "a task",
            members: "and `related`: its parents (first one first), children, or threads",
        },
        Rows {
            options: "-a",
            row: "a task",
            members: "and `arguments` `environment`, or `unread`",
        },
        Rows {
            options: "-r",
            row: "a task",
            members: "and `limits` (`name` `current` `maximum`; null: unlimited), or `unread`",
        },
        Rows { options: "-S", row: "a state", members: "`state` `tasks`" },
    ],
    each: Some(show),
    run,
};

/// One line of the table, and a row of JSON.
#[derive(Debug, Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    task: &'a Task,
    /// None for kernel threads.
    memory: Option<TaskMemory>,
    /// Why the memory can't be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_unknown: Option<String>,
    /// Percent of the machine's memory that is resident.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_percent: Option<f64>,
    /// `thread.sp`: where the stack of a task that was not running ends.
    #[serde(skip)]
    stack_pointer: Option<u64>,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let table = tasks(COMMAND.name, session, out)?;
    let chosen = named(table, &args.words)?;
    show(session, &chosen, args, out)
}

/// The tasks that words mean: all, without words.
fn named<'t>(table: &'t TaskTable, words: &[String]) -> Result<Vec<&'t Task>, CommandError> {
    if words.is_empty() {
        return Ok(table.list.iter().collect());
    }
    let mut chosen: Vec<&Task> = Vec::new();
    for word in words {
        let by_name: Vec<&Task> = table.list.iter().filter(|t| t.comm == *word).collect();
        if !by_name.is_empty() {
            chosen.extend(by_name);
        } else if let Some(regex) = pattern::of_word(COMMAND.name, word)? {
            chosen.extend(table.list.iter().filter(|task| regex.is_match(&task.comm)));
        } else {
            chosen.extend(target::find(COMMAND.name, table, word)?);
        }
    }
    Ok(chosen)
}

/// Shows `chosen` as far as the options let them through.
pub(super) fn show(
    session: &Session,
    chosen: &[&Task],
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let table = kernel.tasks().map_err(super::failed(COMMAND.name))?;
    let policies = args.value('y').map(policies).transpose()?;
    let layout = kernel.layout::<TaskLayout>().map_err(super::failed(COMMAND.name))?;
    let fits = |task: &Task| {
        let of_kernel = task.is_kernel_thread() || task.pid == 0;
        (!args.has('u') || !of_kernel)
            && (!args.has('k') || of_kernel)
            && (!args.has('G') || task.is_leader())
            && (!args.has('A') || task.active)
            && policies.as_ref().is_none_or(|wanted| {
                layout.policy.read(kernel, task.addr).is_ok_and(|p| wanted.contains(&p))
            })
    };
    let chosen: Vec<&Task> = chosen.iter().copied().filter(|t| fits(t)).collect();
    // Of several that exclude each other the last one counts, as in crash.
    match args.letters().filter(|l| "lmtpcgSar".contains(*l)).last() {
        Some(letter @ ('l' | 'm')) => {
            let Some(cpus) = args.value('C') else {
                return ps_times::last_run(kernel, chosen, letter == 'm', out);
            };
            let possible = kernel.possible_cpus().map_err(super::failed(COMMAND.name))?;
            let cpus = target::cpus(COMMAND.name, cpus, &possible)?;
            return ps_times::by_cpu(session, &chosen, &cpus, letter == 'm', out);
        }
        Some('a') => return Ok(ps_process::arguments(kernel, &chosen, out)?),
        Some('r') => return Ok(ps_process::limits(kernel, &chosen, out)?),
        Some('t') => return ps_times::cpu_times(kernel, chosen, out),
        Some('p') => return Ok(ps_family::parents(kernel, table, &chosen, out)?),
        Some('c') => return Ok(ps_family::children(kernel, table, &chosen, out)?),
        Some('g') => return Ok(ps_family::threads(table, &chosen, out)?),
        Some('S') => return Ok(ps_family::states(&chosen, out)?),
        _ if args.has('C') => {
            let what = "-C stands with -l or -m".to_owned();
            return Err(CommandError::Usage { command: COMMAND.name, what });
        }
        _ => {}
    }
    let total = total_pages(kernel);
    // A policy that no task has is an answer, too.
    if !out.is_json() && !args.has('H') && (!chosen.is_empty() || args.has('y')) {
        render_header(out, args.has('s'))?;
    }
    let (page_size, hidden) = (kernel.page_size(), session.hidden_cpus());
    for batch in chosen.chunks(BATCH) {
        let stacks = args.has('s');
        let rows: Vec<Row<'_>> = match batch.len() {
            // Threads cost more than few rows do.
            0..BATCH => batch.iter().map(|task| row(kernel, task, total, stacks)).collect(),
            _ => batch.par_iter().map(|task| row(kernel, task, total, stacks)).collect(),
        };
        for row in rows {
            match out.is_json() {
                true => out.row(&row)?,
                false => render(out, &row, page_size, args.has('s'), &hidden)?,
            }
        }
    }
    Ok(())
}

/// Rows that are worked out at a time.
const BATCH: usize = 1024;

/// What %MEM is a part of: as in crash(8) the pages that the nodes span, which
/// is the machine's memory and a few holes.
fn total_pages(kernel: &Kernel) -> Option<u64> {
    let nodes = kernel.nodes().ok()?;
    Some(nodes.iter().map(|node| node.spanned).sum()).filter(|pages| *pages > 0)
}

fn row<'t>(kernel: &Kernel, task: &'t Task, total: Option<u64>, with_stack: bool) -> Row<'t> {
    let (memory, memory_unknown) = match kernel.task_memory(task) {
        Ok(memory) => (memory, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let memory_percent =
        memory.as_ref().zip(total).map(|(m, total)| m.rss() as f64 * 100.0 / total as f64);
    let idle_sp = with_stack && !task.active;
    let stack_pointer = if idle_sp { super::bt::switched_sp(kernel, task) } else { None };
    Row { task, memory, memory_unknown, memory_percent, stack_pointer }
}

/// Numbers of the scheduling policies in `words` (include/uapi/linux/sched.h).
fn policies(words: &str) -> Result<Vec<u32>, CommandError> {
    const NAMES: [&str; 8] = ["NORMAL", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE", "EXT"];
    words
        .split(',')
        .map(|word| {
            let name = word.to_uppercase();
            let by_name = NAMES.iter().position(|n| *n == name.trim_start_matches("SCHED_"));
            by_name.map(|i| i as u32).or_else(|| word.parse().ok()).ok_or_else(|| {
                let what = format!("{word} is no scheduling policy ({})", NAMES.join(", "));
                CommandError::Usage { command: COMMAND.name, what }
            })
        })
        .collect()
}

fn render_header(out: &mut dyn Write, stacks: bool) -> io::Result<()> {
    let middle = if stacks { "KSTACKP" } else { " TASK  " };
    writeln!(out, "      PID    PPID  CPU      {middle}      ST  %MEM      VSZ      RSS  COMM")
}

fn render(
    out: &mut dyn Write,
    row: &Row<'_>,
    page_size: u64,
    stacks: bool,
    hidden: &[u32],
) -> io::Result<()> {
    let task = row.task;
    let mark = match task.active {
        true if hidden.contains(&task.cpu) => '-',
        true => '>',
        false => ' ',
    };
    let middle = match (stacks, row.stack_pointer) {
        (false, _) => format!("{:016x}", task.addr),
        (true, Some(sp)) => format!("{sp:016x}"),
        (true, None) => format!("{:^16}", "--"),
    };
    let kib = |pages: u64| (pages.saturating_mul(page_size) / 1024).to_string();
    let (percent, size, resident) = match (&row.memory, &row.memory_unknown) {
        (_, Some(_)) => ("-".to_owned(), "-".to_owned(), "-".to_owned()),
        (None, None) => ("0.0".to_owned(), "0".to_owned(), "0".to_owned()),
        (Some(memory), None) => (
            row.memory_percent.map_or("-".to_owned(), |percent| format!("{percent:.1}")),
            kib(memory.total_vm),
            kib(memory.rss().max(0) as u64),
        ),
    };
    let name = match task.is_kernel_thread() || task.pid == 0 {
        true => format!("[{}]", task.comm),
        false => task.comm.clone(),
    };
    writeln!(
        out,
        "{}{:>8}{:>8} {:>3}  {middle}  {}  {percent:>4} {size:>8} {resident:>8}  {name}",
        mark,
        task.pid,
        // Whoever forked an idle task is not its parent to people.
        if task.pid == 0 { 0 } else { task.ppid },
        task.cpu,
        task.state.crash_code(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::task;
    use kmortem_kernel::task::TaskState;

    fn memory() -> TaskMemory {
        TaskMemory {
            mm: 0xffff_8880_0100_0000,
            total_vm: 565,
            rss_file: 400,
            rss_anon: 30,
            rss_shmem: 2,
            swap: 0,
            locked: None,
            data: None,
            mappings: None,
            page_tables_bytes: None,
            oom_score_adj: None,
            exe_file: 0,
        }
    }

    fn line(row: &Row<'_>, stacks: bool) -> String {
        let mut out = Vec::new();
        render(&mut out, row, 4096, stacks, &[]).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_fit_under_the_header() {
        let mut idle = task(0, "swapper/0");
        idle.active = true;
        let mut user = task(1234, "init");
        (user.ppid, user.state, user.cpu) = (1, TaskState::Uninterruptible, 3);
        let row = |task, memory, unknown: Option<&str>, percent| Row {
            task,
            memory,
            memory_unknown: unknown.map(str::to_owned),
            memory_percent: percent,
            stack_pointer: None,
        };
        let mut text = Vec::new();
        render_header(&mut text, false).unwrap();
        let mut text = String::from_utf8(text).unwrap();
        text += &line(&row(&idle, None, None, None), false);
        text += &line(&row(&user, Some(memory()), None, Some(12.34)), false);
        text += &line(&row(&user, None, Some("filtered"), None), false);
        text += &line(&row(&user, Some(memory()), None, None), true);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn policies_have_names_and_numbers() {
        assert_eq!(policies("fifo,RR,0,SCHED_IDLE").unwrap(), [1, 2, 0, 5]);
        assert!(policies("fast").unwrap_err().is_usage());
    }
}
