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

use kmortem_kernel::lock::{LockKind, Owner, Wait};
use kmortem_kernel::stack::Stack;
use kmortem_kernel::task::{Task, TaskState};

use crate::case::{Case, TaskStack};
use crate::fault::short;
use crate::finding::{Advice, Finding, Kind, Level, Section, Source};
use crate::noise;
use crate::oops::{Incident, IncidentKind};
use crate::storage::{Stall, stall};
use crate::text::duration;
use crate::view::StackView;

use super::common::{add_log, blame_module, chain, look_at, module_on, stack_of, who};

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

/// 244 out of "INFO: task crasher_waiter:244 blocked for more than 5 seconds."
/// (a name may have colons: the last one counts).
fn hung_pid(title: &str) -> Option<i32> {
    let (name, _) = title.strip_prefix("INFO: task ")?.split_once(" blocked for")?;
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
        return deadlock(case, &tasks);
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

fn behind_lock(
    case: &Case<'_>,
    victim: &TaskStack,
    waits: &[&Wait],
    holder: Option<&TaskStack>,
) -> Finding {
    let first = waits[0];
    let last = waits[waits.len() - 1];
    let event = is_event(last);
    let between = waits
        .iter()
        .skip(1)
        .map(|w| format!(", whose holder {} itself waits for {}", names(w), lock_name(w)));
    let mut cause = format!(
        "{} waited {} for {}{}",
        who(&victim.task),
        waited(case, &victim.task),
        lock_name(first),
        between.collect::<String>()
    );
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
        add_stall(&mut finding, &stall);
    }
    blame_module(case, &mut finding, module_on(&culprit.stack, at));
    finding.sections.push(picture(case, waits, holder));
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

/// Who waits for whom, drawn.
fn picture(case: &Case<'_>, waits: &[&Wait], holder: Option<&TaskStack>) -> Section {
    let mut lines = Vec::new();
    for (i, wait) in waits.iter().enumerate() {
        let state = case.task_stack(wait.waiter.addr).map_or('?', |t| t.task.state.letter());
        let target = match (waits.get(i + 1), holder) {
            (Some(next), _) => names(next),
            (None, Some(holder)) => format!("{} {}", who(&holder.task), holder.task.state.letter()),
            (None, None) => "?".into(),
        };
        let what = lock_name(wait);
        lines.push(match &wait.lock.owner {
            Owner::Task(_) => format!("{} {state} ──▶ {what} ──▶ {target}", names(wait)),
            _ => format!("{} {state} ──▶ {what}", names(wait)),
        });
    }
    let drawn: Vec<u64> = waits.iter().map(|w| w.waiter.addr).collect();
    let graph = case.waits();
    let others: Vec<&Wait> = graph
        .waits
        .iter()
        .filter(|w| !drawn.contains(&w.waiter.addr) && is_behind(case, w, waits))
        .collect();
    for wait in others.iter().take(4) {
        let holder = wait.lock.owner.certain().and_then(|o| o.task.as_ref());
        let holder = holder.map_or(String::new(), |t| format!(" ──▶ {} ({})", t.comm, t.pid));
        lines.push(format!("{} ──▶ {}{holder}", names(wait), lock_name(wait)));
    }
    let behind = others.len() + drawn.len();
    let elsewhere = case.sleepers().iter().filter(|s| {
        !drawn.contains(&s.task.addr) && !others.iter().any(|w| w.waiter.addr == s.task.addr)
    });
    match elsewhere.count() {
        0 => lines.push(format!(
            "{} behind this, no other task in D state",
            crate::text::count(behind, "task")
        )),
        n => lines
            .push(format!("{} in D state for other reasons", crate::text::count(n, "more task"))),
    }
    Section::Lines { title: "WHO WAITS FOR WHOM".into(), lines }
}

fn deadlock(case: &Case<'_>, cycle: &[u64]) -> Finding {
    let graph = case.waits();
    let waits: Vec<&Wait> = cycle.iter().filter_map(|t| graph.wait_of(*t)).collect();
    let steps: Vec<String> = waits
        .iter()
        .enumerate()
        .map(|(i, wait)| {
            let holder = waits.get((i + 1) % waits.len()).map_or("?".into(), |w| names(w));
            format!("{} waits for {}, held by {holder}", names(wait), lock_name(wait))
        })
        .collect();
    let mut finding = Finding::new(
        Kind::Deadlock,
        format!("Deadlock: {}.{}", steps.join("; "), panic_sentence(case)),
        Level::Certain,
        "the owner fields of the locks close the circle: none of these tasks can ever go on",
    );
    let stacks: Vec<TaskStack> = cycle.iter().filter_map(|t| case.task_stack(*t)).collect();
    let mut locks: Vec<String> = waits.iter().map(|w| lock_name(w)).collect();
    locks.sort();
    finding.subject = Some(
        locks.iter().map(|l| l.split(" 0x").next().unwrap_or(l)).collect::<Vec<_>>().join(" and "),
    );
    let mut functions: Vec<String> = stacks
        .iter()
        .flat_map(|s| chain(&s.stack, own_frame(&s.stack)).into_iter().take(2))
        .collect();
    // Which task closed the circle is chance.
    functions.sort();
    functions.dedup();
    finding.functions = functions;
    finding.task = stacks.first().map(|s| (s.task.pid, s.task.comm.clone()));
    for wait in &waits {
        finding.proof(Source::Object, owner_evidence(wait));
    }
    let module = stacks.iter().find_map(|s| module_on(&s.stack, own_frame(&s.stack)));
    blame_module(case, &mut finding, module);
    let mut lines: Vec<String> =
        waits.iter().map(|w| format!("{} ──▶ {}", names(w), lock_name(w))).collect();
    if let Some(first) = waits.first() {
        lines.push(format!("  ╰──▶ back to {}", names(first)));
    }
    finding.sections.push(Section::Lines { title: "THE CIRCLE".into(), lines });
    for stack in stacks.iter().take(3) {
        finding.sections.push(Section::Stack {
            title: format!("STACK OF {}", who(&stack.task)),
            stack: StackView::new(&stack.stack, 0),
        });
    }
    finding
        .next
        .push(Advice::words(format!("take {} in one order everywhere", locks.join(" and "))));
    let commands = stacks.iter().take(4).map(|s| format!("bt {}", s.task.pid)).collect();
    finding.next.push(Advice { text: "their stacks in full".into(), commands });
    finding
}

fn without_lock(case: &Case<'_>, victim: &TaskStack) -> Finding {
    let io = stall(case).filter(|_| sleeps_for_io(&victim.stack));
    let at = place(victim);
    let waits = format!("{} slept {} in {at}", who(&victim.task), waited(case, &victim.task));
    let mut finding = match &io {
        Some(stall) => Finding::new(
            Kind::StorageStall,
            format!("{waits}, waiting for I/O: {}.{}", stall.sentence(), panic_sentence(case)),
            Level::Likely,
            "the task sleeps for I/O and the disk has old requests; that this one is among them is inferred",
        ),
        None => Finding::new(
            Kind::HungTask,
            format!("{waits}; it waits for no lock that could be found.{}", panic_sentence(case)),
            Level::Possible,
            "the waiter is known; what it waits for is not",
        ),
    };
    finding.task = Some((victim.task.pid, victim.task.comm.clone()));
    finding.functions = chain(&victim.stack, own_frame(&victim.stack));
    if let Some(stall) = &io {
        finding.subject = Some(format!("disk {}", stall.disk));
        add_stall(&mut finding, stall);
    }
    blame_module(case, &mut finding, module_on(&victim.stack, own_frame(&victim.stack)));
    finding.sections.push(stack_of(victim, "STACK OF THE WAITER"));
    finding.next.push(match &io {
        Some(stall) => Advice::run(
            format!("see what keeps {} from answering (driver, host, storage network)", stall.disk),
            &["dev -d", "log"],
        ),
        None => Advice::run("other tasks that wait", &["foreach UN bt"]),
    });
    finding.next.push(look_at(victim.task.pid));
    finding
}

fn sleeps_for_io(stack: &Stack) -> bool {
    stack.frames.iter().any(|f| {
        let name = f.function();
        name.starts_with("io_schedule")
            || name.starts_with("folio_wait")
            || name.starts_with("wait_on_page")
            || name.starts_with("submit_bio_wait")
            || name.starts_with("blk_")
            || name.starts_with("__wait_on_buffer")
            || name.starts_with("jbd2_")
            || name.starts_with("xfs_buf")
    })
}

fn add_stall(finding: &mut Finding, stall: &Stall) {
    finding.proof(Source::Object, stall.sentence());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{case, stack, task};
    use kmortem_kernel::lock::{Lock, TaskRef, WaitEvidence};
    use kmortem_kernel::symbol::SymbolAt;

    const LOG: &str = "30.1 INFO: task waiter:244 blocked for more than 5 seconds.
        30.1 Call Trace:
        30.1  __schedule+0x4fb/0xc00
        30.2 Kernel panic - not syncing: hung_task: blocked tasks";
    const WATCHDOG: [&str; 4] = ["panic", "watchdog", "kthread", "ret_from_fork"];

    fn named(task: &Task) -> TaskRef {
        let name = kmortem_kernel::lock::TaskName { pid: task.pid, comm: task.comm.clone() };
        TaskRef { addr: task.addr, task: Some(name) }
    }

    fn wait(waiter: &Task, lock: &str, owner: Owner) -> Wait {
        Wait {
            waiter: named(waiter),
            lock: Lock {
                kind: LockKind::Mutex,
                addr: 0xffff_ffff_c000_0000 + lock.len() as u64,
                symbol: Some(SymbolAt {
                    name: lock.into(),
                    offset: 0,
                    size: 32,
                    module: Some("m".into()),
                }),
                bit: None,
                bit_name: None,
                mm: None,
                owner,
            },
            mode: None,
            node: 0,
            known_by: WaitEvidence::OnRing,
        }
    }

    fn sleeper(pid: i32, comm: &str, state: TaskState, functions: &[&str]) -> TaskStack {
        let mut task = task(pid, comm, state);
        task.last_arrival_ns = Some(20_000_000_000);
        TaskStack { task, stack: stack(functions) }
    }

    #[test]
    fn the_holder_is_named_with_what_it_does() {
        let waiter = sleeper(
            244,
            "waiter",
            TaskState::Uninterruptible,
            &["__schedule", "__mutex_lock", "m:wait_for_it", "kthread"],
        );
        let owner = sleeper(
            243,
            "owner",
            TaskState::Interruptible,
            &["__schedule", "schedule_timeout", "m:hold_it", "kthread"],
        );
        let waits = vec![wait(&waiter.task, "table_lock", Owner::Task(named(&owner.task)))];
        let case =
            case(LOG, "khungtaskd", &WATCHDOG, None).with_waits(vec![waiter], vec![owner], waits);
        let finding = detect(&case).unwrap();
        assert!(
            finding.cause.starts_with(
                "waiter (244) waited 10.2 s for mutex table_lock [m], held by owner (243), which sleeps in hold_it+0x10 [m] (state S)."
            ),
            "{}",
            finding.cause
        );
        assert_eq!(finding.confidence.level, Level::Certain);
        assert_eq!(finding.functions[0], "m:hold_it");
    }

    #[test]
    fn a_circle_is_a_deadlock_whoever_was_found_first() {
        let a = sleeper(
            244,
            "a",
            TaskState::Uninterruptible,
            &["__schedule", "__mutex_lock", "m:lock_both"],
        );
        let b = sleeper(
            245,
            "b",
            TaskState::Uninterruptible,
            &["__schedule", "__mutex_lock", "m:lock_both"],
        );
        let waits = vec![
            wait(&a.task, "journal", Owner::Task(named(&b.task))),
            wait(&b.task, "table", Owner::Task(named(&a.task))),
        ];
        let case = case(LOG, "khungtaskd", &WATCHDOG, None).with_waits(vec![a, b], vec![], waits);
        let finding = detect(&case).unwrap();
        assert_eq!(finding.kind, Kind::Deadlock);
        assert!(
            finding.cause.contains("mutex journal [m]")
                && finding.cause.contains("mutex table [m]")
        );
        assert_eq!(finding.functions, ["m:lock_both"]);
    }

    #[test]
    fn a_running_holder_lowers_the_confidence() {
        let waiter = sleeper(244, "waiter", TaskState::Uninterruptible, &["__mutex_lock", "m:w"]);
        let owner = sleeper(243, "owner", TaskState::Running, &["m:busy"]);
        let waits = vec![wait(&waiter.task, "l", Owner::Task(named(&owner.task)))];
        let case =
            case(LOG, "khungtaskd", &WATCHDOG, None).with_waits(vec![waiter], vec![owner], waits);
        let finding = detect(&case).unwrap();
        assert_eq!(finding.confidence.level, Level::Likely);
        assert!(finding.against[0].contains("running"));
    }

    #[test]
    fn a_wait_without_a_lock_is_only_possible() {
        let waiter =
            sleeper(244, "cp", TaskState::Uninterruptible, &["__schedule", "weird_wait", "f"]);
        let case =
            case(LOG, "khungtaskd", &WATCHDOG, None).with_waits(vec![waiter], vec![], vec![]);
        assert_eq!(detect(&case).unwrap().confidence.level, Level::Possible);
    }

    #[test]
    fn names_with_colons_keep_their_pid() {
        assert_eq!(
            hung_pid("INFO: task kworker/1:2:50 blocked for more than 120 seconds."),
            Some(50)
        );
        assert_eq!(hung_pid("INFO: task waiter blocked for"), None);
    }

    #[test]
    fn a_hang_that_was_survived_is_none() {
        let log = LOG.replace("hung_task: blocked tasks", "Fatal exception");
        assert!(detect(&case(&log, "sh", &["panic", "oops_end"], None)).is_none());
    }
}
