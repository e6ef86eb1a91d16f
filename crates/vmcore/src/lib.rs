//! A kernel memory dump as physical memory.
//!
//! This is the lowest floor: it knows containers (how a dump lies in a file) and no kernel. From
//! the ground up:
//!
//! 1. [`source`]: bytes of an input, whatever holds them. A mapped file (`mmap`), a flattened
//!    stream put back in order (`container`), or a file with damage laid over it ([`overlay`]).
//! 2. `container`: one file per container. Content decides which one opens an input, never its
//!    name. A container finds the stored bytes of a page, or says why there are none.
//! 3. `image`: the face of it all. Decompresses pages once (`codec`) into a cache that many
//!    threads share (`page_cache`), and holds what the dump says about itself: notes
//!    ([`elf_note`]), registers ([`cpu`]), VMCOREINFO ([`vmcoreinfo`]).
//! 4. `xen_host`: what an image is whose notes are a hypervisor's. [`XenHost`] is the machine,
//!    what was opened is its dom0.
//! 5. [`writer`]: dumps in all forms, out of anything that gives pages; an [`Image`] does.
//!
//! A page that is not there is never zeros: it is an [`Absent`] that says why. Input is hostile
//! until shown otherwise: every size is checked before memory is taken for it, and no content of
//! a file may cost more than an error.
//!
//! Physical addresses are plain `u64`.

mod beside;
mod codec;
mod container;
mod dump_header;
mod error;
mod frame_runs;
mod image;
mod info;
#[cfg(unix)]
mod live;
mod machine_frames;
mod mmap;
mod origin;
mod page_cache;
mod xen_host;

pub mod cpu;
pub mod elf_note;
pub mod overlay;
pub mod source;
pub mod support;
pub mod vmcoreinfo;
pub mod writer;

pub use codec::Codec;
pub use container::{OpenOptions, Progress, Unpacking};
pub use cpu::{CpuState, Prstatus, PrstatusArm64, QemuCpuState, QemuSegment, XenVcpu};
pub use dump_header::DumpHeader;
pub use elf_note::Note;
pub use error::{Absent, OpenError, ReadError};
pub use image::{Image, Page};
pub use info::{Completeness, ContainerInfo, FileInfo, Machine, Utsname};
pub use machine_frames::MachineFrames;
pub use mmap::MappedFile;
pub use origin::Origin;
pub use source::{Source, SourceError};
pub use vmcoreinfo::VmcoreInfo;
pub use xen_host::{Hypervisor, HypervisorCpu, XenHost};
