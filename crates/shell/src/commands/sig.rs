//! `sig`: what signals do to tasks, and which ones wait.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::signal::{
    PendingSignals, ProcessSignals, SIGNALS, SignalAction, ThreadSignals, names_in, signal_name,
};
use kmortem_kernel::task::Task;
use serde::Serialize;

use super::{chosen, note_gaps, task_header, tasks};
use crate::address;
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "sig",
    summary: "shows what signals do to a task, and which ones wait",
    arguments: "[PID | TASK]...",
    options: &[
        Opt::flag('l', "the signals with their numbers"),
        Opt::value('s', "SET", "the signals in a set (64 bits in hexadecimal)"),
        Opt::flag('g', "with all threads of the process"),
    ],
    details: "\
SIGPENDING says whether a signal waits that the task does not block. Queues hold
those that came with details; the others are in the set alone.",
    examples: &[
        ("", "the current task"),
        ("-g 1", "process 1 with its threads"),
        ("-l", "numbers and names"),
        ("-s 800a000000000201", "names of the signals in a set"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "a task",
            members: "as `set`, and `signals`: `process` (`signal_struct` `threads` `actions` `pending`), and its own `blocked` and `pending` (`set` `queue`); `unread` has the reasons",
        },
        Rows { options: "-g", row: "a process", members: "as `sig`, and `thread_signals`: a list" },
        Rows { options: "-l, -s", row: "a signal", members: "`signal` `name`" },
    ],
    each: Some(show_each),
    run,
};

/// A row of JSON: a task, or with `-g` a process.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    task: &'a Task,
    signals: Signals,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    thread_signals: Vec<Thread<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unread: Vec<String>,
}

#[derive(Serialize)]
struct Signals {
    process: Option<ProcessSignals>,
    #[serde(flatten)]
    own: Option<ThreadSignals>,
}

#[derive(Serialize)]
struct Thread<'a> {
    pid: i32,
    #[serde(skip)]
    task: &'a Task,
    #[serde(flatten)]
    own: Option<ThreadSignals>,
}

/// A row of JSON of `sig -l` and `sig -s`.
#[derive(Serialize)]
struct Named {
    signal: u32,
    name: String,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    if args.has('l') || args.has('s') {
        return numbers(args, out);
    }
    let tasks = chosen(COMMAND.name, session, args, out)?;
    show(session, &tasks, args, out)?;
    if !out.is_json() {
        writeln!(out)?;
    }
    Ok(())
}

/// For `foreach`, which crash ends without the blank line.
fn show_each(
    session: &Session,
    chosen: &[&Task],
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    match args.has('l') || args.has('s') {
        true => numbers(args, out),
        false => show(session, chosen, args, out),
    }
}

/// `-l` and `-s`: no kernel is asked.
fn numbers(args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let set = match args.value('s') {
        None => u64::MAX,
        Some(word) => address::hex(word).ok_or_else(|| CommandError::Usage {
            command: COMMAND.name,
            what: format!("`{word}` is no set of signals (64 bits in hexadecimal)"),
        })?,
    };
    if out.is_json() {
        let named = |signal| Some(Named { signal, name: signal_name(signal)? });
        let bits = (1..=SIGNALS).filter(|n| set >> (n - 1) & 1 == 1);
        return Ok(out.rows(&bits.filter_map(named).collect::<Vec<_>>())?);
    }
    if args.has('s') {
        return Ok(render_set(out, set)?);
    }
    for number in 1..=SIGNALS {
        let name = signal_name(number).unwrap_or_default();
        writeln!(out, "{:>4} {name}", format!("[{number}]"))?;
    }
    Ok(())
}

/// Names of signals, in lines of no more than a terminal's 80 columns.
fn render_set(out: &mut dyn Write, set: u64) -> io::Result<()> {
    const WIDTH: usize = 80;
    let mut line = String::new();
    for name in names_in(set) {
        if line.len() + 1 + name.len() > WIDTH {
            writeln!(out, "{line}")?;
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&name);
    }
    writeln!(out, "{}", if line.is_empty() { "(none)" } else { &line })
}

/// Shows the signals of `chosen`, with `-g` each process once; a blank line
/// between them.
fn show(
    session: &Session,
    chosen: &[&Task],
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let table = tasks(COMMAND.name, session, out)?;
    let mut shown: Vec<i32> = Vec::new();
    let mut first = true;
    for task in chosen {
        let mut row = row(kernel, task);
        if args.has('g') {
            if task.pid != 0 && shown.contains(&task.tgid) {
                continue;
            }
            shown.push(task.tgid);
            let threads = table.list.iter().filter(|t| match task.pid {
                0 => t.addr == task.addr,
                _ => t.tgid == task.tgid,
            });
            row.task = table.pid(task.tgid).filter(|_| task.pid != 0).unwrap_or(task);
            row.thread_signals = threads.map(|task| thread(kernel, task)).collect();
        }
        if row.signals.process.is_none() && row.signals.own.is_none() && chosen.len() == 1 {
            let what = row.unread.join("; ");
            return Err(CommandError::Failed { command: COMMAND.name, what });
        }
        if out.is_json() {
            out.row(&row)?;
        } else {
            if !std::mem::take(&mut first) {
                writeln!(out)?;
            }
            render(out, &row, args.has('g'))?;
        }
        for reason in &row.unread {
            out.note(format_args!("PID {}: {reason}", row.task.pid))?;
        }
        note_gaps(out, row.signals.process.iter().map(|process| &process.gaps))?;
    }
    Ok(())
}

fn row<'t>(kernel: &Kernel, task: &'t Task) -> Row<'t> {
    let mut unread = Vec::new();
    let process = kernel.process_signals(task).map_err(|e| unread.push(e.to_string())).ok();
    let own = kernel.thread_signals(task).map_err(|e| unread.push(e.to_string())).ok();
    Row { task, signals: Signals { process, own }, thread_signals: Vec::new(), unread }
}

fn thread<'t>(kernel: &Kernel, task: &'t Task) -> Thread<'t> {
    Thread { pid: task.pid, task, own: kernel.thread_signals(task).ok() }
}

fn render(out: &mut dyn Write, row: &Row<'_>, by_process: bool) -> io::Result<()> {
    task_header::render(out, row.task)?;
    let process = row.signals.process.as_ref();
    match process {
        Some(process) => render_actions(out, process)?,
        None => writeln!(out, "SIGNAL_STRUCT: (unknown)")?,
    }
    let shared = process.and_then(|process| process.pending.as_ref());
    if !by_process {
        render_own(out, row.signals.own.as_ref(), shared, "")?;
    }
    writeln!(out, "SHARED_PENDING")?;
    render_pending(out, shared, "")?;
    for thread in &row.thread_signals {
        write!(out, "\n  ")?;
        task_header::render(out, thread.task)?;
        render_own(out, thread.own.as_ref(), shared, "  ")?;
    }
    Ok(())
}

fn render_actions(out: &mut dyn Write, process: &ProcessSignals) -> io::Result<()> {
    let threads = process.threads.map_or("-".to_owned(), |threads| threads.to_string());
    writeln!(out, "SIGNAL_STRUCT: {:x}  NR_THREADS: {threads}", process.signal_struct)?;
    writeln!(out, " SIG    SIGACTION        HANDLER       MASK       FLAGS           ")?;
    process.actions.iter().try_for_each(|action| render_action(out, action))
}

fn render_action(out: &mut dyn Write, action: &SignalAction) -> io::Result<()> {
    let names = match action.flag_names().as_slice() {
        [] => String::new(),
        names => format!("({})", names.join("|")),
    };
    writeln!(
        out,
        "{:>4} {:x} {:>10} {:016x} {:x} {names}",
        format!("[{}]", action.signal),
        action.addr,
        action.handler,
        action.mask,
        action.flags
    )
}

fn render_own(
    out: &mut dyn Write,
    own: Option<&ThreadSignals>,
    shared: Option<&PendingSignals>,
    indent: &str,
) -> io::Result<()> {
    let Some(own) = own else {
        return writeln!(out, "{indent}SIGPENDING: -");
    };
    let waits = own.pending.set | shared.map_or(0, |shared| shared.set);
    let pending = if waits & !own.blocked != 0 { "yes" } else { "no" };
    writeln!(out, "{indent}SIGPENDING: {pending}")?;
    writeln!(out, "{indent}   BLOCKED: {:016x}", own.blocked)?;
    writeln!(out, "{indent}PRIVATE_PENDING")?;
    render_pending(out, Some(&own.pending), indent)
}

fn render_pending(
    out: &mut dyn Write,
    pending: Option<&PendingSignals>,
    indent: &str,
) -> io::Result<()> {
    let Some(pending) = pending else {
        return writeln!(out, "{indent}    SIGNAL: -");
    };
    writeln!(out, "{indent}    SIGNAL: {:016x}", pending.set)?;
    if pending.queue.is_empty() {
        return writeln!(out, "{indent}  SIGQUEUE: (empty)");
    }
    writeln!(out, "{indent}  SIGQUEUE:  SIG      SIGINFO     ")?;
    for queued in &pending.queue {
        writeln!(out, "             {:>3}  {:x}", queued.signal, queued.siginfo)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing;
    use kmortem_kernel::gaps::Gaps;
    use kmortem_kernel::signal::{Handler, QueuedSignal};

    #[test]
    fn names_of_a_set_fill_lines_of_80_columns() {
        let shown = |set| {
            let mut text = Vec::new();
            render_set(&mut text, set).unwrap();
            String::from_utf8(text).unwrap()
        };
        assert_eq!(shown(0), "(none)\n");
        assert_eq!(shown(0b11), "SIGHUP SIGINT\n");
        let all = shown(u64::MAX);
        assert_eq!(all.split_whitespace().collect::<Vec<_>>(), names_in(u64::MAX));
        let lines: Vec<&str> = all.lines().collect();
        assert!(lines.iter().all(|line| line.len() <= 80));
        for pair in lines.windows(2) {
            let next = pair[1].split(' ').next().unwrap();
            assert!(pair[0].len() + 1 + next.len() > 80, "{next} fits behind {}", pair[0]);
        }
    }

    #[test]
    fn queues_hang_below_their_sets() {
        let task = testing::task(1234, "procsig");
        let action = SignalAction {
            signal: 12,
            addr: 0xff2e_5f7d_c125_2ac0,
            handler: Handler::Function(0x52_5892),
            mask: 0xffff_fffe_7ffb_feff,
            flags: 0x1400_0000,
        };
        let queued = |signal, siginfo| QueuedSignal { signal, code: -1, siginfo };
        let queue = vec![queued(12, 0xff2e_5f7d_c400_0084), queued(34, 0xff2e_5f7d_c400_0594)];
        let process = ProcessSignals {
            signal_struct: 0xff2e_5f7d_c125_8d80,
            threads: Some(1),
            actions: vec![action],
            pending: Some(PendingSignals { set: 0, queue: Vec::new() }),
            gaps: Gaps::default(),
        };
        let pending = PendingSignals { set: 0x2_0000_0800, queue };
        let own = ThreadSignals { blocked: 0x2_0000_0000, pending };
        let mut row = Row {
            task: &task,
            signals: Signals { process: Some(process), own: Some(own.clone()) },
            thread_signals: Vec::new(),
            unread: Vec::new(),
        };
        let mut text = Vec::new();
        render(&mut text, &row, false).unwrap();
        row.thread_signals = vec![Thread { pid: 1234, task: &task, own: Some(own) }];
        render(&mut text, &row, true).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}
