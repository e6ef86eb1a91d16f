//! The dead kernel as objects: tasks, stacks, memory, locks, devices.
//!
//! [`Kernel::open`] finds the kernel in a memory image and reads its own
//! symbol table (kallsyms), types (BTF) and unwind rules (ORC) out of that
//! memory: no debuginfo, no table of kernel versions. Opening costs
//! milliseconds; nothing is computed before someone asks for it.
//!
//! Floors below: `kmortem-vmcore` gives physical memory, `kmortem-debuginfo`
//! gives names, types and unwind rules out of bytes. This crate answers
//! questions with plain, serialisable values. It prints nothing.
//!
//! Addresses are kernel virtual addresses (`u64`) unless a name says `phys`.
//! Absent memory is an [`Error::Read`] with its reason, never zeros.
#![forbid(unsafe_code)]

pub mod arch;
pub mod audit;
mod backtrace;
pub mod block;
pub mod bpf;
pub mod buddy;
pub mod cgroup;
pub mod cgroup_cpu;
pub mod clock;
mod code_cache;
pub mod cpu;
mod data_symbols;
mod device;
pub mod disassembly;
pub mod dmi;
pub mod e820;
pub mod error;
pub mod ftrace;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod gaps;
pub mod global;
pub mod hrtimer;
pub mod ikconfig;
pub mod instruction;
pub mod ipc;
pub mod irq;
mod kernel;
pub mod layout;
pub mod list;
pub mod lock;
pub mod majors;
pub mod maple;
pub mod mem_map;
pub mod memcg;
pub mod memory;
pub mod memory_use;
pub mod mm;
pub mod module;
pub mod module_btf;
pub mod net;
pub mod object;
mod orc;
pub mod page;
pub mod page_cache;
mod page_names;
pub mod panic;
pub mod pci;
pub mod percpu_counter;
pub mod platform;
pub mod printk;
pub mod rbtree;
pub mod resource;
pub mod rlimit;
pub mod saved_registers;
pub mod sbitmap;
pub mod sched;
pub mod search;
pub mod signal;
pub mod slab;
pub mod softirq;
pub mod space;
pub mod sparse;
pub mod stack;
pub mod stack_check;
pub mod stack_words;
pub mod swap;
pub mod symbol;
pub mod syscall;
pub mod system;
pub mod taint;
pub mod task;
pub mod task_group;
pub mod timer;
pub mod translation;
pub mod user;
pub mod user_core;
pub mod vfs;
pub mod virtio;
mod virtio_packed_ring;
pub mod virtio_ring;
pub mod vma;
pub mod vmalloc;
pub mod vmstat;
pub mod waitqueue;
pub mod workqueue;
pub mod xarray;
pub mod xen;

pub use error::{Error, Fault, OpenError, Result};
pub use kernel::Kernel;
pub use object::Object;
pub use symbol::SymbolAt;

/// What the [`layout!`] macro names in other crates.
pub mod reexport {
    pub use kmortem_debuginfo::btf::{Kind, Type};
}
