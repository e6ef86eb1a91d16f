//! `task`: the `task_struct` and `thread_info` of tasks.

use std::io::Write;

use kmortem_debuginfo::btf::Type;
use kmortem_kernel::Kernel;
use kmortem_kernel::task::Task;
use serde::Serialize;

use super::{failed, task_header, tasks};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::target;
use crate::value::{Bytes, Reader, Shown, Style};

pub(crate) const COMMAND: Command = Command {
    name: "task",
    summary: "shows the task_struct and thread_info of tasks",
    arguments: "[PID | TASK | MEMBER[,MEMBER]...]...",
    options: &[
        Opt::value('R', "MEMBERS", "only these members of either struct (`comm,se.load`)"),
        Opt::flag('x', "numbers in hexadecimal"),
        Opt::flag('d', "numbers in decimal"),
    ],
    details: "\
Without PID or TASK: the current task (see `set`). -R may be left out before MEMBERS, but not
under `foreach`.",
    examples: &[
        ("-R comm,pid,se.load 1", "some members, of PID 1"),
        ("-x -R flags 1 2", "of two tasks, in hexadecimal"),
        ("comm", "one member, of the current task"),
        ("", "the whole of the current task"),
    ],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "a task",
        members: "`task`, `task_struct` and `thread_info`: their members, or those that were named",
    }],
    each: Some(show),
    run,
};

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a> {
    task: &'a Task,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_struct: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_info: Option<Shown>,
}

/// The two structs, where this task's lie.
struct Structs<'k> {
    task: (Type<'k>, u64),
    thread: (Type<'k>, u64),
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let table = tasks(COMMAND.name, session, out)?;
    let kernel = session.kernel();
    let mut chosen = Vec::new();
    let mut members: Vec<&str> = args.values('R').flat_map(|list| list.split(',')).collect();
    for word in &args.words {
        if is_members(kernel, word) {
            members.extend(word.split(','));
        } else {
            chosen.extend(target::find(COMMAND.name, table, word)?);
        }
    }
    if chosen.is_empty() {
        chosen.push(session.current_task(COMMAND.name)?);
    }
    show_members(session, &chosen, &members, args, out)
}

/// Whether `word` names members: all of its parts do.
fn is_members(kernel: &Kernel, word: &str) -> bool {
    let types = [kernel.ty("task_struct"), kernel.ty("thread_info")];
    let has = |path: &str| types.iter().flatten().any(|ty| ty.member(path).is_some());
    word.split(',').all(has)
}

/// Shows `chosen`.
fn show(
    session: &Session,
    chosen: &[&Task],
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let members: Vec<&str> = args.values('R').flat_map(|list| list.split(',')).collect();
    show_members(session, chosen, &members, args, out)
}

fn show_members(
    session: &Session,
    chosen: &[&Task],
    members: &[&str],
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let style = Style::of(session.settings(), args);
    let fail = |what: String| CommandError::Failed { command: COMMAND.name, what };
    let task_struct = kernel.ty("task_struct").map_err(failed(COMMAND.name))?;
    let thread_info = kernel.ty("thread_info").map_err(failed(COMMAND.name))?;
    let unknown = members
        .iter()
        .find(|path| [task_struct, thread_info].iter().all(|ty| ty.member(path).is_none()));
    if let Some(path) = unknown {
        return Err(fail(format!("{path} is a member neither of task_struct nor of thread_info")));
    }
    for task in chosen {
        // Where tasks carry it, at their start; else at the end of the stack.
        let embedded = task_struct.member("thread_info");
        let at = embedded.map_or(task.stack, |found| task.addr.wrapping_add(found.bit_offset / 8));
        let structs = Structs { task: (task_struct, task.addr), thread: (thread_info, at) };
        if out.is_json() {
            out.row(&structs.row(kernel, task, members))?;
            continue;
        }
        task_header::render(out, task)?;
        structs.render(session, members, style, out)?;
    }
    Ok(())
}

impl Structs<'_> {
    fn render(
        &self,
        session: &Session,
        members: &[&str],
        style: Style,
        out: &mut Output<'_>,
    ) -> Result<(), CommandError> {
        let kernel = session.kernel();
        let mut reader = Reader::with(kernel, session.settings());
        let structs = [self.task, self.thread]
            .map(|(ty, at)| (ty, Bytes::read(kernel, at, ty.size().unwrap_or(0))));
        if members.is_empty() {
            for (i, (ty, bytes)) in structs.iter().enumerate() {
                if i > 0 {
                    writeln!(out)?;
                }
                Shown::whole_of(&mut reader, *ty, bytes).render(out, style)?;
            }
            writeln!(out)?;
            return Ok(());
        }
        for path in members {
            for (ty, bytes) in &structs {
                if let Ok(shown) = Shown::members_of(&mut reader, *ty, bytes, &[path]) {
                    shown.render(out, style)?;
                }
            }
        }
        writeln!(out)?;
        Ok(())
    }

    fn row<'a>(&self, kernel: &Kernel, task: &'a Task, members: &[&str]) -> Row<'a> {
        let shown = |(ty, at): (Type<'_>, u64)| {
            let bytes = Bytes::read(kernel, at, ty.size().unwrap_or(0));
            let mut reader = Reader::for_json(kernel);
            if members.is_empty() {
                return Some(Shown::whole_of(&mut reader, ty, &bytes));
            }
            let has = |path: &&&str| ty.member(path).is_some();
            let own: Vec<&str> = members.iter().filter(has).copied().collect();
            let some = (!own.is_empty()).then_some(own)?;
            Shown::members_of(&mut reader, ty, &bytes, &some).ok()
        };
        Row { task, task_struct: shown(self.task), thread_info: shown(self.thread) }
    }
}
