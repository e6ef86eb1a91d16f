//! The way from one frame to its caller on x86_64, by ORC.
//!
//! For every instruction ORC says where the caller's stack pointer (CFA) is,
//! and whether a return address, a `struct pt_regs` or an iret frame lies
//! below it (Documentation/arch/x86/orc-unwinder.rst; the rules that the
//! running kernel follows are in arch/x86/kernel/unwind_orc.c). It does not
//! trust stale stack words: what is shown was called.
//!
//! Where the rules end early a guess may go on, and is marked:
//! - a jump to an address that is no code: the return address of that call is
//!   at the top of the stack;
//! - code without rules: the height of the stack counted from its
//!   instructions; no guess when a call of that very function is found there;
//! - else (trampolines, eBPF programs) the frame pointer;
//! - else the next word on the stack that points behind a call.

use std::ops::Range;

use kmortem_debuginfo::orc::{OrcEntry, OrcKind, OrcReg};

use super::height;
use super::registers::{IRET_FRAME, PT_REGS_SIZE, Reg, from_bytes};
use crate::Kernel;
use crate::arch::registers::Registers;
use crate::arch::stacks::{Stacks, Start};
use crate::stack::{Frame, Stack, StackEnd, StackStart, Trust};

/// More frames than fit on all stacks of a CPU mean a loop.
const MOST_FRAMES: usize = 4096;
/// Stacks that one trace may cross: task, IRQ, and nested exceptions.
const MOST_SWITCHES: usize = 32;
/// Guesses in a row after which a trace is given up.
const MOST_GUESSES: usize = 3;

/// One point of the way: the state of the processor in a frame.
struct State {
    ip: u64,
    sp: u64,
    bp: u64,
    /// Stack address of the word that gave `ip`.
    at: u64,
    /// Registers that an exception saved here.
    regs: Option<Registers>,
    /// Whether `ip` is the next instruction itself, not one behind a call.
    exact: bool,
    /// The last full set seen on the way, for rules that need r10, r13, ....
    full: Option<Registers>,
    trust: Trust,
}

/// Follows a stack from `start` to its end.
pub(super) fn unwind(kernel: &Kernel, start: &Start, stacks: &Stacks<'_>) -> Stack {
    let (mut state, origin) = match start {
        Start::Registers(regs) => {
            let state = State {
                ip: regs.ip(),
                sp: regs.sp(),
                bp: regs.bp().unwrap_or(0),
                at: regs.sp(),
                regs: Some(*regs),
                exact: true,
                full: Some(*regs),
                trust: Trust::Registers,
            };
            (state, StackStart::SavedRegisters)
        }
        Start::Switched { sp, at, ip, bp } => {
            let state = State {
                ip: *ip,
                sp: *sp,
                bp: *bp,
                at: *at,
                regs: None,
                // A task that has never run "returns" to the first
                // instruction of ret_from_fork: no call stands before it.
                exact: kernel.frame_symbol(*ip, true).is_some_and(|s| s.offset == 0),
                full: None,
                trust: Trust::Unwound,
            };
            (state, StackStart::Switched)
        }
        Start::Guessed { sp, at, ip, bp, why } => {
            let state = State {
                ip: *ip,
                sp: *sp,
                bp: *bp,
                at: *at,
                regs: None,
                exact: false,
                full: None,
                trust: Trust::Guess(why.clone()),
            };
            (state, StackStart::Guessed)
        }
    };
    let mut walk = Walk { kernel, stacks, frames: Vec::new(), switches: 0, guesses: 0 };
    let end = loop {
        if let Some(registers) = state.regs.filter(Registers::is_user) {
            break StackEnd::User { registers };
        }
        walk.push(&state);
        if walk.frames.len() >= MOST_FRAMES {
            break broken(format!("more than {MOST_FRAMES} frames")).into();
        }
        match walk.step(&state) {
            Ok(next) => state = next,
            Err(stop) => break stop.into(),
        }
    };
    Stack { frames: walk.frames, end, start: origin }
}

/// Why no caller follows.
enum Stop {
    /// The first function of a thread: there is none.
    ThreadStart,
    /// It can't be found, for the reason given.
    Broken(String),
}

impl From<Stop> for StackEnd {
    fn from(stop: Stop) -> StackEnd {
        match stop {
            Stop::ThreadStart => StackEnd::ThreadStart,
            Stop::Broken(reason) => StackEnd::Broken { reason },
        }
    }
}

fn broken(reason: impl Into<String>) -> Stop {
    Stop::Broken(reason.into())
}

struct Walk<'a> {
    kernel: &'a Kernel,
    stacks: &'a Stacks<'a>,
    frames: Vec<Frame>,
    switches: usize,
    guesses: usize,
}

impl Walk<'_> {
    fn push(&mut self, state: &State) {
        self.guesses = match state.trust {
            Trust::Guess(_) => self.guesses + 1,
            _ => 0,
        };
        self.frames.push(Frame {
            pc: state.ip,
            at: state.at,
            sp: state.sp,
            symbol: self.kernel.frame_symbol(state.ip, state.exact),
            stack: self.stacks.find(state.at).map(|(kind, _)| kind),
            registers: state.regs,
            trust: state.trust.clone(),
        });
    }

    /// The caller of the frame in `state`.
    fn step(&mut self, state: &State) -> Result<State, Stop> {
        let lookup = if state.exact { state.ip } else { state.ip.wrapping_sub(1) };
        let rule = self.kernel.orc_at(lookup).map_err(|e| broken(e.to_string()))?;
        let next = match rule {
            Some(rule) => match rule.kind {
                OrcKind::EndOfStack => return Err(Stop::ThreadStart),
                _ => self.apply(state, &rule)?,
            },
            None => self.without_rule(state, lookup)?,
        };
        self.check_progress(state, &next)?;
        Ok(next)
    }

    fn apply(&self, state: &State, rule: &OrcEntry) -> Result<State, Stop> {
        let from_regs = |reg: Reg, name: &str| {
            state.full.and_then(|r| r.get(reg)).ok_or_else(|| {
                broken(format!("the caller's frame hangs on {name}, which was not saved"))
            })
        };
        let offset = |base: u64| base.wrapping_add_signed(i64::from(rule.sp_offset));
        let cfa = match rule.sp_reg {
            OrcReg::Sp => offset(state.sp),
            OrcReg::Bp => offset(state.bp),
            OrcReg::SpIndirect => offset(self.word(state.sp)?),
            OrcReg::BpIndirect => self.word(offset(state.bp))?,
            OrcReg::R10 => offset(from_regs(Reg::R10, "r10")?),
            OrcReg::R13 => offset(from_regs(Reg::R13, "r13")?),
            OrcReg::Di => offset(from_regs(Reg::Di, "rdi")?),
            OrcReg::Dx => offset(from_regs(Reg::Dx, "rdx")?),
            OrcReg::Ax => offset(from_regs(Reg::Ax, "rax")?),
            OrcReg::Undefined | OrcReg::PrevSp | OrcReg::Unknown(_) => {
                return Err(broken("the unwind rule names no stack pointer"));
            }
        };
        let mut next = match rule.kind {
            OrcKind::Regs => self.interrupted(cfa, PT_REGS_SIZE)?,
            OrcKind::RegsPartial => State { full: state.full, ..self.interrupted(cfa, 40)? },
            _ => {
                let at = cfa.wrapping_sub(8);
                State {
                    ip: self.word(at)?,
                    sp: cfa,
                    bp: state.bp,
                    at,
                    regs: None,
                    exact: false,
                    full: None,
                    trust: Trust::Unwound,
                }
            }
        };
        let saved_at = |base: u64| base.wrapping_add_signed(i64::from(rule.bp_offset));
        next.bp = match rule.bp_reg {
            OrcReg::PrevSp => self.word(saved_at(cfa))?,
            OrcReg::Bp => self.word(saved_at(state.bp))?,
            // Not saved by this function: as the exception saved it, or as it was.
            _ => next.regs.and_then(|r| r.bp()).unwrap_or(state.bp),
        };
        Ok(next)
    }

    /// The frame that an exception interrupted, from what it saved at `at`:
    /// a whole `struct pt_regs`, or the processor's part of it alone.
    fn interrupted(&self, at: u64, size: u64) -> Result<State, Stop> {
        let bytes = self.kernel.read_bytes(at, size).map_err(|e| broken(e.to_string()))?;
        let regs = from_bytes(&bytes).filter(Registers::is_plausible).ok_or_else(|| {
            broken(format!("no saved registers at {at:#x} where the rules say so"))
        })?;
        let ip_at = if size == PT_REGS_SIZE { at + IRET_FRAME } else { at };
        Ok(State {
            ip: regs.ip(),
            sp: regs.sp(),
            bp: regs.bp().unwrap_or(0),
            at: ip_at,
            regs: Some(regs),
            exact: true,
            full: regs.is_complete().then_some(regs),
            trust: Trust::Unwound,
        })
    }

    /// The caller of code that ORC does not know.
    fn without_rule(&self, state: &State, lookup: u64) -> Result<State, Stop> {
        if self.kernel.is_text(lookup) {
            return self.guess(state, "its code has no unwind rule");
        }
        // Interrupted at something that is no code: a call jumped there and
        // pushed its return address, and nothing has moved the stack since.
        let top = if state.exact { self.word(state.sp).ok() } else { None };
        match top.filter(|ip| self.follows_call(*ip)) {
            Some(ip) => Ok(State {
                ip,
                sp: state.sp + 8,
                bp: state.bp,
                at: state.sp,
                regs: None,
                exact: false,
                full: state.full,
                trust: Trust::Guess("return address of the call to a place that is no code".into()),
            }),
            // Code that was made at run time (eBPF, trampolines) keeps a
            // frame pointer.
            None => self.guess(state, "it is not in the kernel's or a module's code"),
        }
    }

    /// By the frame pointer, else by the next word that points behind a call.
    fn guess(&self, state: &State, why: &str) -> Result<State, Stop> {
        let Some((_, stack)) = self.stacks.find(state.sp) else {
            return Err(broken(format!("the stack pointer {:#x} is on no known stack", state.sp)));
        };
        if self.guesses >= MOST_GUESSES {
            return Err(broken(format!("{why}, and {MOST_GUESSES} guesses led no further")));
        }
        let found = |at: u64, ip: u64, bp: u64, how: &str| State {
            ip,
            sp: at + 8,
            bp,
            at,
            regs: None,
            exact: false,
            full: None,
            trust: Trust::Guess(format!("{how} ({why})")),
        };
        if let Some(caller) = self.by_height(state, &stack, why) {
            return Ok(caller);
        }
        if stack.contains(&state.bp) && state.bp >= state.sp && state.bp.is_multiple_of(8) {
            let at = state.bp + 8;
            if let (Ok(bp), Ok(ip)) = (self.word(state.bp), self.word(at))
                && self.follows_call(ip)
            {
                return Ok(found(at, ip, bp, "by the frame pointer"));
            }
        }
        let mut at = (state.sp + 7) & !7;
        while at < stack.end {
            let ip = self.word(at)?;
            if self.follows_call(ip) {
                return Ok(found(at, ip, state.bp, "next return address on the stack"));
            }
            at += 8;
        }
        Err(broken(why))
    }

    /// By the height of the stack in a function that has no unwind rules.
    fn by_height(&self, state: &State, stack: &Range<u64>, why: &str) -> Option<State> {
        let symbol = self.kernel.frame_symbol(state.ip, state.exact)?;
        // A ".cold" part is entered by a jump from its function's main part.
        let entry = match symbol.name.strip_suffix(".cold") {
            Some(main) => self.kernel.symbol_anywhere(main).ok()?,
            None => state.ip.wrapping_sub(symbol.offset),
        };
        let height = height::at(self.kernel, entry, state.ip)?;
        let at = state.sp.wrapping_add_signed(height.pushed);
        let ip = self.kernel.read_u64(at).ok().filter(|_| stack.contains(&at))?;
        if !self.follows_call(ip) {
            return None;
        }
        let bp = height
            .saved_bp
            .and_then(|below| self.kernel.read_u64(at.wrapping_add_signed(-below)).ok());
        // call rel32 of this very function: no doubt is left.
        let displacement = self.kernel.read_u32(ip.wrapping_sub(4)).ok()?.cast_signed();
        let sure = ip.wrapping_add_signed(i64::from(displacement)) == entry;
        let trust = match sure {
            true => Trust::Unwound,
            false => Trust::Guess(format!("by the stack's height in the callee's code ({why})")),
        };
        let bp = bp.unwrap_or(state.bp);
        Some(State { ip, sp: at + 8, bp, at, regs: None, exact: false, full: None, trust })
    }

    /// Whether `ip` is in code and a call instruction ends just before it.
    fn follows_call(&self, ip: u64) -> bool {
        if !self.kernel.is_text(ip) {
            return false;
        }
        let mut code = [0; 7];
        if self.kernel.read(ip.wrapping_sub(7), &mut code).is_err() {
            return false;
        }
        // call rel32; call r/m64 in its 2-, 3-, 6- and 7-byte forms.
        let modrm_is_call = |b: u8| b >> 3 & 7 == 2;
        code[2] == 0xe8
            || (code[5] == 0xff && modrm_is_call(code[6]))
            || (code[4] == 0xff && modrm_is_call(code[5]))
            || (code[1] == 0xff && modrm_is_call(code[2]))
            || (code[0] == 0xff && modrm_is_call(code[1]))
    }

    /// Towards the caller the stack pointer rises on one stack. A change of
    /// stacks is fine, but not for ever.
    fn check_progress(&mut self, from: &State, to: &State) -> Result<(), Stop> {
        if to.regs.is_some_and(|r| r.is_user()) {
            return Ok(());
        }
        let (old, new) = (self.stacks.find(from.sp), self.stacks.find(to.sp));
        let same = match (&old, &new) {
            (Some((_, a)), Some((_, b))) => a == b,
            (None, None) => true,
            _ => false,
        };
        if same && to.sp <= from.sp {
            return Err(broken(format!("the stack turns back at {:#x}", to.sp)));
        }
        if !same {
            self.switches += 1;
            if self.switches > MOST_SWITCHES {
                return Err(broken("more changes of stack than there are stacks"));
            }
        }
        Ok(())
    }

    fn word(&self, addr: u64) -> Result<u64, Stop> {
        self.kernel.read_u64(addr).map_err(|e| broken(e.to_string()))
    }
}
