//! Containers: how a dump lies in its file.
//!
//! One folder or file per container, with its layout at the top. To add one: write a [`Format`]
//! whose `probe` knows it by content, an `open` that gives a [`Container`], and add the line to
//! [`FORMATS`] (or to [`SNAPSHOTS`]). What no format knows, [`foreign`] describes for the error message.

mod archive;
mod bitmap;
mod chain;
mod cloud_hypervisor;
mod compressed;
mod elf;
mod firecracker;
mod flattened;
mod foreign;
mod kdump;
mod kvm;
mod libvirt_save;
mod lime;
mod migration;
mod raw;
mod sadump;
mod snapshot;
mod vmware;
mod xen;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::codec::Codec;
use crate::cpu::CpuState;
use crate::dump_header::DumpHeader;
use crate::elf_note::Note;
use crate::error::{Absent, OpenError};
use crate::info::{Completeness, ContainerInfo, FileInfo};
use crate::machine_frames::MachineFrames;
use crate::origin::Origin;
use crate::source::Source;
use crate::support::Support;

pub use compressed::{OpenOptions, Progress, Unpacking};

/// A dump file as pages of physical memory.
pub(crate) trait Container: Send + Sync {
    /// Size of its pages: a power of two.
    fn page_size(&self) -> u64;

    /// Where the page at `addr`, a multiple of the page size, is stored. Raw ones are exactly one
    /// page.
    fn locate(&self, addr: u64) -> Result<Stored<'_>, Absent>;

    /// Up to `len` bytes from `addr` on, out of a page that [`Container::locate`] does not give as
    /// a whole.
    fn part(&self, _addr: u64, _len: usize) -> Option<Cow<'_, [u8]>> {
        None
    }

    /// Physical ranges that were RAM, sorted and merged.
    fn ram(&self) -> Vec<Range<u64>>;

    /// Runs of whole pages the index has, ascending.
    fn present(&self) -> Box<dyn Iterator<Item = Range<u64>> + '_>;

    /// How much the dump has.
    fn completeness(&self) -> Completeness;

    /// Runs of bytes the index has, ascending; unlike [`Container::present`] with parts of pages.
    fn extents(&self) -> Box<dyn Iterator<Item = Range<u64>> + '_> {
        self.present()
    }

    /// As [`Container::ram`], where that may be cut short.
    fn ram_runs(&self) -> Option<Box<dyn Iterator<Item = Range<u64>> + '_>> {
        None
    }

    /// Where up to `len` bytes from `addr` on are stored as they are, and how many of them. For
    /// reading in bulk; `None` where pages are not stored so.
    fn raw_run(&self, _addr: u64, _len: u64) -> Option<(&dyn Source, u64, u64)> {
        None
    }

    /// Runs of RAM and the virtual address each is mapped at, as far as the container says.
    fn mapped(&self) -> Vec<(Range<u64>, u64)> {
        Vec::new()
    }

    /// What the dump was made from, if it says so.
    fn origin(&self) -> Option<&Origin> {
        None
    }

    /// Where the guest's frames lie in the machine, if its page tables hold those.
    fn machine_frames(&self) -> Option<&MachineFrames> {
        None
    }

    /// What the container's header says, if it has one of that kind.
    fn header(&self) -> Option<&DumpHeader> {
        None
    }
}

/// A page as it is stored.
pub(crate) enum Stored<'a> {
    /// As it is, at an offset of a source.
    Raw {
        source: &'a dyn Source,
        offset: u64,
    },
    /// Assembled from several places.
    Assembled(Vec<u8>),
    Compressed(Codec, Cow<'a, [u8]>),
}

/// One file of a dump, or what stands for it.
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) source: Arc<dyn Source>,
    /// Physical address of its first byte: whoever named it says that it is raw memory.
    pub(crate) base: Option<u64>,
}

/// What a container gives when it is opened.
pub(crate) struct Opened {
    pub(crate) container: Box<dyn Container>,
    pub(crate) info: ContainerInfo,
    pub(crate) notes: Vec<Note>,
    /// Registers of a container that has no notes.
    pub(crate) cpus: Vec<CpuState>,
    /// Text of VMCOREINFO where it lies outside the notes.
    pub(crate) vmcoreinfo: Option<Vec<u8>>,
}

/// A container that can be opened.
pub(crate) struct Format {
    /// Whether the first bytes of an input are this container's.
    probe: fn(head: &[u8]) -> bool,
    /// Opens it. There is at least one input.
    open: fn(inputs: Vec<Input>) -> Result<Opened, OpenError>,
    /// Whether a dump may lie in several files.
    splits: bool,
    /// Its rows in docs/formats.md.
    pub(crate) support: &'static [Support],
}

/// The row of memory without a container.
pub(crate) const RAW_SUPPORT: &[Support] = raw::SUPPORT;

/// Rows of what may lie around a container.
pub(crate) const LAYERS_SUPPORT: &[Support] = &[
    Support {
        container: "Xen host that crashed: a PV dom0 behind the hypervisor (ELF or kdump-compressed)",
        read: "yes: dom0's memory by its list of machine frames, its registers, the hypervisor's CPUs and log; no PVH dom0",
        write: "converted as the whole machine",
        real: "`k61-sysrq-xen-host`, `k61-sysrq-xen-host.kdump-dom0`",
        synthetic: "unit tests; the bundled dump's memory as dom0's",
    },
    Support {
        container: "flattened stream (makedumpfile -F) of kdump-compressed or ELF",
        read: "yes, in place",
        write: "`flattened`, `flattened-...`; `rearranged` undoes it",
        real: "`k61-sysrq.flattened`, `k61-sysrq.qemu-zlib`",
        synthetic: "unit tests",
    },
    Support {
        container: "archive: ELF core in zstd's seekable format, a kernel's own pages in a base",
        read: "yes, in place; any file in zstd's seekable format",
        write: "`archive`",
        real: "",
        synthetic: "conversions of the lab's dumps",
    },
    Support {
        container: "libvirt's saved guest (`virsh save`, managed save)",
        read: "yes: raw, gzip, bzip2, xz, lzop, zstd, sparse",
        write: "",
        real: "`k61-sysrq-libvirt.virsh-save`, `.virsh-save-gzip`, \
               `k612-null-libvirt.virsh-save-lzop`",
        synthetic: "unit tests",
    },
    Support {
        container: "gzip, bzip2 around any of these",
        read: "yes, unpacked to a temporary file",
        write: "",
        real: "`k612-null-host.elf-gzip`, `k61-sysrq-libvirt.virsh-dump-gzip`, `.virsh-dump-bzip2`",
        synthetic: "unit tests",
    },
    Support {
        container: "xz, zstd, lz4, lzop around any of these",
        read: "yes, in place where the blocks are small, else as gzip",
        write: "",
        real: "`k612-null-host.elf-xz`, `k612-null-host.elf-lz4`, `k612-null-host.migration-zstd`, \
               `k61-sysrq-libvirt.virsh-dump-xz`, `.virsh-dump-lzop`",
        synthetic: "unit tests",
    },
];

pub(crate) const FORMATS: &[Format] =
    &[kdump::FORMAT, xen::FORMAT, elf::FORMAT, migration::FORMAT, lime::FORMAT, sadump::FORMAT];

/// Formats of a hypervisor's state, with the memory in another file that says nothing of itself.
/// Each takes all the inputs and finds out which is which.
pub(crate) const SNAPSHOTS: &[Format] =
    &[vmware::FORMAT, firecracker::FORMAT, cloud_hypervisor::FORMAT];

/// Bytes at the start of an input that decide what it is. Includes the end of the first tar block,
/// which foreign files are known by, and what follows the header of sadump's media.
const HEAD: usize = 4096 + 64;

/// Opens whatever the inputs are.
pub(crate) fn open(inputs: Vec<Input>, options: &OpenOptions<'_>) -> Result<Opened, OpenError> {
    let mut files: Vec<FileInfo> = Vec::with_capacity(inputs.len());
    let mut unwrapped = Vec::with_capacity(inputs.len());
    let mut layers = Layers::default();
    for input in inputs {
        if input.source.is_empty() {
            return Err(OpenError::Foreign { name: input.name, looks_like: "it is empty".into() });
        }
        files.push(FileInfo { name: input.name.clone(), size: input.source.len() });
        unwrapped.push(layers.take_off(input, options)?);
    }
    let mut opened = open_unwrapped(unwrapped)?;
    if opened.info.files.is_empty() {
        opened.info.files = files;
    } else {
        // A container that reorders its parts knows their names only; sizes are those of the files.
        for file in &mut opened.info.files {
            if let Some(input) = files.iter().find(|input| input.name == file.name) {
                file.size = input.size;
            }
        }
    }
    opened.info.flattened = layers.flattened;
    opened.info.layers = layers.names;
    opened.info.oddities.splice(0..0, layers.oddities);
    if layers.archived {
        opened.info.kind = format!("archive of {}", opened.info.kind);
        opened.info.compression = vec![Codec::Zstd];
    }
    // The stream's end explains whatever its pages lack.
    opened.info.incomplete = layers.cut_off.or(opened.info.incomplete);
    Ok(opened)
}

/// A dump's bytes, put in order if they are a flattened stream's, and how that was cut off.
pub(crate) fn rearranged(input: Input) -> Result<(Arc<dyn Source>, Option<String>), OpenError> {
    if !flattened::probe(&head_of(&input)) {
        return Ok((input.source, None));
    }
    let stream = flattened::open(&input)?;
    let cut_off = stream.cut_off();
    Ok((Arc::new(stream), cut_off))
}

/// Layers beyond this are no dump but a file made to keep us busy.
const MAX_LAYERS: usize = 4;

/// What was around the containers.
#[derive(Default)]
struct Layers {
    names: Vec<String>,
    flattened: bool,
    archived: bool,
    cut_off: Option<String>,
    oddities: Vec<String>,
}

impl Layers {
    /// The input without what is around it.
    fn take_off(
        &mut self,
        mut input: Input,
        options: &OpenOptions<'_>,
    ) -> Result<Input, OpenError> {
        let mut names = Vec::new();
        loop {
            let head = head_of(&input).into_owned();
            let source: Arc<dyn Source> = if archive::probe(&input) {
                let archive = archive::open(&input)?;
                self.archived = true;
                self.cut_off = self.cut_off.take().or_else(|| archive.cut_off());
                names.push("archive".to_owned());
                Arc::new(archive)
            } else if flattened::probe(&head) {
                let stream = flattened::open(&input)?;
                self.flattened = true;
                self.cut_off = self.cut_off.take().or_else(|| stream.cut_off());
                names.push("flattened".to_owned());
                Arc::new(stream)
            } else if let Some(kind) = compressed::probe(&head) {
                let unpacked = compressed::open(&input, kind, options)?;
                self.cut_off = self.cut_off.take().or(unpacked.cut_off);
                self.oddities.extend(unpacked.oddities);
                names.push(unpacked.layer);
                unpacked.source
            } else if libvirt_save::probe(&head) {
                let image = libvirt_save::open(&input)?;
                self.oddities.extend(image.oddities);
                names.push("virsh save".to_owned());
                Arc::new(image.stream)
            } else {
                break;
            };
            if names.len() > MAX_LAYERS {
                let what = format!("more than {MAX_LAYERS} layers are around it");
                return Err(OpenError::Corrupt { name: input.name, what });
            }
            input = Input { source, ..input };
        }
        // The parts of a split dump have the same ones.
        if self.names.is_empty() {
            self.names = names;
        }
        Ok(input)
    }
}

fn open_unwrapped(inputs: Vec<Input>) -> Result<Opened, OpenError> {
    if inputs.iter().any(|input| input.base.is_some()) {
        return raw::open_at(inputs);
    }
    let heads: Vec<Cow<'_, [u8]>> = inputs.iter().map(head_of).collect();
    let of_snapshot = |format: &&Format| heads.iter().any(|head| (format.probe)(head));
    if let Some(format) = SNAPSHOTS.iter().find(of_snapshot) {
        drop(heads);
        return (format.open)(inputs);
    }
    drop(heads);
    match choose(&inputs) {
        Ok(format) => (format.open)(inputs),
        // What no format knows may be memory without any.
        Err(error) => match inputs.as_slice() {
            [input]
                if matches!(error, OpenError::Foreign { .. })
                    && foreign::may_be_raw(&head_of(input)) =>
            {
                raw::open_found(input).ok_or(error)
            }
            _ => Err(error),
        },
    }
}

/// The format of the first input; the others must be of the same.
fn choose(inputs: &[Input]) -> Result<&'static Format, OpenError> {
    let Some(first) = inputs.first() else { return Err(OpenError::NoInput) };
    let head = head_of(first);
    let Some(format) = FORMATS.iter().find(|format| (format.probe)(&head)) else {
        let looks_like = foreign::describe(&head, first.source.len());
        return Err(OpenError::Foreign { name: first.name.clone(), looks_like });
    };
    for other in inputs.iter().skip(1) {
        if !format.splits {
            let what = "several files were given, but only kdump-compressed dumps come in parts";
            return Err(OpenError::Split { name: other.name.clone(), what: what.into() });
        }
        if !(format.probe)(&head_of(other)) {
            let what = "is no part of the same dump: another kind of file";
            return Err(OpenError::Split { name: other.name.clone(), what: what.into() });
        }
    }
    Ok(format)
}

fn head_of(input: &Input) -> Cow<'_, [u8]> {
    let len = input.source.len().min(HEAD as u64) as usize;
    input.source.bytes(0, len).unwrap_or_default()
}
