//! Compressed files around any container: gzip, bzip2, xz, zstd, lz4 and lzop, as people, backup
//! tools and libvirt (`save_image_format`, `dump_image_format`) make them.
//!
//! A dump needs bytes in any order, a compressed stream gives them in one. So:
//!
//! - what comes in small blocks of its own is read in place, a block at a time ([`blocks`]): lzop
//!   always, xz and zstd where they were told to (`xz --block-size=1MiB`, zstd's seekable format);
//! - anything else is unpacked once into a file without a name in the folder for temporary files
//!   ([`spill`]), which the system takes back when the process ends, however it ends.
//!
//! No more than a few blocks are ever in memory. A stream that ends early or is damaged gives what
//! came before that: the dump in it is then incomplete, for that reason.

pub(super) mod blocks;
mod decoder;
mod lzop;
mod spill;
mod xz;
mod zstd_frames;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use self::blocks::{Block, Blocks, Unpack};
use super::Input;
use crate::error::OpenError;
use crate::source::Source;

/// How far the unpacking of a compressed input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpacking {
    /// Compressed bytes that were read.
    pub read: u64,
    /// Compressed bytes there are.
    pub total: u64,
    /// Bytes that came out.
    pub unpacked: u64,
}

/// Told how far the unpacking is; ends it with `Break`.
pub type Progress<'a> = dyn Fn(&Unpacking) -> ControlFlow<()> + 'a;

/// What whoever opens a dump may decide.
#[derive(Default)]
pub struct OpenOptions<'a> {
    /// Told now and then while a compressed input is unpacked; ends it with `Break`.
    pub progress: Option<&'a Progress<'a>>,
    /// Where to unpack to; the system's folder for temporary files (`$TMPDIR`) unless set.
    pub temp_dir: Option<PathBuf>,
    /// Most bytes a compressed input may unpack to, on top of what the disk has room for.
    pub most_unpacked: Option<u64>,
    /// All memory of a machine that a hypervisor ran, and not that of its dom0 alone.
    pub whole_machine: bool,
}

/// A method of compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Gzip,
    Bzip2,
    Xz,
    Zstd,
    Lz4,
    Lzop,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Gzip => "gzip",
            Kind::Bzip2 => "bzip2",
            Kind::Xz => "xz",
            Kind::Zstd => "zstd",
            Kind::Lz4 => "lz4",
            Kind::Lzop => "lzop",
        }
    }
}

/// Magic number of zstd's frames (RFC 8878, 3.1.1).
const ZSTD_MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";

/// The method that a file which starts like this is compressed with.
pub(super) fn probe(head: &[u8]) -> Option<Kind> {
    // RFC 1952: deflate is the only method there is, and the upper three flags are reserved.
    if head.starts_with(b"\x1f\x8b\x08") && head.get(3).is_none_or(|flags| flags & 0xe0 == 0) {
        return Some(Kind::Gzip);
    }
    // "BZh", the level, and pi or the root of it: a block, or the end of an empty stream.
    if head.starts_with(b"BZh")
        && head.get(3).is_none_or(|level| (b'1'..=b'9').contains(level))
        && head.get(4).is_none_or(|byte| matches!(byte, 0x31 | 0x17))
    {
        return Some(Kind::Bzip2);
    }
    const MAGICS: [(&[u8], Kind); 4] = [
        (b"\xfd7zXZ\0", Kind::Xz),
        (ZSTD_MAGIC, Kind::Zstd),
        (b"\x04\x22\x4d\x18", Kind::Lz4),
        (lzop::MAGIC, Kind::Lzop),
    ];
    let known = MAGICS.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, kind)| *kind);
    // pzstd and others put a skippable frame first.
    known.or_else(|| zstd_frames::starts_behind_a_skippable_frame(head).then_some(Kind::Zstd))
}

/// An input with one layer of compression taken off.
pub(super) struct Unpacked {
    pub(super) source: Arc<dyn Source>,
    /// The layer, for people.
    pub(super) layer: String,
    /// Why the end is missing, if it is.
    pub(super) cut_off: Option<String>,
    pub(super) oddities: Vec<String>,
}

/// Takes off the compression of an input.
pub(super) fn open(
    input: &Input,
    kind: Kind,
    options: &OpenOptions<'_>,
) -> Result<Unpacked, OpenError> {
    if let Some(blocks) = index(input, kind) {
        let layer = format!("{} (read in place, {} blocks)", kind.name(), blocks.len());
        let unpack: Unpack = match kind {
            Kind::Lzop => lzop::unpack_block,
            Kind::Xz => xz::unpack_block,
            _ => |stored, _, len| decoder::unpack_member(Kind::Zstd, stored, len),
        };
        let input = Arc::clone(&input.source);
        let source = Arc::new(Blocks::new(input, kind.name(), unpack, blocks));
        return Ok(Unpacked { source, layer, cut_off: None, oddities: Vec::new() });
    }
    spill::unpack(input, kind, options)
}

/// Blocks that are small enough to be read one at a time, if the input is made of such.
fn index(input: &Input, kind: Kind) -> Option<Vec<Block>> {
    let source = input.source.as_ref();
    let blocks = match kind {
        Kind::Lzop => lzop::index(source),
        Kind::Xz => xz::index(source),
        Kind::Zstd => zstd_frames::index(source),
        Kind::Gzip | Kind::Bzip2 | Kind::Lz4 => None,
    }?;
    blocks::are_usable(&blocks, source.len()).then_some(blocks)
}

/// Bytes the input unpacks to, if its headers say so.
fn stated_size(input: &Input, kind: Kind) -> Option<u64> {
    match kind {
        Kind::Xz => {
            let blocks = xz::index(input.source.as_ref())?;
            blocks.iter().try_fold(0u64, |sum, block| sum.checked_add(block.len))
        }
        Kind::Zstd => zstd_frames::first_content_size(input.source.as_ref()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_known_by_their_first_bytes() {
        assert_eq!(probe(b"\x1f\x8b\x08\0"), Some(Kind::Gzip));
        assert_eq!(probe(b"\x1f\x8b\x08\xff"), None);
        assert_eq!(probe(b"BZh91AY"), Some(Kind::Bzip2));
        assert_eq!(probe(b"BZhello"), None);
        assert_eq!(probe(b"\x50\x2a\x4d\x18\x04\0\0\0\x28\xb5\x2f\xfd"), None);
        assert_eq!(probe(b"\x50\x2a\x4d\x18\x04\0\0\0\0\0\0\0\x28\xb5\x2f\xfd"), Some(Kind::Zstd));
        assert_eq!(probe(b"KDUMP   "), None);
        assert_eq!(probe(b""), None);
    }
}
