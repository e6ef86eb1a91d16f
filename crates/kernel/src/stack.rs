//! Stack traces as values.

use serde::Serialize;

use crate::Kernel;
use crate::arch::{Registers, StackKind};
use crate::symbol::SymbolAt;

/// How far a frame can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "trust", content = "reason")]
pub enum Trust {
    /// Saved registers name it.
    Registers,
    /// The kernel's own unwind rules lead to it.
    Unwound,
    /// A guess, for the reason given.
    Guess(String),
}

/// One frame: code that was running, or had called the frame before it.
#[derive(Debug, Clone, Serialize)]
pub struct Frame {
    /// Where the code goes on (a return address), or was interrupted.
    #[serde(serialize_with = "hex")]
    pub pc: u64,
    /// Stack address of the word that holds `pc`. For the first frame of a
    /// running task: its stack pointer.
    #[serde(serialize_with = "hex")]
    pub at: u64,
    /// Stack pointer of the function once its callees have returned.
    #[serde(serialize_with = "hex")]
    pub sp: u64,
    /// The function that `pc` is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<SymbolAt>,
    /// The stack that it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackKind>,
    /// Registers with which an exception or interrupt stopped it here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registers: Option<Registers>,
    /// How far to trust it.
    #[serde(flatten)]
    pub trust: Trust,
}

impl Frame {
    /// The function's name without its compiler suffix (".isra.0",
    /// ".constprop.0", ".part.0", ".cold"), or "" when it has none.
    pub fn function(&self) -> &str {
        self.symbol.as_ref().map_or("", |s| base_name(&s.name))
    }

    /// Whether `pc` is the very instruction (not one behind a call).
    pub fn is_interrupted(&self) -> bool {
        self.registers.is_some()
    }
}

/// A function's name without the suffixes that compilers add to clones.
pub fn base_name(name: &str) -> &str {
    name.split_once('.').map_or(name, |(base, _)| if base.is_empty() { name } else { base })
}

/// Where and why a stack ends.
#[allow(clippy::large_enum_variant, reason = "there is one per trace")]
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case", tag = "end")]
pub enum StackEnd {
    /// The entry from user space, with the user's registers.
    User {
        /// What user space had in its registers.
        registers: Registers,
    },
    /// The first function of a kernel thread (or of a CPU).
    ThreadStart,
    /// It goes on, but can't be followed.
    Broken {
        /// Why.
        reason: String,
    },
}

/// Where the registers at the top of a stack come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StackStart {
    /// The CPU's registers in the dump.
    SavedRegisters,
    /// The frame in which `__switch_to_asm` left a sleeping task.
    Switched,
    /// A call on the stack that never returned: the dump has no registers of
    /// the CPU that ran the task.
    Guessed,
    /// The task was running, the dump has no registers of its CPU, and its
    /// stack tells nothing.
    Unknown,
}

/// A stack trace.
#[derive(Debug, Clone, Serialize)]
pub struct Stack {
    /// Frames, innermost first.
    pub frames: Vec<Frame>,
    /// How it ends.
    #[serde(flatten)]
    pub end: StackEnd,
    /// Where it starts from.
    pub start: StackStart,
}

impl Stack {
    /// A stack that can't be shown, with the reason.
    pub fn unavailable(reason: impl Into<String>) -> Stack {
        Stack {
            frames: Vec::new(),
            end: StackEnd::Broken { reason: reason.into() },
            start: StackStart::Unknown,
        }
    }

    /// Whether a frame's function is `name` (compiler suffixes aside).
    pub fn has(&self, name: &str) -> bool {
        self.frames.iter().any(|f| f.function() == name)
    }

    /// Whether it was followed to its real end, with no guess on the way.
    pub fn is_sound(&self) -> bool {
        !matches!(self.end, StackEnd::Broken { .. })
            && !self.frames.iter().any(|f| matches!(f.trust, Trust::Guess(_)))
    }
}

/// Addresses are hexadecimal text in JSON: numbers above 2^53 do not survive
/// every reader.
pub fn hex<S: serde::Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{value:#x}"))
}

/// As [`hex`], for an address that may be unknown.
pub fn hex_option<S: serde::Serializer>(
    value: &Option<u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(addr) => hex(addr, serializer),
        None => serializer.serialize_none(),
    }
}

/// As [`hex`], for each of a list.
pub fn hex_list<S: serde::Serializer>(values: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(|value| format!("{value:#x}")))
}

impl Kernel {
    /// The function that a frame is in. A return address points behind its
    /// call, which may be the last instruction of the caller (a call of a
    /// function that never returns): the byte before it decides.
    pub(crate) fn frame_symbol(&self, pc: u64, exact: bool) -> Option<SymbolAt> {
        let at = if exact { pc } else { pc.wrapping_sub(1) };
        let found = self.frame_symbols.get(at, || Ok::<_, ()>(self.symbol_at(at))).ok()??;
        Some(SymbolAt { offset: found.offset + pc.wrapping_sub(at), ..found })
    }
}
