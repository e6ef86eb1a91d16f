//! Names, types and unwind rules of a Linux kernel, out of bytes it is given.
//!
//! - [`kallsyms`]: the symbol table that the kernel carries in its own read-only data;
//! - [`btf`]: the type information behind `__start_BTF`, of vmlinux and of modules;
//! - [`orc`]: the x86_64 unwind tables.
//!
//! No I/O happens here: what lies in the dead kernel's memory is asked for through [`Memory`].
//! Kernel versions are never compared. Where a table exists in several encodings, the bytes
//! themselves tell which one it is.

#![forbid(unsafe_code)]

pub mod btf;
pub mod kallsyms;
mod memory;
mod name_index;
pub mod orc;

pub use memory::{Memory, MemoryError};
