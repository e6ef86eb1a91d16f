//! A `BUG()` or `BUG_ON()`: the kernel checked itself and gave up.
//!
//! Mechanism: `ud2` at the check raises #UD; the bug table says file and line.
//! Evidence: the exception frame is at a `ud2`, the log has "kernel BUG at
//! FILE:LINE!". Refuted by: another reason right before it in the log (list or
//! slab corruption have detectors of their own). Kernels: all. Reference:
//! lib/bug.c, arch/x86/include/asm/bug.h.

use crate::case::Case;
use crate::exception::Trap;
use crate::fault::Fault;
use crate::finding::{Advice, Finding, Kind, Level, Source};
use crate::oops::{Incident, IncidentKind};

use super::common::{
    add_log, arrow, blame_module, chain, crashed_stack, logged_chain, look_at, module_on,
    oops_to_panic,
};

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    let logged = case
        .own_oops()
        .filter(|i| matches!(i.kind, IncidentKind::Bug | IncidentKind::InvalidOpcode));
    let fault = Fault::of_crash(case).filter(|f| f.trap == Trap::InvalidOpcode);
    let Some(fault) = fault else {
        return from_log(case, logged?);
    };
    let crashed = case.crashed.as_ref()?;
    let frame = crashed.fault()?.frame;
    let line = logged.and_then(place_in_source);
    let mut finding = Finding::new(
        Kind::Bug,
        sentence(&fault, line.as_deref()) + &oops_to_panic(case),
        Level::Certain,
        "the check's own trap instruction stopped it",
    );
    finding.task = fault.task.clone();
    finding.functions = chain(&crashed.stack, frame);
    add_log(case, &mut finding, logged);
    match &fault.instruction {
        Ok(text) => finding.proof(Source::Code, format!("{}: {text}", fault.location)),
        Err(why) => finding.against.push(format!("the instruction can't be read: {why}")),
    }
    finding.against.extend(fault.disagreements.iter().cloned());
    blame_module(case, &mut finding, module_on(&crashed.stack, frame));
    finding.sections.push(crashed_stack(crashed, "STACK", "the check that failed"));
    finding.next.push(Advice::words(match &line {
        Some(line) => format!("read the condition at {line}: it names what must not happen"),
        None => format!("read the checks in {}", fault.function),
    }));
    finding.next.push(look_at(crashed.task.pid));
    Some(finding)
}

fn sentence(fault: &Fault, line: Option<&str>) -> String {
    let at = line.map_or(String::new(), |l| format!(" at {l}"));
    let callers = match fault.callers.is_empty() {
        true => String::new(),
        false => format!(", called by {}", arrow(&fault.callers, 3)),
    };
    let context = fault.context.as_ref().map_or(String::new(), |c| format!(", {}", c.describe()));
    let task = fault.task.as_ref().map_or(String::new(), |(pid, comm)| {
        let bystander = fault.context.as_ref().is_some_and(|c| c.task_is_bystander());
        let role = if bystander { "interrupting" } else { "in" };
        format!(" {role} {comm} ({pid})")
    });
    let name = match &fault.module {
        Some(module) => format!("{} [{module}]", fault.function),
        None => fault.function.clone(),
    };
    format!("A BUG check failed{at}, in {name}{callers}{task}{context}. ")
}

/// "mm/slub.c:435" out of "kernel BUG at mm/slub.c:435!".
pub(super) fn place_in_source(incident: &Incident) -> Option<String> {
    let rest = incident.after("BUG at ")?;
    let place = rest.trim().trim_end_matches('!');
    // Long build paths say nothing: from the last two folders on.
    let parts: Vec<&str> = place.split('/').collect();
    let from = if place.starts_with('/') { parts.len().saturating_sub(2) } else { 0 };
    Some(parts[from..].join("/"))
}

fn from_log(case: &Case<'_>, logged: &Incident) -> Option<Finding> {
    case.panic.as_ref().filter(|_| case.panic_text().starts_with("Fatal exception"))?;
    let place = place_in_source(logged).map_or(String::new(), |p| format!(" at {p}"));
    let rip = logged.rip.as_ref().map_or(String::new(), |r| format!(", in {r}"));
    let who = logged.pid.zip(logged.comm.as_ref());
    let who = who.map_or(String::new(), |(pid, comm)| format!(", task {comm} ({pid})"));
    let mut finding = Finding::new(
        Kind::Bug,
        format!("A BUG check failed{place}{rip}{who}. {}", oops_to_panic(case)),
        Level::Likely,
        "the log says so; its stack is not in the dump to confirm it",
    );
    finding.functions = logged_chain(logged);
    finding.task = logged.pid.zip(logged.comm.clone());
    finding.module = logged.rip.as_ref().and_then(|r| r.module.clone());
    add_log(case, &mut finding, Some(logged));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;

    const LOG: &str = "5.0 kernel BUG at /build/lab/modules/crasher/crasher.c:171!
        5.0 invalid opcode: 0000 [#1] SMP NOPTI
        5.0 CPU: 0 PID: 247 Comm: insmod Tainted: G OE 5.10.0
        5.0 RIP: 0010:crasher_check_refs+0x10/0x20 [crasher]
        5.1 Kernel panic - not syncing: Fatal exception";
    const STACK: [&str; 8] = [
        "panic",
        "oops_end",
        "do_trap",
        "do_error_trap",
        "exc_invalid_op",
        "asm_exc_invalid_op",
        "crasher:crasher_check_refs",
        "crasher:crasher_update_refs",
    ];

    #[test]
    fn the_check_has_its_file_and_line() {
        let finding = detect(&case(LOG, "insmod", &STACK, Some(6))).unwrap();
        assert!(
            finding.cause.starts_with(
                "A BUG check failed at crasher/crasher.c:171, in crasher_check_refs [crasher]"
            ),
            "{}",
            finding.cause
        );
        assert_eq!(finding.confidence.level, Level::Certain);
    }

    #[test]
    fn a_page_fault_is_no_bug_check() {
        let mut stack = STACK;
        stack[4] = "exc_page_fault";
        stack[5] = "asm_exc_page_fault";
        let log = "5.1 Kernel panic - not syncing: Fatal exception";
        assert!(detect(&case(log, "insmod", &stack, Some(6))).is_none());
    }
}
