//! What several detectors say in the same words.

use kmortem_kernel::stack::Stack;
use kmortem_kernel::task::Task;

use crate::case::{Case, Crashed, TaskStack};
use crate::fault::callers;
use crate::finding::{Advice, Evidence, Finding, Section, Source};
use crate::oops::Incident;
use crate::view::StackView;

/// "insmod (247)".
pub(super) fn who(task: &Task) -> String {
    format!("{} ({})", task.comm, task.pid)
}

/// "a ← b ← c", at most `most` of them.
pub(crate) fn arrow(names: &[String], most: usize) -> String {
    let mut short: Vec<&str> = names.iter().take(most).map(String::as_str).collect();
    if names.len() > most {
        short.push("…");
    }
    short.join(" ← ")
}

/// Functions of a stack from frame `at` on, with modules, for the signature.
pub(super) fn chain(stack: &Stack, at: usize) -> Vec<String> {
    let mut found = Vec::new();
    for (i, frame) in stack.frames.iter().enumerate().skip(at) {
        if i > at && frame.is_interrupted() {
            break;
        }
        let name = frame.function();
        if name.is_empty() {
            continue;
        }
        found.push(match frame.symbol.as_ref().and_then(|s| s.module.as_ref()) {
            Some(module) => format!("{module}:{name}"),
            None => name.to_owned(),
        });
    }
    found
}

/// The same from a call trace in the log.
pub(super) fn logged_chain(incident: &Incident) -> Vec<String> {
    let base = kmortem_kernel::stack::base_name;
    incident
        .rip
        .iter()
        .chain(incident.functions().map(|e| &e.location))
        .map(|l| match &l.module {
            Some(module) => format!("{module}:{}", base(&l.function)),
            None => base(&l.function).to_owned(),
        })
        .collect()
}

/// The first module on a stack from frame `at` on (until the context ends).
pub(super) fn module_on(stack: &Stack, at: usize) -> Option<String> {
    stack
        .frames
        .iter()
        .enumerate()
        .skip(at)
        .take_while(|(i, f)| *i == at || !f.is_interrupted())
        .find_map(|(_, f)| f.symbol.as_ref()?.module.clone())
}

/// Names the module and what it did to the taint mask.
pub(super) fn blame_module(case: &Case<'_>, finding: &mut Finding, module: Option<String>) {
    let Some(name) = module else { return };
    if let Some(found) = case
        .kernel()
        .and_then(|k| k.modules().ok())
        .and_then(|all| all.iter().find(|m| m.name == name))
    {
        let letters = found.taint_letters();
        let mut text = name.clone();
        if let Some(version) = &found.version {
            text = format!("{text} {version}");
        }
        let words = taint_words(&letters);
        if !words.is_empty() {
            text = format!("{text}: {} (taints the kernel: {letters})", words.join(", "));
        } else {
            text = format!("{text}: a module of this kernel, no taint");
        }
        finding.proof(Source::Module, text);
    }
    finding.module = Some(name);
}

fn taint_words(letters: &str) -> Vec<&'static str> {
    letters
        .chars()
        .filter_map(|c| {
            Some(match c {
                'P' => "proprietary",
                'O' => "out of tree",
                'E' => "unsigned",
                'F' => "forced",
                'C' => "staging",
                'K' => "livepatch",
                _ => return None,
            })
        })
        .collect()
}

/// The crashed task's stack as a section, with a note on its first own frame.
pub(super) fn crashed_stack(crashed: &Crashed, title: &str, note: &str) -> Section {
    let mut stack = StackView::new(&crashed.stack, crashed.own);
    if !note.is_empty() {
        stack.note(crashed.own, note);
    }
    Section::Stack { title: title.to_owned(), stack }
}

/// Any task's stack as a section.
pub(super) fn stack_of(found: &TaskStack, title: &str) -> Section {
    Section::Stack { title: title.to_owned(), stack: StackView::new(&found.stack, 0) }
}

/// Puts the log's lines of `incident` and the panic line into the evidence.
pub(super) fn add_log(case: &Case<'_>, finding: &mut Finding, incident: Option<&Incident>) {
    if let Some(incident) = incident {
        finding.at_ns = Some(incident.at_ns);
        finding.evidence.extend(case.log_evidence(incident));
    }
    if let Some(panic) = case.panic_evidence() {
        finding.at_ns = finding.at_ns.or(panic.at_ns);
        finding.evidence.push(panic);
    }
}

/// Evidence of one line of the log.
pub(super) fn log_line((at_ns, text): (u64, &str)) -> Evidence {
    Evidence { source: Source::Log, text: text.trim().to_owned(), at_ns: Some(at_ns) }
}

/// The advice to look at the whole stack of a task.
pub(super) fn look_at(pid: i32) -> Advice {
    Advice::run("the whole stack, with registers", &[&format!("bt {pid}")])
}

/// Half a sentence that says how the oops became a panic.
pub(super) fn oops_to_panic(case: &Case<'_>) -> String {
    match case.panic_text() {
        "Fatal exception in interrupt" => {
            "An oops in an interrupt can't be survived, so the kernel panicked.".into()
        }
        "Fatal exception" => match case.setting(&["panic_on_oops"]) {
            Some(1) => "panic_on_oops=1 turned the oops into a panic.".into(),
            _ => "The oops became a panic.".into(),
        },
        "" => "The oops stopped the machine before a panic was logged.".into(),
        other => format!("It ended in the panic \"{other}\"."),
    }
}

/// Callers of frame `at` as a phrase: ", called by a ← b", or nothing.
pub(super) fn called_by(stack: &Stack, at: usize) -> String {
    match callers(stack, at) {
        names if names.is_empty() => String::new(),
        names => format!(", called by {}", arrow(&names, 3)),
    }
}

/// Whether a cgroup's limit was what was hit: the stack says so, or, where the
/// dump has no stack of that task (no registers of its CPU), the log: the
/// kernel dumps the group's counters between the allocation that failed and
/// the panic.
pub(super) fn is_a_cgroup_s(case: &Case<'_>) -> bool {
    let Some(crashed) = &case.crashed else { return false };
    if !crashed.stack.frames.is_empty() {
        return crashed.is_dying() && crashed.stack.has("mem_cgroup_out_of_memory");
    }
    let last = |text: &str| case.log.iter().rposition(|line| line.text.contains(text));
    case.panic_text().starts_with("Out of memory")
        && last("Memory cgroup stats for ") > last(" invoked oom-killer")
}
