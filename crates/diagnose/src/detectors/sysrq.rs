//! A deliberate crash: "c" to /proc/sysrq-trigger, or the SysRq key.
//!
//! Mechanism: `sysrq_handle_crash` panics (before v5.x it wrote through NULL,
//! which made an oops). Evidence: it is on the crashed task's stack, with
//! `write_sysrq_trigger` (a process wrote to the file) or an input or serial
//! driver (a key or a break) below. Refuted by: a stack without it, whatever
//! the log says ("sysrq: Trigger a crash" alone only makes it possible).
//! Kernels: all. Reference: drivers/tty/sysrq.c.

use crate::case::{Case, from_user};
use crate::finding::{Advice, Finding, Kind, Level, Source};
use crate::oops::IncidentKind;

use super::common::{add_log, chain, crashed_stack, who};

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    let logged = case.last(&[IncidentKind::Sysrq]);
    let crashed = case.crashed.as_ref().filter(|c| c.stack.has("sysrq_handle_crash"));
    let Some(crashed) = crashed else {
        let logged = logged.filter(|_| case.panic_text().contains("sysrq"))?;
        let mut finding = Finding::new(
            Kind::Sysrq,
            "Somebody crashed the machine on purpose with SysRq-c; who, the dump does not show.",
            Level::Likely,
            "the log says so, no stack confirms it",
        );
        finding.functions = vec!["sysrq_handle_crash".into()];
        add_log(case, &mut finding, Some(logged));
        return Some(finding);
    };
    let task = &crashed.task;
    let written = crashed.stack.has("write_sysrq_trigger") && from_user(&crashed.stack);
    let cause = if written {
        let parent = case.task(task.ppid).filter(|p| p.pid > 0);
        let parent = parent.map_or(String::new(), |p| format!(", a child of {}", who(p)));
        format!(
            "{}{parent} wrote \"c\" to /proc/sysrq-trigger: a deliberate crash, not a fault.",
            who(task)
        )
    } else {
        format!(
            "The SysRq crash key was received on CPU {} (keyboard, or a break on a serial line): \
             a deliberate crash, not a fault. {} was running and has nothing to do with it.",
            crashed.cpu,
            who(task)
        )
    };
    let mut finding = Finding::new(
        Kind::Sysrq,
        cause,
        Level::Certain,
        "sysrq_handle_crash is on the stack of the CPU that panicked",
    );
    finding.task = Some((task.pid, task.comm.clone()));
    let from = crashed.stack.frames.iter().position(|f| f.function() == "sysrq_handle_crash");
    finding.functions = chain(&crashed.stack, from.unwrap_or(crashed.own));
    finding.functions.retain(|f| f.contains("sysrq"));
    if written {
        finding.proof(Source::Stack, format!("write_sysrq_trigger in a write() of {}", who(task)));
    }
    add_log(case, &mut finding, logged);
    finding.sections.push(crashed_stack(crashed, "STACK", ""));
    finding.next.push(if written {
        Advice::words(format!(
            "nothing is broken: ask who ran {} (a test of kdump? a watchdog script?)",
            task.comm
        ))
    } else {
        Advice::words("nothing is broken: ask who has the console or the serial line")
    });
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;
    use kmortem_kernel::stack::StackEnd;

    const LOG: &str = "12.8 sysrq: Trigger a crash
        12.8 Kernel panic - not syncing: sysrq triggered crash";

    #[test]
    fn a_write_to_the_trigger_names_the_writer() {
        let functions =
            ["panic", "sysrq_handle_crash", "__handle_sysrq", "write_sysrq_trigger", "vfs_write"];
        let mut case = case(LOG, "init", &functions, None);
        let registers = crate::testing::registers(&[]);
        case.crashed.as_mut().unwrap().stack.end = StackEnd::User { registers };
        let finding = detect(&case).unwrap();
        assert!(finding.cause.starts_with("init (247) wrote \"c\" to /proc/sysrq-trigger"));
        assert_eq!(finding.confidence.level, Level::Certain);
    }

    #[test]
    fn a_key_does_not_blame_the_task() {
        let functions =
            ["panic", "sysrq_handle_crash", "__handle_sysrq", "serial8250_handle_irq", "do_idle"];
        let finding = detect(&case(LOG, "swapper/0", &functions, None)).unwrap();
        assert!(finding.cause.contains("nothing to do with it"), "{}", finding.cause);
    }

    #[test]
    fn another_panic_is_not_one() {
        let log = "1.0 sysrq: Show Memory\n2.0 Kernel panic - not syncing: Fatal exception";
        assert!(detect(&case(log, "sh", &["panic", "oops_end"], None)).is_none());
    }
}
