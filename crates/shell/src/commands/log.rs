//! `log`: the kernel's log.

use std::io::{self, Write};

use kmortem_kernel::printk::Record;

use super::failed;
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
        Opt::later('a'),
        Opt::later('s'),
        Opt::later('c'),
        Opt::later('R'),
    ],
    details: "\
Time stamps are seconds on the kernel's own clock. Dates are those of the clock
as it was set when the machine died.",
    examples: &[
        ("", "the whole log"),
        ("-t", "nothing but the messages"),
        ("-m -T", "levels and dates"),
    ],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "a message",
        members: "`seq` `ts_ns` `level` `facility` `flags` `state` `caller` `text` `incomplete` `device`",
    }],
    each: None,
    run,
};

/// What stands before a message.
#[derive(Debug, Clone, Copy)]
struct Style {
    stamp: Stamp,
    level: bool,
    device: bool,
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
    let log = kernel.log().map_err(failed(COMMAND.name))?;
    if out.is_json() {
        out.rows(&log.records)?;
    } else {
        let stamp = match (args.has('t'), args.has('T')) {
            (true, _) => Stamp::None,
            (_, true) => Stamp::Date(kernel.clock().map_err(failed(COMMAND.name))?.booted_ns),
            _ => Stamp::Seconds,
        };
        let style = Style { stamp, level: args.has('m'), device: args.has('d') };
        for record in &log.records {
            render(out, record, style)?;
        }
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
    if style.level {
        before += &format!("<{}>", record.level);
    }
    let indent = before.len();
    write!(out, "{before}")?;
    for (i, line) in record.text.split('\n').enumerate() {
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
    use kmortem_kernel::printk::{LogDevice, RecordState};

    fn text(stamp: Stamp, level: bool, device: bool) -> String {
        let record = Record {
            seq: 7,
            ts_ns: 12_345_678_901,
            level: 4,
            facility: 0,
            flags: 0,
            state: RecordState::Finalized,
            caller: None,
            text: "first line\n  second line".into(),
            incomplete: None,
            device: Some(LogDevice { subsystem: "pci".into(), device: "+pci:0000:00:01.0".into() }),
        };
        let mut out = Vec::new();
        render(&mut out, &record, Style { stamp, level, device }).unwrap();
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
