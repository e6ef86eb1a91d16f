//! `bt`: the kernel stacks of tasks.

use std::io::Write;

use kmortem_kernel::Kernel;
use kmortem_kernel::stack::Stack;
use kmortem_kernel::task::{Task, TaskLayout, TaskTable};
use serde::Serialize;

use super::bt_words::Meaning;
use super::stack_text::{Radix, Style, render};
use super::{bt_search, bt_words, failed, task_header, tasks};
use crate::address;
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
        Opt::flag('F', "as -f, with the names of symbols and slab caches; -FF: addresses, too"),
        Opt::flag('t', "all addresses of code from where the stack is in use"),
        Opt::flag('T', "all addresses of code on the stack"),
        Opt::flag('o', "all return addresses on the stack as frames, stale ones too"),
        Opt::flag('O', "makes -o the default, or no longer"),
        Opt::flag('e', "possible exception frames on the stack"),
        Opt::flag('E', "possible exception frames on the stacks of the CPUs"),
        Opt::flag('v', "looks whether any task's stack ran over"),
        Opt::flag('l', "source lines (need debuginfo)"),
        Opt::value('I', "IP", "starts with this code"),
        Opt::value('S', "SP", "starts with this stack pointer"),
    ],
    details: "\
Without PID or TASK: the current task, which is the one that crashed unless
`set` chose another. A running task's stack starts at the registers that the
dump has for its CPU, so the frames above `panic` are there too. A frame that
was not found by the kernel's own unwind rules says so at the end of its line.
What -o, -t, -T, -e and -E find may be left over from calls that have returned.
With -S alone, a word that is a return address (as -t shows them) is the start.",
    examples: &[
        ("", "the task that crashed"),
        ("-a", "what each CPU was doing"),
        ("1 2", "two tasks"),
        ("-FF 1", "with what each word of the frames is"),
        ("-t 1", "what may lie between the frames"),
        ("-v", "a check of all stacks"),
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
        Rows { options: "-t, -T", row: "a task", members: "`task` `words` (`at` `pc` `symbol`)" },
        Rows {
            options: "-e",
            row: "a task",
            members: "`task` `found` (`addr` `user` `symbol` `registers`)",
        },
        Rows { options: "-E", row: "a CPU's stack", members: "`cpu` `kind` `found`, or `unread`" },
        Rows { options: "-v", row: "a stack that ran over", members: "`task` `addr` `found`" },
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
    if args.has('O') {
        let old = &mut session.settings_mut().old_backtrace;
        *old = !*old;
        let which = if *old { "old" } else { "new" };
        out.note(format_args!("use {which} bt method by default"))?;
        return Ok(());
    }
    let session = &*session;
    let table = tasks(COMMAND.name, session, out)?;
    if args.has('v') {
        return bt_search::check(session.kernel(), table, out);
    }
    if args.has('E') {
        let cpus = match args.value('c') {
            Some(cpus) => {
                let possible = session.kernel().possible_cpus().map_err(failed(COMMAND.name))?;
                Some(target::cpus(COMMAND.name, cpus, &possible)?)
            }
            None => None,
        };
        return bt_search::show_cpus(session.kernel(), cpus.as_deref(), style(args), out);
    }
    let chosen = choose(session, table, args)?;
    show(session, &chosen, args, out)
}

fn style(args: &Args) -> Style {
    let hex = args.has('x') && !args.has('d');
    let radix = if hex { Radix::Hex } else { Radix::Decimal };
    Style { offsets: args.has('s'), radix, doubts: true }
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
        // Asked for by number, as opposed to all.
        let hidden = match args.has('c') {
            true => session.hidden_cpus(),
            false => Vec::new(),
        };
        if let Some(cpu) = cpus.iter().find(|cpu| hidden.contains(cpu))
            && cpus.iter().all(|cpu| hidden.contains(cpu))
        {
            let what = format!("CPU {cpu} is OFFLINE.");
            return Err(CommandError::Failed { command: COMMAND.name, what });
        }
        let cpus: Vec<u32> = cpus.into_iter().filter(|cpu| !hidden.contains(cpu)).collect();
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
    if args.has('p') && args.words.is_empty() {
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
    let style = style(args);
    if args.has('r') {
        return bt_words::show_raw(kernel, chosen, out);
    }
    if args.has('t') || args.has('T') {
        return bt_words::show_text(kernel, chosen, args.has('T'), style, out);
    }
    if args.has('e') {
        return bt_search::show_saved(kernel, chosen, style, out);
    }
    if args.has('l') {
        out.note("source lines need debuginfo, which kmortem does not read yet")?;
    }
    let how = How::of(session, args)?;
    let style = Style { doubts: how != How::Old, ..style };
    let meaning = match (args.count('F'), args.has('f')) {
        (0, false) => None,
        (0, true) => Some(Meaning::None),
        (1, _) => Some(Meaning::Names),
        _ => Some(Meaning::NamesAndAddresses),
    };
    let only = args.value('R');
    let mut first = true;
    // In batches: stacks are found on all cores, and little waits to be shown.
    for batch in chosen.chunks(512) {
        let found = stacks_of(kernel, batch, how);
        for row in found.iter().filter(|row| only.is_none_or(|name| goes_through(row, name))) {
            if out.is_json() {
                out.row(row)?;
                continue;
            }
            if !std::mem::take(&mut first) {
                writeln!(out)?;
            }
            task_header::render(out, row.task)?;
            if row.task.stack == 0 {
                // It is dead, its parent has not looked yet.
                writeln!(out, "(no stack)")?;
                continue;
            }
            let words = meaning.map(|m| bt_words::frame_words(kernel, &row.stack, m));
            render(out, &row.stack, words.as_deref(), style)?;
        }
    }
    Ok(())
}

/// How a stack is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// By the kernel's unwind rules.
    Rules,
    /// By all return addresses that stand on it.
    Old,
    /// By the rules, from what the command line says.
    From { ip: Option<u64>, sp: Option<u64> },
}

impl How {
    fn of(session: &Session, args: &Args) -> Result<How, CommandError> {
        let kernel = session.kernel();
        let value = |letter| {
            let word = args.value(letter);
            word.map(|word| address::address(COMMAND.name, kernel, word)).transpose()
        };
        let (ip, sp) = (value('I')?, value('S')?);
        Ok(match (ip, sp) {
            (None, None) if args.has('o') != session.settings().old_backtrace => How::Old,
            (None, None) => How::Rules,
            (ip, sp) => How::From { ip, sp },
        })
    }
}

/// The stacks of many tasks at once, in the order of the tasks.
fn stacks_of<'t>(kernel: &Kernel, tasks: &[&'t Task], how: How) -> Vec<TaskStack<'t>> {
    use rayon::prelude::*;
    let follow = |task: &Task| match how {
        How::Rules => kernel.stack(task),
        How::Old => kernel.stale_stack(task),
        How::From { ip, sp } => kernel.stack_at(task, ip, sp),
    };
    let one = |task: &'t Task| TaskStack { task, stack: follow(task) };
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

/// Whether a stack goes through a function, or an address of code.
fn goes_through(row: &TaskStack<'_>, reference: &str) -> bool {
    let address = address::hex(reference);
    let named = |f: &kmortem_kernel::stack::Frame| {
        f.symbol.as_ref().is_some_and(|s| s.name == reference)
            || f.function() == reference
            || Some(f.pc) == address
    };
    row.stack.frames.iter().any(named)
}
