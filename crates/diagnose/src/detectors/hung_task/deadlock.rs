//! Tasks that wait for each other in a circle.

use crate::case::{Case, TaskStack};
use crate::detectors::common::{blame_module, chain, module_on, who};
use crate::finding::{Advice, Finding, Kind, Level, Section, Source};
use crate::view::StackView;
use kmortem_kernel::lock::Wait;

use super::{lock_name, names, own_frame, owner_evidence, panic_sentence};

/// The finding for a circle of tasks (addresses), each of which waits for the
/// next.
pub(super) fn deadlock(case: &Case<'_>, cycle: &[u64]) -> Finding {
    let graph = case.waits();
    let waits: Vec<&Wait> = cycle.iter().filter_map(|t| graph.wait_of(*t)).collect();
    let steps: Vec<String> = waits
        .iter()
        .enumerate()
        .map(|(i, wait)| {
            let holder = waits.get((i + 1) % waits.len()).map_or("?".into(), |w| names(w));
            format!("{} waits for {}, held by {holder}", names(wait), lock_name(wait))
        })
        .collect();
    let mut finding = Finding::new(
        Kind::Deadlock,
        format!("Deadlock: {}.{}", steps.join("; "), panic_sentence(case)),
        Level::Certain,
        "the owner fields of the locks close the circle: none of these tasks can ever go on",
    );
    let stacks: Vec<TaskStack> = cycle.iter().filter_map(|t| case.task_stack(*t)).collect();
    let mut locks: Vec<String> = waits.iter().map(|w| lock_name(w)).collect();
    locks.sort();
    finding.subject = Some(
        locks.iter().map(|l| l.split(" 0x").next().unwrap_or(l)).collect::<Vec<_>>().join(" and "),
    );
    let mut functions: Vec<String> = stacks
        .iter()
        .flat_map(|s| chain(&s.stack, own_frame(&s.stack)).into_iter().take(2))
        .collect();
    // Which task closed the circle is chance.
    functions.sort();
    functions.dedup();
    finding.functions = functions;
    finding.task = stacks.first().map(|s| (s.task.pid, s.task.comm.clone()));
    for wait in &waits {
        finding.proof(Source::Object, owner_evidence(wait));
    }
    let module = stacks.iter().find_map(|s| module_on(&s.stack, own_frame(&s.stack)));
    blame_module(case, &mut finding, module);
    let mut lines: Vec<String> =
        waits.iter().map(|w| format!("{} ──▶ {}", names(w), lock_name(w))).collect();
    if let Some(first) = waits.first() {
        lines.push(format!("  ╰──▶ back to {}", names(first)));
    }
    finding.sections.push(Section::Lines { title: "THE CIRCLE".into(), lines });
    for stack in stacks.iter().take(3) {
        finding.sections.push(Section::Stack {
            title: format!("STACK OF {}", who(&stack.task)),
            stack: StackView::new(&stack.stack, 0),
        });
    }
    finding
        .next
        .push(Advice::words(format!("take {} in one order everywhere", locks.join(" and "))));
    let commands = stacks.iter().take(4).map(|s| format!("bt {}", s.task.pid)).collect();
    finding.next.push(Advice { text: "their stacks in full".into(), commands });
    finding
}
