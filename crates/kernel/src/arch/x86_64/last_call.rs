//! Where the stack of a running task starts when the dump has no registers of
//! its CPU (a copy of RAM, an ELF file without notes).
//!
//! Stacks are full of leavings, but a call of a function that never returns
//! stands there for good: when the kernel panicked, the word behind the call of
//! `panic` is a return address that nothing has popped. Likewise on the other
//! CPUs, which `panic` stops in `stop_this_cpu`. That word is where the trace
//! can start. It may start deeper: in the never-returning function itself and
//! what that was calling, as long as each return address stands behind a call
//! of the very function before it, and the unwind rules lead from one to the
//! next. All of it is a guess: nobody saved registers to prove it.

use std::ops::Range;

use kmortem_debuginfo::orc::{OrcEntry, OrcKind, OrcReg};

use crate::Kernel;
use crate::arch::{StackKind, Start};
use crate::error::{Error, Result};
use crate::task::Task;

/// Functions that do not return once they are called, the surest first:
/// kernel/panic.c, kernel/crash_core.c, arch/x86/kernel/{machine_kexec_64,process}.c.
const NEVER_RETURN: [&str; 8] = [
    "machine_kexec",
    "vpanic",
    "panic",
    "nmi_panic",
    "oops_end",
    "stop_this_cpu",
    "cpu_die_idle",
    "do_exit",
];
/// Largest stack that is searched.
const LARGEST: u64 = 1 << 20;
/// How many calls a trace goes down from the one that never returns.
const DEEPEST: usize = 16;

/// A return address on a stack, and the function that the call before it called.
struct Call {
    at: u64,
    ip: u64,
    callee: u64,
}

/// The start of `task`'s trace, from the words of its CPU's stacks.
pub(crate) fn find(kernel: &Kernel, task: &Task) -> Result<Start> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    // What interrupts what is innermost: NMIs interrupt interrupts.
    for kind in [StackKind::MachineCheck, StackKind::Nmi, StackKind::DoubleFault, StackKind::Irq] {
        let stacks = kernel.cpu_stacks().iter().filter(|s| s.cpu == task.cpu && s.kind == kind);
        ranges.extend(stacks.map(|stack| stack.range.clone()));
    }
    ranges.push(kernel.stack_range(task)?);
    for range in ranges {
        let calls = calls(kernel, &range).unwrap_or_default();
        for name in NEVER_RETURN {
            let Ok(function) = kernel.symbol(name) else { continue };
            // The innermost call: `panic` may have been called again by itself.
            let Some(index) = calls.iter().position(|call| call.callee == function) else {
                continue;
            };
            let Some((call, bp)) = go_down(kernel, &calls, index) else { continue };
            let why = format!(
                "no registers of CPU {} in the dump; found by a call of {name}, which never returns",
                task.cpu
            );
            return Ok(Start::Guessed { sp: call.at + 8, at: call.at, ip: call.ip, bp, why });
        }
    }
    Err(Error::Unavailable(format!(
        "the task was running on CPU {}, and the dump has no registers of that CPU; nor is there \
         a call on its stacks that never returned",
        task.cpu
    )))
}

/// All words that stand behind a direct call of a function's first instruction.
fn calls(kernel: &Kernel, range: &Range<u64>) -> Result<Vec<Call>> {
    let size = range.end.saturating_sub(range.start);
    if size > LARGEST {
        return Err(Error::corrupt(format!("a stack of {size} bytes"), range.start));
    }
    let bytes = kernel.read_bytes(range.start, size)?;
    let words = bytes.chunks_exact(8).filter_map(|raw| raw.first_chunk());
    let words = words.map(|raw| u64::from_le_bytes(*raw)).zip((range.start..).step_by(8));
    let behind_call = words.filter_map(|(ip, at)| {
        if ip >> 63 == 0 || !kernel.is_text(ip) {
            return None;
        }
        let mut code = [0; 5];
        kernel.read(ip.wrapping_sub(5), &mut code).ok()?;
        let [0xe8, a, b, c, d] = code else { return None };
        let displacement = i64::from(i32::from_le_bytes([a, b, c, d]));
        Some(Call { at, ip, callee: ip.wrapping_add_signed(displacement) })
    });
    Ok(behind_call.collect())
}

/// The innermost call that leads to `calls[index]`, with rbp in its frame as
/// far as it is known.
fn go_down<'c>(kernel: &Kernel, calls: &'c [Call], index: usize) -> Option<(&'c Call, u64)> {
    let (mut above, mut index, mut rbp) = (calls.get(index)?, index, 0);
    for _ in 0..DEEPEST {
        // A word in the function that `above` called, below it on the stack,
        // whose frame ends just where `above` stands.
        let inner = calls.get(..index)?.iter().enumerate().rev().find_map(|(i, call)| {
            let start = kernel.frame_symbol(call.ip, false)?;
            let function = call.ip.wrapping_sub(start.offset);
            if function != above.callee {
                return None;
            }
            let rule = kernel.orc_at(call.ip.wrapping_sub(1)).ok().flatten()?;
            base_pointer(&rule, call, above).map(|bp| (i, call, bp))
        });
        let Some((i, call, bp)) = inner else { break };
        (above, index, rbp) = (call, i, bp);
    }
    Some((above, rbp))
}

/// rbp in the frame behind `call`, if the frame ends at `above`; 0 where the
/// rule does not need it.
fn base_pointer(rule: &OrcEntry, call: &Call, above: &Call) -> Option<u64> {
    let end = above.at.wrapping_add(8);
    let offset = i64::from(rule.sp_offset);
    match (rule.kind, rule.sp_reg) {
        (OrcKind::Call, OrcReg::Sp) => {
            (call.at.wrapping_add(8).wrapping_add_signed(offset) == end).then_some(0)
        }
        (OrcKind::Call, OrcReg::Bp) => {
            let bp = end.wrapping_add_signed(-offset);
            (bp > call.at && bp <= end).then_some(bp)
        }
        _ => None,
    }
}
