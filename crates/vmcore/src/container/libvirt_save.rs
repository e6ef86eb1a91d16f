//! `virsh save`: libvirt's header and the guest's definition in front of a migration stream.
//!
//! Layout (libvirt, src/qemu/qemu_saveimage.h, `struct _virQEMUSaveHeader`; numbers in the byte
//! order of the host that wrote it):
//!
//! ```text
//!   0  "LibvirtQemudSave"; "LibvirtQemudPart" while it is being written
//!  16  version u32 (1, 2; 3 with the format "sparse")
//!  20  length of the XML and what follows it up to the stream u32
//!  24  was the guest running u32
//!  28  format of the stream u32: 0 raw, 1 gzip, 2 bzip2, 3 xz, 4 lzop, 5 zstd, 6 sparse
//!  32  offset of the cookie u32, 56 unused bytes
//!  92  the XML, the stream
//! ```
//!
//! What the stream is compressed with shows in its first bytes. "sparse" is QEMU's mapped-ram: its
//! stream starts at a multiple of a MiB.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Input, compressed, migration};
use crate::error::OpenError;
use crate::source::{Fields, Source, SourceError, in_range};

const MAGIC: &[u8] = b"LibvirtQemudSave";
const PARTIAL: &[u8] = b"LibvirtQemudPart";
const HEADER: u64 = 92;
const ALIGNMENT: u64 = 1 << 20;

pub(super) fn probe(head: &[u8]) -> bool {
    head.starts_with(MAGIC) || head.starts_with(PARTIAL)
}

/// A saved guest.
pub(super) struct Image {
    pub(super) stream: Window,
    pub(super) oddities: Vec<String>,
}

/// Finds the stream behind the header.
pub(super) fn open(input: &Input) -> Result<Image, OpenError> {
    let cut = |what: &str| OpenError::Truncated { name: input.name.clone(), what: what.into() };
    let corrupt = |what: String| OpenError::Corrupt { name: input.name.clone(), what };
    let header =
        input.source.bytes(0, HEADER as usize).map_err(|_| cut("it ends in libvirt's header"))?;
    let fields = Fields(&header);
    let word = |at| fields.u32(at).unwrap_or_default();
    // libvirt itself tells the byte order by the version.
    let is_swapped = word(16) > 0xffff;
    let word = |at| if is_swapped { word(at).swap_bytes() } else { word(at) };
    let version = word(16);
    if !(1..=3).contains(&version) {
        return Err(corrupt(format!("libvirt's header has the version {version}")));
    }
    let end_of_xml = HEADER + u64::from(word(20));
    let mut oddities = Vec::new();
    if header.starts_with(PARTIAL) {
        oddities.push("libvirt did not finish writing it".to_owned());
    }
    let aligned = end_of_xml.next_multiple_of(ALIGNMENT);
    let start = [end_of_xml, aligned].into_iter().find(|start| {
        let len = input.source.len().saturating_sub(*start).min(16) as usize;
        let head = input.source.bytes(*start, len).unwrap_or_default();
        head.starts_with(migration::MAGIC) || compressed::probe(&head).is_some()
    });
    match start {
        Some(start) => {
            let len = input.source.len() - start;
            let stream = Window { source: Arc::clone(&input.source), start, len };
            Ok(Image { stream, oddities })
        }
        None if end_of_xml >= input.source.len() => Err(cut("it ends in libvirt's XML")),
        None => Err(corrupt(format!(
            "no migration stream follows libvirt's XML at {end_of_xml:#x} (format {})",
            word(28)
        ))),
    }
}

/// The end of a source.
pub(super) struct Window {
    source: Arc<dyn Source>,
    start: u64,
    len: u64,
}

impl Window {
    fn place(&self, offset: u64, len: usize) -> Result<u64, SourceError> {
        match in_range(offset, len, self.len) {
            true => Ok(self.start + offset),
            false => Err(SourceError::OutOfRange { offset, len, size: self.len }),
        }
    }
}

impl Source for Window {
    fn len(&self) -> u64 {
        self.len
    }

    fn bytes(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>, SourceError> {
        self.source.bytes(self.place(offset, len)?, len)
    }

    fn copy_to(&self, offset: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        self.source.copy_to(self.place(offset, buf.len())?, buf)
    }

    fn held(&self) -> u64 {
        self.source.held().min(self.len)
    }

    fn is_written(&self, offset: u64, len: usize) -> bool {
        self.place(offset, len).is_ok_and(|at| self.source.is_written(at, len))
    }
}
