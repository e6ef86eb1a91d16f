//! The memory that an address on a command line is in.

use std::fs::File;
use std::os::unix::fs::FileExt;

use kmortem_kernel::user::UserSpace;
use kmortem_kernel::{Error, Fault, Kernel};

use crate::error::CommandError;
use crate::session::Session;

/// One kind of memory, to be read at its own addresses.
pub(crate) enum Memory<'k> {
    /// Kernel virtual memory.
    Kernel(&'k Kernel),
    /// Virtual memory of a process.
    User(&'k Kernel, UserSpace<'k>),
    /// Physical memory.
    Physical(&'k Kernel),
    /// The dump's file itself, by offsets in it.
    File(File),
}

impl<'k> Memory<'k> {
    /// The virtual memory that `addr` is in: the kernel's, or the current
    /// task's.
    pub(crate) fn holding(
        command: &'static str,
        session: &'k Session,
        addr: u64,
    ) -> Result<Memory<'k>, CommandError> {
        match is_user(addr) {
            true => Memory::user(command, session, addr),
            false => Ok(Memory::Kernel(session.kernel())),
        }
    }

    /// The current task's memory, of which `addr` is wanted.
    pub(crate) fn user(
        command: &'static str,
        session: &'k Session,
        addr: u64,
    ) -> Result<Memory<'k>, CommandError> {
        let failed = |what: String| CommandError::Failed { command, what };
        let kernel = session.kernel();
        let task = session.current_task(command)?;
        let percpu = || {
            let found = kernel.kallsyms().ok()?.lookup_percpu(addr)?;
            let near = found.addr != 0 && addr - found.addr < found.size;
            near.then(|| {
                format!("; if the per-CPU {} is meant, say of which CPU ({0}:CPU)", found.name)
            })
        };
        let space = kernel.user_space(task).map_err(|e| {
            failed(format!("{addr:#x} is a user address, and {e}{}", percpu().unwrap_or_default()))
        })?;
        Ok(Memory::User(kernel, space))
    }

    /// The dump's file, of a split dump its first.
    pub(crate) fn file(
        command: &'static str,
        session: &'k Session,
    ) -> Result<Memory<'k>, CommandError> {
        let failed = |what: String| CommandError::Failed { command, what };
        let files = &session.kernel().image().info().files;
        let name = files.first().map(|file| &file.name);
        let name = name.ok_or_else(|| failed("the dump is in no file".to_owned()))?;
        let file = File::open(name).map_err(|e| failed(format!("{name} can't be read: {e}")))?;
        Ok(Memory::File(file))
    }

    /// Fills `buf` from `addr` on.
    pub(crate) fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), Error> {
        match self {
            Memory::Kernel(kernel) => kernel.read(addr, buf),
            Memory::User(kernel, space) => {
                interrupted(kernel, addr)?;
                space.read(addr, buf)
            }
            Memory::Physical(kernel) => {
                interrupted(kernel, addr)?;
                kernel.image().read(addr, buf).map_err(|e| Error::Read {
                    addr,
                    fault: Fault::Absent { phys: e.addr, reason: e.reason },
                })
            }
            Memory::File(file) => file.read_exact_at(buf, addr).map_err(|e| {
                Error::Unavailable(format!(
                    "offset {addr:#x} of the dump's file can't be read: {e}"
                ))
            }),
        }
    }
}

/// Whether `addr` is in the half of the address space that processes have.
pub(crate) fn is_user(addr: u64) -> bool {
    addr >> 63 == 0
}

/// Only reads of kernel virtual memory fail by themselves once interrupted.
fn interrupted(kernel: &Kernel, addr: u64) -> Result<(), Error> {
    match kernel.is_interrupted() {
        true => Err(Error::Read { addr, fault: Fault::Interrupted }),
        false => Ok(()),
    }
}
