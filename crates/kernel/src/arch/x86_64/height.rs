//! The height of the stack at an instruction, counted from the code itself.
//!
//! Some functions have no unwind rules on purpose: `__crash_kexec`, in which
//! every kdump starts, is marked `STACK_FRAME_NON_STANDARD`
//! (kernel/kexec_core.c). Their frames can still be left exactly: from the
//! function's first instruction, where the return address is at the stack
//! pointer, every way to the instruction in question is followed and what it
//! pushes is added up. Ways that disagree, or that move the stack pointer by
//! something unknown, give no answer.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};
use rustc_hash::FxHashMap;

use crate::Kernel;

/// Instructions looked at before giving up.
const MOST_INSTRUCTIONS: usize = 20_000;
/// Longest x86 instruction.
const LONGEST: usize = 15;

/// The stack at one instruction, relative to the function's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Height {
    /// Bytes pushed since entry: the return address is at `rsp + pushed`.
    pub pushed: i64,
    /// Where the caller's rbp is, as bytes below the return address, if this
    /// function has saved it.
    pub saved_bp: Option<i64>,
    /// Whether rbp holds the stack pointer as it was with this much pushed.
    frame_pointer: Option<i64>,
}

const ENTRY: Height = Height { pushed: 0, saved_bp: None, frame_pointer: None };

/// The height at `ip` in the function that starts at `entry`.
pub(super) fn at(kernel: &Kernel, entry: u64, ip: u64) -> Option<Height> {
    count(entry, ip, |addr, code| {
        // The instruction may be shorter than the bytes that are left.
        let room = (4096 - (addr & 0xfff)) as usize;
        let n = if kernel.read(addr, code).is_ok() { LONGEST } else { room.min(LONGEST) };
        kernel.read(addr, &mut code[..n]).is_ok().then_some(n)
    })
}

/// The height at `ip` in the code that `read` gives: the bytes at an address,
/// and how many there are.
pub(super) fn count(
    entry: u64,
    ip: u64,
    read: impl Fn(u64, &mut [u8; LONGEST]) -> Option<usize>,
) -> Option<Height> {
    let mut heights: FxHashMap<u64, Height> = FxHashMap::default();
    let mut todo = vec![(entry, ENTRY)];
    while let Some((mut addr, mut height)) = todo.pop() {
        loop {
            match heights.get(&addr) {
                Some(known) if *known == height => break,
                Some(_) => return None,
                None => {}
            }
            heights.insert(addr, height);
            if heights.len() > MOST_INSTRUCTIONS {
                return None;
            }
            let mut code = [0; LONGEST];
            let Some(len) = read(addr, &mut code) else { break };
            let mut decoder = Decoder::with_ip(64, &code[..len], addr, DecoderOptions::NONE);
            let instruction = decoder.decode();
            if instruction.code() == Code::INVALID {
                break;
            }
            let Some(after) = step(&instruction, height) else {
                if addr == ip {
                    return Some(height);
                }
                break;
            };
            match instruction.flow_control() {
                FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => {}
                FlowControl::ConditionalBranch => {
                    todo.push((instruction.near_branch_target(), after));
                }
                FlowControl::UnconditionalBranch => {
                    addr = instruction.near_branch_target();
                    height = after;
                    continue;
                }
                // A return, an indirect jump, ud2: nothing follows.
                _ => break,
            }
            addr = instruction.next_ip();
            height = after;
        }
    }
    heights.get(&ip).copied()
}

/// The height behind an instruction, `None` when it can't be told.
fn step(i: &Instruction, height: Height) -> Option<Height> {
    let mut next = height;
    let on_sp =
        i.op_count() > 0 && i.op0_kind() == OpKind::Register && i.op0_register() == Register::RSP;
    match i.mnemonic() {
        Mnemonic::Push => {
            if i.op0_kind() == OpKind::Register && i.op0_register() == Register::RBP {
                next.saved_bp.get_or_insert(height.pushed + 8);
            }
            next.pushed += 8;
        }
        Mnemonic::Pop => next.pushed -= 8,
        Mnemonic::Pushfq => next.pushed += 8,
        Mnemonic::Popfq => next.pushed -= 8,
        Mnemonic::Sub if on_sp => next.pushed += immediate(i)?,
        Mnemonic::Add if on_sp => next.pushed -= immediate(i)?,
        Mnemonic::Lea if on_sp => {
            let plain = i.memory_base() == Register::RSP && i.memory_index() == Register::None;
            next.pushed -= plain.then(|| i.memory_displacement64() as i64)?;
        }
        Mnemonic::Mov if on_sp => {
            let from_bp = i.op1_kind() == OpKind::Register && i.op1_register() == Register::RBP;
            next.pushed = height.frame_pointer.filter(|_| from_bp)?;
        }
        Mnemonic::Mov
            if i.op0_kind() == OpKind::Register
                && i.op0_register() == Register::RBP
                && i.op1_kind() == OpKind::Register
                && i.op1_register() == Register::RSP =>
        {
            next.frame_pointer = Some(height.pushed);
        }
        Mnemonic::Leave => next.pushed = height.frame_pointer? - 8,
        _ if on_sp && i.mnemonic() != Mnemonic::Cmp && i.mnemonic() != Mnemonic::Test => {
            return None;
        }
        _ => {}
    }
    Some(next)
}

fn immediate(i: &Instruction) -> Option<i64> {
    matches!(i.op1_kind(), OpKind::Immediate8to64 | OpKind::Immediate32to64 | OpKind::Immediate64)
        .then(|| i.immediate(1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// push rbx; sub rsp,0xb0; jmp +2; (2 bytes skipped); lea rax,[rip+0]
    const CODE: &[u8] = &[
        0x53, 0x48, 0x81, 0xec, 0xb0, 0, 0, 0, 0xeb, 0x02, 0x0f, 0x0b, 0x48, 0x8d, 0x05, 0, 0, 0,
        0, 0xc3,
    ];

    fn read(addr: u64, code: &mut [u8; LONGEST]) -> Option<usize> {
        let rest = CODE.get((addr as usize).checked_sub(0x1000)?..)?;
        let n = rest.len().min(LONGEST);
        code[..n].copy_from_slice(&rest[..n]);
        (n > 0).then_some(n)
    }

    #[test]
    fn pushes_and_subtractions_add_up_across_jumps() {
        assert_eq!(count(0x1000, 0x1000, read).unwrap().pushed, 0);
        assert_eq!(count(0x1000, 0x1001, read).unwrap().pushed, 8);
        assert_eq!(count(0x1000, 0x1013, read).unwrap().pushed, 0xb8);
    }

    #[test]
    fn what_is_jumped_over_has_no_height() {
        assert_eq!(count(0x1000, 0x100a, read), None);
    }
}
