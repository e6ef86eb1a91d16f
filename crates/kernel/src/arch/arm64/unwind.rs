//! The way from one frame to its caller on arm64, by frame records.
//!
//! x29 points to a record of two words: the caller's x29 and the address to
//! return to. An exception's `struct pt_regs` holds such a record, too, in
//! `stackframe`, so that the chain goes through it (arch/arm64/kernel/entry.S,
//! `kernel_entry`; stacktrace.c):
//! - until v6.12 with the interrupted x29 and pc in it, both zero on the way in
//!   from user space;
//! - since v6.13 (c2c6b27b5aa1) with zeros and behind them what it is: 1 the end
//!   of the stack, 2 an exception.
//!
//! A change of stacks needs nothing of its own: a record may point to one on
//! another stack. Return addresses may carry authentication codes, which are
//! taken off. In the function that an exception stopped, the record may not be
//! made yet, or no longer: see [`super::prologue`].

use std::ops::Range;

use super::prologue::{self, Caller};
use super::registers::{self, FP, LR};
use super::stacks::{pt_regs_size, record_of_exception};
use crate::Kernel;
use crate::arch::registers::Registers;
use crate::arch::stacks::{Stacks, Start};
use crate::stack::{Frame, Stack, StackEnd, StackStart, Trust};

/// More frames than fit on all stacks of a CPU mean a loop.
const MOST_FRAMES: usize = 4096;
/// Stacks that one trace may cross: task, IRQ, overflow, firmware's events.
const MOST_SWITCHES: usize = 32;
/// `FRAME_META_TYPE_FINAL` and `FRAME_META_TYPE_PT_REGS`.
const META_FINAL: u64 = 1;
const META_PT_REGS: u64 = 2;

/// One point of the way: the state of the processor in a frame.
struct State {
    pc: u64,
    fp: u64,
    sp: u64,
    /// Registers that an exception saved here.
    regs: Option<Registers>,
    /// Whether `pc` is the next instruction itself, not one behind a call.
    exact: bool,
    trust: Trust,
}

/// Follows a stack from `start` to its end.
pub(super) fn unwind(kernel: &Kernel, start: &Start, stacks: &Stacks<'_>) -> Stack {
    let (state, origin) = first(kernel, start);
    let mut walk = Walk {
        kernel,
        stacks,
        exception: record_of_exception(kernel),
        frames: Vec::new(),
        switches: 0,
    };
    let end = walk.follow(state);
    Stack { frames: walk.frames, end, start: origin }
}

fn first(kernel: &Kernel, start: &Start) -> (State, StackStart) {
    let (trust, exact, origin) = match start {
        Start::Registers(_) => (Trust::Registers, true, StackStart::SavedRegisters),
        Start::Switched { ip, .. } => {
            // A task that has never run "returns" to the first instruction of
            // ret_from_fork: no call stands before it.
            let exact = kernel.frame_symbol(*ip, true).is_some_and(|s| s.offset == 0);
            (Trust::Unwound, exact, StackStart::Switched)
        }
        Start::Guessed { why, .. } => (Trust::Guess(why.clone()), false, StackStart::Guessed),
    };
    let regs = match start {
        Start::Registers(regs) => Some(*regs),
        _ => None,
    };
    (State { pc: start.ip(), fp: start.fp(), sp: start.sp(), regs, exact, trust }, origin)
}

/// Why no caller follows.
enum Stop {
    /// The entry from user space.
    User(Box<Registers>),
    /// The first function of a thread: there is none.
    ThreadStart,
    /// It can't be found, for the reason given.
    Broken(String),
}

fn broken(reason: impl Into<String>) -> Stop {
    Stop::Broken(reason.into())
}

struct Walk<'a> {
    kernel: &'a Kernel,
    stacks: &'a Stacks<'a>,
    /// Where the record lies in `struct pt_regs`, and whether it has a type.
    exception: Option<(u64, bool)>,
    frames: Vec<Frame>,
    switches: usize,
}

impl Walk<'_> {
    fn follow(&mut self, mut state: State) -> StackEnd {
        loop {
            if let Some(registers) = state.regs.filter(Registers::is_user) {
                return StackEnd::User { registers };
            }
            self.push(&state);
            if self.frames.len() >= MOST_FRAMES {
                return StackEnd::Broken { reason: format!("more than {MOST_FRAMES} frames") };
            }
            match self.step(&state) {
                Ok(next) => state = next,
                Err(Stop::User(registers)) => return StackEnd::User { registers: *registers },
                Err(Stop::ThreadStart) => return StackEnd::ThreadStart,
                Err(Stop::Broken(reason)) => return StackEnd::Broken { reason },
            }
        }
    }

    fn push(&mut self, state: &State) {
        // The frame's own record; a function without one has its stack pointer.
        let own = self.stacks.find(state.fp).is_some() && state.fp >= state.sp;
        let at = if own && state.regs.is_none() { state.fp } else { state.sp };
        self.frames.push(Frame {
            pc: state.pc,
            at,
            sp: state.sp,
            symbol: self.kernel.frame_symbol(state.pc, state.exact),
            stack: self.stacks.find(at).map(|(kind, _)| kind),
            registers: state.regs,
            trust: state.trust.clone(),
        });
    }

    /// The caller of the frame in `state`.
    fn step(&mut self, state: &State) -> Result<State, Stop> {
        if let Some(caller) = state.regs.and_then(|regs| self.without_record(state, &regs)) {
            return Ok(caller);
        }
        let next = self.by_record(state)?;
        self.check_progress(state, &next)?;
        Ok(next)
    }

    /// The caller of a function that was stopped where it has no record.
    fn without_record(&self, state: &State, regs: &Registers) -> Option<State> {
        let link = self.code(regs.get(LR)?);
        let caller = |pc: u64, fp: u64, trust| State {
            pc,
            fp,
            sp: state.sp,
            regs: None,
            exact: false,
            trust,
        };
        if !self.kernel.is_text(state.pc) {
            let why = "return address of the call to a place that is no code";
            let known = self.kernel.is_text(link) && self.follows_call(link);
            return known.then(|| caller(link, state.fp, Trust::Guess(why.into())));
        }
        let symbol = self.kernel.frame_symbol(state.pc, true)?;
        let entry = state.pc.wrapping_sub(symbol.offset);
        match prologue::caller(self.kernel, entry, state.pc)? {
            Caller::Record => None,
            Caller::Register => {
                self.kernel.is_text(link).then(|| caller(link, state.fp, Trust::Unwound))
            }
            Caller::Saved(above) => {
                let record = state.sp.wrapping_add_signed(above);
                let fp = self.kernel.read_u64(record).ok()?;
                let pc = self.code(self.kernel.read_u64(record.wrapping_add(8)).ok()?);
                self.kernel.is_text(pc).then(|| caller(pc, fp, Trust::Unwound))
            }
        }
    }

    fn by_record(&self, state: &State) -> Result<State, Stop> {
        let record = state.fp;
        if record == 0 {
            return Err(Stop::ThreadStart);
        }
        let found = self.stacks.find(record);
        let Some((_, stack)) = found.filter(|_| record.is_multiple_of(8)) else {
            return self
                .guess(state, &format!("the frame pointer {record:#x} is on no known stack"));
        };
        let (fp, link) = (self.word(record)?, self.word(record.wrapping_add(8))?);
        if let Some(end) = self.exception_at(record, fp, link, &stack)? {
            return Ok(end);
        }
        if (fp, link) == (0, 0) {
            return Err(Stop::ThreadStart);
        }
        let pc = self.code(link);
        if !self.kernel.is_text(pc) && fp == 0 {
            return Err(Stop::ThreadStart);
        }
        Ok(State {
            pc,
            fp,
            sp: record.wrapping_add(16),
            regs: None,
            exact: false,
            trust: Trust::Unwound,
        })
    }

    /// What an exception saved, if the record at `record` is that of one.
    fn exception_at(
        &self,
        record: u64,
        fp: u64,
        link: u64,
        stack: &Range<u64>,
    ) -> Result<Option<State>, Stop> {
        let Some((offset, typed)) = self.exception else { return Ok(None) };
        let Some(size) = pt_regs_size(self.kernel) else { return Ok(None) };
        let at = record.wrapping_sub(offset);
        let Some(end) = at.checked_add(size).filter(|end| at >= stack.start && *end <= stack.end)
        else {
            return Ok(None);
        };
        // Both zero: the last record of a stack, or since v6.13 any exception's.
        let zero = (fp, link) == (0, 0);
        let Ok(regs) = registers::read(self.kernel, at) else { return Ok(None) };
        let kind = if typed && zero { self.word(record.wrapping_add(16))? } else { 0 };
        let interrupted = match (typed && zero, kind) {
            (true, META_PT_REGS) => true,
            (true, META_FINAL) => false,
            (true, _) => return Ok(None),
            // The record repeats what the registers say.
            (false, _) if !zero => {
                regs.ip() == link && regs.get(FP) == Some(fp) && regs.is_plausible()
            }
            (false, _) => false,
        };
        if interrupted {
            return Ok(Some(State {
                pc: regs.ip(),
                fp: regs.get(FP).unwrap_or(0),
                sp: regs.sp(),
                regs: Some(regs),
                exact: true,
                trust: Trust::Unwound,
            }));
        }
        if !zero {
            return Ok(None);
        }
        // The way in from user space saves its registers at the very end of the
        // task's stack. A kernel thread has none there.
        match end == self.stacks.task.end && regs.is_user() && regs.is_plausible() {
            true => Err(Stop::User(Box::new(regs))),
            false => Err(Stop::ThreadStart),
        }
    }

    /// By the next word pair on the stack that is a record.
    fn guess(&self, state: &State, why: &str) -> Result<State, Stop> {
        let Some((_, stack)) = self.stacks.find(state.sp) else {
            return Err(broken(format!("the stack pointer {:#x} is on no known stack", state.sp)));
        };
        let mut at = (state.sp + 15) & !15;
        while at.saturating_add(16) <= stack.end {
            let (fp, link) = (self.word(at)?, self.word(at + 8)?);
            let pc = self.code(link);
            if self.stacks.find(fp).is_some_and(|(_, range)| range != stack || fp > at)
                && self.follows_call(pc)
            {
                let trust = Trust::Guess(format!("next frame record on the stack ({why})"));
                return Ok(State { pc, fp, sp: at + 16, regs: None, exact: false, trust });
            }
            at += 16;
        }
        Err(broken(why))
    }

    /// Whether `pc` is in code and a call instruction ends just before it.
    fn follows_call(&self, pc: u64) -> bool {
        pc.is_multiple_of(4) && self.kernel.is_text(pc) && {
            let before = self.kernel.read_u32(pc.wrapping_sub(4));
            before.is_ok_and(super::instruction::is_call)
        }
    }

    /// An address of code without its authentication code.
    fn code(&self, pointer: u64) -> u64 {
        self.kernel.arch().code_pointer(self.kernel, pointer)
    }

    /// Towards the caller the frames rise on one stack. A change of stacks is
    /// fine, but not for ever.
    fn check_progress(&mut self, from: &State, to: &State) -> Result<(), Stop> {
        let (old, new) = (self.stacks.find(from.fp), self.stacks.find(to.fp));
        match (old, new) {
            (Some((_, a)), Some((_, b))) if a == b => {
                if to.fp <= from.fp && to.regs.is_none() {
                    return Err(broken(format!("the stack turns back at {:#x}", to.fp)));
                }
            }
            _ => {
                self.switches += 1;
                if self.switches > MOST_SWITCHES {
                    return Err(broken("more changes of stack than there are stacks"));
                }
            }
        }
        Ok(())
    }

    fn word(&self, addr: u64) -> Result<u64, Stop> {
        self.kernel.read_u64(addr).map_err(|e| broken(e.to_string()))
    }
}
