//! A CPU ran with interrupts off for so long that not even its timer ran.
//!
//! Mechanism: the perf NMI watchdog (or, from v6.5, a neighbour CPU: the buddy
//! detector) sees that a CPU's timer interrupts stopped; hardlockup_panic=1
//! panics. Evidence: `watchdog_overflow_callback`, `watchdog_hardlockup_check`
//! on the crashed stack; the CPU that the log names. Refuted by: the named CPU
//! being idle. Kernels: with CONFIG_HARDLOCKUP_DETECTOR. Reference:
//! kernel/watchdog.c, kernel/watchdog_perf.c, kernel/watchdog_buddy.c.

use crate::case::Case;
use crate::finding::{Advice, Finding, Kind, Level, Section};
use crate::lockup::Stuck;
use crate::oops::IncidentKind;

use super::common::{add_log, blame_module, chain, logged_chain, module_on, who};

const WATCHDOGS: &[&str] = &[
    "watchdog_overflow_callback",
    "watchdog_hardlockup_check",
    "watchdog_check_hardlockup_other_cpu",
    "watchdog_buddy_check_hardlockup",
];

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    let crashed = case.crashed.as_ref();
    let on_stack = crashed.is_some_and(|c| WATCHDOGS.iter().any(|w| c.stack.has(w)));
    let said = case.panic_text().contains("Hard LOCKUP");
    let died_of_it = on_stack && case.is_dead();
    if !died_of_it && !said {
        return None;
    }
    let logged = case.last(&[IncidentKind::HardLockup]);
    let cpu = logged.and_then(|i| {
        let rest = i.title().split_once("LOCKUP on cpu ")?.1;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok()
    });
    let own = crashed.map(|c| c.cpu);
    let stuck = match cpu {
        Some(cpu) if Some(cpu) != own => Stuck::on_cpu(case, cpu),
        _ => Stuck::on_crashed(case),
    };
    let Some(stuck) = stuck else {
        let on = cpu.map_or(String::new(), |c| format!(" CPU {c}"));
        let mut finding = Finding::new(
            Kind::HardLockup,
            format!("A processor{on} stopped answering interrupts; its stack is not in the dump."),
            Level::Likely,
            "the watchdog says so",
        );
        finding.functions = logged.map(logged_chain).unwrap_or_default();
        add_log(case, &mut finding, logged);
        return Some(finding);
    };
    let mut finding = Finding::new(
        Kind::HardLockup,
        format!(
            "{} {} with interrupts off, and CPU {} answered nothing any more. The hard \
             lockup watchdog then panicked the machine.",
            who(&stuck.task),
            stuck.does(),
            stuck.task.cpu
        ),
        if cpu.is_some() { Level::Certain } else { Level::Likely },
        if cpu.is_some() {
            "the watchdog names the CPU, and this is what that CPU was doing"
        } else {
            "the watchdog's NMI stopped this code; the log does not name the CPU"
        },
    );
    if stuck.waits_for_lock {
        finding.confidence.level = Level::Likely;
        finding.confidence.reason =
            "the CPU spins on a lock; who holds that lock, spinlocks do not record".into();
    }
    finding.task = Some((stuck.task.pid, stuck.task.comm.clone()));
    finding.functions = chain(&stuck.stack, stuck.frame);
    add_log(case, &mut finding, logged);
    blame_module(case, &mut finding, module_on(&stuck.stack, stuck.frame));
    finding.sections.push(Section::Stack {
        title: format!("STACK OF CPU {}", stuck.task.cpu),
        stack: stuck.view(),
    });
    finding.next.push(Advice::words(format!(
        "{}: look for a loop or a long wait with interrupts off (spin_lock_irqsave)",
        stuck.function
    )));
    finding.next.push(Advice::run("all CPUs", &["bt -a"]));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::TaskStack;
    use crate::testing::{case, stack, task};
    use kmortem_kernel::task::TaskState;

    #[test]
    fn the_buddy_s_finder_is_not_the_culprit() {
        let log = "9.0 watchdog: CPU0: Watchdog detected hard LOCKUP on cpu 1
            9.1 Kernel panic - not syncing: Hard LOCKUP";
        let finder = ["panic", "watchdog_hardlockup_check", "watchdog_timer_fn", "f"];
        let mut case = case(log, "finder", &finder, Some(3));
        let mut culprit = task(9, "culprit", TaskState::Running);
        culprit.cpu = 1;
        case.active = vec![TaskStack { task: culprit, stack: stack(&["spin_forever", "kthread"]) }];
        let finding = detect(&case).unwrap();
        assert!(
            finding.cause.starts_with("culprit (9) does not leave spin_forever"),
            "{}",
            finding.cause
        );
    }
}
