//! A thread's registers in a core file (arch/x86/include/asm/user_64.h):
//! `struct user_regs_struct` is `struct pt_regs` and behind it `fs_base`,
//! `gs_base`, `ds`, `es`, `fs`, `gs`; `struct user_i387_struct` is what `fxsave`
//! writes.

use crate::arch::Registers;
use crate::error::{Error, Result};
use crate::layout::Embedded;
use crate::task::Task;
use crate::user_core::CoreRegisters;
use crate::{Kernel, layout};

layout! {
    /// `struct task_struct`, and its `struct thread_struct`, arch/x86/include/asm/processor.h
    pub struct ThreadRegistersLayout for "task_struct" {
        fsbase: u64 = "thread.fsbase",
        gsbase: u64 = "thread.gsbase",
        ds: u16 = "thread.ds",
        es: u16 = "thread.es",
        fsindex: u16 = "thread.fsindex",
        gsindex: u16 = "thread.gsindex",
        /// Until v5.16.
        fxsave: Embedded = "thread.fpu.state.fxsave",
        /// Since v5.16, in `task_struct` until v6.16.
        fpstate: u64 = "thread.fpu.fpstate",
    }
}

layout! {
    /// `struct fpstate`, arch/x86/include/asm/fpu/types.h
    pub struct FpstateLayout for "fpstate" {
        fxsave: Embedded = "regs.fxsave",
    }
}

/// Bytes of `struct fxregs_state`.
const FXSAVE: u64 = 512;
/// Words of `struct pt_regs`.
const GENERAL: usize = 21;

pub(super) fn read(kernel: &Kernel, task: &Task, registers: Option<&Registers>) -> CoreRegisters {
    let mut general: Vec<u64> = registers.map_or(Vec::new(), |all| all.words().to_vec());
    general.resize(GENERAL, 0);
    general.extend(segments(kernel, task).unwrap_or_default());
    CoreRegisters { general, floating: fxsave(kernel, task).ok(), more: Vec::new() }
}

fn segments(kernel: &Kernel, task: &Task) -> Result<[u64; 6]> {
    let layout = kernel.layout::<ThreadRegistersLayout>()?;
    Ok([
        layout.fsbase.read(kernel, task.addr)?,
        layout.gsbase.read(kernel, task.addr)?,
        layout.ds.read(kernel, task.addr)?.into(),
        layout.es.read(kernel, task.addr)?.into(),
        layout.fsindex.read(kernel, task.addr)?.into(),
        layout.gsindex.read(kernel, task.addr)?.into(),
    ])
}

fn fxsave(kernel: &Kernel, task: &Task) -> Result<Vec<u8>> {
    let layout = kernel.layout::<ThreadRegistersLayout>()?;
    if let Ok(at) = layout.fxsave.address(task.addr) {
        return kernel.read_bytes(at, FXSAVE);
    }
    let fpstate = layout.fpstate.read(kernel, task.addr)?;
    if fpstate == 0 {
        return Err(Error::Null("thread.fpu.fpstate".into()));
    }
    kernel.read_bytes(kernel.layout::<FpstateLayout>()?.fxsave.address(fpstate)?, FXSAVE)
}
