//! `sys`: the machine and its kernel.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::clock::Clock;
use kmortem_kernel::printk::Log;
use kmortem_kernel::system::System;
use serde::Serialize;

use super::{failed, ps_times, size, sys_calls, tasks};
use crate::args::{Args, Opt};
use crate::date;
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "sys",
    summary: "shows the machine, its kernel, and why it died",
    arguments: "[config]",
    options: &[
        Opt::optional('c', "NAME|NUMBER", "system calls: all, or those that fit"),
        Opt::flag('t', "what taints the kernel"),
        Opt::flag('i', "the firmware's strings about the machine (DMI)"),
        Opt::optional('p', "anic", "panic a running machine: a dump can't"),
    ],
    details: "\
DATE, UPTIME and LOAD AVERAGE are those of the moment the machine died, in UTC.
OFFLINE counts the CPUs that a panic stopped, too. `sys config` shows the
configuration that the kernel was built with, if it was built to keep it
(CONFIG_IKCONFIG). Lines of source that -c has in crash need debuginfo.",
    examples: &[
        ("", "an overview"),
        ("-t", "the taints, with what they mean"),
        ("-c", "all system calls"),
        ("-c read", "those with `read` in their name"),
        ("-c 0", "the one of that number"),
        ("-i", "who made the machine"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "the machine (one row)",
            members: "`release` `version` `machine` `nodename` `domainname` `command_line` `taints` `cpus` `platform` `panic` `panic_cpu` `crashed` `clock` `dump_files` `partial` `incomplete` `tasks` `memory_bytes` `cpu_khz`",
        },
        Rows {
            options: "-c",
            row: "a system call",
            members: "`number` `name` `function` `symbol` `replaced` (not the kernel's own)",
        },
        Rows { options: "-i", row: "a string of the firmware", members: "`field` `value`" },
        Rows { options: "config", row: "the configuration (one row)", members: "`config`" },
        Rows { options: "-t", row: "the taints (one row)", members: "`mask` `letters` `list`" },
    ],
    each: None,
    run,
};

/// All that `sys` shows: a row of JSON.
#[derive(Serialize)]
struct Overview {
    #[serde(flatten)]
    system: System,
    /// None where the kernel's clock can't be read.
    clock: Option<Clock>,
    dump_files: Vec<String>,
    /// Pages were left out of the dump when it was taken.
    partial: bool,
    /// Why the dump is incomplete.
    incomplete: Option<String>,
    tasks: usize,
    /// The machine's memory.
    memory_bytes: Option<u64>,
    /// Clock rate of the boot CPU.
    cpu_khz: Option<u32>,
    /// The line that crash shows as PANIC.
    #[serde(skip)]
    panic_line: String,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let kernel = session.kernel();
    if args.has('p') {
        let what = "cannot panic a dumpfile!".to_owned();
        return Err(CommandError::Failed { command: COMMAND.name, what });
    }
    if args.has('c') {
        let first = args.value('c').into_iter();
        let words: Vec<&str> = first.chain(args.words.iter().map(String::as_str)).collect();
        return sys_calls::run(session, &words, out);
    }
    if args.has('i') {
        return firmware(kernel, out);
    }
    if let Some(word) = args.words.first() {
        return config(kernel, word, out);
    }
    if args.has('t') {
        let taints = kernel.taints().map_err(failed(COMMAND.name))?;
        if out.is_json() {
            return Ok(out.row(&taints)?);
        }
        writeln!(out, "TAINTED_MASK: {:x}  {}", taints.mask, taints.letters)?;
        // The line alone is what scripts know from crash.
        for taint in &taints.list {
            out.note(format_args!("{}: {}", taint.letter, taint.meaning))?;
        }
        return Ok(());
    }
    let tasks = tasks(COMMAND.name, session, out)?.list.len();
    let overview = overview(kernel, tasks)?;
    if out.is_json() {
        return Ok(out.row(&overview)?);
    }
    render(out, &overview)?;
    for reason in &overview.system.unread {
        out.note(reason)?;
    }
    Ok(())
}

/// The strings of DMI.
fn firmware(kernel: &Kernel, out: &mut Output<'_>) -> Result<(), CommandError> {
    let (strings, gaps) = kernel.dmi_strings().map_err(failed(COMMAND.name))?;
    if out.is_json() {
        out.rows(&strings)?;
    } else {
        strings.iter().try_for_each(|s| writeln!(out, "{:>25}: {}", s.field, s.value))?;
    }
    super::note_gaps(out, std::iter::once(&gaps))
}

/// The configuration: a row of JSON.
#[derive(Serialize)]
struct Config {
    config: String,
}

fn config(kernel: &Kernel, word: &str, out: &mut Output<'_>) -> Result<(), CommandError> {
    if word != "config" {
        let what = format!("`{word}` is not understood");
        return Err(CommandError::Usage { command: COMMAND.name, what });
    }
    let config = kernel.config().map_err(failed(COMMAND.name))?;
    if out.is_json() {
        return Ok(out.row(&Config { config })?);
    }
    Ok(out.write_all(config.as_bytes())?)
}

fn overview(kernel: &Kernel, tasks: usize) -> Result<Overview, CommandError> {
    let system = kernel.system().map_err(failed(COMMAND.name))?;
    let info = kernel.image().info();
    let completeness = kernel.image().completeness();
    let pages = |nodes: Vec<kmortem_kernel::vmstat::Node>| nodes.iter().map(|n| n.present).sum();
    let present: Option<u64> = kernel.nodes().ok().map(pages);
    Ok(Overview {
        panic_line: kernel.log().ok().map_or(String::new(), |log| panic_line(&log)),
        clock: kernel.clock().ok(),
        dump_files: info.files.iter().map(|f| f.name.clone()).collect(),
        partial: info.filter_level.is_some_and(|level| level > 0)
            || completeness.filtered.is_some_and(|n| n > 0),
        incomplete: completeness.incomplete,
        tasks,
        memory_bytes: present.map(|n| n.saturating_mul(kernel.page_size())),
        cpu_khz: kernel.symbol("cpu_khz").and_then(|at| kernel.read_u32(at)).ok(),
        system,
    })
}

/// What crash shows as PANIC: the panic, else the oops that killed the task
/// only, else nothing.
fn panic_line(log: &Log) -> String {
    if let Some(panic) = log.panic() {
        return format!("\"Kernel panic - not syncing: {}\"", panic.message);
    }
    const OOPS: [&str; 4] =
        ["kernel BUG at ", "Oops: ", "general protection fault", "divide error: "];
    let lines = log.lines().filter(|(record, _)| record.facility == 0).map(|(_, line)| line);
    let oops = lines
        .filter_map(|line| OOPS.iter().find_map(|start| line.find(start)).map(|at| &line[at..]))
        .next_back();
    match oops {
        Some(oops) => format!("\"{}\" (check log for details)", oops.trim_end()),
        None => "\"\"".to_owned(),
    }
}

fn render(out: &mut dyn Write, all: &Overview) -> io::Result<()> {
    let mut line = |name: &str, value: &str| writeln!(out, "{name:>12}: {value}");
    let system = &all.system;
    let unknown = || "(unknown)".to_owned();
    let or_unknown = |value: &Option<String>| value.clone().unwrap_or_else(unknown);
    let tainted = system.taints.as_ref().is_some_and(|t| t.mask != 0);
    let mark = if tainted { "  [TAINTED]" } else { "" };
    line("KERNEL", &format!("(symbols and types of the dump){mark}"))?;
    let mut files = all.dump_files.join(" ");
    if all.partial {
        files += "  [PARTIAL DUMP]";
    }
    if all.incomplete.is_some() {
        files += "  [INCOMPLETE]";
    }
    line("DUMPFILE", &files)?;
    let cpus = &system.cpus;
    let offline = match cpus.present.saturating_sub(cpus.online) {
        0 => String::new(),
        n => format!(" [OFFLINE: {n}]"),
    };
    line("CPUS", &format!("{}{offline}", cpus.present))?;
    let clock = all.clock.as_ref();
    let date = clock.map(|c| date::utc(c.realtime_ns.max(0) as u64 / 1_000_000_000));
    line("DATE", &date.unwrap_or_else(unknown))?;
    let uptime = clock.map(|c| ps_times::run_time(c.boottime_ns.max(0) as u64));
    line("UPTIME", &uptime.unwrap_or_else(unknown))?;
    let load = clock.and_then(|c| c.load).map(|[a, b, c]| format!("{a:.2}, {b:.2}, {c:.2}"));
    line("LOAD AVERAGE", &load.unwrap_or_else(unknown))?;
    line("TASKS", &all.tasks.to_string())?;
    line("NODENAME", &or_unknown(&system.nodename))?;
    line("RELEASE", &system.release)?;
    line("VERSION", &or_unknown(&system.version))?;
    let speed = all.cpu_khz.map_or("(unknown Mhz)".to_owned(), |k| format!("({} Mhz)", k / 1000));
    line("MACHINE", &format!("{}  {speed}", or_unknown(&system.machine)))?;
    line("MEMORY", &all.memory_bytes.map_or_else(unknown, size::bytes))?;
    line("PANIC", &all.panic_line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::printk::{LogFormat, Record, RecordState};

    fn log(lines: &[&str]) -> Log {
        let record = |text: &&str| Record {
            seq: 0,
            ts_ns: 0,
            level: 0,
            facility: 0,
            flags: 0,
            state: RecordState::Finalized,
            caller: None,
            text: (*text).to_owned(),
            incomplete: None,
            device: None,
        };
        Log {
            format: LogFormat::Ringbuffer,
            records: lines.iter().map(record).collect(),
            damage: Vec::new(),
            dropped: None,
        }
    }

    #[test]
    fn a_panic_counts_more_than_the_oops_before_it() {
        let (oops, panic) =
            ("Oops: 0002 [#1] PREEMPT SMP NOPTI", "Kernel panic - not syncing: Fatal exception");
        assert_eq!(panic_line(&log(&[oops, panic])), format!("\"{panic}\""));
        assert_eq!(
            panic_line(&log(&["BUG: unable to handle page fault", oops])),
            format!("\"{oops}\" (check log for details)")
        );
        assert_eq!(panic_line(&log(&["nothing"])), "\"\"");
    }
}
