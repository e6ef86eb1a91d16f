//! `wq`: workqueues, their workers, and work that waits.

use std::io::{self, Write};

use kmortem_kernel::task::Task;
use kmortem_kernel::workqueue::{CurrentWork, Work, Worker, WorkerPool, Workqueue};

use super::{bt, failed, tasks};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "wq",
    summary: "shows what workers do, and work that waits for them",
    arguments: "",
    options: &[
        Opt::flag('a', "all pools and workers, idle ones too"),
        Opt::flag('w', "workqueues, with their limits and the work that these hold back"),
        Opt::flag('b', "with the stacks of busy workers"),
    ],
    details: "\
Without options: pools with busy workers or work that waits. Work waits for a
worker in its pool (pending), behind what its worker does (next), or because its
workqueue has as much running as it may (held back, see -w). STALLED is how long
ago a worker last took work from the pool while some waits; the kernel complains
after 30 s. A worker's time is exact where the kernel notes it (7.1), else what
stands behind `<` bounds it: the worker was idle then.",
    examples: &[
        ("", "busy pools"),
        ("-a", "all pools"),
        ("-w", "workqueues"),
        ("-b", "busy pools with the stacks of their workers"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "a pool of workers",
            members: "`addr` `id` `cpu` (null: bound to none) `nice` `nr_workers` `nr_idle` `progress_ago_ns` `stalled_ns` `pending` `workers` (`current`, `scheduled`)",
        },
        Rows {
            options: "-w",
            row: "a workqueue",
            members: "`addr` `name` `flags` `most_active` `rescuer` `active` `inactive` (held back) `pools`",
        },
    ],
    each: None,
    run,
};

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let all = session.kernel().workqueues().map_err(failed(COMMAND.name))?;
    if args.has('w') {
        match out.is_json() {
            true => out.rows(&all.queues)?,
            false => render_queues(out, &all.queues)?,
        }
        return super::note_gaps(out, std::iter::once(&all.gaps));
    }
    let busy = |pool: &&WorkerPool| {
        args.has('a') || !pool.pending.is_empty() || pool.workers.iter().any(is_busy)
    };
    let pools: Vec<&WorkerPool> = all.pools.iter().filter(busy).collect();
    if out.is_json() {
        out.rows(pools.iter().copied())?;
    } else if pools.is_empty() {
        writeln!(out, "no work waits, and no worker has any")?;
    } else {
        for (i, pool) in pools.iter().enumerate() {
            if i > 0 {
                writeln!(out)?;
            }
            render_pool(out, pool, args.has('a'))?;
        }
    }
    if args.has('b') && !out.is_json() {
        stacks(session, &pools, out)?;
    }
    super::note_gaps(out, std::iter::once(&all.gaps))
}

fn is_busy(worker: &Worker) -> bool {
    worker.current.is_some() || !worker.scheduled.is_empty()
}

fn stacks(
    session: &Session,
    pools: &[&WorkerPool],
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let table = tasks(COMMAND.name, session, out)?;
    let busy = pools.iter().flat_map(|pool| &pool.workers).filter(|worker| is_busy(worker));
    let busy: Vec<&Task> = busy.filter_map(|worker| table.at(worker.task)).collect();
    match bt::COMMAND.each {
        Some(show) if !busy.is_empty() => {
            writeln!(out)?;
            show(session, &busy, &Args::default(), out)
        }
        _ => Ok(()),
    }
}

fn seconds(ns: u64) -> String {
    format!("{:.3} s", ns as f64 / 1e9)
}

fn render_pool(out: &mut dyn Write, pool: &WorkerPool, idle: bool) -> io::Result<()> {
    let place = pool.cpu.map_or("unbound".to_owned(), |cpu| format!("CPU {cpu}"));
    let nice = pool.nice.map_or("-".to_owned(), |nice| nice.to_string());
    write!(out, "POOL {}  {:016x}  {place}  NICE: {nice}  ", pool.id, pool.addr)?;
    write!(out, "WORKERS: {} ({} idle)", pool.nr_workers, pool.nr_idle)?;
    match pool.stalled_ns {
        Some(ns) => writeln!(out, "  STALLED: {}", seconds(ns))?,
        None => writeln!(out)?,
    }
    for worker in pool.workers.iter().filter(|worker| idle || is_busy(worker)) {
        let pid = worker.pid.map_or("-".to_owned(), |pid| pid.to_string());
        let comm = worker.comm.as_deref().unwrap_or("-");
        write!(out, "  WORKER {:016x}  PID: {pid:<7} {comm:<16}", worker.addr)?;
        match &worker.current {
            Some(current) => writeln!(out, "  {}{}", text(&current.work), time(current))?,
            None => writeln!(out, "  (idle)")?,
        }
        worker.scheduled.iter().try_for_each(|w| writeln!(out, "    next     {}", text(w)))?;
    }
    pool.pending.iter().try_for_each(|work| writeln!(out, "  PENDING  {}", text(work)))
}

/// How long a worker has been at it.
fn time(current: &CurrentWork) -> String {
    match (current.running_ns, current.running_at_most_ns) {
        (Some(ns), _) => format!("  for {}", seconds(ns)),
        (None, Some(ns)) => format!("  < {}", seconds(ns)),
        (None, None) => String::new(),
    }
}

fn text(work: &Work) -> String {
    let function = match &work.symbol {
        Some(s) if s.offset == 0 => s.name.clone(),
        Some(s) => format!("{}+{}", s.name, s.offset),
        None => format!("{:x}", work.function),
    };
    let module = work.symbol.as_ref().and_then(|s| s.module.as_ref());
    let module = module.map_or(String::new(), |module| format!(" [{module}]"));
    let queue = work.queue.as_ref().map_or(String::new(), |queue| format!(" of {queue}"));
    format!("{:016x}  {function}{module}{queue}", work.work)
}

fn render_queues(out: &mut dyn Write, queues: &[Workqueue]) -> io::Result<()> {
    let width = queues.iter().map(|q| q.name.len()).max().unwrap_or(0).max(4);
    writeln!(
        out,
        "{:<16}  {:<width$}  {:>6} {:>5}  {:>4}  {:<16}  FLAGS",
        "WORKQUEUE", "NAME", "ACTIVE", "LIMIT", "HELD", "RESCUER"
    )?;
    for queue in queues {
        let limit = queue.most_active.map_or("-".to_owned(), |n| n.to_string());
        let rescuer = match queue.rescuer {
            0 => "-".to_owned(),
            addr => format!("{addr:016x}"),
        };
        let line = format!(
            "{:016x}  {:<width$}  {:>6} {limit:>5}  {:>4}  {rescuer:<16}  {}",
            queue.addr,
            queue.name,
            queue.active,
            queue.inactive.len(),
            queue.flags.join(" ")
        );
        writeln!(out, "{}", line.trim_end())?;
        queue.inactive.iter().try_for_each(|w| writeln!(out, "    held back  {}", text(w)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::symbol::SymbolAt;

    fn work(name: &str, queue: &str) -> Work {
        let symbol = SymbolAt { name: name.into(), offset: 0, size: 8, module: None };
        Work {
            work: 0xffff_8880_0123_4500,
            function: 0xffff_ffff_8100_0000,
            symbol: Some(symbol),
            queue: Some(queue.into()),
        }
    }

    #[test]
    fn a_stalled_pool_and_its_queue() {
        let current = CurrentWork {
            work: work("stuck_fn", "events"),
            running_ns: None,
            running_at_most_ns: Some(41_500_000_000),
        };
        let worker = |current, scheduled| Worker {
            addr: 0xffff_8880_0200_0000,
            id: 0,
            task: 0,
            pid: Some(17),
            comm: Some("kworker/0:1".into()),
            current,
            scheduled,
            description: String::new(),
        };
        let pool = WorkerPool {
            addr: 0xffff_8880_0300_0000,
            id: 0,
            cpu: Some(0),
            nice: Some(0),
            nr_workers: 2,
            nr_idle: 1,
            progress_ago_ns: Some(41_000_000_000),
            stalled_ns: Some(41_000_000_000),
            pending: vec![work("vmstat_update", "mm_percpu_wq")],
            workers: vec![
                worker(Some(current), vec![work("next_fn", "events")]),
                worker(None, vec![]),
            ],
        };
        let queue = Workqueue {
            addr: 0xffff_8880_0400_0000,
            name: "events".into(),
            flags: vec!["UNBOUND", "MEM_RECLAIM"],
            most_active: Some(256),
            rescuer: 0,
            active: 2,
            inactive: vec![work("late_fn", "events")],
            pools: vec![0],
        };
        let mut out = Vec::new();
        render_pool(&mut out, &pool, false).unwrap();
        render_pool(&mut out, &pool, true).unwrap();
        render_queues(&mut out, &[queue]).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}
