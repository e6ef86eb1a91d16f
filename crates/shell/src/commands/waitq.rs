//! `waitq`: who sleeps on a wait queue.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::layout::place_of;
use kmortem_kernel::task::TaskTable;
use kmortem_kernel::waitqueue::WaitQueue;

use super::{failed, task_header, tasks};
use crate::address;
use crate::args::Args;
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "waitq",
    summary: "lists the tasks that sleep on a wait queue",
    arguments: "SYMBOL | STRUCT.MEMBER ADDRESS | ADDRESS",
    options: &[],
    details: "\
Both kinds of queues are read: wait_queue_head and swait_queue_head. An entry
that wakes no task of its own (epoll, io_uring) is shown with its function.
`locks` finds the queue that a task sleeps on.",
    examples: &[
        ("log_wait", "who waits for messages of the kernel"),
        ("signal_struct.wait_chldexit init_signals", "who waits for children of the first task"),
    ],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "a wait queue",
        members: "`addr` `entries`: `addr` `task` `function` `exclusive`; `broken`: why some are missing",
    }],
    each: None,
    run,
};

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let kernel = session.kernel();
    let (addr, name) = match args.words.as_slice() {
        [word] => {
            let name = address::hex(word).is_none().then_some(word.as_str());
            (address::address(COMMAND.name, kernel, word)?, name)
        }
        [member, object] => {
            let object = address::address(COMMAND.name, kernel, object)?;
            let offset = member_offset(kernel, member)?;
            (object.wrapping_add(offset), Some(member.as_str()))
        }
        _ => {
            let what = format!("it takes {}", COMMAND.arguments);
            return Err(CommandError::Usage { command: COMMAND.name, what });
        }
    };
    let queue = kernel.wait_queue(addr).map_err(failed(COMMAND.name))?;
    if out.is_json() {
        out.row(&queue)?;
    } else {
        let table = tasks(COMMAND.name, session, out)?;
        render(out, &queue, name, table)?;
    }
    if let Some(reason) = &queue.broken {
        out.note(format_args!("entries are missing: {reason}"))?;
    }
    Ok(())
}

/// Offset of `struct.member`.
fn member_offset(kernel: &Kernel, word: &str) -> Result<u64, CommandError> {
    let (ty, member) = word.split_once('.').ok_or_else(|| CommandError::Usage {
        command: COMMAND.name,
        what: format!("`{word}` is no STRUCT.MEMBER"),
    })?;
    let found = kernel.ty(ty).map_err(failed(COMMAND.name))?;
    let place = place_of(found.strip(), member).ok_or_else(|| CommandError::Failed {
        command: COMMAND.name,
        what: format!("{ty} has no member {member} in this kernel"),
    })?;
    Ok(place.offset)
}

fn render(
    out: &mut dyn Write,
    queue: &WaitQueue,
    name: Option<&str>,
    table: &TaskTable,
) -> io::Result<()> {
    if queue.entries.is_empty() && queue.broken.is_none() {
        return match name {
            Some(name) => writeln!(out, "wait queue \"{name}\" ({:x}) is empty", queue.addr),
            None => writeln!(out, "wait queue {:x} is empty", queue.addr),
        };
    }
    for entry in &queue.entries {
        match entry.task.and_then(|task| table.at(task)) {
            Some(task) => task_header::render(out, task)?,
            None => {
                let function = entry.function.as_ref().map_or("-", |function| &function.name);
                writeln!(out, "ENTRY: {:016x}  FUNCTION: {function}", entry.addr)?;
            }
        }
    }
    Ok(())
}
