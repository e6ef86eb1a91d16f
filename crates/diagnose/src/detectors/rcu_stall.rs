//! An RCU grace period could not end: some CPU or task stayed in a read-side
//! critical section, or never let go of its CPU.
//!
//! Mechanism: RCU waits for every CPU to pass a quiescent state; after
//! rcu_cpu_stall_timeout seconds it complains, and panics with
//! kernel.panic_on_rcu_stall=1. Evidence: the stall's report names CPUs and
//! tasks; a self-detected stall interrupted the culprit itself, else it runs
//! on the named CPU. Refuted by: the named CPU being idle (a lost timer, or a
//! stopped virtual CPU). Kernels: all. Reference: kernel/rcu/tree_stall.h,
//! Documentation/RCU/stallwarn.rst.

use crate::case::Case;
use crate::finding::{Advice, Finding, Kind, Level, Section, Source};
use crate::lockup::Stuck;
use crate::oops::{Incident, IncidentKind};

use super::common::{add_log, blame_module, chain, log_line, look_at, module_on, who};

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    if !case.panic_text().contains("RCU Stall") {
        return None;
    }
    let logged = case.last(&[IncidentKind::RcuStall]);
    let own = case.crashed.as_ref().map(|c| c.cpu);
    let cpus = logged.map(|i| stalled_cpus(case, i)).unwrap_or_default();
    let reader = logged.and_then(|i| stalled_task(case, i)).and_then(|pid| case.task(pid));
    let itself = logged.is_some_and(|i| i.titles.iter().any(|t| t.contains("self-detected")));
    let stuck = match cpus.iter().find(|c| Some(**c) != own) {
        Some(cpu) if !itself => Stuck::on_cpu(case, *cpu),
        // The CPU that found the stall is not the one that made it.
        None if !itself && reader.is_some() => reader.and_then(|task| Stuck::of_task(case, task)),
        _ => Stuck::on_crashed(case),
    };
    let mut finding = match (&stuck, reader) {
        (Some(stuck), _) => {
            let mut finding = Finding::new(
                Kind::RcuStall,
                format!(
                    "{} {} on CPU {} and let no RCU grace period end. \
                     kernel.panic_on_rcu_stall=1 turned that into a panic.",
                    who(&stuck.task),
                    stuck.does(),
                    stuck.task.cpu
                ),
                if logged.is_some() { Level::Certain } else { Level::Likely },
                if reader.is_some_and(|r| r.pid == stuck.task.pid) {
                    "the stall's report names this task, and this is what it was doing"
                } else {
                    "the stall's report names this CPU, and this is what it was doing"
                },
            );
            if let Some(depth) = nesting(case, stuck.task.addr) {
                finding.proof(
                    Source::Object,
                    format!("{}: rcu_read_lock_nesting = {depth}", who(&stuck.task)),
                );
            }
            finding.task = Some((stuck.task.pid, stuck.task.comm.clone()));
            finding.functions = chain(&stuck.stack, stuck.frame);
            blame_module(case, &mut finding, module_on(&stuck.stack, stuck.frame));
            finding.sections.push(Section::Stack { title: "STACK".into(), stack: stuck.view() });
            finding.next.push(Advice::words(format!(
                "{}: a loop without cond_resched(), or rcu_read_lock() held for too long",
                stuck.function
            )));
            finding.next.push(look_at(stuck.task.pid));
            finding
        }
        (None, Some(reader)) => {
            let mut finding = Finding::new(
                Kind::RcuStall,
                format!(
                    "{} stayed in an RCU read-side critical section and let no grace period end.",
                    who(reader)
                ),
                Level::Likely,
                "the stall's report names this task",
            );
            finding.task = Some((reader.pid, reader.comm.clone()));
            finding.next.push(look_at(reader.pid));
            finding
        }
        (None, None) => Finding::new(
            Kind::RcuStall,
            "An RCU grace period could not end; the CPU that held it up is not in the dump.",
            Level::Possible,
            "only the panic says so",
        ),
    };
    add_log(case, &mut finding, logged);
    if let Some(incident) = logged {
        for line in detail_lines(case, incident).take(2) {
            finding.evidence.push(log_line((line.ts_ns, &line.text)));
        }
    }
    Some(finding)
}

/// How many read-side critical sections the task is in (preemptible RCU).
fn nesting(case: &Case<'_>, task: u64) -> Option<u64> {
    let task = case.kernel()?.object_at("task_struct", task).ok()?;
    task.field("rcu_read_lock_nesting").ok()?.u64().ok().filter(|n| (1..1 << 16).contains(n))
}

fn detail_lines<'c>(
    case: &'c Case<'_>,
    incident: &Incident,
) -> impl Iterator<Item = &'c crate::oops::LogLine> {
    let (first, last) = incident.lines;
    case.log
        .get(first..=last.max(first))
        .unwrap_or(&[])
        .iter()
        .filter(|l| l.text.contains("ticks this GP") || l.text.contains("Tasks blocked on level"))
}

/// CPUs in lines like "rcu: \t1-....: (5249 ticks this GP) idle=...".
fn stalled_cpus(case: &Case<'_>, incident: &Incident) -> Vec<u32> {
    detail_lines(case, incident)
        .filter_map(|line| {
            let text = line.text.trim_start().trim_start_matches("rcu:").trim_start();
            let (number, rest) = text.split_once('-')?;
            rest.contains("ticks this GP").then(|| number.parse().ok())?
        })
        .collect()
}

/// A preempted reader: "Tasks blocked on level-0 rcu_node (CPUs 0-1): P247/1:b..l".
fn stalled_task(case: &Case<'_>, incident: &Incident) -> Option<i32> {
    detail_lines(case, incident).find_map(|line| {
        let (_, rest) = line.text.split_once("): P")?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;

    const LOG: &str = "9.0 rcu: INFO: rcu_sched self-detected stall on CPU
        9.0 rcu: \t0-....: (5249 ticks this GP) idle=4c34/1/0x4000 softirq=999/999 fqs=2624
        9.1 Kernel panic - not syncing: RCU Stall";

    #[test]
    fn a_self_detected_stall_blames_what_was_interrupted() {
        let stack = [
            "panic",
            "panic_on_rcu_stall",
            "rcu_sched_clock_irq",
            "asm_sysvec_apic_timer_interrupt",
            "crasher:crasher_read_forever",
            "crasher:crasher_reader_fn",
            "kthread",
        ];
        let finding = detect(&case(LOG, "crasher_reader", &stack, Some(4))).unwrap();
        assert!(
            finding.cause.starts_with("crasher_reader (247) does not leave crasher_read_forever")
        );
        assert_eq!(finding.confidence.level, Level::Certain);
        assert!(finding.evidence.iter().any(|e| e.text.contains("ticks this GP")));
    }

    #[test]
    fn a_stall_that_was_survived_is_none() {
        let log = LOG.replace("RCU Stall", "Fatal exception");
        assert!(detect(&case(&log, "sh", &["panic", "oops_end", "f"], None)).is_none());
    }

    #[test]
    fn stalled_cpus_and_readers_are_read_from_the_report() {
        let log = "9.0 rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
            9.0 rcu: \tTasks blocked on level-0 rcu_node (CPUs 0-1): P247/1:b..l
            9.0 rcu: \t3-...!: (0 ticks this GP) idle=x";
        let case = crate::case::Case::of_log(crate::testing::log(log));
        assert_eq!(stalled_cpus(&case, &case.incidents[0]), [3]);
        assert_eq!(stalled_task(&case, &case.incidents[0]), Some(247));
    }
}
