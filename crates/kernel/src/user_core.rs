//! What a core file of a process needs besides its memory: what its threads
//! were, their registers in user space, its auxiliary vector and files.

use serde::Serialize;

use crate::arch::Registers;
use crate::error::Result;
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
    /// `struct task_struct`: signals
    pub struct ThreadSignalsLayout for "task_struct" {
        pending: u64 = "pending.signal.sig",
        blocked: u64 = "blocked.sig",
    }
}

layout! {
    /// `struct cred`, include/linux/cred.h
    pub struct CredIdsLayout for "cred" {
        uid: u32 = "uid.val" | "uid",
        gid: u32 = "gid.val" | "gid",
    }
}

/// A thread's registers, as a core file has them.
#[derive(Debug, Clone)]
pub struct CoreRegisters {
    /// The words of `elf_gregset_t`; 0: not known.
    pub general: Vec<u64>,
    /// `elf_fpregset_t`.
    pub floating: Option<Vec<u8>>,
    /// Further notes: (type, content).
    pub more: Vec<(u32, Vec<u8>)>,
}

/// A thread as a core file tells of it.
#[derive(Debug, Clone, Serialize)]
pub struct UserThread {
    /// Thread ID.
    pub pid: i32,
    /// Its registers in user space; none: they are not known.
    pub registers: Option<Registers>,
    /// Why they are not.
    pub unknown: Option<String>,
    /// The same and others, for the core file.
    #[serde(skip)]
    pub core: CoreRegisters,
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
        let registers = registers.filter(Registers::is_complete);
        UserThread {
            pid: task.pid,
            core: self.arch().core_registers(self, task, registers.as_ref()),
            registers,
            unknown,
            signals: self.signals(task).unwrap_or_default(),
        }
    }

    fn signals(&self, task: &Task) -> Result<[u64; 2]> {
        let layout = self.layout::<ThreadSignalsLayout>()?;
        Ok([layout.pending.read(self, task.addr)?, layout.blocked.read(self, task.addr)?])
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
