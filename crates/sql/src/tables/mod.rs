//! The tables, one file each or a few of one kind. [`TABLES`] is the only list
//! of them.

mod block;
mod cgroup;
mod cpu;
mod file;
mod finding;
mod frame;
mod irq;
mod log;
mod machine;
mod module;
mod mount;
mod network;
mod slab;
mod symbol;
mod task;
mod timer;
mod vma;
mod wait;
mod workqueue;

use super::schema::Relation;

/// All tables, by name.
pub(crate) const TABLES: &[&dyn Relation] = &[
    &block::BLOCK_REQUESTS,
    &cgroup::CGROUPS,
    &cpu::CPUS,
    &block::DISKS,
    &file::FILES,
    &finding::FINDINGS,
    &frame::FRAMES,
    &network::INTERFACES,
    &irq::IRQS,
    &log::LOG,
    &machine::MACHINE,
    &module::MODULES,
    &mount::MOUNTS,
    &slab::SLAB_CACHES,
    &network::SOCKETS,
    &symbol::SYMBOLS,
    &machine::TAINTS,
    &task::TASKS,
    &timer::TIMERS,
    &vma::VMAS,
    &wait::WAITS,
    &workqueue::WORKQUEUES,
    &workqueue::WORKS,
];
