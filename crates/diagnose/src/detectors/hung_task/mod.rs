//! A task slept uninterruptibly for too long: behind a lock that somebody
//! holds, in a deadlock, or for a disk that does not answer.
//!
//! Mechanism: khungtaskd finds a task in D state that did not run for
//! hung_task_timeout_secs; hung_task_panic=1 panics. Evidence: the waiter's
//! own stack has its node on the lock's ring; the lock's owner word names the
//! holder; the holder's stack says why it does not let go; a chain that closes
//! is a deadlock; without a lock, block requests in flight. The watchdog that
//! panicked and the first task that it names are victims. Refuted by: a holder
//! that runs (the lock is merely busy). Kernels: with CONFIG_DETECT_HUNG_TASK.
//! Reference: kernel/hung_task.c, kernel/locking/.

mod deadlock;
mod disk;
mod picture;

use kmortem_kernel::lock::{LockKind, Owner, Wait};
use kmortem_kernel::stack::Stack;
use kmortem_kernel::task::{Task, TaskState};

use crate::case::{Case, TaskStack};
use crate::fault::short;
use crate::finding::{Advice, Finding, Kind, Level, Source};
use crate::noise;
use crate::oops::{Incident, IncidentKind};
use crate::storage::stall;
use crate::text::duration;

use super::common::{add_log, blame_module, chain, look_at, module_on, stack_of, who};
use disk::behind_disk;

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    let on_stack = case.crashed.as_ref().is_some_and(|c| {
        c.is_dying()
            && (c.task.comm == "khungtaskd" || c.stack.has("check_hung_uninterruptible_tasks"))
    });
    let said = case.panic_text().starts_with("hung_task");
    if !on_stack && !said {
        return None;
    }
    let logged: Vec<&Incident> =
        case.incidents.iter().filter(|i| i.kind == IncidentKind::HungTask).collect();
    let victim = victim(case, &logged);
    let mut finding = match victim {
        Some(victim) => explain(case, &victim),
        None => {
            let name = logged.first().map_or("a task", |i| i.title());
            Finding::new(
                Kind::HungTask,
                format!("A task hung: {name} Its stack is not in the dump."),
                Level::Possible,
                "the watchdog says so; no task in D state was found",
            )
        }
    };
    let mut rest = logged.iter();
    add_log(case, &mut finding, rest.next().copied());
    for more in rest.take(2) {
        finding.evidence.extend(case.log_evidence(more).into_iter().take(1));
    }
    if let Some(value) = case.setting(&["sysctl_hung_task_panic"]) {
        finding.proof(Source::Setting, format!("kernel.hung_task_panic={value}"));
    }
    Some(finding)
}

/// The task to explain: the first that the watchdog named and that still
/// waits, else the one in D state that waits longest.
fn victim(case: &Case<'_>, logged: &[&Incident]) -> Option<TaskStack> {
    let named = logged
        .iter()
        .filter_map(|i| hung_pid(i.title()))
        .find_map(|pid| case.sleepers().iter().find(|s| s.task.pid == pid));
    named.or_else(|| case.sleepers().first()).cloned()
}

/// 244 out of "INFO: task crasher_waiter:244 blocked for more than 5 seconds.", since v7 also
/// "blocked in I/O wait for more than" (a name may have colons: the last one counts).
fn hung_pid(title: &str) -> Option<i32> {
    let rest = title.strip_prefix("INFO: task ")?;
    let split = |words| rest.split_once(words);
    let (name, _) = split(" blocked for").or_else(|| split(" blocked in I/O wait for"))?;
    name.rsplit_once(':')?.1.trim().parse().ok()
}

fn explain(case: &Case<'_>, victim: &TaskStack) -> Finding {
    let graph = case.waits();
    let chain_of_waits = graph.chain(victim.task.addr);
    let cycle = graph
        .cycles
        .iter()
        .find(|cycle| chain_of_waits.iter().any(|w| cycle.iter().any(|t| t.addr == w.waiter.addr)));
    if let Some(cycle) = cycle {
        let tasks: Vec<u64> = cycle.iter().map(|t| t.addr).collect();
        return deadlock::deadlock(case, &tasks);
    }
    if let Some(finding) = behind_disk(case, victim, &chain_of_waits) {
        return finding;
    }
    // A holder that waits for an event nobody owns is where the chain ends: it
    // is what the others wait for, and its own wait says why.
    let mut chain_of_waits = chain_of_waits;
    if chain_of_waits.len() > 1
        && chain_of_waits.last().is_some_and(|w| is_event(w) && w.lock.owner.certain().is_none())
    {
        chain_of_waits.pop();
    }
    match chain_of_waits.last() {
        Some(last) => {
            let holder = last.lock.owner.certain().and_then(|o| case.task_stack(o.addr));
            behind_lock(case, victim, &chain_of_waits, holder.as_ref())
        }
        None => without_lock(case, victim),
    }
}

/// "mutex crasher_table_lock [crasher]", "mutex 0xff...".
fn lock_name(wait: &Wait) -> String {
    let kind = match wait.lock.kind {
        LockKind::Mutex => "mutex",
        LockKind::RwSemaphore => "rw-semaphore",
        LockKind::PercpuRwSemaphore => "percpu rw-semaphore",
        LockKind::Semaphore => "semaphore",
        LockKind::RtMutex => "rt-mutex",
        LockKind::Futex => "futex",
        LockKind::Completion => "completion",
        LockKind::SwaitQueue | LockKind::WaitQueue => "wait queue",
        LockKind::FolioBit => "lock or writeback of the page",
        LockKind::Bit => "bit lock",
    };
    match wait.lock.name() {
        Some(name) => format!("{kind} {name}"),
        None => format!("{kind} {:#x}", wait.lock.addr),
    }
}

/// The first frame that is not a lock's or the scheduler's own.
fn own_frame(stack: &Stack) -> usize {
    let frames = &stack.frames;
    frames.iter().position(|f| !noise::is_waiting(f.function())).unwrap_or(0)
}

fn place(found: &TaskStack) -> String {
    let frame = found.stack.frames.get(own_frame(&found.stack));
    frame.and_then(|f| f.symbol.as_ref()).map_or_else(|| "an unknown place".into(), short)
}

/// "10.1 s", since the task last ran.
fn waited(case: &Case<'_>, task: &Task) -> String {
    let now = case.panic.as_ref().map(|(at, _)| *at);
    match (now, task.last_arrival_ns) {
        (Some(now), Some(then)) if now > then => duration(now - then),
        _ => "too long".into(),
    }
}

/// Whether it waits for something to happen, not for somebody to let go.
fn is_event(wait: &Wait) -> bool {
    matches!(
        wait.lock.kind,
        LockKind::Completion
            | LockKind::WaitQueue
            | LockKind::SwaitQueue
            | LockKind::FolioBit
            | LockKind::Bit
    )
}

fn names(wait: &Wait) -> String {
    match &wait.waiter.task {
        Some(task) => format!("{} ({})", task.comm, task.pid),
        None => format!("{:#x}", wait.waiter.addr),
    }
}

/// "cp (12) waited 10.2 s for mutex a, whose holder mv (13) itself waits for mutex b".
fn waited_for(case: &Case<'_>, victim: &TaskStack, waits: &[&Wait]) -> String {
    let between = waits
        .iter()
        .skip(1)
        .map(|w| format!(", whose holder {} itself waits for {}", names(w), lock_name(w)));
    format!(
        "{} waited {} for {}{}",
        who(&victim.task),
        waited(case, &victim.task),
        waits.first().map_or_else(|| "a lock".into(), |first| lock_name(first)),
        between.collect::<String>()
    )
}

fn behind_lock(
    case: &Case<'_>,
    victim: &TaskStack,
    waits: &[&Wait],
    holder: Option<&TaskStack>,
) -> Finding {
    let last = waits[waits.len() - 1];
    let event = is_event(last);
    let mut cause = waited_for(case, victim, waits);
    let io = if event || holder.is_none() { stall(case) } else { None };
    let (level, reason) = match (&last.lock.owner, holder) {
        (Owner::Task(_), Some(holder)) => {
            cause += &format!(", held by {}, which {}.", who(&holder.task), what_it_does(holder));
            (
                Level::Certain,
                "the lock's owner field names the holder, and the waiter is on its list",
            )
        }
        (Owner::Task(task), None) => {
            cause += &format!(", held by the task at {:#x}, which no longer exists.", task.addr);
            (Level::Certain, "the lock's owner field points to a task that is gone")
        }
        (Owner::Readers { count, .. }, _) => {
            cause += &format!(", held by {count} readers.");
            (Level::Likely, "the lock is held for reading; the kernel does not record by whom")
        }
        (Owner::Last(task), _) => {
            let name = task
                .task
                .as_ref()
                .map_or_else(|| format!("{:#x}", task.addr), |t| format!("{} ({})", t.comm, t.pid));
            cause += &format!(", last taken by {name}.");
            (Level::Likely, "the lock notes who took it last, not who holds it")
        }
        (Owner::Nobody | Owner::Unknown, _) if event => {
            cause += ", which nobody has signalled.";
            (Level::Likely, "what it waits for was found; who should signal it is not recorded")
        }
        (Owner::Nobody, _) => {
            cause += ", which nobody holds now: it was about to be woken, or its wake-up got lost.";
            (Level::Likely, "the lock's owner field is empty")
        }
        (Owner::Unknown, _) => {
            cause += "; the kernel does not record its holder.";
            (Level::Likely, "the waiter is on the lock's list; its holder is not recorded")
        }
    };
    cause += &others_behind(case, waits);
    cause += panic_sentence(case);
    let mut finding = Finding::new(Kind::HungTask, cause, level, reason);
    finding.task = Some((victim.task.pid, victim.task.comm.clone()));
    finding.subject = Some(match last.lock.name() {
        Some(_) => lock_name(last),
        None => lock_name(last).split(" 0x").next().unwrap_or("lock").to_owned(),
    });
    let culprit = holder.unwrap_or(victim);
    let at = own_frame(&culprit.stack);
    finding.functions = chain(&culprit.stack, at);
    finding.functions.truncate(3);
    finding.functions.extend(chain(&victim.stack, own_frame(&victim.stack)).into_iter().take(2));
    for wait in waits {
        finding.proof(Source::Object, owner_evidence(wait));
    }
    if let Some(holder) = holder
        && holder.task.state == TaskState::Running
    {
        finding.confidence.level = Level::Likely;
        finding
            .against
            .push(format!("{} is running: the lock may only be busy", who(&holder.task)));
    }
    if let Some(stall) = io {
        finding.proof(Source::Object, stall.sentence());
    }
    blame_module(case, &mut finding, module_on(&culprit.stack, at));
    finding.sections.push(picture::picture(case, waits, holder));
    if let Some(holder) = holder {
        finding.sections.push(stack_of(holder, "STACK OF THE HOLDER"));
    }
    finding.sections.push(stack_of(victim, "STACK OF THE WAITER"));
    finding.next.push(Advice::words(match holder {
        Some(holder) => format!(
            "{} takes the lock and sleeps: find what should wake it, or who calls it",
            place(holder).split('+').next().unwrap_or("the holder")
        ),
        None => format!("find who should wake up what waits in {}", place(victim)),
    }));
    let mut commands = vec![format!("bt {}", victim.task.pid)];
    commands.extend(holder.map(|h| format!("bt {}", h.task.pid)));
    finding.next.push(Advice { text: "both stacks in full".into(), commands });
    finding
}

/// Whether the task of `wait` waits for one of `locks`, or for a task that does.
fn is_behind(case: &Case<'_>, wait: &Wait, locks: &[&Wait]) -> bool {
    let own = case.waits().chain(wait.waiter.addr);
    own.iter().any(|step| locks.iter().any(|l| l.lock.addr == step.lock.addr))
}

/// " cat (137) and cat (138) wait behind it, too."
fn others_behind(case: &Case<'_>, waits: &[&Wait]) -> String {
    let drawn: Vec<u64> = waits.iter().map(|w| w.waiter.addr).collect();
    let more: Vec<String> = case
        .waits()
        .waits
        .iter()
        .filter(|w| !drawn.contains(&w.waiter.addr) && is_behind(case, w, waits))
        .map(names)
        .collect();
    match more.as_slice() {
        [] => String::new(),
        [one] => format!(" {one} waits behind it, too."),
        [one, two] => format!(" {one} and {two} wait behind it, too."),
        [one, two, rest @ ..] => format!(" {one}, {two} and {} more wait behind it.", rest.len()),
    }
}

fn panic_sentence(case: &Case<'_>) -> &'static str {
    match case.setting(&["sysctl_hung_task_panic"]) {
        Some(n) if n > 0 => " The hung-task watchdog (hung_task_panic) then panicked the machine.",
        _ => " The hung-task watchdog then panicked the machine.",
    }
}

/// "sleeps in f+0x1c [m] (state S)".
fn what_it_does(holder: &TaskStack) -> String {
    let at = place(holder);
    match holder.task.state {
        TaskState::Running if holder.task.active => format!("is running in {at}"),
        TaskState::Running => format!("is ready to run in {at} and gets no CPU"),
        TaskState::Zombie | TaskState::Dead => "is dead: it ended without unlocking".into(),
        TaskState::Stopped | TaskState::Traced => format!("is stopped in {at}"),
        state => {
            format!("sleeps{} in {at} (state {})", sleeps_for(&holder.stack), state.letter())
        }
    }
}

/// What the functions on a sleeper's stack say that it waits for.
fn sleeps_for(stack: &Stack) -> &'static str {
    const SIGNS: &[(&str, &str)] = &[
        ("wait_for_completion", " for a completion"),
        ("msleep", " for a time (msleep)"),
        ("do_nanosleep", " for a time"),
        ("io_schedule", " for I/O"),
        ("kthread_worker_fn", " for work"),
    ];
    let on_stack = |prefix: &str| stack.frames.iter().any(|f| f.function().starts_with(prefix));
    SIGNS.iter().find(|(prefix, _)| on_stack(prefix)).map_or("", |(_, what)| what)
}

fn owner_evidence(wait: &Wait) -> String {
    let owner = match &wait.lock.owner {
        Owner::Task(task) => match &task.task {
            Some(name) => format!("owner = task {:#x}, {} ({})", task.addr, name.comm, name.pid),
            None => format!("owner = task {:#x}, which is gone", task.addr),
        },
        Owner::Readers { count, .. } => format!("{count} readers"),
        Owner::Last(task) => format!("last owner = task {:#x}", task.addr),
        Owner::Nobody => "no owner".into(),
        Owner::Unknown => "its owner is not recorded".into(),
    };
    format!("{} at {:#x}: {owner}; {} waits", lock_name(wait), wait.lock.addr, names(wait))
}

fn without_lock(case: &Case<'_>, victim: &TaskStack) -> Finding {
    let cause = format!(
        "{} slept {} in {}; it waits for no lock that could be found.{}",
        who(&victim.task),
        waited(case, &victim.task),
        place(victim),
        panic_sentence(case)
    );
    let reason = "the waiter is known; what it waits for is not";
    let mut finding = Finding::new(Kind::HungTask, cause, Level::Possible, reason);
    finding.task = Some((victim.task.pid, victim.task.comm.clone()));
    finding.functions = chain(&victim.stack, own_frame(&victim.stack));
    blame_module(case, &mut finding, module_on(&victim.stack, own_frame(&victim.stack)));
    finding.sections.push(stack_of(victim, "STACK OF THE WAITER"));
    finding.next.push(Advice::run("other tasks that wait", &["foreach UN bt"]));
    finding.next.push(look_at(victim.task.pid));
    finding
}

#[cfg(test)]
mod tests;
