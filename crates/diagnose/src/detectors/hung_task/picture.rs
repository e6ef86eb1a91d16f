//! Who waits for whom, drawn.

use crate::case::{Case, TaskStack};
use crate::detectors::common::who;
use crate::finding::Section;
use kmortem_kernel::lock::{Owner, Wait};

use super::{is_behind, lock_name, names};

/// The chain of waits, a line each, and who else is behind it.
pub(super) fn picture(case: &Case<'_>, waits: &[&Wait], holder: Option<&TaskStack>) -> Section {
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
