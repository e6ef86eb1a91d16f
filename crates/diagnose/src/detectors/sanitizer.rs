//! A checker compiled into the kernel (KASAN, KFENCE, KMSAN, UBSAN) or a
//! reference counter that saw an impossible value, with the panic it led to.
//!
//! Mechanism: the checker reports an access at the moment it happens and, with
//! panic_on_warn (or kasan.fault=panic), panics. Evidence: its report in the
//! log, the same functions on the crashed stack. Refuted by: a report long
//! before a panic of another task (then it is only "also seen"). Kernels:
//! built with the checker. Reference: mm/kasan/report.c, mm/kfence/report.c,
//! lib/ubsan.c, lib/refcount.c.

use crate::case::Case;
use crate::finding::{Advice, Finding, Kind, Level};
use crate::oops::IncidentKind;

use super::common::{add_log, arrow, logged_chain};

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    let logged = case.last(&[
        IncidentKind::Sanitizer,
        IncidentKind::Refcount,
        IncidentKind::UserCopy,
        IncidentKind::BadPage,
    ])?;
    let own_pid = case.crashed.as_ref().map(|c| c.task.pid);
    let panicked_at = case.panic.as_ref().map(|(at, _)| *at);
    let led_to_panic = case.is_dead()
        && logged.pid.is_some()
        && logged.pid == own_pid
        && panicked_at.is_none_or(|at| at.saturating_sub(logged.at_ns) < 1_000_000_000);
    let refcount = logged.kind == IncidentKind::Refcount;
    let title = logged
        .titles
        .iter()
        .find(|t| t.starts_with("refcount_t: "))
        .map_or(logged.title(), String::as_str);
    let names: Vec<String> = logged.functions().map(|e| e.location.function.clone()).collect();
    let callers = match names.is_empty() {
        true => String::new(),
        false => format!(", in {}", arrow(&names, 4)),
    };
    let who = match logged.pid.zip(logged.comm.as_ref()) {
        Some((pid, comm)) => format!(" (task {comm}, {pid})"),
        None => String::new(),
    };
    let says = if refcount { "A reference counter" } else { "The kernel's memory checker" };
    let mut finding = Finding::new(
        if refcount { Kind::Refcount } else { Kind::Sanitizer },
        format!("{says} reported: {}{callers}{who}.", title.trim_end_matches('.')),
        if led_to_panic { Level::Certain } else { Level::Possible },
        if led_to_panic {
            "the report is of the task that panicked right behind it"
        } else {
            "reported earlier in this boot; it may have damaged what failed later"
        },
    );
    finding.fatal = led_to_panic;
    finding.functions = logged_chain(logged);
    finding.task = logged.pid.zip(logged.comm.clone());
    add_log(case, &mut finding, Some(logged));
    finding.next.push(Advice::run("the whole report", &["log"]));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;

    const LOG: &str = "5.0 BUG: KASAN: slab-use-after-free in my_read+0x20/0x40 [mydrv]
        5.0 CPU: 0 PID: 247 Comm: cat Not tainted 6.1.0
        5.0 Call Trace:
        5.0  my_read+0x20/0x40 [mydrv]
        5.1 Kernel panic - not syncing: kasan.fault=panic set ...";

    #[test]
    fn a_report_right_before_the_panic_is_the_cause() {
        let finding = detect(&case(LOG, "cat", &["panic", "end_report"], None)).unwrap();
        assert!(finding.fatal && finding.confidence.level == Level::Certain);
        assert!(finding.cause.contains("slab-use-after-free in my_read"));
    }

    #[test]
    fn a_report_of_another_task_is_only_also_seen() {
        let log = LOG.replace("PID: 247", "PID: 99");
        assert!(!detect(&case(&log, "cat", &["panic", "f"], None)).unwrap().fatal);
    }
}
