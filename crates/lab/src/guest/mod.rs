//! What runs inside a guest, and the hypervisors that run it.

pub(crate) mod console;
pub(crate) mod initramfs;
pub(crate) mod libvirt;
pub(crate) mod module;
pub(crate) mod monitor;
pub(crate) mod vm;
pub(crate) mod watch;
pub(crate) mod xen;
