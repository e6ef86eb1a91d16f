//! Boots unmodified Debian kernels in QEMU, kills them in known ways and keeps
//! their vmcores, together with the answer that an analysis must find.
//!
//! The matrix is data in the folder `lab/`: `kernels.toml`, one file per
//! scenario, `dumps.toml` for boots and formats beyond kernel x scenario. Dumps
//! are kept in a cache outside the tree (`$KMORTEM_LAB_CACHE`, else
//! `~/.cache/kmortem/lab`), by the content of all that they depend on.
//!
//! ```no_run
//! let dump = kmortem_lab::dump("k612-hung")?;
//! assert_eq!(dump.expect.holder.as_deref(), Some("crasher_owner"));
//! # Ok::<(), kmortem_lab::LabError>(())
//! ```

#![forbid(unsafe_code)]

mod arch;
mod cache;
mod cpio;
mod debian;
mod error;
mod format;
mod guest;
mod host;
mod kernel;
mod lab;
mod loader;
mod matrix;
mod peers;
mod tool;
mod xen;

pub use arch::Arch;
pub use error::{LabError, Result};
pub use format::Format;
pub use guest::console::ConsoleFacts;
pub use kernel::{Kernel, KernelRecord, PackageRecord};
pub use lab::{Facts, Lab, LabDump};
pub use matrix::{Boot, Expect, Hypervisor, KernelSpec, Matrix, Scenario};
pub use peers::Peer;

/// The dump of a name (`k61-null`, `k61-sysrq.kdump-zlib`), made if it is not in
/// the cache yet. Several processes may ask at the same time.
pub fn dump(name: &str) -> Result<LabDump> {
    Lab::open()?.dump(name)
}

/// What drgn answers about a dump, as a JSON file: see [`Lab::answers`].
pub fn answers(dump: &LabDump) -> Result<std::path::PathBuf> {
    Lab::open()?.answers(dump)
}
