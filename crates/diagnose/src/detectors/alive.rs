//! No crash: the dump of a machine that was running.
//!
//! Evidence: no panic in the log, `panic_cpu` unset, no CPU in panic() or an
//! oops. Refuted by: any of them. What stands out (tasks that wait long, an
//! earlier oops) is told by the other parts of the report.

use crate::case::Case;
use crate::finding::{Advice, Finding, Kind, Level, Source};

use super::common::who;

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    if case.is_dead() || case.log.is_empty() && case.kernel().is_none() {
        return None;
    }
    // With neither the log nor the tasks, nothing speaks for life either.
    let tasks_known = case.kernel().is_none_or(|kernel| kernel.tasks().is_ok());
    if case.log_error.is_some() && !tasks_known {
        return None;
    }
    let running: Vec<String> = case.active.iter().map(|t| who(&t.task)).collect();
    let running = match running.len() {
        0 => "every CPU was idle".to_owned(),
        _ => format!("running: {}", running.join(", ")),
    };
    let blocked = case.sleepers().len();
    let blocked = match blocked {
        0 => String::new(),
        1 => "; 1 task was in D state".to_owned(),
        n => format!("; {n} tasks were in D state"),
    };
    let alive = "No crash found: the machine was alive when it was dumped";
    let (cause, level, reason) = match (case.log_error.is_none(), tasks_known) {
        (true, true) => (
            format!("{alive} ({running}{blocked})."),
            Level::Certain,
            "no CPU was in panic(), and the log has no panic",
        ),
        (false, _) => (
            format!("{alive} ({running}{blocked})."),
            Level::Likely,
            "no CPU was in panic(); the log can't be read",
        ),
        (true, false) => (
            "No crash found in the log. What the CPUs were doing can't be read.".to_owned(),
            Level::Possible,
            "the log has no panic; the tasks can't be read",
        ),
    };
    let mut finding = Finding::new(Kind::Alive, cause, level, reason);
    for task in case.active.iter().take(4) {
        let top = task.stack.frames.first().map_or("user space", |f| f.function());
        finding
            .proof(Source::Stack, format!("CPU {}: {} in {top}", task.task.cpu, who(&task.task)));
    }
    if let Some(why) = &case.log_error {
        finding.against.push(format!("the log can't be read: {why}"));
    }
    finding.next.push(Advice::run("tasks that wait", &["ps", "foreach UN bt"]));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;

    #[test]
    fn a_quiet_machine_is_alive() {
        let finding = detect(&case("5.0 eth0: link becomes ready", "sh", &["do_idle"], None));
        assert_eq!(finding.unwrap().kind, Kind::Alive);
    }

    #[test]
    fn a_panic_on_a_stack_is_enough_to_be_dead() {
        assert!(detect(&case("5.0 hello", "sh", &["panic", "f"], None)).is_none());
    }
}
