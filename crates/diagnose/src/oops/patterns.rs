//! First lines of kernel reports, as a table.
//!
//! Each row: text that a line starts with or contains, and what it announces.
//! Wordings of 4.18 to 7.x are side by side; sources: arch/x86/mm/fault.c,
//! arch/x86/kernel/{dumpstack,traps,nmi}.c, arch/x86/kernel/cpu/mce/core.c,
//! kernel/{panic,watchdog,watchdog_perf,hung_task}.c, kernel/rcu/tree_stall.h,
//! mm/{oom_kill,slub,usercopy}.c, mm/k*san/report.c, lib/{bug,list_debug,refcount}.c,
//! drivers/tty/sysrq.c, block/blk-core.c.

use serde::Serialize;

/// What a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum IncidentKind {
    NullDeref,
    PageFault,
    GeneralProtection,
    DivideError,
    InvalidOpcode,
    OtherException,
    DoubleFault,
    StackOverflow,
    Bug,
    ListCorruption,
    SlabCorruption,
    Refcount,
    BadPage,
    UserCopy,
    Sanitizer,
    Warning,
    SoftLockup,
    HardLockup,
    HungTask,
    RcuStall,
    WorkqueueLockup,
    Atomic,
    Oom,
    Sysrq,
    MachineCheck,
    Nmi,
    IoError,
    Panic,
}

use IncidentKind as K;

enum At {
    Start(&'static str),
    Anywhere(&'static str),
}
use At::{Anywhere, Start};

/// In order: the first row that fits decides.
const TABLE: &[(At, IncidentKind)] = &[
    (Start("Kernel panic - not syncing: "), K::Panic),
    (Start("BUG: kernel NULL pointer dereference"), K::NullDeref),
    (Start("BUG: unable to handle kernel NULL pointer dereference"), K::NullDeref),
    (Start("Unable to handle kernel NULL pointer dereference"), K::NullDeref),
    (Start("BUG: unable to handle page fault for address"), K::PageFault),
    (Start("BUG: unable to handle kernel paging request"), K::PageFault),
    (Start("Unable to handle kernel paging request"), K::PageFault),
    (Start("BUG: unable to handle"), K::PageFault),
    // arm64: "read from unreadable memory", "execute from non-executable memory".
    (Start("Unable to handle kernel "), K::PageFault),
    (Start("Internal error: Oops - BUG"), K::InvalidOpcode),
    (Start("Internal error: Oops - Undefined instruction"), K::InvalidOpcode),
    (Start("Internal error: "), K::OtherException),
    (Anywhere("stack guard page was hit at"), K::StackOverflow),
    (Start("kernel stack overflow"), K::StackOverflow),
    (Anywhere("Insufficient stack space to handle exception"), K::StackOverflow),
    (Start("general protection fault"), K::GeneralProtection),
    (Start("Oops: general protection fault"), K::GeneralProtection),
    (Start("divide error: "), K::DivideError),
    (Start("Oops: divide error"), K::DivideError),
    (Start("invalid opcode: "), K::InvalidOpcode),
    (Start("Oops: invalid opcode"), K::InvalidOpcode),
    (Anywhere("PANIC: double fault"), K::DoubleFault),
    (Start("double fault: "), K::DoubleFault),
    (Start("Oops: double fault"), K::DoubleFault),
    (Start("stack segment: "), K::OtherException),
    (Start("Oops: stack segment"), K::OtherException),
    (Start("int3: "), K::OtherException),
    (Start("Oops: int3"), K::OtherException),
    (Start("alignment check: "), K::OtherException),
    (Start("control protection fault"), K::OtherException),
    (Start("Oops: control protection fault"), K::OtherException),
    (Start("Missing ENDBR"), K::OtherException),
    (Start("Oops: "), K::OtherException),
    (Start("list_del corruption"), K::ListCorruption),
    (Start("list_add corruption"), K::ListCorruption),
    (Start("list_add double add"), K::ListCorruption),
    (Start("kernel BUG at "), K::Bug),
    (Start("Kernel BUG at "), K::Bug),
    (Start("kernel BUG "), K::Bug),
    (Start("refcount_t: "), K::Refcount),
    (Start("BUG: Bad page "), K::BadPage),
    (Start("BUG: Bad rss-counter"), K::BadPage),
    (Start("usercopy: "), K::UserCopy),
    (Start("BUG: KASAN"), K::Sanitizer),
    (Start("BUG: KFENCE"), K::Sanitizer),
    (Start("BUG: KMSAN"), K::Sanitizer),
    (Start("BUG: KCSAN"), K::Sanitizer),
    (Start("UBSAN: "), K::Sanitizer),
    (Anywhere("BUG: soft lockup - CPU#"), K::SoftLockup),
    (Anywhere("hard LOCKUP on cpu"), K::HardLockup),
    (Start("rcu: INFO: "), K::RcuStall),
    (Start("INFO: rcu_"), K::RcuStall),
    (Anywhere("self-detected stall on CPU"), K::RcuStall),
    (Anywhere("detected stalls on CPUs/tasks"), K::RcuStall),
    (Anywhere("detected expedited stalls on CPUs/tasks"), K::RcuStall),
    (Start("BUG: workqueue lockup"), K::WorkqueueLockup),
    (Start("BUG: scheduling while atomic"), K::Atomic),
    (Start("BUG: sleeping function called"), K::Atomic),
    (Start("WARNING: "), K::Warning),
    (Start("sysrq: Trigger a crash"), K::Sysrq),
    (Start("sysrq: SysRq : Trigger a crash"), K::Sysrq),
    (Start("SysRq : Trigger a crash"), K::Sysrq),
    (Start("mce: [Hardware Error]: CPU"), K::MachineCheck),
    (Start("mce: [Hardware Error]: Machine check"), K::MachineCheck),
    (Start("Uhhuh. NMI received"), K::Nmi),
    (Start("NMI: PCI system error"), K::Nmi),
    (Start("NMI: IOCK error"), K::Nmi),
    (Start("NMI: Not continuing"), K::Nmi),
    (Start("I/O error, dev "), K::IoError),
    (Start("blk_update_request: I/O error"), K::IoError),
    (Anywhere("Buffer I/O error on dev"), K::IoError),
    (Anywhere(" invoked oom-killer: "), K::Oom),
];

/// What a line announces, if it starts a report.
pub(super) fn classify(text: &str) -> Option<IncidentKind> {
    let text = text.trim_start();
    for (at, kind) in TABLE {
        let fits = match at {
            Start(s) => text.starts_with(s),
            Anywhere(s) => text.contains(s),
        };
        if fits {
            return Some(*kind);
        }
    }
    // "INFO: task NAME:PID blocked for more than N seconds.", since v7 also "blocked in I/O wait
    // for more than".
    let hung = |words| text.contains(words);
    if text.starts_with("INFO: task ")
        && (hung(" blocked for more than") || hung(" blocked in I/O wait for more than"))
    {
        return Some(K::HungTask);
    }
    // SLUB: "BUG kmalloc-64 (Tainted: G ...): Poison overwritten".
    if text.starts_with("BUG ") && text.contains("): ") {
        return Some(K::SlabCorruption);
    }
    None
}

/// Lines between the first one and the register block that say more.
pub(super) fn is_detail(text: &str) -> bool {
    const STARTS: &[&str] = &[
        "#PF: ",
        "kernel tried to execute",
        "unable to execute userspace code",
        "The buggy address",
        "Memory cgroup stats for ",
        "memory: usage ",
        "oom-kill:",
        "TASK stack",
        "slab",
        "refcount_t: ",
    ];
    let text = text.trim_start();
    STARTS.iter().any(|s| text.starts_with(s)) || text.contains("is blocked on a ")
}

/// The counter in "Oops: 0002 [#1] PREEMPT SMP".
pub(super) fn oops_number(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("[#")?;
    rest.split_once(']')?.0.parse().ok()
}

impl IncidentKind {
    /// Whether a line of this kind, before the CPU line of a report that began
    /// with `first`, belongs to that report: "kernel BUG at" behind
    /// "list_del corruption", "Oops: 0002 [#1]" behind "BUG: kernel NULL".
    pub(super) fn elaborates(self, first: IncidentKind) -> bool {
        match self {
            K::OtherException | K::InvalidOpcode => first.is_oops() || first.is_reason(),
            K::GeneralProtection | K::DoubleFault => first.is_oops(),
            K::Bug => first.is_reason() || first == K::Sanitizer,
            K::Warning => matches!(first, K::ListCorruption | K::Refcount),
            K::Refcount => first == K::Warning,
            K::RcuStall => first == K::RcuStall,
            K::MachineCheck => first == K::MachineCheck,
            K::Nmi => first == K::Nmi,
            _ => false,
        }
    }

    /// The more telling of two kinds of one report.
    pub(super) fn refined_by(self, later: IncidentKind) -> IncidentKind {
        match (self, later) {
            (K::Warning, K::Refcount) => K::Refcount,
            (K::InvalidOpcode, K::Bug) => K::Bug,
            (first, _) => first,
        }
    }

    /// Whether the report is one of an oops: it ends its task, or the machine.
    pub fn is_oops(self) -> bool {
        matches!(
            self,
            K::NullDeref
                | K::PageFault
                | K::GeneralProtection
                | K::DivideError
                | K::InvalidOpcode
                | K::OtherException
                | K::DoubleFault
                | K::StackOverflow
                | K::Bug
        )
    }

    /// Whether it says why a BUG follows.
    fn is_reason(self) -> bool {
        matches!(self, K::ListCorruption | K::SlabCorruption | K::UserCopy | K::BadPage)
    }

    /// Whether memory may have been damaged, or a task may have died with
    /// locks held: later trouble may be its consequence.
    pub fn is_serious(self) -> bool {
        self.is_oops()
            || self.is_reason()
            || matches!(self, K::Refcount | K::Sanitizer | K::MachineCheck)
    }
}
