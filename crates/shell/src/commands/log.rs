//! `log`: the kernel's log.

use std::borrow::Cow;
use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::printk::Record;

use super::{failed, log_safe, rustfilt};
use crate::args::{Args, Opt};
use crate::date;
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "log",
    summary: "shows the kernel's log",
    arguments: "",
    options: &[
        Opt::flag('t', "without time stamps"),
        Opt::flag('T', "with dates (UTC) in place of time stamps"),
        Opt::flag('m', "with the level of each message"),
        Opt::flag('d', "with the device that a message is about"),
        Opt::flag('c', "with the thread (T) or CPU (C) that printed each message"),
        Opt::flag('R', "with mangled Rust names made readable"),
        Opt::flag('a', "audit records that no daemon has got"),
        Opt::flag('s', "what printk had to put aside (up to 5.14)"),
    ],
    details: "\
Time stamps are seconds on the kernel's own clock. Dates are those of the clock
as it was set when the machine died. Up to 5.14 an NMI prints into buffers of
its own: what had not got into the log stands below it, marked by the buffer.",
    examples: &[
        ("", "the whole log"),
        ("-t", "nothing but the messages"),
        ("-m -T", "levels and dates"),
        ("-c", "who printed what"),
        ("-s", "what printk had put aside"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "a message",
            members: "`seq` `ts_ns` `level` `facility` `flags` `state` `caller` `text` `incomplete` `device`",
        },
        Rows { options: "-a", row: "an audit record", members: "`queue` `kind` `text`" },
        Rows {
            options: "-s",
            row: "a CPU's buffer",
            members: "`name` `cpu` `addr` `len` `lost` `messages`",
        },
    ],
    each: None,
    run,
};

/// What stands before a message.
#[derive(Debug, Clone, Copy)]
struct Style {
    stamp: Stamp,
    level: bool,
    caller: bool,
    device: bool,
    demangle: bool,
}

#[derive(Debug, Clone, Copy)]
enum Stamp {
    None,
    Seconds,
    /// With the wall time of the boot, ns since 1970.
    Date(i64),
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let kernel = session.kernel();
    if args.has('a') {
        return audit(kernel, out);
    }
    if args.has('s') {
        return log_safe::run(kernel, args.has('m'), out);
    }
    let log = kernel.log().map_err(failed(COMMAND.name))?;
    if out.is_json() {
        out.rows(&log.records)?;
    } else {
        let stamp = match (args.has('t'), args.has('T')) {
            (true, _) => Stamp::None,
            (_, true) => Stamp::Date(kernel.clock().map_err(failed(COMMAND.name))?.booted_ns),
            _ => Stamp::Seconds,
        };
        let style = Style {
            stamp,
            level: args.has('m'),
            caller: args.has('c'),
            device: args.has('d'),
            demangle: args.has('R'),
        };
        for record in &log.records {
            render(out, record, style)?;
        }
        log_safe::below_the_log(kernel, args.has('m'), args.has('t'), out)?;
    }
    for damage in &log.damage {
        match damage.seq {
            Some(seq) => out.note(format_args!("message {seq} is missing: {}", damage.reason))?,
            None => out.note(format_args!("messages are missing: {}", damage.reason))?,
        }
    }
    if let Some(dropped) = log.dropped.filter(|n| *n > 0) {
        out.note(format_args!("{dropped} messages were lost before the kernel could store them"))?;
    }
    Ok(())
}

/// Records that no audit daemon has got.
fn audit(kernel: &Kernel, out: &mut Output<'_>) -> Result<(), CommandError> {
    let (records, gaps) = kernel.audit_records().map_err(failed(COMMAND.name))?;
    if out.is_json() {
        out.rows(&records)?;
    } else {
        records.iter().try_for_each(|r| writeln!(out, "type={} {}", r.kind, r.text))?;
    }
    if records.is_empty() && gaps.is_empty() {
        out.note("kernel audit log is empty")?;
    }
    super::note_gaps(out, std::iter::once(&gaps))
}

/// One message. Lines behind the first are set below its text.
fn render(out: &mut dyn Write, record: &Record, style: Style) -> io::Result<()> {
    let mut before = match style.stamp {
        Stamp::None => String::new(),
        Stamp::Seconds => {
            let us = record.ts_ns / 1000;
            format!("[{:>5}.{:06}] ", us / 1_000_000, us % 1_000_000)
        }
        Stamp::Date(booted) => {
            let ns = booted.saturating_add_unsigned(record.ts_ns);
            format!("[{}] ", date::utc(ns.max(0) as u64 / 1_000_000_000))
        }
    };
    if let Some(caller) = record.caller.as_ref().filter(|_| style.caller) {
        let caller = match (caller.pid, caller.cpu) {
            (Some(pid), _) => format!("T{pid}"),
            (None, cpu) => format!("C{}", cpu.unwrap_or(0)),
        };
        before += &format!("[{caller:>6}] ");
    }
    if style.level {
        before += &format!("<{}>", record.level);
    }
    let indent = before.len();
    write!(out, "{before}")?;
    let text = match style.demangle {
        true => rustfilt::demangle_all(&record.text),
        false => Cow::Borrowed(record.text.as_str()),
    };
    for (i, line) in text.split('\n').enumerate() {
        match i {
            0 => writeln!(out, "{line}")?,
            _ => writeln!(out, "{:indent$}{line}", "")?,
        }
    }
    if let Some(why) = &record.incomplete {
        writeln!(out, "{:indent$}<unreadable: {why}>", "")?;
    }
    if let Some(device) = record.device.as_ref().filter(|_| style.device) {
        writeln!(out, "{:indent$}SUBSYSTEM={}", "", device.subsystem)?;
        writeln!(out, "{:indent$}DEVICE={}", "", device.device)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::printk::{Caller, LogDevice, RecordState};

    fn text(stamp: Stamp, level: bool, device: bool) -> String {
        let record = Record {
            seq: 7,
            ts_ns: 12_345_678_901,
            level: 4,
            facility: 0,
            flags: 0,
            state: RecordState::Finalized,
            caller: Some(Caller { pid: Some(1), cpu: None, comm: None }),
            text: "first line\n  second line".into(),
            incomplete: None,
            device: Some(LogDevice { subsystem: "pci".into(), device: "+pci:0000:00:01.0".into() }),
        };
        let mut out = Vec::new();
        render(&mut out, &record, Style { stamp, level, caller: level, device, demangle: false })
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn further_lines_stand_below_the_first() {
        let all = [
            text(Stamp::Seconds, false, false),
            text(Stamp::Seconds, true, true),
            text(Stamp::None, false, false),
            text(Stamp::Date(1_795_416_483_000_000_000), false, false),
        ];
        insta::assert_snapshot!(all.join("\n"));
    }
}
