//! `ps -l`, `-m` and `-t`: when tasks ran, and for how long.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::task::{RunqueueLayout, Task, TaskLayout};
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::task_header;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;

/// A row of JSON of `ps -l` and `ps -m`.
#[derive(Serialize)]
struct LastRun<'a> {
    #[serde(flatten)]
    task: &'a Task,
    /// Time since it last got a CPU, on the clock of that CPU's runqueue.
    since_ns: Option<u64>,
}

/// Tasks by when they last got a CPU, the last one first. `since`: with the
/// time that has passed, in place of the time stamp.
pub(super) fn last_run(
    kernel: &Kernel,
    chosen: Vec<&Task>,
    since: bool,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let width = stamp_width(&chosen);
    render_last_run(kernel, chosen, since, width, out)
}

/// Digits of the largest time stamp.
fn stamp_width(tasks: &[&Task]) -> usize {
    tasks.iter().filter_map(|t| t.last_arrival_ns).max().unwrap_or(0).to_string().len()
}

fn render_last_run(
    kernel: &Kernel,
    mut chosen: Vec<&Task>,
    since: bool,
    width: usize,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    chosen.sort_by_key(|t| std::cmp::Reverse(t.last_arrival_ns));
    let clocks = clocks(kernel, &chosen);
    for task in chosen {
        let clock = clocks.get(&task.cpu).copied();
        let since_ns = clock.zip(task.last_arrival_ns).map(|(now, then)| now.saturating_sub(then));
        if out.is_json() {
            out.row(&LastRun { task, since_ns })?;
            continue;
        }
        let stamp = match (since, task.last_arrival_ns) {
            (true, _) => since_ns.map_or("-".to_owned(), days),
            (false, Some(ns)) => format!("{ns:>width$}"),
            (false, None) => format!("{:>width$}", "-"),
        };
        write!(out, "[{stamp}] [{}]  ", task.state.crash_code())?;
        task_header::render(out, task)?;
    }
    Ok(())
}

/// The same in blocks, one for each of `cpus`.
pub(super) fn by_cpu(
    session: &Session,
    chosen: &[&Task],
    cpus: &[u32],
    since: bool,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let width = stamp_width(chosen);
    let hidden = session.hidden_cpus();
    for (i, cpu) in cpus.iter().enumerate() {
        let offline = hidden.contains(cpu);
        if !out.is_json() {
            let mark = if offline { " [OFFLINE]" } else { "" };
            writeln!(out, "{}CPU: {cpu}{mark}", if i > 0 { "\n" } else { "" })?;
        }
        if offline {
            continue;
        }
        let there = chosen.iter().copied().filter(|task| task.cpu == *cpu);
        render_last_run(session.kernel(), there.collect(), since, width, out)?;
    }
    Ok(())
}

/// `rq.clock` of the CPUs that `tasks` are on.
pub(super) fn clocks(kernel: &Kernel, tasks: &[&Task]) -> FxHashMap<u32, u64> {
    let mut clocks = FxHashMap::default();
    let Ok(layout) = kernel.layout::<RunqueueLayout>() else { return clocks };
    for task in tasks {
        if clocks.contains_key(&task.cpu) {
            continue;
        }
        let rq = kernel.per_cpu("runqueues", task.cpu);
        if let Ok(clock) = rq.and_then(|rq| layout.clock.read(kernel, rq)) {
            clocks.insert(task.cpu, clock);
        }
    }
    clocks
}

/// `D HH:MM:SS.mmm`
pub(super) fn days(ns: u64) -> String {
    let (ms, s) = (ns / 1_000_000 % 1000, ns / 1_000_000_000);
    format!("{} {:02}:{:02}:{:02}.{ms:03}", s / 86400, s / 3600 % 24, s / 60 % 60, s % 60)
}

/// A row of JSON of `ps -t`.
#[derive(Serialize)]
struct CpuTimes<'a> {
    #[serde(flatten)]
    task: &'a Task,
    /// Time since it was started.
    run_time_ns: Option<u64>,
    /// Time in user space.
    user_ns: Option<u64>,
    /// Time in the kernel.
    system_ns: Option<u64>,
}

/// How long tasks have been there, and how long on a CPU; the oldest first.
pub(super) fn cpu_times(
    kernel: &Kernel,
    mut chosen: Vec<&Task>,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let layout = kernel.layout::<TaskLayout>().map_err(super::failed("ps"))?;
    chosen.sort_by_key(|t| t.start_ns);
    // `start_time` is monotonic time, which the clocks of the CPUs drift from.
    let now = kernel.clock().ok().and_then(|clock| u64::try_from(clock.monotonic_ns).ok());
    for task in chosen {
        let times = CpuTimes {
            task,
            run_time_ns: now.zip(task.start_ns).map(|(now, start)| now.saturating_sub(start)),
            user_ns: layout.utime.read(kernel, task.addr).ok(),
            system_ns: layout.stime.read(kernel, task.addr).ok(),
        };
        match out.is_json() {
            true => out.row(&times)?,
            false => render_times(out, &times)?,
        }
    }
    Ok(())
}

fn render_times(out: &mut dyn Write, times: &CpuTimes<'_>) -> io::Result<()> {
    let number = |value: Option<u64>| value.map_or("-".to_owned(), |v| v.to_string());
    task_header::render(out, times.task)?;
    writeln!(out, "    RUN TIME: {}", times.run_time_ns.map_or("-".to_owned(), run_time))?;
    writeln!(out, "  START TIME: {}", number(times.task.start_ns))?;
    writeln!(out, "       UTIME: {}", number(times.user_ns))?;
    writeln!(out, "       STIME: {}\n", number(times.system_ns))
}

/// `HH:MM:SS`, with the days in front where there are some.
pub(super) fn run_time(ns: u64) -> String {
    let s = ns / 1_000_000_000;
    let clock = format!("{:02}:{:02}:{:02}", s / 3600 % 24, s / 60 % 60, s % 60);
    match s / 86400 {
        0 => clock,
        days => format!("{days} days, {clock}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_split_into_days() {
        assert_eq!(days(3_999_999), "0 00:00:00.003");
        assert_eq!(days(90_061_123_000_000), "1 01:01:01.123");
        assert_eq!(run_time(13_872_195_045), "00:00:13");
        assert_eq!(run_time(90_061_123_000_000), "1 days, 01:01:01");
    }
}
