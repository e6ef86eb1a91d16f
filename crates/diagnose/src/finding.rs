//! What a detector says: a cause, how sure it is, and its proof.
//!
//! Findings are plain values. Text in them is prose without line breaks or
//! colours; renderers wrap and paint it.

use serde::Serialize;

use crate::view::StackView;

/// How a machine died, as a stable word. The lab's scenarios, the signature
/// and the JSON schema use the same words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Kind {
    Sysrq,
    NullDeref,
    BadPointer,
    UseAfterFree,
    GeneralProtection,
    WildJump,
    StackOverflow,
    DivideError,
    Exception,
    Bug,
    ListCorruption,
    SlabCorruption,
    Refcount,
    Warning,
    Sanitizer,
    Oom,
    CgroupOom,
    HungTask,
    Deadlock,
    StorageStall,
    SoftLockup,
    HardLockup,
    RcuStall,
    Nmi,
    MachineCheck,
    InitDied,
    NoRoot,
    ModulePanic,
    Panic,
    Alive,
    Unknown,
}

impl Kind {
    /// The word that stands for it in signatures and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Sysrq => "sysrq",
            Kind::NullDeref => "null-deref",
            Kind::BadPointer => "bad-pointer",
            Kind::UseAfterFree => "use-after-free",
            Kind::GeneralProtection => "general-protection",
            Kind::WildJump => "wild-jump",
            Kind::StackOverflow => "stack-overflow",
            Kind::DivideError => "divide-error",
            Kind::Exception => "exception",
            Kind::Bug => "bug",
            Kind::ListCorruption => "list-corruption",
            Kind::SlabCorruption => "slab-corruption",
            Kind::Refcount => "refcount",
            Kind::Warning => "warning",
            Kind::Sanitizer => "sanitizer",
            Kind::Oom => "oom",
            Kind::CgroupOom => "cgroup-oom",
            Kind::HungTask => "hung-task",
            Kind::Deadlock => "deadlock",
            Kind::StorageStall => "storage-stall",
            Kind::SoftLockup => "soft-lockup",
            Kind::HardLockup => "hard-lockup",
            Kind::RcuStall => "rcu-stall",
            Kind::Nmi => "nmi",
            Kind::MachineCheck => "machine-check",
            Kind::InitDied => "init-died",
            Kind::NoRoot => "no-root",
            Kind::ModulePanic => "module-panic",
            Kind::Panic => "panic",
            Kind::Alive => "alive",
            Kind::Unknown => "unknown",
        }
    }
}

/// How sure a finding is. Ordered: `Certain` is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing tells.
    Unknown,
    /// It fits, and so do other stories.
    Possible,
    /// It fits and nothing found speaks against it, but a link is inferred.
    Likely,
    /// Every link was read from the dead kernel's own objects or said by the
    /// kernel itself.
    Certain,
}

impl Level {
    /// As it is printed.
    pub fn word(self) -> &'static str {
        match self {
            Level::Unknown => "unknown",
            Level::Possible => "possible",
            Level::Likely => "likely",
            Level::Certain => "certain",
        }
    }
}

/// A level and what earned it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confidence {
    /// How sure.
    pub level: Level,
    /// Why no more and no less, in half a sentence.
    pub reason: String,
}

/// Where a piece of evidence was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A line of the kernel's log.
    Log,
    /// A kernel object.
    Object,
    /// Saved registers.
    Registers,
    /// The machine code.
    Code,
    /// A stack.
    Stack,
    /// A module.
    Module,
    /// A setting (sysctl, boot parameter).
    Setting,
}

impl Source {
    /// As it is printed.
    pub fn word(self) -> &'static str {
        match self {
            Source::Log => "log",
            Source::Object => "object",
            Source::Registers => "regs",
            Source::Code => "code",
            Source::Stack => "stack",
            Source::Module => "module",
            Source::Setting => "setting",
        }
    }
}

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Where it was read.
    pub source: Source,
    /// What it says.
    pub text: String,
    /// For log lines: nanoseconds on the log's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_ns: Option<u64>,
}

impl Evidence {
    /// Evidence that is no log line.
    pub fn new(source: Source, text: impl Into<String>) -> Evidence {
        Evidence { source, text: text.into(), at_ns: None }
    }
}

/// A step for the reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// What to do, in words.
    pub text: String,
    /// Commands for `kmortem run FILE`, in order. Empty: words only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
}

impl Advice {
    /// Words only.
    pub fn words(text: impl Into<String>) -> Advice {
        Advice { text: text.into(), commands: Vec::new() }
    }

    /// Commands to paste, with what they show.
    pub fn run(text: impl Into<String>, commands: &[&str]) -> Advice {
        Advice { text: text.into(), commands: commands.iter().map(|c| (*c).to_owned()).collect() }
    }
}

/// One bar of a bar chart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// What is measured.
    pub label: String,
    /// Bytes.
    pub bytes: u64,
}

/// A picture or table that belongs to a finding.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case", tag = "section")]
pub enum Section {
    /// A stack, its noise folded.
    Stack {
        /// Whose stack it is.
        title: String,
        /// The stack.
        stack: StackView,
    },
    /// Lines that are best left as they are (who waits for whom).
    Lines {
        /// Heading.
        title: String,
        /// The lines.
        lines: Vec<String>,
    },
    /// Bytes compared with each other.
    Bars {
        /// Heading.
        title: String,
        /// What a full bar stands for, in bytes.
        full_bytes: u64,
        /// The bars.
        bars: Vec<Bar>,
    },
}

/// What a detector found.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// How the machine died.
    pub kind: Kind,
    /// The cause: one to three sentences, the first wrong thing first.
    pub cause: String,
    /// How sure.
    pub confidence: Confidence,
    /// Whether this is what brought the machine down (as opposed to a fault
    /// that it survived).
    pub fatal: bool,
    /// When it showed first, nanoseconds on the log's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_ns: Option<u64>,
    /// Functions that identify it for the signature, innermost first, with
    /// their modules ("crasher:crasher_null_deref").
    pub functions: Vec<String>,
    /// What else identifies it (a lock, a cache), without numbers that vary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The module to blame, where one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// PID and name of the task in whose context it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<(i32, String)>,
    /// The proof.
    pub evidence: Vec<Evidence>,
    /// What speaks against it.
    pub against: Vec<String>,
    /// Stacks, chains, charts.
    pub sections: Vec<Section>,
    /// What to do next.
    pub next: Vec<Advice>,
}

impl Finding {
    /// A finding with nothing but its cause.
    pub fn new(kind: Kind, cause: impl Into<String>, level: Level, reason: &str) -> Finding {
        Finding {
            kind,
            cause: cause.into(),
            confidence: Confidence { level, reason: reason.to_owned() },
            fatal: true,
            at_ns: None,
            functions: Vec::new(),
            subject: None,
            module: None,
            task: None,
            evidence: Vec::new(),
            against: Vec::new(),
            sections: Vec::new(),
            next: Vec::new(),
        }
    }

    /// Adds evidence that is no log line.
    pub fn proof(&mut self, source: Source, text: impl Into<String>) {
        self.evidence.push(Evidence::new(source, text));
    }
}
