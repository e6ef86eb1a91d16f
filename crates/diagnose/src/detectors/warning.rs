//! A `WARN()` that kernel.panic_on_warn turned into a panic.
//!
//! Mechanism: `__warn` calls `check_panic_on_warn`, which panics. Evidence:
//! the panic's words, the warning right before it, the warning's function on
//! the crashed stack. Refuted by: panic_on_warn=0. Kernels: all. Reference:
//! kernel/panic.c.

use crate::case::Case;
use crate::finding::{Advice, Finding, Kind, Level, Source};
use crate::oops::IncidentKind;

use super::common::{
    add_log, blame_module, chain, crashed_stack, logged_chain, look_at, module_on, who,
};

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    if !case.panic_text().contains("panic_on_warn") {
        return None;
    }
    let logged = case.last(&[IncidentKind::Warning]);
    let place = logged.and_then(|i| {
        let (_, rest) =
            i.title().split_once(" at ").or_else(|| i.title().split_once("WARNING: "))?;
        Some(rest.trim().to_owned())
    });
    let place = place.or_else(|| {
        let crashed = case.crashed.as_ref()?;
        crashed.stack.frames.get(crashed.own)?.symbol.as_ref().map(crate::fault::short)
    });
    let place = place.unwrap_or_else(|| "an unknown place".into());
    let task = case.crashed.as_ref().map_or(String::new(), |c| format!(" in {}", who(&c.task)));
    let mut finding = Finding::new(
        Kind::Warning,
        format!(
            "A warning at {place}{task} became a panic because kernel.panic_on_warn=1; without \
             it the machine would have gone on."
        ),
        if logged.is_some() { Level::Certain } else { Level::Likely },
        "the panic names panic_on_warn",
    );
    if let Some(value) = case.setting(&["panic_on_warn"]) {
        finding.proof(Source::Setting, format!("kernel.panic_on_warn={value}"));
        if value == 0 {
            // Set back by the panic itself, so that no second warning nests.
            finding.proof(Source::Setting, "(panic() sets it to 0 when it begins)");
        }
    }
    add_log(case, &mut finding, logged);
    match &case.crashed {
        Some(crashed) => {
            finding.task = Some((crashed.task.pid, crashed.task.comm.clone()));
            finding.functions = chain(&crashed.stack, crashed.own);
            blame_module(case, &mut finding, module_on(&crashed.stack, crashed.own));
            finding.sections.push(crashed_stack(crashed, "STACK", "the warning"));
            finding.next.push(look_at(crashed.task.pid));
        }
        None => finding.functions = logged.map(logged_chain).unwrap_or_default(),
    }
    finding.next.push(Advice::words(format!("read the condition at {place}")));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;

    #[test]
    fn the_place_of_the_warning_is_named() {
        let log = "3.0 WARNING: CPU: 0 PID: 247 at net/core/dev.c:100 f+0x1/0x2
            3.1 Kernel panic - not syncing: kernel: panic_on_warn set ...";
        let finding =
            detect(&case(log, "ip", &["panic", "check_panic_on_warn", "__warn", "f"], None));
        assert!(finding.unwrap().cause.contains("net/core/dev.c:100"));
    }

    #[test]
    fn a_warning_before_another_panic_is_none() {
        let log = "3.0 WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2
            3.1 Kernel panic - not syncing: Fatal exception";
        assert!(detect(&case(log, "ip", &["panic", "oops_end"], None)).is_none());
    }
}
