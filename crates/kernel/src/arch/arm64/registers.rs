//! Registers of arm64 as the kernel saves them.
//!
//! `struct pt_regs` (arch/arm64/include/asm/ptrace.h) begins with x0 to x30, sp,
//! pc, pstate (`struct user_pt_regs`, the form in `NT_PRSTATUS` notes too), the
//! first argument of a system call and its number (32 bits). What follows
//! differs from kernel to kernel: the frame record of the exception is found by
//! its name, `stackframe`.

use crate::Kernel;
use crate::arch::crash_notes;
use crate::arch::registers::{RegisterSet, Registers};
use crate::error::Result;

const NAMES: [&str; 36] = [
    "x0",
    "x1",
    "x2",
    "x3",
    "x4",
    "x5",
    "x6",
    "x7",
    "x8",
    "x9",
    "x10",
    "x11",
    "x12",
    "x13",
    "x14",
    "x15",
    "x16",
    "x17",
    "x18",
    "x19",
    "x20",
    "x21",
    "x22",
    "x23",
    "x24",
    "x25",
    "x26",
    "x27",
    "x28",
    "x29",
    "x30",
    "sp",
    "pc",
    "pstate",
    "orig_x0",
    "syscallno",
];

/// Word of the frame pointer, x29.
pub const FP: usize = 29;
/// Word of the link register, x30.
pub const LR: usize = 30;
/// Word of the stack pointer.
pub const SP: usize = 31;
/// Word of the program counter.
pub const PC: usize = 32;
/// Word of the processor state.
pub const PSTATE: usize = 33;
/// Word of a system call's first argument.
pub const ORIG_X0: usize = 34;
/// Word of a system call's number.
pub const SYSCALLNO: usize = 35;

/// The mode in pstate (`PSR_MODE_MASK`): user space is 0, in 32 bits too.
const MODE: u64 = 0xf;
/// `PSR_I_BIT` and `PSR_F_BIT`.
const MASKS: u64 = 3 << 6;
/// EL1 and EL2 (a host's kernel under VHE), each with its own stack pointer.
const KERNEL_MODES: [u64; 4] = [4, 5, 8, 9];

/// The set of arm64.
pub static SET: RegisterSet = RegisterSet {
    names: &NAMES,
    pc: PC,
    sp: SP,
    fp: FP,
    argument: 0,
    // AAPCS64.
    arguments: &["x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7"],
    result: "x0",
    scratch: &[
        "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13",
        "x14", "x15", "x16", "x17", "x18", "x30",
    ],
    general: &[
        "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x0", "x1", "x2",
        "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16",
        "x17", "x18",
    ],
    places: &["sp", "pc"],
    always: 0,
    halves: &[SYSCALLNO],
    is_user,
    is_plausible,
};

fn is_user(words: &[u64]) -> bool {
    words[PSTATE] & MODE == 0
}

/// Bits of pstate from 35 on do not exist; a kernel's program counter is in the
/// upper half, user space's in the lower.
fn is_plausible(words: &[u64]) -> bool {
    let mode = words[PSTATE] & MODE;
    let upper = words[PC] >> 55 == u64::MAX >> 55;
    words[PSTATE] >> 35 == 0
        && match mode {
            // Interrupts are never masked in user space.
            0 => words[PC] != 0 && words[PC] >> 52 == 0 && words[PSTATE] & MASKS == 0,
            mode => KERNEL_MODES.contains(&mode) && upper,
        }
}

/// The registers of `struct pt_regs` at `addr`.
pub(super) fn read(kernel: &Kernel, addr: u64) -> Result<Registers> {
    let bytes = kernel.read_bytes(addr, SET.size())?;
    Registers::from_bytes(&SET, &bytes)
        .ok_or_else(|| crate::error::Error::corrupt("saved registers", addr))
}

/// Registers per possible CPU. A kdump kernel finds them in `crash_notes`
/// (kernel/crash_core.c), one note per possible CPU in per-CPU memory; the
/// dump's notes are copies, without the CPUs that left none. A hypervisor writes
/// one note per virtual CPU, in the order of their numbers.
pub(super) fn of_cpus(kernel: &Kernel) -> Result<Vec<(u32, Registers)>> {
    let possible = kernel.possible_cpus()?;
    let own: Vec<(u32, Registers)> =
        possible.iter().filter_map(|cpu| Some((*cpu, crash_note(kernel, *cpu)?))).collect();
    let mut found: Vec<(u32, Registers)> = Vec::new();
    let notes = kernel.image().cpus().iter().filter_map(|state| state.prstatus_arm64.as_ref());
    for (index, note) in notes.enumerate() {
        let mut words = note.x.to_vec();
        words.extend([note.sp, note.pc, note.pstate]);
        let regs = Registers::of(&SET, &words);
        let by_note = own.iter().find(|(_, own)| own.ip() == regs.ip() && own.sp() == regs.sp());
        let cpu = by_note.map(|(cpu, _)| *cpu).or_else(|| possible.get(index).copied());
        if let Some(cpu) = cpu.filter(|cpu| !found.iter().any(|(seen, _)| seen == cpu)) {
            found.push((cpu, regs));
        }
    }
    if found.is_empty() {
        return Ok(own);
    }
    found.sort_by_key(|(cpu, _)| *cpu);
    Ok(found)
}

/// The registers that the kernel itself saved for `cpu` when it crashed.
fn crash_note(kernel: &Kernel, cpu: u32) -> Option<Registers> {
    let bytes = crash_notes::registers(kernel, cpu, 34 * 8)?;
    let words: Vec<u64> = bytes
        .chunks_exact(8)
        .map(|raw| raw.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b)))
        .collect();
    Some(Registers::of(&SET, &words)).filter(|regs| regs.ip() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(pc: u64, pstate: u64) -> Registers {
        let mut words = [0; 36];
        (words[PC], words[PSTATE]) = (pc, pstate);
        Registers::of(&SET, &words)
    }

    #[test]
    fn modes_tell_user_space() {
        let user = registers(0xaaaa_0000_1000, 0x8000_0000);
        assert!(user.is_user() && user.is_plausible());
        assert!(registers(0x1_0000, 0x6000_0010).is_user(), "a 32-bit process");
        let kernel = registers(0xffff_8000_1000_0000, 0x6040_00c5);
        assert!(!kernel.is_user() && kernel.is_plausible());
        assert!(!registers(0xaaaa_0000_1000, 0x5).is_plausible());
        assert!(!registers(0xffff_8000_1000_0000, 0xffff_8000_0000_0005).is_plausible());
        assert!(!registers(0, 0).is_plausible());
    }

    #[test]
    fn half_of_the_last_word_is_no_register() {
        let mut bytes = vec![0xff; 36 * 8];
        bytes[35 * 8..35 * 8 + 4].copy_from_slice(&221u32.to_le_bytes());
        let regs = Registers::from_bytes(&SET, &bytes).unwrap();
        assert_eq!(regs.named("syscallno"), Some(221));
    }
}
