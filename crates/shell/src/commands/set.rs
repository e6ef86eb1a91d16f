//! `set`: the task that commands speak of when none is named, and variables.

use std::io::{self, Write};

use kmortem_kernel::task::{Task, TaskState};
use serde::Serialize;

use super::{failed, set_variable, task_header, tasks};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::target;

pub(crate) const COMMAND: Command = Command {
    name: "set",
    summary: "shows or changes the current task, or a variable",
    arguments: "[PID | TASK] | VARIABLE [VALUE]...",
    options: &[
        Opt::value('c', "CPU", "the task that this CPU was running"),
        Opt::flag('p', "the task that crashed"),
        Opt::flag('a', "counts the task as the active one of its CPU from now on"),
        Opt::flag('v', "all variables"),
    ],
    details: "\
The current task is the one that crashed until it is changed. A VARIABLE without a VALUE is shown:
  radix 10 | 16          base of numbers (also `hex` and `dec`)
  scroll on | off        long answers go through a pager on a terminal; less, more and CRASHPAGER
                         say which one
  print_max N            elements of an array that are printed
  print_array on | off   a line for each element
  null-stop on | off     character arrays end at their first NUL
  silent on | off        input files run without showing their commands
  edit vi | emacs        how lines are edited
  gdb on | off           all lines are gdb's; `crash COMMAND` is one of these commands then
  scope ADDRESS          a text address; 0: none (kept; the types of a dump have no scopes)
  offline show | hide    whether CPUs that are offline are shown
  error default | redirect | FILE    errors go to standard error, with the answer, or into FILE
  redzone on | off       whether `kmem` counts an object's red zone to it
  debug, core, hash, refresh, unwind, console    as in crash; kept, nothing depends on them: lists
                         are always watched for loops, stacks unwound by the kernel's ORC tables
zero_excluded stays off: a page that the dump does not have is told as such, never shown as zeros.",
    examples: &[
        ("", "the current task"),
        ("1", "makes PID 1 the current task"),
        ("-v", "all variables"),
        ("radix 16", "numbers in hexadecimal"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "the current task",
            members: "as `ps` without `memory`, and `crashed`",
        },
        Rows { options: "-v, VARIABLE", row: "a variable", members: "`variable` `value`" },
    ],
    each: Some(show),
    run,
};

/// A row of JSON.
#[derive(Serialize)]
struct Current<'a> {
    #[serde(flatten)]
    task: &'a Task,
    crashed: bool,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    if args.has('v') {
        return set_variable::show_all(session, out);
    }
    if args.words.first().is_some_and(|word| set_variable::is_variable(word)) {
        return set_variable::run(session, &args.words, out);
    }
    let chosen = {
        let session = &*session;
        let table = tasks(COMMAND.name, session, out)?;
        if let Some(cpu) = args.value('c') {
            let possible = session.kernel().possible_cpus().map_err(failed(COMMAND.name))?;
            let cpus = target::cpus(COMMAND.name, cpu, &possible)?;
            let cpu = cpus.first().copied().unwrap_or_default();
            if session.hidden_cpus().contains(&cpu) {
                let what = format!("CPU {cpu} is OFFLINE (`set offline show`)");
                return Err(CommandError::Failed { command: COMMAND.name, what });
            }
            let running = || table.list.iter().find(|t| t.active && cpu == t.cpu).map(|t| t.addr);
            let running = session.marked_active(cpu).or_else(running);
            let what = || format!("what CPU {cpu} was running is not known");
            let command = COMMAND.name;
            Some(running.ok_or_else(|| CommandError::Failed { command, what: what() })?)
        } else if args.has('p') {
            session.crashed_task()
        } else if let Some(word) = args.words.first() {
            target::find(COMMAND.name, table, word)?.first().map(|t| t.addr)
        } else {
            None
        }
    };
    if args.has('a') {
        return mark(session, chosen, out);
    }
    if let Some(task) = chosen {
        session.choose(task);
    }
    let task = session.current_task(COMMAND.name)?;
    show_one(session, task, out)
}

/// `set -a`: the task counts as the active one of its CPU.
fn mark(
    session: &mut Session,
    chosen: Option<u64>,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let table = session.kernel().tasks().map_err(failed(COMMAND.name))?;
    let task = match chosen.and_then(|addr| table.at(addr)) {
        Some(task) => task,
        None => session.current_task(COMMAND.name)?,
    };
    let (cpu, addr) = (task.cpu, task.addr);
    let told =
        format!("\"{}\" task {addr:x} has been marked as the active task on cpu {cpu}", task.comm);
    session.mark_active(cpu, addr);
    if out.is_json() {
        let table = session.kernel().tasks().map_err(failed(COMMAND.name))?;
        return table.at(addr).map_or(Ok(()), |task| show_one(session, task, out));
    }
    Ok(writeln!(out, "{told}")?)
}

/// For `foreach`.
fn show(
    session: &Session,
    chosen: &[&Task],
    _: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    for (i, task) in chosen.iter().enumerate() {
        if !out.is_json() {
            if i > 0 {
                writeln!(out)?;
            }
            task_header::render(out, task)?;
        }
        show_one(session, task, out)?;
    }
    Ok(())
}

fn show_one(session: &Session, task: &Task, out: &mut Output<'_>) -> Result<(), CommandError> {
    let crashed = session.crashed_task() == Some(task.addr);
    if out.is_json() {
        return Ok(out.row(&Current { task, crashed })?);
    }
    context(session, task, out)
}

/// What a task is, in the lines that crash shows of its context.
pub(super) fn context(
    session: &Session,
    task: &Task,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let active = match session.marked_active(task.cpu) {
        Some(marked) => marked == task.addr,
        None => task.active,
    };
    let mark = match (session.crashed_task() == Some(task.addr), active) {
        (true, _) => match by_sysrq(session) {
            true => "(SYSRQ)",
            false => "(PANIC)",
        },
        (false, true) => "(ACTIVE)",
        _ => "",
    };
    // All idle tasks have PID 0.
    let table = session.kernel().tasks().map_err(failed(COMMAND.name))?;
    let same: Vec<u64> = table.list.iter().filter(|t| t.pid == task.pid).map(|t| t.addr).collect();
    let place = same.iter().position(|addr| *addr == task.addr).unwrap_or(0) + 1;
    Ok(render(out, task, (place, same.len()), mark)?)
}

/// Whether somebody wanted the crash (SysRq "c").
fn by_sysrq(session: &Session) -> bool {
    let panic = session.kernel().log().ok().and_then(|log| log.panic());
    panic.is_some_and(|p| p.message.starts_with("sysrq triggered crash"))
}

fn render(
    out: &mut dyn Write,
    task: &Task,
    (place, of): (usize, usize),
    mark: &str,
) -> io::Result<()> {
    writeln!(out, "    PID: {}", task.pid)?;
    writeln!(out, "COMMAND: \"{}\"", task.comm)?;
    let which = if of > 1 { format!("  ({place} of {of})") } else { String::new() };
    writeln!(out, "   TASK: {:016x}{which}  [THREAD_INFO: {:016x}]", task.addr, task.addr)?;
    writeln!(out, "    CPU: {}", task.cpu)?;
    // The blank stands there in crash, too.
    writeln!(out, "  STATE: {} {mark}", state_name(task.state))
}

/// The kernel's own name of a state (include/linux/sched.h).
fn state_name(state: TaskState) -> String {
    let name = match state {
        TaskState::Running => "TASK_RUNNING",
        TaskState::Interruptible => "TASK_INTERRUPTIBLE",
        TaskState::Uninterruptible => "TASK_UNINTERRUPTIBLE",
        // TASK_IDLE has no bit of its own.
        TaskState::Idle => "TASK_UNINTERRUPTIBLE|TASK_NOLOAD",
        TaskState::Stopped => "TASK_STOPPED",
        TaskState::Traced => "TASK_TRACED",
        TaskState::Zombie => "EXIT_ZOMBIE",
        TaskState::Dead => "TASK_DEAD",
        TaskState::Parked => "TASK_PARKED",
        TaskState::New => "TASK_NEW",
        TaskState::Other(bits) => return format!("{bits:#x}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::task;

    #[test]
    fn one_of_several_tasks_with_a_pid_says_which() {
        let mut text = Vec::new();
        render(&mut text, &task(0, "swapper/1"), (2, 4), "(ACTIVE)").unwrap();
        render(&mut text, &task(1, "init"), (1, 1), "").unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}
