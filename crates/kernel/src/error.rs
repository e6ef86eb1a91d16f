//! What can keep a question about the dead kernel from being answered.
//!
//! Every error carries the object, the address and the reason, so that the
//! commands can turn it into one clear sentence. One missing member or page
//! costs one answer, never the session.

use kmortem_vmcore::Absent;
use thiserror::Error;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a kernel virtual address could not be read.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum Fault {
    /// The dead kernel's page tables have no mapping here.
    #[error("not mapped by the kernel's page tables")]
    NotMapped,
    /// A page of the page tables themselves is not in the dump.
    #[error("its page table at physical {table:#x} is {reason}")]
    PageTable {
        /// Physical address of the table's entry.
        table: u64,
        /// Why that is absent.
        reason: Absent,
    },
    /// Mapped, but the physical page is not in the dump.
    #[error("physical {phys:#x} is {reason}")]
    Absent {
        /// Physical address that was wanted.
        phys: u64,
        /// Why it is absent.
        reason: Absent,
    },
    /// Mapped to memory of the machine that is not the guest's own.
    #[error("machine address {machine:#x} is not in the dump: it is no memory of this guest")]
    NotOwn {
        /// Address in the machine.
        machine: u64,
    },
    /// The address can't exist on this architecture.
    #[error("not an address (non-canonical)")]
    NonCanonical,
    /// Somebody wants the work to end: see [`crate::Kernel::interrupt`].
    #[error("interrupted")]
    Interrupted,
}

/// Why a question about the kernel has no answer.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum Error {
    /// Memory that could not be read.
    #[error("address {addr:#x} can't be read: {fault}")]
    Read {
        /// Kernel virtual address.
        addr: u64,
        /// The reason.
        fault: Fault,
    },
    /// The kernel has no such symbol.
    #[error("the kernel has no symbol {0}")]
    NoSymbol(String),
    /// The kernel's BTF has no such type.
    #[error("the kernel's type information has no {0}")]
    NoType(String),
    /// The type exists and has none of the names that the member has had.
    #[error("{ty} has no member {names}")]
    NoMember {
        /// The type.
        ty: String,
        /// The names tried, joined by " or ".
        names: String,
    },
    /// A pointer that should lead somewhere is NULL.
    #[error("{0} is NULL")]
    Null(String),
    /// A value that contradicts the kernel's own rules.
    #[error("{what} at {addr:#x} is corrupt")]
    Corrupt {
        /// What was read there.
        what: String,
        /// Kernel virtual address.
        addr: u64,
    },
    /// A list or tree that leads back into itself, or never ends.
    #[error("{what} runs in a loop at {addr:#x}")]
    Loop {
        /// What was walked.
        what: String,
        /// Where the walk was stopped.
        addr: u64,
    },
    /// Neither BTF nor another source of types is to be had.
    #[error("no type information: {0}")]
    NoTypes(String),
    /// Something the kernel was built without, or that this dump lacks.
    #[error("{0}")]
    Unavailable(String),
}

impl Error {
    /// Whether the answer failed because memory is not in the dump (as opposed
    /// to a symbol, type or member that this kernel does not have).
    pub fn is_absent_memory(&self) -> bool {
        matches!(self, Error::Read { .. }) && !self.is_interrupted()
    }

    /// Whether the work was interrupted: what it found so far is no answer.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Error::Read { fault: Fault::Interrupted, .. })
    }

    /// A corrupt object.
    pub fn corrupt(what: impl Into<String>, addr: u64) -> Error {
        Error::Corrupt { what: what.into(), addr }
    }
}

/// Why a dump can't be opened as a Linux kernel.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The container could not be opened.
    #[error(transparent)]
    Image(#[from] kmortem_vmcore::OpenError),
    /// No VMCOREINFO, no CPU state, and nothing in memory looks like a kernel.
    #[error("no Linux kernel found in this memory: {0}")]
    NoKernel(String),
    /// The kernel was found but its symbol table was not.
    #[error("the kernel's symbol table (kallsyms) can't be read: {0}")]
    NoSymbols(String),
}
