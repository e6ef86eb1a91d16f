//! `cgroup`: the tree of control groups, with what they use and may use.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::cgroup::{Cgroup, CgroupHierarchy};
use kmortem_kernel::cgroup_cpu::{CpuCgroup, IoCgroup};
use kmortem_kernel::task::Task;
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::{failed, note_gaps, task_header, tasks};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "cgroup",
    summary: "shows control groups: memory, tasks, CPU and I/O, with their limits",
    arguments: "[PATH]",
    options: &[
        Opt::flag('t', "with the tasks of each group"),
        Opt::flag('m', "memory: limits, events and statistics"),
        Opt::flag('c', "CPU time: weight, quota, and how often it ran out"),
        Opt::flag('i', "I/O, as of the last time the kernel added it up"),
    ],
    details: "\
Not a command of crash. Memory is what the group and those below it are charged
for; `-` stands where a controller is off, or a number can't be read. TASKS counts
threads of the group itself, PIDS those below it, too. With PATH: that group and
those below it. Both versions of cgroups are shown, each v1 hierarchy by itself.",
    examples: &[
        ("", "all groups"),
        ("-t /", "the root group and all below it, with their tasks"),
        ("-m", "why memory ran out"),
        ("-c", "who was throttled"),
    ],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "a group",
        members: "`addr` `path` `hierarchy` `v2` `level` `dying` `tasks` `memory_id` `memory` `pids` `gaps`, `cpu` (`task_group` `weight` `idle` `quota_ns` `period_ns` `periods` `throttled` `throttled_ns`), `io` (`read_bytes` `written_bytes` `reads` `writes` `devices`), with `-t` `members`: its tasks",
    }],
    each: None,
    run,
};

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    group: &'a Cgroup,
    cpu: Option<CpuCgroup>,
    io: Option<IoCgroup>,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<&'a Task>>,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let kernel = session.kernel();
    let hierarchies = kernel.cgroup_hierarchies().map_err(failed(COMMAND.name))?;
    let mut groups = kernel.cgroups().map_err(failed(COMMAND.name))?;
    if let [path] = args.words.as_slice() {
        let root = path.trim_end_matches('/');
        groups.retain(|g| g.path == *path || g.path.starts_with(&format!("{root}/")));
        if groups.is_empty() {
            let what = format!("there is no group {path}; `cgroup` lists them");
            return Err(CommandError::Failed { command: COMMAND.name, what });
        }
    }
    let members = match args.has('t') {
        true => Some(members(kernel, &tasks(COMMAND.name, session, out)?.list)),
        false => None,
    };
    let of = |group: &Cgroup| {
        members.as_ref().map(|members| members.get(&group.addr).cloned().unwrap_or_default())
    };
    let row = |group| row(kernel, group, of(group));
    if out.is_json() {
        for group in &groups {
            out.row(&row(group))?;
        }
        return Ok(());
    }
    let mut first = true;
    for hierarchy in &hierarchies {
        let rows: Vec<Row<'_>> =
            groups.iter().filter(|g| g.hierarchy == hierarchy.id).map(row).collect();
        if rows.is_empty() {
            continue;
        }
        if !std::mem::take(&mut first) {
            writeln!(out)?;
        }
        render_hierarchy(out, hierarchy)?;
        match args.letters().filter(|l| "mci".contains(*l)).last() {
            Some('m') => rows.iter().try_for_each(|row| render_memory(out, row))?,
            Some('c') => render_cpu(out, &rows)?,
            Some('i') => render_io(out, &rows)?,
            _ => render(out, &rows)?,
        }
    }
    note_gaps(out, groups.iter().map(|group| &group.gaps))
}

/// The tasks of each group.
fn members<'t>(kernel: &Kernel, tasks: &'t [Task]) -> FxHashMap<u64, Vec<&'t Task>> {
    let mut members: FxHashMap<u64, Vec<&Task>> = FxHashMap::default();
    for task in tasks {
        for group in kernel.task_cgroups(task).unwrap_or_default() {
            members.entry(group.addr).or_default().push(task);
        }
    }
    members
}

fn row<'a>(kernel: &Kernel, group: &'a Cgroup, members: Option<Vec<&'a Task>>) -> Row<'a> {
    let cpu = kernel.cgroup_cpu(group.addr).ok().flatten();
    let io = kernel.cgroup_io(group.addr).ok().flatten();
    Row { group, cpu, io, members }
}

fn render_hierarchy(out: &mut dyn Write, hierarchy: &CgroupHierarchy) -> io::Result<()> {
    let version = if hierarchy.v2 { "v2" } else { "v1" };
    write!(out, "HIERARCHY: {} ({version})", hierarchy.id)?;
    if !hierarchy.name.is_empty() {
        write!(out, "  NAME: {}", hierarchy.name)?;
    }
    writeln!(out, "  CONTROLLERS: {}", hierarchy.controllers.join(" "))
}

/// KiB, `max` where there is no limit.
fn kib(bytes: Option<u64>) -> String {
    bytes.map_or("max".to_owned(), |bytes| (bytes / 1024).to_string())
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

/// The path, and what is odd about the group.
fn path(group: &Cgroup) -> String {
    format!("{}{}", group.path, if group.dying { " (dying)" } else { "" })
}

fn render(out: &mut dyn Write, rows: &[Row<'_>]) -> io::Result<()> {
    writeln!(
        out,
        "     CGROUP       TASKS    PIDS PIDS.MAX  MEM(KiB)   MAX(KiB)  PEAK(KiB)  OOM  PATH"
    )?;
    for row in rows {
        let group = row.group;
        let memory = group.memory.as_ref();
        let usage = or_dash(memory.map(|memory| memory.usage / 1024));
        let max = memory.map_or("-".to_owned(), |memory| kib(memory.max));
        let peak = or_dash(memory.and_then(|memory| memory.peak).map(|peak| peak / 1024));
        let kills = or_dash(memory.and_then(|memory| memory.events.get("oom_kill")));
        // The kernel does not count the root's.
        let counted = group.pids.as_ref().filter(|_| group.level > 0);
        let pids = or_dash(counted.map(|pids| pids.current));
        let most = group.pids.as_ref().map(|pids| pids.max);
        let most = most.map_or("-".to_owned(), |max| max.map_or("max".into(), |m| m.to_string()));
        writeln!(
            out,
            "{:016x} {:>6} {pids:>7} {most:>8} {usage:>9} {max:>10} {peak:>10} {kills:>4}  {}",
            group.addr,
            or_dash(group.tasks),
            path(group)
        )?;
        for task in row.members.iter().flatten() {
            write!(out, "    ")?;
            task_header::render(out, task)?;
        }
    }
    Ok(())
}

fn render_memory(out: &mut dyn Write, row: &Row<'_>) -> io::Result<()> {
    let Some(memory) = &row.group.memory else {
        return writeln!(out, "{}: no memory controller", path(row.group));
    };
    writeln!(out, "{}  MEM_CGROUP: {:016x}", path(row.group), memory.addr)?;
    let line =
        |out: &mut dyn Write, name: &str, value: String| writeln!(out, "  {name:>24}  {value}");
    line(out, "current", format!("{} KiB", memory.usage / 1024))?;
    for (name, value) in [("min", memory.min), ("low", memory.low)] {
        if let Some(bytes) = value.filter(|bytes| *bytes > 0) {
            line(out, name, format!("{} KiB", bytes / 1024))?;
        }
    }
    for (name, value) in [("high", memory.high), ("max", memory.max)] {
        line(out, name, value.map_or("max".to_owned(), |b| format!("{} KiB", b / 1024)))?;
    }
    for (name, value) in
        [("peak", memory.peak), ("kernel", memory.kernel), ("swap", memory.swap_usage)]
    {
        if let Some(bytes) = value {
            line(out, name, format!("{} KiB", bytes / 1024))?;
        }
    }
    if let Some(count) = memory.failures {
        line(out, "failcnt", count.to_string())?;
    }
    for (name, value) in &memory.events.0 {
        line(out, &format!("events.{name}"), value.to_string())?;
    }
    for (name, value) in memory.stat.0.iter().filter(|(_, value)| *value != 0) {
        line(out, name, value.to_string())?;
    }
    Ok(())
}

fn render_cpu(out: &mut dyn Write, rows: &[Row<'_>]) -> io::Result<()> {
    writeln!(
        out,
        "   TASK_GROUP    WEIGHT  QUOTA(us)  PERIOD(us)  PERIODS  THROTTLED  FOR(ms)  PATH"
    )?;
    for row in rows {
        let Some(cpu) = &row.cpu else {
            writeln!(out, "{:^16} {:>6}{:54}  {}", "-", "-", "", path(row.group))?;
            continue;
        };
        let weight = if cpu.idle { "idle".to_owned() } else { cpu.weight.to_string() };
        let quota = cpu.quota_ns.map_or("max".to_owned(), |ns| (ns / 1000).to_string());
        let period = or_dash(cpu.period_ns.map(|ns| ns / 1000));
        let (periods, throttled) = (or_dash(cpu.periods), or_dash(cpu.throttled));
        let held = or_dash(cpu.throttled_ns.map(|ns| ns / 1_000_000));
        writeln!(
            out,
            "{:016x} {weight:>6} {quota:>10} {period:>11} {periods:>8} {throttled:>10} {held:>8}  {}",
            cpu.task_group,
            path(row.group)
        )?;
    }
    Ok(())
}

fn render_io(out: &mut dyn Write, rows: &[Row<'_>]) -> io::Result<()> {
    writeln!(out, "READ(KiB)  WRITTEN(KiB)    READS   WRITES  DEVICES  PATH")?;
    for row in rows {
        // What the root does is counted by the disks alone.
        match row.io.as_ref().filter(|_| row.group.level > 0) {
            Some(io) => writeln!(
                out,
                "{:>9} {:>13} {:>8} {:>8} {:>8}  {}",
                io.read_bytes / 1024,
                io.written_bytes / 1024,
                io.reads,
                io.writes,
                io.devices,
                path(row.group)
            )?,
            None => writeln!(
                out,
                "{:>9} {:>13} {:>8} {:>8} {:>8}  {}",
                "-",
                "-",
                "-",
                "-",
                "-",
                path(row.group)
            )?,
        }
    }
    Ok(())
}
