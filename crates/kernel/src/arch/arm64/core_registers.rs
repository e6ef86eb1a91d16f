//! A thread's registers in a core file (arch/arm64/include/uapi/asm/ptrace.h):
//! `struct user_pt_regs` is x0 to x30, sp, pc and pstate; `struct
//! user_fpsimd_state` 32 vectors, fpsr and fpcr. In notes of their own: the
//! pointer to thread-local data, and which bits of a pointer authentication codes
//! take (`struct user_pac_mask`), without which a debugger can't follow a stack.

use super::locate::translated_bits;
use crate::arch::Registers;
use crate::error::Result;
use crate::layout::Embedded;
use crate::task::Task;
use crate::user_core::CoreRegisters;
use crate::{Kernel, layout};

layout! {
    /// `struct task_struct`, and its `struct thread_struct`, arch/arm64/include/asm/processor.h
    pub struct ThreadRegistersLayout for "task_struct" {
        tls: u64 = "thread.uw.tp_value",
        fpsimd: Embedded = "thread.uw.fpsimd_state",
        pac_keys: Embedded = "thread.keys_user",
    }
}

/// include/uapi/linux/elf.h
const NT_ARM_TLS: u32 = 0x401;
const NT_ARM_PAC_MASK: u32 = 0x406;
/// Words of `struct user_pt_regs`.
const GENERAL: usize = 34;
/// Bytes of `struct user_fpsimd_state`.
const FPSIMD: u64 = 528;

pub(super) fn read(kernel: &Kernel, task: &Task, registers: Option<&Registers>) -> CoreRegisters {
    let mut general: Vec<u64> = registers.map_or(Vec::new(), |all| all.words().to_vec());
    general.resize(GENERAL, 0);
    CoreRegisters {
        general,
        floating: fpsimd(kernel, task).ok(),
        more: notes(kernel, task).unwrap_or_default(),
    }
}

fn fpsimd(kernel: &Kernel, task: &Task) -> Result<Vec<u8>> {
    let layout = kernel.layout::<ThreadRegistersLayout>()?;
    kernel.read_bytes(layout.fpsimd.address(task.addr)?, FPSIMD)
}

fn notes(kernel: &Kernel, task: &Task) -> Result<Vec<(u32, Vec<u8>)>> {
    let layout = kernel.layout::<ThreadRegistersLayout>()?;
    let tls = layout.tls.read(kernel, task.addr)?;
    let mut notes = vec![(NT_ARM_TLS, tls.to_le_bytes().to_vec())];
    if layout.pac_keys.exists() {
        // Of data and of code: the bits from the translated ones up to bit 54
        // (`ptrauth_user_pac_mask`, asm/pointer_auth.h).
        let mask = (1u64 << 55) - (1u64 << translated_bits(kernel).min(55));
        notes.push((NT_ARM_PAC_MASK, [mask.to_le_bytes(); 2].concat()));
    }
    Ok(notes)
}
