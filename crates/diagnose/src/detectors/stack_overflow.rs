//! A kernel stack ran full.
//!
//! Mechanism: with CONFIG_VMAP_STACK the page below a stack is unmapped; the
//! push that meets it faults, the fault can't be pushed either, and the
//! processor raises a double fault on a stack of its own. Evidence: the stack
//! pointer of the exception frame is at or below the end of the task's stack;
//! what fills the stack (the same functions again and again, or one with a
//! large frame). Refuted by: a stack pointer well inside the stack. Kernels:
//! with CONFIG_VMAP_STACK (x86_64 since v4.9). "corrupted stack end detected
//! inside scheduler" is the same found late. Reference:
//! arch/x86/kernel/traps.c (exc_double_fault), Documentation/mm/vmalloced-kernel-stacks.rst.

use crate::case::{Case, Crashed};
use crate::exception::Trap;
use crate::fault::short;
use crate::finding::{Advice, Finding, Kind, Level, Source};
use crate::oops::IncidentKind;

use super::common::{
    add_log, blame_module, chain, crashed_stack, look_at, module_on, oops_to_panic, who,
};

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    let crashed = case.crashed.as_ref()?;
    let logged = case.last(&[IncidentKind::StackOverflow]);
    let exception = crashed.fault();
    let sp = exception.map(|e| e.registers.sp());
    let stack = case.kernel().and_then(|k| k.stack_range(&crashed.task).ok());
    // The guard page is one page; a frame of a few pages may jump over it.
    let below = match (sp, &stack) {
        (Some(sp), Some(stack)) => {
            sp < stack.start + 256 && sp >= stack.start.saturating_sub(16 << 10)
        }
        _ => false,
    };
    let late = case.panic_text().contains("corrupted stack end detected");
    if !below && logged.is_none() && !late {
        return None;
    }
    let doubled = exception.is_some_and(|e| e.trap == Trap::DoubleFault);
    let at = exception.map_or(crashed.own, |e| e.frame);
    let size = stack.as_ref().map_or(16, |s| (s.end - s.start) >> 10);
    let place = crashed.stack.frames.get(at).and_then(|f| f.symbol.as_ref()).map(short);
    let filler = recursion(crashed, at);
    let mut cause = match (&filler, &place) {
        (Some((name, rounds)), _) => format!(
            "{name} called itself {rounds} times and filled the {size} KiB kernel stack of {}.",
            who(&crashed.task)
        ),
        (None, Some(place)) => format!(
            "The {size} KiB kernel stack of {} was full when {place} wanted more.",
            who(&crashed.task)
        ),
        (None, None) => {
            format!("The {size} KiB kernel stack of {} overflowed.", who(&crashed.task))
        }
    };
    cause = format!("{cause} {}", oops_to_panic(case));
    let (level, reason) = match (below, doubled, logged.is_some() || late) {
        (true, _, _) => (Level::Certain, "the stack pointer is at the end of the task's stack"),
        (false, _, true) => (Level::Likely, "the kernel says so; no registers confirm it"),
        _ => (Level::Possible, "a double fault near the end of a stack"),
    };
    let mut finding = Finding::new(Kind::StackOverflow, cause, level, reason);
    finding.task = Some((crashed.task.pid, crashed.task.comm.clone()));
    finding.functions = chain(&crashed.stack, at);
    add_log(case, &mut finding, logged.or_else(|| case.own_oops()));
    if let (Some(sp), Some(stack)) = (sp, &stack) {
        finding.proof(
            Source::Registers,
            format!(
                "the stack pointer is {sp:#x}; the stack is {:#x} to {:#x}",
                stack.start, stack.end
            ),
        );
    }
    if !crashed.stack.is_sound() {
        finding.against.push("the stack could not be followed to its end".into());
    }
    blame_module(case, &mut finding, module_on(&crashed.stack, at));
    finding.sections.push(crashed_stack(crashed, "STACK", "no room left"));
    finding.next.push(Advice::words(match &filler {
        Some((name, _)) => format!("{name} needs an end to its recursion"),
        None => "look for large local variables and deep nesting in the stack".to_owned(),
    }));
    finding.next.push(look_at(crashed.task.pid));
    Some(finding)
}

/// The function that is on the stack most, if it is there often: (name, times).
fn recursion(crashed: &Crashed, at: usize) -> Option<(String, usize)> {
    let mut counts: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for frame in crashed.stack.frames.iter().skip(at) {
        if !frame.function().is_empty() {
            *counts.entry(frame.function()).or_default() += 1;
        }
    }
    let (name, times) = counts.into_iter().max_by_key(|(_, n)| *n)?;
    let module = crashed.stack.frames.iter().find(|f| f.function() == name);
    let module = module.and_then(|f| f.symbol.as_ref()?.module.clone());
    let name = module.map_or_else(|| name.to_owned(), |m| format!("{name} [{m}]"));
    (times >= 8).then_some((name, times))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;

    const LOG: &str = "1.0 BUG: TASK stack guard page was hit at 00000000ab (stack is 0..1)
        1.0 Kernel panic - not syncing: Fatal exception in interrupt";

    #[test]
    fn a_recursion_is_counted() {
        let mut functions = vec!["panic", "oops_end", "exc_double_fault", "asm_exc_double_fault"];
        functions.extend(["crasher:crasher_recurse"; 70]);
        functions.push("crasher:crasher_init");
        let finding = detect(&case(LOG, "insmod", &functions, Some(4))).unwrap();
        assert!(
            finding.cause.starts_with("crasher_recurse [crasher] called itself 70 times"),
            "{}",
            finding.cause
        );
    }

    #[test]
    fn an_ordinary_fault_is_none() {
        let log = "1.0 Kernel panic - not syncing: Fatal exception";
        let stack = ["panic", "oops_end", "asm_exc_page_fault", "f", "g"];
        assert!(detect(&case(log, "insmod", &stack, Some(3))).is_none());
    }
}
