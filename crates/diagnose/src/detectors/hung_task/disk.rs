//! The task at the end of a chain of waits waits for a disk that owes answers.
//!
//! Evidence, from proof to guess: the bio of a request in flight, or the completion that it ends in,
//! lies on the task's own stack; that stack points to its page or buffer; the task merely sleeps in
//! a function that waits for I/O while a disk has old requests. What the others in the chain hold is then held
//! until the disk answers: the disk is the cause, whoever of them the watchdog named.

use kmortem_kernel::lock::Wait;
use kmortem_kernel::stack::Stack;

use crate::case::{Case, TaskStack};
use crate::finding::{Advice, Finding, Kind, Level, Source};
use crate::storage::{Stall, stall_behind};

use super::super::common::{blame_module, chain, look_at, module_on, stack_of, who};
use super::{is_event, own_frame, owner_evidence, panic_sentence, picture, place, waited};
use super::{waited_for, what_it_does};

/// The finding, where the chain `waits` of `victim` (which may be empty) ends at a disk.
pub(super) fn behind_disk(case: &Case<'_>, victim: &TaskStack, waits: &[&Wait]) -> Option<Finding> {
    let last = last_task(case, victim, waits)?;
    let stall = stall_behind(case, last.task.addr)?;
    if stall.awaited.is_none() && !sleeps_for_io(&last.stack) {
        return None;
    }
    let (level, reason) = certainty(&stall);
    let cause = format!(
        "{}, waiting for I/O: {}.{}",
        story(case, victim, waits, &last),
        stall.sentence(),
        panic_sentence(case)
    );
    let mut finding = Finding::new(Kind::StorageStall, cause, level, reason);
    finding.task = Some((victim.task.pid, victim.task.comm.clone()));
    finding.subject = Some(format!("disk {}", stall.disk));
    let at = own_frame(&last.stack);
    finding.functions = chain(&last.stack, at);
    if let Some(request) = &stall.awaited {
        finding.proof(Source::Object, format!("{} waits for {request}", who(&last.task)));
    }
    finding.proof(Source::Object, stall.sentence());
    blame_module(case, &mut finding, module_on(&last.stack, at));
    if last.task.addr == victim.task.addr {
        finding.sections.push(stack_of(victim, "STACK OF THE WAITER"));
    } else {
        for wait in before(waits, &last) {
            finding.proof(Source::Object, owner_evidence(wait));
        }
        finding.sections.push(picture::picture(case, waits, Some(&last)));
        finding.sections.push(stack_of(&last, "STACK OF THE TASK THAT WAITS FOR THE DISK"));
        finding.sections.push(stack_of(victim, "STACK OF THE WAITER"));
    }
    finding.next.push(Advice::run(
        format!("see what keeps {} from answering (driver, host, storage network)", stall.disk),
        &["blk", "dev -d", "log"],
    ));
    finding.next.push(look_at(last.task.pid));
    Some(finding)
}

/// The task that the chain ends at: who holds the last lock, or who waits for what nobody holds.
fn last_task(case: &Case<'_>, victim: &TaskStack, waits: &[&Wait]) -> Option<TaskStack> {
    let Some(wait) = waits.last() else { return Some(victim.clone()) };
    let addr = match wait.lock.owner.certain() {
        Some(owner) => owner.addr,
        None if is_event(wait) => wait.waiter.addr,
        None => return None,
    };
    match addr == victim.task.addr {
        true => Some(victim.clone()),
        false => case.task_stack(addr),
    }
}

/// What the victim did, up to the task that waits for the disk.
fn story(case: &Case<'_>, victim: &TaskStack, waits: &[&Wait], last: &TaskStack) -> String {
    if last.task.addr == victim.task.addr {
        let since = waited(case, &victim.task);
        return format!("{} slept {since} in {}", who(&victim.task), place(victim));
    }
    let held = format!("held by {}, which {}", who(&last.task), what_it_does(last));
    format!("{}, {held}", waited_for(case, victim, before(waits, last)))
}

/// The waits without that of the last task: that one is for the disk.
fn before<'w>(waits: &'w [&'w Wait], last: &TaskStack) -> &'w [&'w Wait] {
    match waits.split_last() {
        Some((end, rest)) if end.waiter.addr == last.task.addr => rest,
        _ => waits,
    }
}

fn certainty(stall: &Stall) -> (Level, &'static str) {
    match &stall.awaited {
        Some(request) if request.is_proven => {
            (Level::Certain, "what the request ends in lies on the task's own stack")
        }
        Some(_) => (Level::Likely, "what the request is for is on the task's stack"),
        None => (
            Level::Likely,
            "the task sleeps for I/O and the disk has old requests; that this one is among them is inferred",
        ),
    }
}

fn sleeps_for_io(stack: &Stack) -> bool {
    const SIGNS: &[&str] = &[
        "io_schedule",
        "folio_wait",
        "wait_on_page",
        "submit_bio_wait",
        "blk_",
        "__wait_on_buffer",
        "jbd2_",
        "xfs_buf",
    ];
    let waits = |name: &str| SIGNS.iter().any(|sign| name.starts_with(sign));
    stack.frames.iter().any(|frame| waits(frame.function()))
}
