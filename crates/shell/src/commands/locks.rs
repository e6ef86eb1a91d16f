//! `locks`: who waits for which lock, who holds it, and for how long.

use std::io::{self, Write};

use kmortem_kernel::lock::{Lock, LockKind, Mode, Owner, Spin, TaskRef, Wait, WaitGraph};
use kmortem_kernel::task::{Task, TaskTable};
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::{failed, ps_times, tasks};
use crate::address;
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "locks",
    summary: "shows which locks tasks wait for, and who holds them",
    arguments: "[LOCK | PID]",
    options: &[
        Opt::flag('c', "deadlocks only: tasks that wait for each other in a circle"),
        Opt::flag(
            'a',
            "with futexes and wait queues, on which tasks sleep that have nothing to do",
        ),
    ],
    details: "\
Not a command of crash. Mutexes, read-write semaphores, semaphores, rtmutexes, bits
of folios (PG_locked, PG_writeback) and of other words, and completions are found
by the node that each waiting task has on its own stack; CPUs that spin for a lock
by the function that they are in. In brackets: for how long
a task has not run, and its state. With LOCK only that lock; with PID the chain of
locks from that task on, to the one that holds all up.",
    examples: &[
        ("", "all locks that somebody waits for"),
        ("-c", "deadlocks"),
        ("-a", "all that tasks sleep on"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "a lock, or a CPU that spins for one",
            members: "`kind` `addr` `symbol` `bit` `bit_name` `mm` `owner`, `owner_since_ns`, `waiters` (`waiter` `state` `since_ns` `mode` `node` `known_by`); or `spin`: `cpu` `task` `pc` `function` `lock` (a guess) `symbol` `word`",
        },
        Rows {
            options: "-c",
            row: "a deadlock",
            members: "`cycle`: the tasks, each of which waits for the next",
        },
    ],
    each: None,
    run,
};

/// A row of JSON: a lock and who waits for it.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    lock: &'a Lock,
    /// For how long the owner has not run.
    owner_since_ns: Option<u64>,
    waiters: Vec<Waiter<'a>>,
}

#[derive(Serialize)]
struct Waiter<'a> {
    waiter: &'a TaskRef,
    state: Option<&'static str>,
    /// For how long it has not run.
    since_ns: Option<u64>,
    mode: Option<Mode>,
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    node: u64,
    known_by: kmortem_kernel::lock::WaitEvidence,
}

/// A row of JSON of `locks -c`.
#[derive(Serialize)]
struct Cycle<'a> {
    cycle: &'a [TaskRef],
}

/// A row of JSON: a CPU that spins.
#[derive(Serialize)]
struct SpinRow<'a> {
    spin: &'a Spin,
}

/// What is known of tasks.
struct Known<'a> {
    table: &'a TaskTable,
    clocks: FxHashMap<u32, u64>,
}

impl Known<'_> {
    fn task(&self, task: &TaskRef) -> Option<&Task> {
        self.table.at(task.addr)
    }

    /// For how long a task has not run.
    fn since(&self, task: &TaskRef) -> Option<u64> {
        let task = self.task(task).filter(|task| !task.active)?;
        let now = self.clocks.get(&task.cpu)?;
        Some(now.saturating_sub(task.last_arrival_ns?))
    }
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let kernel = session.kernel();
    let table = tasks(COMMAND.name, session, out)?;
    let graph = kernel.wait_graph().map_err(failed(COMMAND.name))?;
    let all: Vec<&Task> = table.list.iter().collect();
    let known = Known { table, clocks: ps_times::clocks(kernel, &all) };
    if args.has('c') {
        return show_cycles(&graph, &known, out);
    }
    let chain;
    let (waits, one): (Vec<&Wait>, bool) = match args.words.as_slice() {
        [] => (graph.waits.iter().filter(|wait| args.has('a') || is_lock(wait)).collect(), false),
        [word] => match word.parse().ok().and_then(|pid| table.pid(pid)) {
            Some(task) => {
                chain = graph.chain(task.addr);
                (chain, true)
            }
            None => {
                let addr = address::address(COMMAND.name, kernel, word)?;
                (graph.waiters(addr).collect(), true)
            }
        },
        _ => {
            let what = "one lock or task at a time".to_owned();
            return Err(CommandError::Usage { command: COMMAND.name, what });
        }
    };
    if one && waits.is_empty() {
        let what = format!("no task is found to wait there: {}", args.words.join(" "));
        return Err(CommandError::Failed { command: COMMAND.name, what });
    }
    let rows = by_lock(&waits, &known);
    let mut spins = match one {
        true => Vec::new(),
        false => kernel.spinning_cpus().map_err(failed(COMMAND.name))?,
    };
    spins.sort_by_key(|spin| (spin.lock, spin.cpu));
    if out.is_json() {
        out.rows(&rows)?;
        return Ok(out.rows(&spins.iter().map(|spin| SpinRow { spin }).collect::<Vec<_>>())?);
    }
    if rows.is_empty() && spins.is_empty() {
        writeln!(out, "no task waits for a lock")?;
    }
    for (i, row) in rows.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        render(out, row, &known)?;
    }
    for (i, spin) in spins.iter().enumerate() {
        let again = i > 0 && spins.get(i - 1).is_some_and(|before| before.lock == spin.lock);
        if !again && (i > 0 || !rows.is_empty()) {
            writeln!(out)?;
        }
        render_spin(out, spin, again)?;
    }
    for cycle in graph.cycles.iter().filter(|_| !one) {
        writeln!(out)?;
        render_cycle(out, cycle, &graph)?;
    }
    Ok(())
}

/// Whether it is more than a place to sleep at.
fn is_lock(wait: &Wait) -> bool {
    !matches!(wait.lock.kind, LockKind::Futex | LockKind::WaitQueue | LockKind::SwaitQueue)
}

/// The locks of `waits`, each once with its waiters; the longest wait first.
fn by_lock<'w>(waits: &[&'w Wait], known: &Known<'_>) -> Vec<Row<'w>> {
    let mut rows: Vec<Row<'w>> = Vec::new();
    let mut index: FxHashMap<(LockKind, u64, Option<i32>), usize> = FxHashMap::default();
    for wait in waits {
        let lock = &wait.lock;
        let at = *index.entry((lock.kind, lock.addr, lock.bit)).or_insert_with(|| {
            let owner = match &lock.owner {
                Owner::Task(task) | Owner::Last(task) => Some(task),
                Owner::Readers { last, .. } => last.as_ref(),
                Owner::Nobody | Owner::Unknown => None,
            };
            let owner_since_ns = owner.and_then(|task| known.since(task));
            rows.push(Row { lock, owner_since_ns, waiters: Vec::new() });
            rows.len() - 1
        });
        if let Some(row) = rows.get_mut(at) {
            row.waiters.push(Waiter {
                waiter: &wait.waiter,
                state: known.task(&wait.waiter).map(|task| task.state.crash_code()),
                since_ns: known.since(&wait.waiter),
                mode: wait.mode,
                node: wait.node,
                known_by: wait.known_by,
            });
        }
    }
    for row in &mut rows {
        row.waiters.sort_by_key(|waiter| std::cmp::Reverse(waiter.since_ns));
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.waiters.first().and_then(|w| w.since_ns)));
    rows
}

fn show_cycles(
    graph: &WaitGraph,
    known: &Known<'_>,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    if out.is_json() {
        let rows: Vec<Cycle<'_>> = graph.cycles.iter().map(|cycle| Cycle { cycle }).collect();
        return Ok(out.rows(&rows)?);
    }
    if graph.cycles.is_empty() {
        writeln!(out, "no tasks wait for each other in a circle")?;
    }
    for (i, cycle) in graph.cycles.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        render_cycle(out, cycle, graph)?;
        for task in cycle {
            let since = known.since(task).map_or("-".to_owned(), ps_times::days);
            writeln!(out, "  [{since}]  {}", name(task))?;
        }
    }
    Ok(())
}

fn kind(kind: LockKind) -> &'static str {
    match kind {
        LockKind::Mutex => "MUTEX",
        LockKind::RwSemaphore => "RW_SEMAPHORE",
        LockKind::PercpuRwSemaphore => "PERCPU_RW_SEMAPHORE",
        LockKind::Semaphore => "SEMAPHORE",
        LockKind::RtMutex => "RT_MUTEX",
        LockKind::Futex => "FUTEX",
        LockKind::Completion => "COMPLETION",
        LockKind::SwaitQueue => "SWAIT_QUEUE",
        LockKind::WaitQueue => "WAIT_QUEUE",
        LockKind::FolioBit => "FOLIO",
        LockKind::Bit => "BIT",
    }
}

/// `PID: 12       TASK: ffff...  COMMAND: "name"`
fn name(task: &TaskRef) -> String {
    match &task.task {
        Some(known) => {
            let (pid, comm) = (known.pid, &known.comm);
            format!("PID: {pid:<7}  TASK: {:016x}  COMMAND: \"{comm}\"", task.addr)
        }
        None => format!("PID: -        TASK: {:016x}  (no such task any more)", task.addr),
    }
}

fn render(out: &mut dyn Write, row: &Row<'_>, known: &Known<'_>) -> io::Result<()> {
    let lock = row.lock;
    write!(out, "{}: {:016x}", kind(lock.kind), lock.addr)?;
    if let Some(name) = lock.name() {
        write!(out, "  {name}")?;
    }
    match (&lock.bit_name, lock.bit) {
        (Some(name), _) => write!(out, "  {name}")?,
        (None, Some(bit)) => write!(out, "  bit {bit}")?,
        (None, None) => {}
    }
    writeln!(out)?;
    let since = |ns: Option<u64>| ns.map_or("-".to_owned(), ps_times::days);
    let held = |out: &mut dyn Write, what: &str, task: &TaskRef| {
        let state = known.task(task).map_or("-", |task| task.state.crash_code());
        let since = match known.task(task).is_some_and(|task| task.active) {
            true => "running".to_owned(),
            false => since(row.owner_since_ns),
        };
        writeln!(out, "  {what}: [{since}] [{state}]  {}", name(task))
    };
    match &lock.owner {
        Owner::Task(task) => held(out, "OWNER", task)?,
        Owner::Last(task) => held(out, "LAST HOLDER (may have let go)", task)?,
        Owner::Readers { count, last } => {
            writeln!(out, "  OWNER: {count} readers")?;
            if let Some(task) = last {
                held(out, "LAST READER (may have let go)", task)?;
            }
        }
        Owner::Nobody => writeln!(out, "  OWNER: none at this moment")?,
        Owner::Unknown => writeln!(out, "  OWNER: (not noted by the kernel)")?,
    }
    for waiter in &row.waiters {
        let mode = match waiter.mode {
            Some(Mode::Read) => "  (read)",
            Some(Mode::Write) => "  (write)",
            None => "",
        };
        let state = waiter.state.unwrap_or("-");
        let (since, name) = (since(waiter.since_ns), name(waiter.waiter));
        writeln!(out, "  WAITS: [{since}] [{state}]  {name}{mode}")?;
    }
    Ok(())
}

/// A CPU that spins; `again`: for the lock of the one before.
fn render_spin(out: &mut dyn Write, spin: &Spin, again: bool) -> io::Result<()> {
    match spin.lock {
        _ if again => {}
        Some(lock) => {
            let name = spin.symbol.as_ref().map_or(String::new(), |symbol| format!("  {symbol}"));
            let why = "guess: by the register of the first argument";
            writeln!(out, "SPINLOCK: {lock:016x}{name} ({why})")?;
            writeln!(out, "  OWNER: (not noted by the kernel)")?;
        }
        None => writeln!(out, "SPINLOCK: unknown, or just let go")?,
    }
    let (cpu, function) = (spin.cpu, &spin.function);
    writeln!(out, "  SPINS: CPU {cpu} in {function}  {}", name(&spin.task))
}

/// Who waits for whom, round to the first again.
fn render_cycle(out: &mut dyn Write, cycle: &[TaskRef], graph: &WaitGraph) -> io::Result<()> {
    writeln!(out, "DEADLOCK of {} tasks:", cycle.len())?;
    for task in cycle {
        let short = |task: &TaskRef| match &task.task {
            Some(known) => format!("{} \"{}\"", known.pid, known.comm),
            None => format!("{:016x}", task.addr),
        };
        let Some(wait) = graph.wait_of(task.addr) else { continue };
        let owner = wait.lock.owner.certain().map_or("-".to_owned(), short);
        let lock = wait.lock.name().unwrap_or_else(|| format!("{:016x}", wait.lock.addr));
        let kind = kind(wait.lock.kind);
        writeln!(out, "  {} waits for {kind} {lock}, which {owner} holds", short(task))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::lock::{TaskName, WaitEvidence};

    fn wait(waiter: i32, lock: u64, owner: i32) -> Wait {
        let task = |pid: i32| TaskRef {
            addr: 0xffff_8880_0100_0000 + pid as u64 * 0x1000,
            task: Some(TaskName { pid, comm: format!("task{pid}") }),
        };
        Wait {
            waiter: task(waiter),
            lock: Lock {
                kind: LockKind::Mutex,
                addr: 0xffff_8880_0200_0000 + lock,
                symbol: None,
                bit: None,
                bit_name: None,
                mm: None,
                owner: Owner::Task(task(owner)),
            },
            mode: None,
            node: 0,
            known_by: WaitEvidence::OnRing,
        }
    }

    #[test]
    fn deadlocks_go_round() {
        let graph = WaitGraph::new(vec![wait(1, 8, 2), wait(2, 16, 1)]);
        let mut text = Vec::new();
        for cycle in &graph.cycles {
            render_cycle(&mut text, cycle, &graph).unwrap();
        }
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}
