//! Code that called panic() itself: a driver, a file system, a module that
//! gave up.
//!
//! Mechanism: `panic("...")` by code that is none of the kernel's own ways to
//! die (those have detectors). Evidence: the caller of panic() on the crashed
//! stack, its words; for a module also the slab caches that hold much memory,
//! since "out of" messages are often the end of a leak. Refuted by: an oops on
//! the same stack. Kernels: all. Reference: kernel/panic.c.

use crate::case::Case;
use crate::finding::{Advice, Finding, Kind, Level, Source};

use super::common::{
    add_log, blame_module, called_by, chain, crashed_stack, look_at, module_on, who,
};
use super::oom::largest_caches;

/// Panics that other detectors explain, or that an oops made.
const NOT_EXPLICIT: &[&str] = &[
    "Fatal exception",
    "hung_task",
    "softlockup",
    "Hard LOCKUP",
    "Out of memory",
    "sysrq triggered",
    "RCU Stall",
    "NMI",
    "Attempted to kill init",
    "panic_on_warn",
];

pub(super) fn detect(case: &Case<'_>) -> Option<Finding> {
    let text = case.panic_text();
    let crashed = case.crashed.as_ref().filter(|c| c.is_dying() && c.fault().is_none());
    let oopsed = case.crashed.as_ref().is_some_and(|c| c.fault().is_some());
    if oopsed || text.is_empty() && crashed.is_none() {
        return None;
    }
    let own = NOT_EXPLICIT.iter().any(|w| text.starts_with(w));
    let Some(crashed) = crashed else {
        let mut finding = Finding::new(
            Kind::Panic,
            format!("The kernel panicked: \"{text}\"; who called panic() is not in the dump."),
            Level::Possible,
            "only the panic's own words are known",
        );
        add_log(case, &mut finding, None);
        return Some(finding);
    };
    let at = crashed.own;
    let symbol = crashed.stack.frames.get(at).and_then(|f| f.symbol.clone());
    let place = symbol.as_ref().map_or_else(|| "Unknown code".into(), crate::fault::short);
    let module = symbol.and_then(|s| s.module);
    let called = called_by(&crashed.stack, at);
    let context = crashed.context();
    let role = if context.task_is_bystander() { "while it interrupted" } else { "in" };
    let quoted = if text.is_empty() { String::new() } else { format!(": \"{text}\"") };
    let mut finding = Finding::new(
        if module.is_some() { Kind::ModulePanic } else { Kind::Panic },
        format!(
            "{place}{called} gave up and called panic(){quoted}. It ran {role} {}, {}.",
            who(&crashed.task),
            context.describe()
        ),
        if own { Level::Possible } else { Level::Likely },
        if own {
            "its caller is on the stack; why it was called, this does not tell"
        } else {
            "the caller of panic() is on the stack; why it gave up, its message tells"
        },
    );
    finding.task = Some((crashed.task.pid, crashed.task.comm.clone()));
    finding.functions = chain(&crashed.stack, at);
    add_log(case, &mut finding, None);
    let module = module.or_else(|| module_on(&crashed.stack, at));
    if !own {
        leak(case, &mut finding, module.as_deref());
    }
    blame_module(case, &mut finding, module);
    finding.sections.push(crashed_stack(crashed, "STACK", "called panic()"));
    finding.next.push(Advice::words(format!("read the condition before the panic() in {place}")));
    finding.next.push(look_at(crashed.task.pid));
    Some(finding)
}

/// A slab cache that holds a good part of the memory says what ran out.
fn leak(case: &Case<'_>, finding: &mut Finding, module: Option<&str>) {
    let Some(total) = case.memory().ok().map(|m| m.total * m.page_size) else { return };
    let Some(cache) = largest_caches(case, 1).into_iter().next() else { return };
    // A tenth of the machine in one cache is out of the ordinary where a module
    // with the same name prefix panics; else only a quarter is.
    let related = module.is_some_and(|m| {
        let stem = m.split(['_', '-']).next().unwrap_or(m);
        stem.len() > 2 && cache.name.starts_with(stem)
    });
    let share = if related { 10 } else { 4 };
    if cache.bytes < total / share {
        return;
    }
    let mib = cache.bytes as f64 / f64::from(1 << 20);
    let percent = cache.bytes * 100 / total.max(1);
    finding.cause += &format!(
        " The slab cache {} held {mib:.1} MiB in {} objects, {percent} % of the memory{}",
        cache.name,
        cache.objects,
        if related { ": it leaked." } else { "." }
    );
    finding.proof(
        Source::Object,
        format!(
            "cache {}: {} objects of {} bytes in use",
            cache.name, cache.objects, cache.object_size
        ),
    );
    finding.subject = Some(format!("cache {}", cache.name));
    if related {
        finding.confidence.reason =
            "the caller of panic() is on the stack, and the cache it fills was counted".into();
    }
    finding.next.push(Advice::run("all slab caches", &["kmem -s"]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;

    #[test]
    fn a_module_s_panic_names_function_and_words() {
        let log = "18.0 Kernel panic - not syncing: crasher: out of session memory";
        let stack = ["delay_tsc", "panic", "crasher:crasher_leak_memory", "crasher:crasher_init"];
        let finding = detect(&case(log, "insmod", &stack, None)).unwrap();
        assert_eq!(finding.kind, Kind::ModulePanic);
        assert!(
            finding
                .cause
                .starts_with("crasher_leak_memory+0x10 [crasher], called by crasher_init gave up"),
            "{}",
            finding.cause
        );
    }

    #[test]
    fn an_oops_is_not_explicit() {
        let log = "1.0 Kernel panic - not syncing: Fatal exception";
        let stack = ["panic", "oops_end", "exc_page_fault", "asm_exc_page_fault", "f"];
        assert!(detect(&case(log, "sh", &stack, Some(4))).is_none());
    }

    #[test]
    fn a_living_machine_did_not_panic() {
        assert!(detect(&case("1.0 hello", "sh", &["native_halt", "do_idle"], None)).is_none());
    }
}
