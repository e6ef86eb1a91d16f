//! Synthetic dumps, written byte by byte.
//!
//! Nothing here is shared with the code that reads dumps: layouts are spelled out a second time,
//! from the documents, so that one wrong idea of a struct can't pass both sides. Every field can be
//! set to nonsense; nothing is checked.
//!
//! - [`Kdump`]: kdump-compressed dumps of every version, whole or split.
//! - [`Elf`]: ELF cores, with all that QEMU and makedumpfile do to them.
//! - [`flatten`]: a dump as a stream of records.
//! - [`lime`], [`avml`]: ranges of RAM.
//! - [`lzop`]: bytes as lzop packs them.
//! - [`Migration`], [`libvirt_save`]: what QEMU and `virsh save` write.
//! - [`XenCore`], [`XenHost`]: dumps of Xen's guests, and of the machine below.
//! - [`Sadump`]: what Fujitsu's firmware writes.
//! - [`CloudHypervisor`], [`ch_coredump`]: what Cloud Hypervisor writes of a guest.
//! - [`Firecracker`]: the state of a Firecracker guest.
//! - [`Vmss`]: what VMware keeps of a machine; [`Vcpu`]: of a virtual CPU.
//! - [`Seekable`]: anything in a seekable zstd file.
//! - [`notes`]: ELF notes with registers and VMCOREINFO.
//! - [`mutate`]: damage, the same for the same seed.

#![forbid(unsafe_code)]
// What builds test data may stop the test when it can't.
#![allow(clippy::expect_used)]

mod bytes;
mod cloud_hypervisor;
mod elf;
mod firecracker;
mod flat;
mod kdump;
mod lime;
mod lzop;
mod memory;
mod migration;
mod sadump;
mod seekable;
mod vcpu;
mod vmware;
mod xen;
mod xen_host;
mod xen_symbols;

pub mod mutate;
pub mod notes;

pub use cloud_hypervisor::{ChForm, CloudHypervisor, ch_coredump};
pub use elf::{Elf, Load};
pub use firecracker::{FcEncoding, FcRegion, Firecracker};
pub use flat::{FlatRecord, flatten, flatten_records};
pub use kdump::{Compression, Entry, Kdump};
pub use lime::{avml, lime};
pub use lzop::lzop;
pub use memory::{PAGE, page};
pub use migration::{Migration, Record, libvirt_save};
pub use sadump::Sadump;
pub use seekable::Seekable;
pub use vcpu::Vcpu;
pub use vmware::{Vmss, VmssTag, VmssValue};
pub use xen::{XenCore, XenVcpu};
pub use xen_host::XenHost;
pub use xen_symbols::xen_symbols;
