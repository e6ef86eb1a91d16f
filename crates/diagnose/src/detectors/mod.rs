//! One file per way a machine dies. A detector looks at the [`Case`] and
//! returns what it found, or nothing; [`judge`] weighs the findings.
//!
//! A new one: write its file (doc comment: what it finds, mechanism, evidence,
//! what would refute it, kernels, references), add it to [`ALL`], give it a
//! lab scenario on which it fires and tests for near misses.

mod alive;
mod bug;
mod cgroup_oom;
mod common;
mod divide_error;
mod explicit_panic;
mod hard_lockup;
mod hung_task;
mod init_died;
mod list_corruption;
mod machine_check;
mod memory_fault;
mod nmi;
mod oom;
mod rcu_stall;
mod sanitizer;
mod slab_corruption;
mod soft_lockup;
mod stack_overflow;
mod sysrq;
mod warning;
mod wild_jump;

pub(crate) use common::arrow;

use crate::case::Case;
use crate::finding::{Finding, Kind, Level};

/// A detector.
pub type Detector = fn(&Case<'_>) -> Option<Finding>;

/// Every detector, the more special ones first: of equals the first wins.
pub const ALL: &[Detector] = &[
    sysrq::detect,
    stack_overflow::detect,
    wild_jump::detect,
    list_corruption::detect,
    slab_corruption::detect,
    sanitizer::detect,
    memory_fault::detect,
    divide_error::detect,
    bug::detect,
    cgroup_oom::detect,
    oom::detect,
    hung_task::detect,
    soft_lockup::detect,
    hard_lockup::detect,
    rcu_stall::detect,
    machine_check::detect,
    nmi::detect,
    init_died::detect,
    warning::detect,
    explicit_panic::detect,
    alive::detect,
];

/// Runs every detector. The first of the result is the cause.
pub fn judge(case: &Case<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = ALL.iter().filter_map(|detect| detect(case)).collect();
    // Stable: among equals the order of `ALL` decides.
    found.sort_by_key(|f| (!f.fatal, std::cmp::Reverse(f.confidence.level)));
    if let Some(primary) = found.first() {
        let caused = follows_damage(primary.kind) && primary.at_ns.is_some();
        if let Some(earlier) = memory_fault::earlier(case, primary, caused) {
            found.insert(if caused { 0 } else { found.len() }, earlier);
        }
    }
    if found.is_empty() {
        found.push(unknown(case));
    }
    found
}

/// Whether an oops before it can have led to it: a lock never released,
/// memory overwritten. A deliberate crash or a full memory does not need one.
fn follows_damage(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::NullDeref
            | Kind::BadPointer
            | Kind::UseAfterFree
            | Kind::GeneralProtection
            | Kind::WildJump
            | Kind::Bug
            | Kind::ListCorruption
            | Kind::SlabCorruption
            | Kind::HungTask
            | Kind::SoftLockup
            | Kind::HardLockup
            | Kind::RcuStall
    )
}

/// The processes that hold most memory: (task, bytes).
pub(crate) fn largest_tasks(
    case: &Case<'_>,
    most: usize,
) -> Vec<(kmortem_kernel::task::Task, u64)> {
    oom::largest_tasks(case, most, |_| true).into_iter().map(|t| (t.task, t.bytes)).collect()
}

fn unknown(case: &Case<'_>) -> Finding {
    let mut finding = Finding::new(
        Kind::Unknown,
        "No known way to die fits what this dump shows.",
        Level::Unknown,
        "neither stacks nor log name a cause",
    );
    if let Some(crashed) = &case.crashed {
        finding.cause = format!(
            "CPU {} was running {} when the dump was made; no known way to die fits.",
            crashed.cpu,
            common::who(&crashed.task)
        );
        finding.functions = common::chain(&crashed.stack, crashed.own);
        finding.sections.push(common::crashed_stack(crashed, "STACK", ""));
        finding.next.push(common::look_at(crashed.task.pid));
    }
    if let Some(why) = &case.log_error {
        if case.tasks().is_empty() {
            finding.cause = "The dump has lost what would tell: neither its log nor its tasks can \
                             be read."
                .to_owned();
            finding.confidence.reason = "what is missing, and why, stands below".to_owned();
        }
        finding.against.push(format!("the log can't be read: {why}"));
    }
    common::add_log(case, &mut finding, None);
    finding.next.push(crate::finding::Advice::run("the log's end", &["log"]));
    finding
}
