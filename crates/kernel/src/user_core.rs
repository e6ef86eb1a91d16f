//! What a core file of a process needs besides its memory: what its threads
//! were, their registers in user space, its auxiliary vector and files.

use serde::Serialize;

use crate::arch::Registers;
use crate::error::{Error, Result};
use crate::layout::Embedded;
use crate::stack::StackEnd;
use crate::task::{Task, TaskLayout};
use crate::{Kernel, layout};

layout! {
    /// `struct mm_struct`: the auxiliary vector
    pub struct MmAuxvLayout for "mm_struct" {
        saved_auxv: Embedded = "saved_auxv",
    }
}

layout! {
    /// `struct task_struct`, and its `struct thread_struct`: segments of user space
    pub struct ThreadSegmentsLayout for "task_struct" {
        fsbase: u64 = "thread.fsbase",
        gsbase: u64 = "thread.gsbase",
        ds: u16 = "thread.ds",
        es: u16 = "thread.es",
        fsindex: u16 = "thread.fsindex",
        gsindex: u16 = "thread.gsindex",
        pending: u64 = "pending.signal.sig",
        blocked: u64 = "blocked.sig",
        /// Until v5.16.
        fxsave: Embedded = "thread.fpu.state.fxsave",
        /// Since v5.16, in `task_struct` until v6.16.
        fpstate: u64 = "thread.fpu.fpstate",
    }
}

layout! {
    /// `struct cred`, include/linux/cred.h
    pub struct CredIdsLayout for "cred" {
        uid: u32 = "uid.val" | "uid",
        gid: u32 = "gid.val" | "gid",
    }
}

layout! {
    /// `struct fpstate`, arch/x86/include/asm/fpu/types.h
    pub struct FpstateLayout for "fpstate" {
        fxsave: Embedded = "regs.fxsave",
    }
}

/// `struct fxregs_state` is 512 bytes (`NT_FPREGSET`).
const FXSAVE: u64 = 512;

/// A thread as a core file tells of it.
#[derive(Debug, Clone, Serialize)]
pub struct UserThread {
    /// Thread ID.
    pub pid: i32,
    /// Its registers in user space; none: they are not known.
    pub registers: Option<Registers>,
    /// Why they are not.
    pub unknown: Option<String>,
    /// `fs_base gs_base ds es fs gs`, as in `struct user_regs_struct`.
    #[serde(skip)]
    pub segments: [u64; 6],
    /// The x87 and SSE registers (`struct fxregs_state`).
    #[serde(skip)]
    pub fxsave: Option<Vec<u8>>,
    /// Pending and blocked signals.
    #[serde(skip)]
    pub signals: [u64; 2],
}

impl Kernel {
    /// A thread's registers in user space: those with which it entered the
    /// kernel, or of its CPU where it was running in user space.
    pub fn user_thread(&self, task: &Task) -> UserThread {
        let (registers, unknown) = match self.stack(task).end {
            StackEnd::User { registers } => (Some(registers), None),
            StackEnd::ThreadStart => (None, Some("it never was in user space".to_owned())),
            StackEnd::Broken { reason } => (None, Some(reason)),
        };
        UserThread {
            pid: task.pid,
            registers: registers.filter(Registers::is_complete),
            unknown,
            segments: self.segments(task).unwrap_or_default(),
            fxsave: self.fxsave(task).ok(),
            signals: self.signals(task).unwrap_or_default(),
        }
    }

    fn segments(&self, task: &Task) -> Result<[u64; 6]> {
        let layout = self.layout::<ThreadSegmentsLayout>()?;
        Ok([
            layout.fsbase.read(self, task.addr)?,
            layout.gsbase.read(self, task.addr)?,
            layout.ds.read(self, task.addr)?.into(),
            layout.es.read(self, task.addr)?.into(),
            layout.fsindex.read(self, task.addr)?.into(),
            layout.gsindex.read(self, task.addr)?.into(),
        ])
    }

    fn signals(&self, task: &Task) -> Result<[u64; 2]> {
        let layout = self.layout::<ThreadSegmentsLayout>()?;
        Ok([layout.pending.read(self, task.addr)?, layout.blocked.read(self, task.addr)?])
    }

    fn fxsave(&self, task: &Task) -> Result<Vec<u8>> {
        let layout = self.layout::<ThreadSegmentsLayout>()?;
        if let Ok(at) = layout.fxsave.address(task.addr) {
            return self.read_bytes(at, FXSAVE);
        }
        let fpstate = layout.fpstate.read(self, task.addr)?;
        if fpstate == 0 {
            return Err(Error::Null("thread.fpu.fpstate".into()));
        }
        self.read_bytes(self.layout::<FpstateLayout>()?.fxsave.address(fpstate)?, FXSAVE)
    }

    /// The auxiliary vector of a process, up to its end mark.
    pub fn auxv(&self, mm: u64) -> Result<Vec<u8>> {
        let place = self.layout::<MmAuxvLayout>()?.saved_auxv.place()?;
        let mut raw = self.read_bytes(mm.wrapping_add(place.offset), place.size.min(4096))?;
        if let Some(end) = raw.chunks_exact(16).position(|pair| pair[..8] == [0; 8]) {
            raw.truncate((end + 1) * 16);
        }
        Ok(raw)
    }

    /// (user ID, group ID) of a task.
    pub fn task_ids(&self, task: &Task) -> Result<(u32, u32)> {
        let cred = self.layout::<TaskLayout>()?.cred.read(self, task.addr)?;
        let layout = self.layout::<CredIdsLayout>()?;
        Ok((layout.uid.read(self, cred)?, layout.gid.read(self, cred)?))
    }
}
