//! Words of a stack, whatever they mean now: every one that is an address of
//! code, in the order of the stack. Most were left by calls that have long
//! returned; where a trace ends early, they are all there is to go on.

use std::ops::Range;

use serde::Serialize;

use crate::Kernel;
use crate::arch::{Registers, StackKind};
use crate::error::Result;
use crate::stack::{Frame, Stack, StackEnd, Trust, hex};
use crate::symbol::SymbolAt;
use crate::task::{Task, TaskLayout};

/// A word that is an address of code.
#[derive(Debug, Clone, Serialize)]
pub struct TextWord {
    /// Its stack address.
    #[serde(serialize_with = "hex")]
    pub at: u64,
    /// Its value.
    #[serde(serialize_with = "hex")]
    pub pc: u64,
    /// The function that the value lies in.
    pub symbol: SymbolAt,
}

/// A part of a stack that a task has in use.
#[derive(Debug, Clone)]
pub struct StackPart {
    /// Which stack.
    pub kind: StackKind,
    /// From where its innermost frame is, to the stack's high end.
    pub range: Range<u64>,
}

/// What a word of a stack points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WordMeaning {
    /// A symbol of the kernel or a module.
    Symbol(SymbolAt),
    /// An object of the slab cache of that name.
    Slab(String),
    /// A number.
    Number,
}

impl Kernel {
    /// The words in `range` that are addresses of code.
    pub fn text_words(&self, range: Range<u64>) -> Result<Vec<TextWord>> {
        let size = range.end.saturating_sub(range.start);
        let bytes = self.read_bytes(range.start, size)?;
        let words = bytes.chunks_exact(8).filter_map(|raw| raw.first_chunk());
        let words = words.map(|raw| u64::from_le_bytes(*raw)).zip((range.start..).step_by(8));
        let text = words.filter(|(pc, _)| pc >> 63 == 1 && self.is_text(*pc));
        let known =
            text.filter_map(|(pc, at)| Some(TextWord { at, pc, symbol: self.symbol_at(pc)? }));
        Ok(known.collect())
    }

    /// The parts of stacks that a trace goes through, the innermost first.
    pub fn stack_parts(&self, task: &Task, stack: &Stack) -> Vec<StackPart> {
        let own = self.stack_range(task).ok();
        let mut parts: Vec<StackPart> = Vec::new();
        for frame in &stack.frames {
            let Some(kind) = frame.stack.filter(|kind| *kind != StackKind::Entry) else { continue };
            if parts.last().is_some_and(|part| part.kind == kind) {
                continue;
            }
            let whole = match kind {
                StackKind::Task => own.clone(),
                _ => {
                    let holds = |range: &Range<u64>| (range.start..=range.end).contains(&frame.at);
                    let stacks = self.cpu_stacks().iter().map(|stack| &stack.range);
                    stacks.into_iter().find(|range| holds(range)).cloned()
                }
            };
            let mut from = frame.at & !7;
            if parts.is_empty() && !task.active {
                // Registers of the task lie between its stack pointer and its
                // first return address.
                let sp =
                    self.layout::<TaskLayout>().and_then(|l| l.thread_sp.read(self, task.addr));
                from = sp.ok().filter(|sp| *sp < from).unwrap_or(from) & !7;
            }
            if let Some(whole) = whole.filter(|whole| whole.start <= from && from <= whole.end) {
                parts.push(StackPart { kind, range: from..whole.end });
            }
        }
        parts
    }

    /// A trace of all return addresses that stand on the stacks of a task, from
    /// where its real trace starts: every frame is a guess.
    pub fn stale_stack(&self, task: &Task) -> Stack {
        let real = self.stack(task);
        let mut frames: Vec<Frame> = Vec::new();
        for (i, part) in self.stack_parts(task, &real).into_iter().enumerate() {
            if let (0, Some(first)) = (i, real.frames.first().filter(|f| f.registers.is_some())) {
                frames.push(first.clone());
            }
            let words = match self.text_words(part.range.clone()) {
                Ok(words) => words,
                Err(e) => return Stack { end: StackEnd::Broken { reason: e.to_string() }, ..real },
            };
            for word in words.into_iter().filter(|word| word.symbol.offset != 0) {
                let entry = self.arch().is_exception_entry(&word.symbol.name);
                let saved = entry.then(|| self.interrupted_at(word.at + 8)).flatten();
                frames.push(stale(word.pc, word.at, Some(word.symbol), part.kind, None));
                if let Some(regs) = saved.filter(|regs| !regs.is_user()) {
                    let symbol = self.symbol_at(regs.ip());
                    frames.push(stale(regs.ip(), regs.sp(), symbol, part.kind, Some(regs)));
                }
            }
        }
        Stack { frames, end: real.end, start: real.start }
    }

    /// Registers at `addr`, if they can be such of interrupted code.
    fn interrupted_at(&self, addr: u64) -> Option<Registers> {
        let set = self.arch().register_set();
        let bytes = self.read_bytes(addr, set.size()).ok()?;
        let regs = Registers::from_bytes(set, &bytes).filter(Registers::is_plausible)?;
        (regs.is_user() || self.is_text(regs.ip()) && regs.sp() >> 63 == 1).then_some(regs)
    }

    /// What a word of a stack points to.
    pub fn word_meaning(&self, word: u64) -> WordMeaning {
        if word >> 63 == 0 {
            return WordMeaning::Number;
        }
        if let Some(symbol) = self.symbol_at(word) {
            return WordMeaning::Symbol(symbol);
        }
        match self.slab_cache_at(word) {
            Ok(Some(name)) => WordMeaning::Slab(name),
            _ => WordMeaning::Number,
        }
    }
}

fn stale(
    pc: u64,
    at: u64,
    symbol: Option<SymbolAt>,
    kind: StackKind,
    registers: Option<Registers>,
) -> Frame {
    let trust = Trust::Guess("its address stands on the stack".into());
    Frame { pc, at, sp: at.wrapping_add(8), symbol, stack: Some(kind), registers, trust }
}
