//! `set`: the task that commands speak of when none is named.

use std::io::{self, Write};

use kmortem_kernel::task::{Task, TaskState};
use serde::Serialize;

use super::{failed, tasks};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::target;

pub(crate) const COMMAND: Command = Command {
    name: "set",
    summary: "shows or changes the current task",
    arguments: "[PID | TASK]",
    options: &[
        Opt::value('c', "CPU", "the task that this CPU was running"),
        Opt::flag('p', "the task that crashed"),
        Opt::later('a'),
        Opt::later('v'),
    ],
    details: "The current task is the one that crashed until it is changed.",
    examples: &[("", "the current task"), ("1", "makes PID 1 the current task")],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "the current task",
        members: "as `ps` without `memory`, and `crashed`",
    }],
    each: None,
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
    let chosen = {
        let session = &*session;
        let table = tasks(COMMAND.name, session, out)?;
        if let Some(cpu) = args.value('c') {
            let possible = session.kernel().possible_cpus().map_err(failed(COMMAND.name))?;
            let cpus = target::cpus(COMMAND.name, cpu, &possible)?;
            let running = table.list.iter().find(|t| t.active && cpus.first() == Some(&t.cpu));
            let what = || format!("what CPU {cpu} was running is not known");
            let command = COMMAND.name;
            Some(running.ok_or_else(|| CommandError::Failed { command, what: what() })?.addr)
        } else if args.has('p') {
            session.crashed_task()
        } else if let Some(word) = args.words.first() {
            target::find(COMMAND.name, table, word)?.first().map(|t| t.addr)
        } else {
            None
        }
    };
    if let Some(task) = chosen {
        session.choose(task);
    }
    let task = session.current_task(COMMAND.name)?;
    let crashed = session.crashed_task() == Some(task.addr);
    if out.is_json() {
        return Ok(out.row(&Current { task, crashed })?);
    }
    let mark = match (crashed, task.active) {
        (true, _) => match by_sysrq(session) {
            true => " (SYSRQ)",
            false => " (PANIC)",
        },
        (false, true) => " (ACTIVE)",
        (false, false) => "",
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
    writeln!(out, "  STATE: {}{mark}", state_name(task.state))
}

/// The kernel's own name of a state (include/linux/sched.h).
fn state_name(state: TaskState) -> String {
    let name = match state {
        TaskState::Running => "TASK_RUNNING",
        TaskState::Interruptible => "TASK_INTERRUPTIBLE",
        TaskState::Uninterruptible => "TASK_UNINTERRUPTIBLE",
        TaskState::Idle => "TASK_IDLE",
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
        render(&mut text, &task(0, "swapper/1"), (2, 4), " (ACTIVE)").unwrap();
        render(&mut text, &task(1, "init"), (1, 1), "").unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}
