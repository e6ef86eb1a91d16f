//! Kernel code followed a pointer that leads nowhere: NULL, an error value, a
//! freed object's remains, text, user space, unmapped kernel memory.
//!
//! Mechanism: page fault (or general protection fault for an address that is
//! none) in kernel mode without a fixup; the kernel oopses. Evidence: the
//! exception frame, the instruction and its operand, where its base register
//! came from, the oops in the log. Which pointer it was decides the kind.
//! Refuted by: a survived fault (no oops function between frame and panic).
//! Kernels: all. Reference: arch/x86/mm/fault.c, arch/x86/kernel/traps.c.

use crate::address::Looks;
use crate::case::{Case, Crashed};
use crate::context::ContextKind;
use crate::exception::{Exception, Trap};
use crate::fault::{Fault, Touched};
use crate::finding::{Advice, Finding, Kind, Level, Source};
use crate::member;
use crate::oops::Incident;
use crate::origin::Origin;
use crate::stale::{Stale, find_stale};
use crate::text::duration;

use super::common::{
    add_log, arrow, blame_module, chain, crashed_stack, logged_chain, look_at, module_on,
    oops_to_panic,
};

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    if let Some(fault) = Fault::of_crash(case) {
        let touched = fault.touched.clone()?;
        return from_fault(case, &fault, &touched);
    }
    // No stack of it: the log's oops, if the kernel panicked for it.
    let oops = case.own_oops().filter(|_| case.panic_text().starts_with("Fatal exception"))?;
    from_log(case, oops, true)
}

/// The first oops in the log, where it came before what `primary` is about.
/// `caused`: whether `primary` may be its consequence; then the two are told
/// as one story.
pub(super) fn earlier(case: &Case<'_>, primary: &Finding, caused: bool) -> Option<Finding> {
    let first = case.incidents.iter().find(|i| {
        (i.kind.is_oops() || i.oops_number.is_some()) && i.oops_number.is_none_or(|n| n == 1)
    })?;
    let at = primary.at_ns.unwrap_or(u64::MAX);
    // Not the primary's own report, whose lines may differ by little.
    let own = case.is_dead() && case.own_oops().is_some_and(|own| own == first);
    if first.at_ns.saturating_add(1_000_000_000) > at || own && case.crashed_by_oops() {
        return None;
    }
    let mut finding = from_log(case, first, false)?;
    if !caused {
        return Some(finding);
    }
    let gap = duration(at - first.at_ns);
    finding.cause =
        format!("{} The machine went on, damaged; {gap} later: {}", finding.cause, primary.cause);
    finding.confidence.level = Level::Likely;
    finding.confidence.reason =
        "the first oops of this boot; what came after may be its consequence".into();
    finding.fatal = true;
    finding.against.push(format!("between the two lie {gap}: they may be unrelated"));
    finding.sections.clone_from(&primary.sections);
    finding.next.extend(primary.next.iter().cloned());
    finding.evidence.extend(primary.evidence.iter().cloned());
    Some(finding)
}

fn kind_of(trap: Trap, looks: &Looks, stale: bool) -> Kind {
    match looks {
        _ if stale => Kind::UseAfterFree,
        Looks::Null { .. } => Kind::NullDeref,
        Looks::ListPoison { .. } => Kind::UseAfterFree,
        Looks::Poison { meaning } if meaning.contains("freed") => Kind::UseAfterFree,
        _ if trap == Trap::GeneralProtection => Kind::GeneralProtection,
        _ => Kind::BadPointer,
    }
}

fn from_fault(case: &Case<'_>, fault: &Fault, touched: &Touched) -> Option<Finding> {
    let crashed = case.crashed.as_ref()?;
    if !matches!(fault.trap, Trap::PageFault | Trap::GeneralProtection | Trap::StackSegment) {
        return None;
    }
    let exception = crashed.fault()?;
    let stale = match (&touched.looks, case.kernel(), &touched.register) {
        (
            Looks::NonCanonical | Looks::Text { .. } | Looks::Kernel { .. },
            Some(kernel),
            Some((_, value)),
        ) => find_stale(kernel, crashed, exception, *value),
        _ => None,
    };
    let kind = kind_of(fault.trap, &touched.looks, stale.is_some());
    let mut finding = Finding::new(kind, "", Level::Certain, "");
    finding.cause = sentence(case, fault, touched, stale.as_ref());
    finding.task = fault.task.clone();
    finding.functions = chain(&crashed.stack, exception.frame);
    add_log(case, &mut finding, case.own_oops());
    match &fault.instruction {
        Ok(text) => {
            finding.proof(Source::Code, format!("{}: {text}", fault.location));
            finding.confidence.reason =
                "registers, instruction and stack agree on place and address".into();
        }
        Err(why) => {
            finding.confidence.level = Level::Likely;
            finding.confidence.reason =
                "registers and stack name the place; the instruction can't be read".into();
            finding.against.push(format!("the code at the fault is not to be had: {why}"));
        }
    }
    if let Some((name, value)) = &touched.register {
        let origin = touched.origin.describe().map_or(String::new(), |o| format!("; it {o}"));
        finding.proof(Source::Registers, format!("{name} = {value:#x}{origin}"));
    }
    if let Some(hint) = member_hint(case, crashed, exception, touched) {
        finding.proof(Source::Code, hint);
    }
    if let Some(stale) = &stale {
        finding.proof(Source::Object, stale.proof());
        finding.subject = stale.own_cache.as_ref().map(|c| format!("cache {c}"));
    }
    for disagreement in &fault.disagreements {
        finding.confidence.level = finding.confidence.level.min(Level::Likely);
        finding.against.push(disagreement.clone());
    }
    if !crashed.stack.is_sound() {
        finding.against.push("the stack could not be followed to its end".into());
    }
    blame_module(case, &mut finding, module_on(&crashed.stack, exception.frame));
    let note = match &touched.looks {
        Looks::Null { .. } => "NULL",
        _ => "the fault",
    };
    finding.sections.push(crashed_stack(crashed, "STACK", note));
    advise(&mut finding, fault, touched, crashed.task.pid);
    Some(finding)
}

/// The member that the instruction meant, where the pointer is an argument.
fn member_hint(
    case: &Case<'_>,
    crashed: &Crashed,
    exception: &Exception,
    touched: &Touched,
) -> Option<String> {
    let Origin::Argument { number, .. } = &touched.origin else { return None };
    let (_, pointer) = touched.register.as_ref()?;
    let offset = touched.address.checked_sub(*pointer)?;
    let function = crashed.stack.frames.get(exception.frame)?.symbol.as_ref()?;
    member::describe(case.kernel()?, function, *number, offset)
}

fn sentence(case: &Case<'_>, fault: &Fault, touched: &Touched, stale: Option<&Stale>) -> String {
    let mut text = format!("{} {} address {:#x}", fault.location, fault.verb(), touched.address);
    text += &match (stale, &touched.looks) {
        (Some(stale), _) => format!(", a pointer out of {}", stale.describe()),
        (None, Looks::Kernel { .. }) => format!(", {}", touched.looks.describe()),
        (None, looks) => format!(": {}", looks.describe()),
    };
    text.push('.');
    if let Some((name, _)) = &touched.register
        && let Some(origin) = touched.origin.describe()
    {
        text += &format!(" The pointer ({name}) {origin}.");
    }
    if !fault.callers.is_empty() {
        text += &format!(" Called by {}", arrow(&fault.callers, 3));
    } else {
        text += " It ran";
    }
    text += &place(fault);
    text.push(' ');
    text += &oops_to_panic(case);
    text
}

/// " in insmod (247), system call finit_module." and its like.
fn place(fault: &Fault) -> String {
    let who = fault.task.as_ref().map(|(pid, comm)| format!("{comm} ({pid})"));
    match (&fault.context, who) {
        (Some(context), Some(who)) if context.task_is_bystander() => {
            let kind = match context.kind {
                ContextKind::Softirq => "a softirq",
                ContextKind::Hardirq => "an interrupt handler",
                _ => "a non-maskable interrupt",
            };
            format!(" in {kind}; {who}, which it interrupted, is a bystander.")
        }
        (Some(context), Some(who)) => format!(" in {who}, {}.", context.describe()),
        (None, Some(who)) => format!(" in {who}."),
        _ => ".".into(),
    }
}

fn advise(finding: &mut Finding, fault: &Fault, touched: &Touched, pid: i32) {
    let place = match &fault.module {
        Some(module) => format!("{} (module {module})", fault.function),
        None => fault.function.clone(),
    };
    finding.next.push(match (&touched.looks, touched.origin.global()) {
        (Looks::Null { .. }, Some(global)) => Advice::words(format!(
            "find out why {global} was still NULL when {place} ran, or check it there"
        )),
        (Looks::Null { .. }, None) => {
            Advice::words(format!("{place} does not check its pointer: see who leaves it NULL"))
        }
        (Looks::ErrorPointer { .. }, _) => {
            Advice::words(format!("{place}, or its caller, misses an IS_ERR() check"))
        }
        (Looks::ListPoison { .. }, _) => {
            Advice::words(format!("{place} uses a list entry that was removed before"))
        }
        _ if finding.kind == Kind::UseAfterFree => Advice::words(format!(
            "{place} uses an object after its kfree(): boot with slub_debug=FZPU (or KASAN) to \
             see who freed it"
        )),
        _ => Advice::words(format!(
            "something wrote over the pointer that {place} used: look at the object it is in"
        )),
    });
    finding.next.push(look_at(pid));
}

/// A finding from an oops of which only the log is left.
fn from_log(case: &Case<'_>, oops: &Incident, fatal: bool) -> Option<Finding> {
    let fault = Fault::of_oops(oops)?;
    let kind = match (&fault.touched, fault.trap) {
        (Some(t), trap) => kind_of(trap, &t.looks, false),
        (None, Trap::GeneralProtection) => Kind::GeneralProtection,
        (None, Trap::DivideError) => Kind::DivideError,
        (None, Trap::DoubleFault) => Kind::StackOverflow,
        (None, Trap::InvalidOpcode) => Kind::Bug,
        _ => Kind::Exception,
    };
    let what = match &fault.touched {
        Some(t) => {
            format!("{} touched address {:#x}: {}", fault.location, t.address, t.looks.describe())
        }
        None => format!("{} faulted ({})", fault.location, oops.title()),
    };
    let callers = match fault.callers.is_empty() {
        true => String::new(),
        false => format!(", called by {}", arrow(&fault.callers, 3)),
    };
    let who =
        fault.task.as_ref().map_or(String::new(), |(pid, comm)| format!(" in {comm} ({pid})"));
    let mut finding = Finding::new(
        kind,
        format!("{what}{callers}{who}."),
        Level::Likely,
        "the log's oops says so; its stack is not in the dump to confirm it",
    );
    finding.fatal = fatal;
    finding.task = fault.task.clone();
    finding.functions = logged_chain(oops);
    finding.module = fault.module.clone();
    finding.at_ns = Some(oops.at_ns);
    finding.evidence = case.log_evidence(oops);
    if fatal {
        finding.evidence.extend(case.panic_evidence());
    }
    finding.next.push(Advice::run("the oops in the log", &["log"]));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;

    const OOPS: &str = "6.1 BUG: kernel NULL pointer dereference, address: 0000000000000020
        6.1 #PF: supervisor write access in kernel mode
        6.1 Oops: 0002 [#1] SMP NOPTI
        6.1 CPU: 0 UID: 0 PID: 247 Comm: insmod Tainted: G OE 7.3.4
        6.1 RIP: 0010:crasher_null_deref+0x10/0x20 [crasher]
        6.1 Call Trace:
        6.1  crasher_update_refs+0x1a/0x30 [crasher]
        6.1 ---[ end trace 0000000000000000 ]---
        6.2 Kernel panic - not syncing: Fatal exception";
    const STACK: [&str; 8] = [
        "panic",
        "oops_end",
        "page_fault_oops",
        "exc_page_fault",
        "asm_exc_page_fault",
        "crasher:crasher_null_deref",
        "crasher:crasher_update_refs",
        "do_one_initcall",
    ];

    #[test]
    fn a_null_write_is_named_by_function_and_address() {
        let finding = detect(&case(OOPS, "insmod", &STACK, Some(5))).unwrap();
        assert_eq!(finding.kind, Kind::NullDeref);
        assert!(finding.cause.contains("crasher_null_deref+0x10 [crasher]"), "{}", finding.cause);
        assert!(finding.cause.contains("0x20"), "{}", finding.cause);
        assert_eq!(finding.module.as_deref(), Some("crasher"));
        assert_eq!(finding.functions[0], "crasher:crasher_null_deref");
    }

    #[test]
    fn a_fault_that_was_survived_is_no_cause() {
        let stack = [
            "panic",
            "out_of_memory",
            "exc_page_fault",
            "asm_exc_page_fault",
            "rep_stos",
            "read_zero",
        ];
        let log =
            "1.0 Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled";
        assert!(detect(&case(log, "dd", &stack, Some(4))).is_none());
    }

    #[test]
    fn a_log_that_names_another_function_lowers_the_confidence() {
        let other = OOPS.replace("crasher_null_deref+0x10", "other_function+0x10");
        let finding = detect(&case(&other, "insmod", &STACK, Some(5))).unwrap();
        assert_eq!(finding.confidence.level, Level::Likely);
        assert!(
            finding.against.iter().any(|a| a.contains("other_function")),
            "{:?}",
            finding.against
        );
    }

    #[test]
    fn without_a_stack_the_log_speaks_and_says_so() {
        let mut case = case(OOPS, "insmod", &[], None);
        case.crashed = None;
        let finding = detect(&case).unwrap();
        assert_eq!((finding.kind, finding.confidence.level), (Kind::NullDeref, Level::Likely));
    }

    #[test]
    fn an_oops_long_before_a_hang_is_found() {
        let log = OOPS.replace("6.2 Kernel panic - not syncing: Fatal exception", "")
            + "\n 300.0 INFO: task cp:99 blocked for more than 120 seconds.
               300.1 Kernel panic - not syncing: hung_task: blocked tasks";
        let mut case = case(&log, "khungtaskd", &["panic", "watchdog", "kthread"], None);
        case.crashed.as_mut().unwrap().task.pid = 34;
        let mut hang = Finding::new(Kind::HungTask, "cp (99) hung.", Level::Likely, "");
        hang.at_ns = Some(300_000_000_000);
        let finding = earlier(&case, &hang, true).unwrap();
        assert!(finding.cause.contains("4 min 53 s later: cp (99) hung."), "{}", finding.cause);
    }
}
