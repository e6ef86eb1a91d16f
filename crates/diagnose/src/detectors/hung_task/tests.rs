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
        finding.cause.contains("mutex journal [m]") && finding.cause.contains("mutex table [m]")
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
    let waiter = sleeper(244, "cp", TaskState::Uninterruptible, &["__schedule", "weird_wait", "f"]);
    let case = case(LOG, "khungtaskd", &WATCHDOG, None).with_waits(vec![waiter], vec![], vec![]);
    assert_eq!(detect(&case).unwrap().confidence.level, Level::Possible);
}

#[test]
fn names_with_colons_keep_their_pid() {
    assert_eq!(hung_pid("INFO: task kworker/1:2:50 blocked for more than 120 seconds."), Some(50));
    assert_eq!(hung_pid("INFO: task cp:50 blocked in I/O wait for more than 6 seconds."), Some(50));
    assert_eq!(hung_pid("INFO: task waiter blocked for"), None);
}

#[test]
fn a_hang_that_was_survived_is_none() {
    let log = LOG.replace("hung_task: blocked tasks", "Fatal exception");
    assert!(detect(&case(&log, "sh", &["panic", "oops_end"], None)).is_none());
}
