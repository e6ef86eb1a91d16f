//! Where the stack of a running task starts when the dump has no registers of
//! its CPU.
//!
//! Stacks are full of leavings, but a call of a function that never returns
//! stands there for good: its frame record was made and nothing has removed it.
//! The lowest record whose return address stands behind such a call is where
//! the trace can start; nobody saved registers to prove it.

use std::ops::Range;

use super::prologue::field;
use crate::Kernel;
use crate::arch::{StackKind, Start};
use crate::error::{Error, Result};
use crate::task::Task;

/// Functions that do not return once they are called, the surest first:
/// kernel/panic.c, arch/arm64/kernel/{machine_kexec,smp,traps}.c.
const NEVER_RETURN: [&str; 8] = [
    "machine_kexec",
    "vpanic",
    "panic",
    "nmi_panic",
    "ipi_cpu_crash_stop",
    "local_cpu_stop",
    "cpu_die",
    "do_exit",
];
/// Largest stack that is searched.
const LARGEST: u64 = 1 << 20;

/// The start of `task`'s trace, from the words of its CPU's stacks.
pub(super) fn find(kernel: &Kernel, task: &Task) -> Result<Start> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for kind in
        [StackKind::Overflow, StackKind::SdeiCritical, StackKind::SdeiNormal, StackKind::Irq]
    {
        let stacks = kernel.cpu_stacks().iter().filter(|s| s.cpu == task.cpu && s.kind == kind);
        ranges.extend(stacks.map(|stack| stack.range.clone()));
    }
    ranges.push(kernel.stack_range(task)?);
    for range in ranges {
        let calls = calls(kernel, &range).unwrap_or_default();
        for name in NEVER_RETURN {
            let Ok(function) = kernel.symbol(name) else { continue };
            let Some(call) = calls.iter().find(|call| call.callee == function) else { continue };
            let why = format!(
                "no registers of CPU {} in the dump; found by a call of {name}, which never returns",
                task.cpu
            );
            let Call { at, ip, fp, .. } = *call;
            return Ok(Start::Guessed { sp: at + 16, at, ip, bp: fp, why });
        }
    }
    Err(Error::Unavailable(format!(
        "the task was running on CPU {}, and the dump has no registers of that CPU; nor is there \
         a call on its stacks that never returned",
        task.cpu
    )))
}

/// A frame record, and the function that the call before its return address called.
struct Call {
    at: u64,
    fp: u64,
    ip: u64,
    callee: u64,
}

/// All records whose return address stands behind a direct call.
fn calls(kernel: &Kernel, range: &Range<u64>) -> Result<Vec<Call>> {
    let size = range.end.saturating_sub(range.start);
    if size > LARGEST {
        return Err(Error::corrupt(format!("a stack of {size} bytes"), range.start));
    }
    let bytes = kernel.read_bytes(range.start, size)?;
    let word = |raw: &[u8]| raw.iter().rev().fold(0, |v: u64, b| v << 8 | u64::from(*b));
    let records = bytes.chunks_exact(16).zip((range.start..).step_by(16));
    let found = records.filter_map(|(raw, at)| {
        let (fp, ip) = (word(&raw[..8]), word(&raw[8..]));
        let ip = kernel.arch().code_pointer(kernel, ip);
        if ip >> 55 == 0 || fp >> 55 == 0 || !kernel.is_text(ip) {
            return None;
        }
        let code = kernel.read_u32(ip.wrapping_sub(4)).ok().filter(|c| c >> 26 == 0b100101)?;
        let callee = ip.wrapping_sub(4).wrapping_add_signed(field(code, 0, 26) * 4);
        Some(Call { at, fp, ip, callee })
    });
    Ok(found.collect())
}
