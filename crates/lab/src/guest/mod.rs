//! What runs inside QEMU, and QEMU itself.

pub(crate) mod console;
pub(crate) mod initramfs;
pub(crate) mod module;
pub(crate) mod monitor;
pub(crate) mod vm;
