//! A CPU ran one piece of kernel code for so long that nothing else got a turn.
//!
//! Mechanism: the watchdog's timer finds that its per-CPU stopper did not run
//! for 2 x watchdog_thresh seconds; softlockup_panic=1 panics. Evidence:
//! `watchdog_timer_fn` on the crashed stack, and below it the code that the
//! timer interrupted: that is the culprit, in its own task. Refuted by: a
//! hypervisor that stole the CPU (then every CPU is late; steal time).
//! Kernels: all with CONFIG_SOFTLOCKUP_DETECTOR. Reference: kernel/watchdog.c.

use crate::case::Case;
use crate::finding::{Advice, Finding, Kind, Level, Section, Source};
use crate::lockup::Stuck;
use crate::oops::IncidentKind;

use super::common::{add_log, blame_module, chain, logged_chain, look_at, module_on, who};

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    let logged = case.last(&[IncidentKind::SoftLockup]);
    let on_stack =
        case.crashed.as_ref().filter(|c| c.is_dying() && c.stack.has("watchdog_timer_fn"));
    let said = case.panic_text().starts_with("softlockup");
    if on_stack.is_none() && !said {
        return logged.filter(|_| !case.is_dead()).map(|i| survived(case, i));
    }
    let seconds = logged.and_then(|i| {
        let rest = i.title().split_once("stuck for ")?.1;
        rest.split_once('s')?.0.parse::<u64>().ok()
    });
    let time = seconds.map_or("too long".to_owned(), |s| format!("for {s} s"));
    let stuck = on_stack.and_then(|_| Stuck::on_crashed(case));
    let Some(stuck) = stuck else {
        let mut finding = Finding::new(
            Kind::SoftLockup,
            format!(
                "A CPU was stuck {time}: {}.",
                logged.map_or("the panic says so", |i| i.title())
            ),
            Level::Likely,
            "the log says so; what the timer interrupted is not on a stack in the dump",
        );
        finding.functions = logged.map(logged_chain).unwrap_or_default();
        add_log(case, &mut finding, logged);
        return Some(finding);
    };
    let cpu = stuck.task.cpu;
    let setting = match case.setting(&["softlockup_panic"]) {
        Some(1) => " softlockup_panic=1 turned that into a panic.",
        _ => " The soft lockup watchdog then panicked the machine.",
    };
    let bystander = match stuck.context.task_is_bystander() {
        true => format!(" It runs in {}; the task is a bystander.", stuck.context.describe()),
        false => String::new(),
    };
    let mut finding = Finding::new(
        Kind::SoftLockup,
        format!(
            "{} {} and kept CPU {cpu} from everything else {time}.{bystander}{setting}",
            who(&stuck.task),
            stuck.does()
        ),
        Level::Certain,
        "the watchdog's timer interrupted this very code on this CPU",
    );
    finding.task = Some((stuck.task.pid, stuck.task.comm.clone()));
    finding.functions = chain(&stuck.stack, stuck.frame);
    add_log(case, &mut finding, logged);
    let exception = case.crashed.as_ref().and_then(|c| c.exceptions.first());
    if let Some(Ok(instruction)) = exception.map(|e| &e.instruction) {
        let text = crate::fault::annotated(case.kernel(), instruction);
        finding.proof(Source::Code, format!("{}: {text}", stuck.place));
    }
    for lock in &stuck.holds {
        finding.proof(
            Source::Object,
            format!("spinlock {lock} is taken; {} takes it before", stuck.function),
        );
    }
    if stuck.waits_for_lock {
        finding.confidence.level = Level::Likely;
        finding.confidence.reason =
            "the CPU spins on a lock; who holds that lock, spinlocks do not record".into();
        for other in &case.active {
            let top = other.stack.frames.iter().find(|f| !crate::noise::is_noise(f.function()));
            let top = top.map_or("user space", |f| f.function());
            finding.proof(
                Source::Stack,
                format!("CPU {}: {} in {top}", other.task.cpu, who(&other.task)),
            );
        }
    }
    compare_with_log(&mut finding, logged, &stuck);
    blame_module(case, &mut finding, module_on(&stuck.stack, stuck.frame));
    finding.sections.push(Section::Stack { title: "STACK".into(), stack: stuck.view() });
    finding.next.push(Advice::words(if stuck.waits_for_lock {
        format!("find who holds the lock that {} wants: look at the other CPUs", stuck.function)
    } else {
        format!("{} needs an end to its loop, or a cond_resched() in it", stuck.function)
    }));
    finding.next.push(look_at(stuck.task.pid));
    finding.next.push(Advice::run("what the other CPUs did", &["bt -a"]));
    Some(finding)
}

fn compare_with_log(finding: &mut Finding, logged: Option<&crate::oops::Incident>, stuck: &Stuck) {
    let Some(rip) = logged.and_then(|i| i.rip.as_ref()) else { return };
    let function = kmortem_kernel::stack::base_name(&rip.function);
    let on_stack = stuck.stack.frames.iter().any(|f| f.function() == function);
    if !on_stack {
        finding.against.push(format!("the log's RIP is {rip}, which is not on this stack"));
    }
}

fn survived(case: &Case<'_>, logged: &crate::oops::Incident) -> Finding {
    let mut finding = Finding::new(
        Kind::SoftLockup,
        format!("A CPU was stuck for a while and went on: {}.", logged.title()),
        Level::Possible,
        "the log says so",
    );
    finding.fatal = false;
    finding.functions = logged_chain(logged);
    add_log(case, &mut finding, Some(logged));
    finding
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;

    const LOG: &str = "21.0 watchdog: BUG: soft lockup - CPU#0 stuck for 9s! [crasher_spin:247]
        21.0 CPU: 0 PID: 247 Comm: crasher_spin Tainted: G OE 6.1.0
        21.0 RIP: 0010:crasher_walk_index+0x16/0x20 [crasher]
        21.1 Kernel panic - not syncing: softlockup: hung tasks";
    const STACK: [&str; 7] = [
        "panic",
        "watchdog_timer_fn.cold",
        "hrtimer_interrupt",
        "sysvec_apic_timer_interrupt",
        "asm_sysvec_apic_timer_interrupt",
        "crasher:crasher_walk_index",
        "kthread",
    ];

    #[test]
    fn the_interrupted_code_is_the_culprit() {
        let finding = detect(&case(LOG, "crasher_spin", &STACK, Some(5))).unwrap();
        assert!(
            finding
                .cause
                .starts_with("crasher_spin (247) does not leave crasher_walk_index+0x10 [crasher]"),
            "{}",
            finding.cause
        );
        assert!(finding.cause.contains("for 9 s"));
        assert_eq!(finding.confidence.level, Level::Certain);
        assert_eq!(finding.functions[0], "crasher:crasher_walk_index");
    }

    #[test]
    fn a_cpu_that_waits_for_a_lock_is_a_victim() {
        let stack = [
            "panic",
            "watchdog_timer_fn",
            "asm_sysvec_apic_timer_interrupt",
            "native_queued_spin_lock_slowpath",
            "_raw_spin_lock",
            "victim",
            "kthread",
        ];
        let log = LOG.replace("crasher_walk_index", "native_queued_spin_lock_slowpath");
        let finding = detect(&case(&log, "crasher_spin", &stack, Some(3))).unwrap();
        assert!(
            finding.cause.contains("spins on a lock wanted by victim+0x10"),
            "{}",
            finding.cause
        );
        assert_eq!(finding.confidence.level, Level::Likely);
    }

    #[test]
    fn a_lockup_before_another_panic_is_not_its_cause() {
        let log = LOG.replace("softlockup: hung tasks", "Fatal exception");
        assert!(detect(&case(&log, "sh", &["panic", "oops_end", "f"], None)).is_none());
    }
}
