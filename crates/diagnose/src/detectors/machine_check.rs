//! The processor or the memory reported a hardware error.
//!
//! Mechanism: an uncorrected error raises #MC; what can't be contained panics.
//! Evidence: `mce_panic` (or do_machine_check) on the crashed stack, the
//! banks' values in the log. Refuted by: corrected errors only. Kernels: all.
//! Reference: arch/x86/kernel/cpu/mce/core.c.

use crate::case::Case;
use crate::finding::{Advice, Finding, Kind, Level, Source};
use crate::oops::IncidentKind;

use super::common::{add_log, crashed_stack, who};

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    let logged = case.last(&[IncidentKind::MachineCheck]);
    let on_stack =
        case.crashed.as_ref().filter(|c| c.stack.has("mce_panic") || c.stack.has("mce_timed_out"));
    let panic = case.panic_text();
    let said = ["achine check", "MCE", "broadcast exception"].iter().any(|w| panic.contains(w));
    if on_stack.is_none() && !said {
        return None;
    }
    let bank = case
        .log
        .iter()
        .find(|l| l.text.contains("[Hardware Error]") && l.text.contains("Bank "))
        .map(|l| {
            l.text.trim().trim_start_matches("mce: ").trim_start_matches("[Hardware Error]: ")
        });
    let bank = bank.map_or(String::new(), |b| format!(" ({b})"));
    let mut finding = Finding::new(
        Kind::MachineCheck,
        format!(
            "The hardware reported an error that could not be corrected{bank}; the kernel \
             panicked rather than use damaged data. No task and no driver is to blame."
        ),
        if on_stack.is_some() && logged.is_some() { Level::Certain } else { Level::Likely },
        match (on_stack.is_some(), logged.is_some()) {
            (true, true) => "the machine check handler panicked, and the log has its banks",
            (true, false) => "the machine check handler panicked; the log has no banks",
            _ => "the panic says so; no stack confirms it",
        },
    );
    finding.functions = vec!["mce_panic".into()];
    add_log(case, &mut finding, logged);
    for line in case.log.iter().filter(|l| l.text.contains("[Hardware Error]")).take(6) {
        let text = line.text.trim().to_owned();
        if !finding.evidence.iter().any(|e| e.text == text) {
            finding.evidence.push(crate::finding::Evidence {
                source: Source::Log,
                text,
                at_ns: Some(line.ts_ns),
            });
        }
    }
    if let Some(crashed) = on_stack {
        finding.proof(
            Source::Stack,
            format!("CPU {}, {} was running (a bystander)", crashed.cpu, who(&crashed.task)),
        );
        finding.sections.push(crashed_stack(crashed, "STACK", ""));
    }
    finding.next.push(Advice::words(
        "decode the bank's status (mcelog, rasdaemon), check memory and CPU; on a virtual machine \
         ask the host's operator",
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;

    #[test]
    fn a_fatal_machine_check_blames_the_hardware() {
        let log =
            "9.0 mce: [Hardware Error]: CPU 1: Machine Check Exception: 5 Bank 3: be00000000800400
            9.1 Kernel panic - not syncing: Fatal machine check";
        let finding = detect(&case(log, "sh", &["panic", "mce_panic", "do_machine_check"], None));
        let finding = finding.unwrap();
        assert_eq!(finding.confidence.level, Level::Certain);
        assert!(finding.cause.contains("Bank 3"), "{}", finding.cause);
    }

    #[test]
    fn corrected_errors_are_no_cause() {
        let log = "9.0 mce: [Hardware Error]: Machine check events logged
            99.0 Kernel panic - not syncing: Fatal exception";
        assert!(detect(&case(log, "sh", &["panic", "oops_end", "f"], None)).is_none());
    }
}
