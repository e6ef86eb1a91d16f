//! A non-maskable interrupt made the kernel panic: somebody or something
//! outside of it wanted that.
//!
//! Mechanism: with kernel.unknown_nmi_panic=1 (or panic_on_io_nmi,
//! panic_on_unrecovered_nmi) an NMI that no handler claims panics. Clouds and
//! operators use it to get a dump of a machine that hangs: what each CPU was
//! doing then is the question, not the NMI. Evidence: the panic's words, an
//! NMI handler on the crashed stack that no watchdog is part of. Refuted by:
//! the hard lockup watchdog on the stack. Kernels: all. Reference:
//! arch/x86/kernel/nmi.c.

use crate::case::Case;
use crate::finding::{Advice, Finding, Kind, Level, Source};
use crate::oops::IncidentKind;

use super::common::{add_log, crashed_stack, who};

const HANDLERS: &[&str] =
    &["unknown_nmi_error", "io_check_error", "pci_serr_error", "unknown_nmi_panic_callback"];

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    let handler = case.crashed.as_ref().and_then(|c| {
        c.stack.frames.iter().find(|f| HANDLERS.contains(&f.function())).map(|f| (c, f.function()))
    });
    let said = case.panic_text().starts_with("NMI: ") || case.panic_text().starts_with("NMI IOCK");
    if handler.is_none() && !said {
        return None;
    }
    let reason = case
        .line("NMI received for unknown reason")
        .and_then(|(_, text)| text.split_once("unknown reason "))
        .map(|(_, rest)| rest.split_whitespace().next().unwrap_or("").to_owned());
    let kind = match handler.map(|(_, f)| f) {
        Some("io_check_error") => "an I/O check (memory or a device reported an error)",
        Some("pci_serr_error") => "a PCI system error",
        _ => "no device claimed it",
    };
    let reason = reason.map_or(String::new(), |r| format!(", reason {r}"));
    let on = case.crashed.as_ref().map_or(String::new(), |c| format!(" on CPU {}", c.cpu));
    let setting = match case.setting(&["unknown_nmi_panic"]) {
        Some(1) => " kernel.unknown_nmi_panic=1 made it a panic.",
        _ => "",
    };
    let mut finding = Finding::new(
        Kind::Nmi,
        format!(
            "An NMI from outside stopped the machine{on}{reason}: {kind}.{setting} This is how \
             clouds and consoles take a dump of a machine that hangs: look at what it was doing."
        ),
        if handler.is_some() { Level::Certain } else { Level::Likely },
        if handler.is_some() {
            "the NMI handler panicked on the crashed CPU; no watchdog is part of it"
        } else {
            "the panic says so; the NMI handler is not on a stack in this dump"
        },
    );
    finding.functions = vec![handler.map_or("unknown_nmi_error", |(_, f)| f).to_owned()];
    add_log(case, &mut finding, case.last(&[IncidentKind::Nmi]));
    if let Some((crashed, function)) = handler {
        let interrupted = crashed.exceptions.first().and_then(|e| {
            let symbol = crashed.stack.frames.get(e.frame)?.symbol.as_ref()?;
            Some(crate::fault::short(symbol))
        });
        let at = interrupted.map_or(String::new(), |at| format!(" at {at}"));
        finding.proof(Source::Stack, format!("{function} interrupted {}{at}", who(&crashed.task)));
        finding.sections.push(crashed_stack(crashed, "STACK", ""));
    }
    for other in case.active.iter().take(3) {
        finding.proof(
            Source::Stack,
            format!("CPU {} was running {}", other.task.cpu, who(&other.task)),
        );
    }
    finding.next.push(Advice::words("ask who sent it: an operator, the cloud's console, a BMC"));
    finding.next.push(Advice::run("what every CPU was doing", &["bt -a"]));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;

    #[test]
    fn an_unknown_nmi_is_someone_else_s_wish() {
        let log = "9.0 Uhhuh. NMI received for unknown reason 3d on CPU 0.
            9.1 Kernel panic - not syncing: NMI: Not continuing";
        let stack = ["panic", "nmi_panic", "unknown_nmi_error", "default_do_nmi", "exc_nmi"];
        let finding = detect(&case(log, "swapper/0", &stack, None)).unwrap();
        assert!(finding.cause.contains("reason 3d"), "{}", finding.cause);
        assert_eq!(finding.confidence.level, Level::Certain);
    }

    #[test]
    fn the_watchdog_s_nmi_is_not_one() {
        let log = "9.1 Kernel panic - not syncing: Hard LOCKUP";
        let stack = ["panic", "nmi_panic", "watchdog_overflow_callback", "exc_nmi"];
        assert!(detect(&case(log, "sh", &stack, None)).is_none());
    }
}
