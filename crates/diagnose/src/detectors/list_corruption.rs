//! A doubly linked list whose links do not fit together.
//!
//! Mechanism: with CONFIG_DEBUG_LIST (or LIST_HARDENED, v6.6) every list_add
//! and list_del checks its neighbours; CONFIG_BUG_ON_DATA_CORRUPTION makes a
//! mismatch a BUG, else it is a warning and a crash may follow later.
//! Evidence: "list_del corruption" in the log, `__list_del_entry_valid` (or
//! `..._or_report`) on the stack, and its caller. LIST_POISON in the message
//! means: the entry had been deleted before. Refuted by: no such check on the
//! stack and none in the log. Kernels: all with the option. Reference:
//! lib/list_debug.c.

use crate::case::Case;
use crate::finding::{Advice, Finding, Kind, Level, Source};
use crate::oops::IncidentKind;

use super::common::{
    add_log, arrow, blame_module, chain, crashed_stack, logged_chain, look_at, module_on,
    oops_to_panic,
};

fn is_check(function: &str) -> bool {
    function.starts_with("__list_del_entry_valid") || function.starts_with("__list_add_valid")
}

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    let logged = case.last(&[IncidentKind::ListCorruption]);
    let on_stack = case.crashed.as_ref().and_then(|c| {
        let at = c.stack.frames.iter().rposition(|f| is_check(f.function()))?;
        c.fault().map(|_| (c, at))
    });
    let message = logged.map(|i| i.title().to_owned());
    let Some((crashed, check)) = on_stack else {
        let logged = logged?;
        let mut finding = Finding::new(
            Kind::ListCorruption,
            format!(
                "A linked list was found damaged by {}: {}.",
                logged.comm.as_deref().unwrap_or("a task"),
                logged.title()
            ),
            Level::Possible,
            "the log says so before the panic; the crashed stack is another",
        );
        finding.functions = logged_chain(logged);
        finding.functions.retain(|f| !is_check(f.rsplit(':').next().unwrap_or(f)));
        finding.fatal = !case.is_dead();
        add_log(case, &mut finding, Some(logged));
        return Some(finding);
    };
    let culprit = check + 1;
    let name = crashed.stack.frames.get(culprit).and_then(|f| f.symbol.as_ref());
    let name = name.map_or_else(|| "an unknown function".into(), crate::fault::short);
    let callers = crate::fault::callers(&crashed.stack, culprit);
    let callers = match callers.is_empty() {
        true => String::new(),
        false => format!(", called by {},", arrow(&callers, 3)),
    };
    let adding = crashed.stack.frames.get(check).is_some_and(|f| f.function().contains("add"));
    let action = if adding { "added an entry to" } else { "removed an entry from" };
    let poisoned = message.as_deref().is_some_and(|m| m.contains("LIST_POISON"));
    let why = if poisoned {
        "the entry had already been removed once (its link is LIST_POISON)".to_owned()
    } else {
        match message.as_deref() {
            Some(m) => format!("the neighbours do not point back ({m})"),
            None => "the neighbours do not point back".to_owned(),
        }
    };
    let check_says = if adding { "list_add corruption" } else { "list_del corruption" };
    let context = crate::context::context_of(&crashed.stack, culprit);
    let mut finding = Finding::new(
        Kind::ListCorruption,
        format!(
            "{name}{callers} {action} a damaged linked list ({check_says}): {why}. It ran in {} ({}), {}. {}",
            crashed.task.comm,
            crashed.task.pid,
            context.describe(),
            oops_to_panic(case)
        ),
        if poisoned { Level::Certain } else { Level::Likely },
        if poisoned {
            "the kernel's list check stopped this very call, and the poison tells what was done before"
        } else {
            "the list check stopped this call; who damaged the list before is not recorded"
        },
    );
    finding.task = Some((crashed.task.pid, crashed.task.comm.clone()));
    finding.functions = chain(&crashed.stack, culprit);
    add_log(case, &mut finding, logged);
    if let Some(frame) = crashed.stack.frames.get(check) {
        finding.proof(Source::Stack, format!("{} called from {name}", frame.function()));
    }
    blame_module(case, &mut finding, module_on(&crashed.stack, culprit));
    let mut section = crashed_stack(crashed, "STACK", "");
    if let crate::finding::Section::Stack { stack, .. } = &mut section {
        stack.note(culprit, "list operation");
    }
    finding.sections.push(section);
    finding.next.push(Advice::words(if poisoned {
        format!("find the second list_del() of this entry around {name}, or use list_del_init()")
    } else {
        "look for two tasks that change this list without the same lock, or a freed entry".into()
    }));
    finding.next.push(look_at(crashed.task.pid));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;

    const LOG: &str =
        "4.6 list_del corruption, ffff981dc1231f00->next is LIST_POISON1 (dead000000000100)
        4.6 ------------[ cut here ]------------
        4.6 kernel BUG at lib/list_debug.c:53!
        4.6 invalid opcode: 0000 [#1] SMP NOPTI
        4.6 CPU: 0 PID: 247 Comm: insmod Tainted: G OE 5.10.0
        4.6 RIP: 0010:__list_del_entry_valid.cold+0x56/0x69
        4.7 Kernel panic - not syncing: Fatal exception";
    const STACK: [&str; 7] = [
        "panic",
        "oops_end",
        "exc_invalid_op",
        "asm_exc_invalid_op",
        "__list_del_entry_valid.cold",
        "crasher:crasher_list_del_twice",
        "crasher:crasher_update_refs",
    ];

    #[test]
    fn a_second_delete_is_told_by_its_poison() {
        let finding = detect(&case(LOG, "insmod", &STACK, Some(4))).unwrap();
        assert!(finding.cause.starts_with("crasher_list_del_twice+0x10 [crasher]"));
        assert!(finding.cause.contains("already been removed once"), "{}", finding.cause);
        assert_eq!(finding.functions[0], "crasher:crasher_list_del_twice");
        assert_eq!(finding.confidence.level, Level::Certain);
    }

    #[test]
    fn a_damaged_neighbour_is_only_likely() {
        let log = LOG.replace(
            "ffff981dc1231f00->next is LIST_POISON1 (dead000000000100)",
            "prev->next should be ffff981d, but was 0000",
        );
        let finding = detect(&case(&log, "insmod", &STACK, Some(4))).unwrap();
        assert_eq!(finding.confidence.level, Level::Likely);
    }

    #[test]
    fn another_bug_is_none() {
        let log = "4.6 kernel BUG at mm/slub.c:1!\n4.7 Kernel panic - not syncing: Fatal exception";
        let mut stack = STACK;
        stack[4] = "kfree";
        assert!(detect(&case(log, "insmod", &stack, Some(4))).is_none());
    }
}
