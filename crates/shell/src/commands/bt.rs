//! `bt`: the kernel stacks of tasks.

use std::io::Write;

use kmortem_kernel::Kernel;
use kmortem_kernel::stack::Stack;
use kmortem_kernel::task::{Task, TaskLayout, TaskTable};
use serde::Serialize;

use super::stack_text::{Radix, Style, render, render_raw};
use super::{failed, task_header, tasks};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::target;

pub(crate) const COMMAND: Command = Command {
    name: "bt",
    summary: "shows the kernel stack of a task",
    arguments: "[PID | TASK]...",
    options: &[
        Opt::flag('a', "the tasks that the CPUs were running"),
        Opt::value('c', "CPUS", "the tasks that these CPUs were running (0,2-3 or `all`)"),
        Opt::flag('g', "with all threads of the same process"),
        Opt::value('n', "idle", "with -a: leave idle tasks out"),
        Opt::flag('p', "the task that crashed"),
        Opt::value('R', "FUNCTION", "only stacks that go through this function"),
        Opt::flag('r', "the stack's memory as it is"),
        Opt::flag('f', "with the stack's words in each frame"),
        Opt::flag('s', "with the offset into the function"),
        Opt::flag('x', "offsets in hexadecimal"),
        Opt::flag('d', "offsets in decimal (the default)"),
        Opt::later('t'),
        Opt::later('T'),
        Opt::later('l'),
        Opt::later('e'),
        Opt::later('E'),
        Opt::later('F'),
        Opt::later('o'),
        Opt::later('O'),
        Opt::later('v'),
        Opt::later('I'),
        Opt::later('S'),
    ],
    details: "\
Without PID or TASK: the current task, which is the one that crashed unless
`set` chose another. A running task's stack starts at the registers that the
dump has for its CPU, so the frames above `panic` are there too. A frame that
was not found by the kernel's own unwind rules says so at the end of its line.",
    examples: &[
        ("", "the task that crashed"),
        ("-a", "what each CPU was doing"),
        ("1 2", "two tasks"),
        ("-s -x 1", "with offsets, in hexadecimal"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "a stack",
            members: "`task`, `stack`: `frames` (`pc` `at` `sp` `symbol` `stack` `registers` `trust` `reason`), `end` (`user` with `registers`, `thread_start`, `broken` with `reason`), `start`",
        },
        Rows { options: "-r", row: "a stack's memory", members: "`task` `from` `words`" },
    ],
    each: Some(show),
    run,
};

/// A stack with the task that it belongs to: a row of JSON.
#[derive(Serialize)]
pub(super) struct TaskStack<'a> {
    task: &'a Task,
    stack: Stack,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let table = tasks(COMMAND.name, session, out)?;
    let chosen = choose(session, table, args)?;
    show(session, &chosen, args, out)
}

/// The tasks that options and words mean.
fn choose<'s>(
    session: &'s Session,
    table: &'s TaskTable,
    args: &Args,
) -> Result<Vec<&'s Task>, CommandError> {
    let kernel = session.kernel();
    let mut chosen: Vec<&Task> = Vec::new();
    if args.has('a') || args.has('c') {
        let possible = kernel.possible_cpus().map_err(failed(COMMAND.name))?;
        let cpus = match args.value('c') {
            Some(cpus) => target::cpus(COMMAND.name, cpus, &possible)?,
            None => possible,
        };
        let running = |cpu: &u32| table.list.iter().find(|t| t.active && t.cpu == *cpu);
        let skip_idle = match args.value('n') {
            None => false,
            Some("idle") => true,
            Some(other) => {
                let what = format!("-n takes `idle`, not `{other}`");
                return Err(CommandError::Usage { command: COMMAND.name, what });
            }
        };
        chosen.extend(cpus.iter().filter_map(running).filter(|t| !(skip_idle && t.pid == 0)));
        return Ok(chosen);
    }
    if args.has('p') {
        let crashed = session.crashed_task().and_then(|addr| table.at(addr));
        let what =
            || "no task is known to have crashed; `bt -a` shows what the CPUs did".to_owned();
        let command = COMMAND.name;
        return Ok(vec![crashed.ok_or_else(|| CommandError::Failed { command, what: what() })?]);
    }
    for word in &args.words {
        chosen.extend(target::find(COMMAND.name, table, word)?);
    }
    if args.words.is_empty() {
        chosen.push(session.current_task(COMMAND.name)?);
    }
    if args.has('g') {
        let groups: Vec<i32> = chosen.iter().map(|t| t.tgid).collect();
        let threads = table.list.iter().filter(|t| t.pid != 0 && groups.contains(&t.tgid));
        chosen.retain(|t| t.pid == 0);
        chosen.extend(threads);
    }
    Ok(chosen)
}

/// Shows the stacks of `chosen`, a blank line between them.
pub(super) fn show(
    session: &Session,
    chosen: &[&Task],
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let style = Style {
        offsets: args.has('s'),
        radix: if args.has('x') && !args.has('d') { Radix::Hex } else { Radix::Decimal },
    };
    if args.has('r') {
        return show_raw(kernel, chosen, out);
    }
    let only = args.value('R');
    let mut first = true;
    // In batches: stacks are found on all cores, and little waits to be shown.
    for batch in chosen.chunks(512) {
        let found = stacks_of(kernel, batch);
        for row in found.iter().filter(|row| only.is_none_or(|name| goes_through(row, name))) {
            if out.is_json() {
                out.row(row)?;
                continue;
            }
            if !std::mem::take(&mut first) {
                writeln!(out)?;
            }
            task_header::render(out, row.task)?;
            let words = if args.has('f') { Some(frame_words(kernel, row)) } else { None };
            render(out, &row.stack, words.as_deref(), style)?;
        }
    }
    Ok(())
}

/// The stacks of many tasks at once, in the order of the tasks.
fn stacks_of<'t>(kernel: &Kernel, tasks: &[&'t Task]) -> Vec<TaskStack<'t>> {
    use rayon::prelude::*;
    let one = |task: &'t Task| TaskStack { task, stack: kernel.stack(task) };
    match tasks {
        // Threads cost more than one stack does.
        [task] => vec![one(task)],
        tasks => tasks.par_iter().map(|task| one(task)).collect(),
    }
}

/// The stack pointer with which a task was left when its CPU switched away.
pub(super) fn switched_sp(kernel: &Kernel, task: &Task) -> Option<u64> {
    let layout = kernel.layout::<TaskLayout>().ok()?;
    layout.thread_sp.read(kernel, task.addr).ok()
}

fn goes_through(row: &TaskStack<'_>, function: &str) -> bool {
    let named = |f: &kmortem_kernel::stack::Frame| {
        f.symbol.as_ref().is_some_and(|s| s.name == function) || f.function() == function
    };
    row.stack.frames.iter().any(named)
}

/// For each frame: the stack words from behind it to its caller's return
/// address, which belong to the caller. `None` where they can't be read.
fn frame_words(kernel: &Kernel, row: &TaskStack<'_>) -> Vec<(u64, Option<Vec<u64>>)> {
    let frames = &row.stack.frames;
    (0..frames.len())
        .map(|i| {
            let from = frames[i].at.wrapping_add(8);
            let next = frames.get(i + 1).map(|f| f.at + 8);
            // A frame on another stack, or the last one, has no end to show.
            let to = next.filter(|to| *to >= from && to - from <= 1 << 16).unwrap_or(from);
            (from, read_words(kernel, from, to))
        })
        .collect()
}

fn read_words(kernel: &Kernel, from: u64, to: u64) -> Option<Vec<u64>> {
    let bytes = kernel.read_bytes(from, to.checked_sub(from)?).ok()?;
    let word = |raw: &[u8]| raw.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
    Some(bytes.chunks_exact(8).map(word).collect())
}

/// A row of JSON of `bt -r`.
#[derive(Serialize)]
struct RawStack<'a> {
    task: &'a Task,
    /// Address of the first word.
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    from: u64,
    /// `symbol+offset` where a word is an address in the kernel's image or a
    /// module, else the word in hexadecimal.
    words: Vec<String>,
}

/// The memory of whole stacks, two words a line.
fn show_raw(kernel: &Kernel, chosen: &[&Task], out: &mut Output<'_>) -> Result<(), CommandError> {
    for (i, task) in chosen.iter().enumerate() {
        let from = kernel.stack_range(task).map_err(failed(COMMAND.name))?;
        let Some(words) = read_words(kernel, from.start, from.end) else {
            out.note(format_args!("the stack at {:#x} can't be read", from.start))?;
            continue;
        };
        let words: Vec<String> = words.iter().map(|word| named(kernel, *word)).collect();
        if out.is_json() {
            out.row(&RawStack { task, from: from.start, words })?;
            continue;
        }
        if i > 0 {
            writeln!(out)?;
        }
        task_header::render(out, task)?;
        render_raw(out, from.start, &words)?;
    }
    Ok(())
}

fn named(kernel: &Kernel, word: u64) -> String {
    match kernel.symbol_at(word) {
        Some(symbol) if symbol.offset == 0 => symbol.name,
        Some(symbol) => format!("{}+{}", symbol.name, symbol.offset),
        None => format!("{word:016x}"),
    }
}
