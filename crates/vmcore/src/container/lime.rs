//! LiME and AVML: the RAM of a running machine, range by range.
//!
//! Layout (LiME, doc/README.md; AVML, src/image.rs; numbers little-endian): for each range
//!
//! ```text
//!    0  magic u32: "EMiL" (LiME, version 1; AVML when it does not compress) or "AVML" (version 2)
//!    4  version u32
//!    8  first byte u64, last byte u64 (physical addresses)
//!   24  8 zero bytes
//!   32  version 1: the bytes
//!       version 2: the bytes as a stream of snappy frames, and its length u64
//! ```
//!
//! Snappy's frames (google/snappy, framing_format.txt) are chunks { kind u8, length u24, data }: ff
//! the stream's start, 00 { crc32c u32, compressed bytes }, 01 { crc32c u32, bytes }, 80 to fe
//! padding. A chunk holds 64 KiB at most, so they are read in place, one at a time. The checksum
//! is rotated right by 15 and 0xa282ead8 is added.
//!
//! LiME's format "padded" is a raw image from address 0, its "raw" one leaves out the holes and
//! with them the addresses ([`super::raw`]).

use std::sync::Arc;

use super::compressed::blocks::{Block, Blocks};
use super::elf::{self, Piece};
use super::{Format, Input, Opened};
use crate::codec::{self, Codec};
use crate::error::OpenError;
use crate::info::ContainerInfo;
use crate::source::{Fields, Source};
use crate::support::Support;

pub(super) const FORMAT: Format = Format { probe, open, splits: false, support: SUPPORT };

const SUPPORT: &[Support] = &[
    Support {
        container: "LiME, format lime",
        read: "yes",
        write: "",
        real: "",
        synthetic: "lab: `k612-null-host.lime`, put together from QEMU's memory file; unit tests",
    },
    Support {
        container: "AVML, compressed (LiME version 2)",
        read: "yes, in place",
        write: "",
        real: "",
        synthetic: "unit tests",
    },
];

const LIME: &[u8] = b"EMiL";
const AVML: &[u8] = b"AVML";
const HEADER: u64 = 32;
const STREAM_START: &[u8] = b"\xff\x06\0\0sNaPpY";
const LARGEST_CHUNK: u64 = 64 << 10;

/// Ranges beyond this are not taken: AVML makes one per 16 MiB, of at most 64 TiB.
const MAX_RANGES: usize = 4 << 20;

const COMPRESSED: u8 = 0x00;
const PLAIN: u8 = 0x01;

fn probe(head: &[u8]) -> bool {
    let version = Fields(head).u32(4);
    (head.starts_with(LIME) && version == Some(1)) || (head.starts_with(AVML) && version == Some(2))
}

fn open(inputs: Vec<Input>) -> Result<Opened, OpenError> {
    let Some(Input { name, source, .. }) = inputs.into_iter().next() else {
        return Err(OpenError::NoInput);
    };
    let mut ranges = Ranges::default();
    let incomplete = ranges.read(source.as_ref()).err();
    if ranges.pieces.is_empty() {
        let what = incomplete.unwrap_or_else(|| "a LiME image without memory".to_owned());
        return Err(OpenError::Truncated { name, what });
    }
    let is_packed = !ranges.blocks.is_empty();
    let mut info = ContainerInfo {
        kind: if is_packed { "AVML (LiME version 2)" } else { "LiME" }.to_owned(),
        incomplete,
        ..ContainerInfo::default()
    };
    let source: Arc<dyn Source> = if is_packed {
        info.compression.push(Codec::Snappy);
        Arc::new(Blocks::new(source, "snappy", unpack, ranges.blocks))
    } else {
        source
    };
    let container = elf::of_pieces(source, &ranges.pieces);
    Ok(Opened { container, info, notes: Vec::new(), cpus: Vec::new(), vmcoreinfo: None })
}

#[derive(Default)]
struct Ranges {
    pieces: Vec<Piece>,
    /// Chunks of all ranges one after the other.
    blocks: Vec<Block>,
    unpacked: u64,
}

impl Ranges {
    /// Reads all headers. The error says where the image ended, or stopped to make sense.
    fn read(&mut self, source: &dyn Source) -> Result<(), String> {
        let mut at = 0;
        while at < source.len() {
            let cut = || format!("the LiME image is cut off in a header at {at:#x}");
            let header = source.bytes(at, HEADER as usize).map_err(|_| cut())?;
            let fields = Fields(&header);
            if !probe(&header) {
                // A block of a disk is filled up with zeros.
                let rest = (source.len() - at).min(1 << 20) as usize;
                let rest = source.bytes(at, rest).unwrap_or_default();
                if !self.pieces.is_empty() && rest.iter().all(|byte| *byte == 0) {
                    return Ok(());
                }
                return Err(format!("the LiME image is damaged: no header at {at:#x}"));
            }
            let (first, last) = fields.u64(8).zip(fields.u64(16)).ok_or_else(cut)?;
            let len = last.checked_sub(first).and_then(|len| len.checked_add(1));
            let Some(len) = len.filter(|_| last < u64::MAX) else {
                return Err(format!(
                    "the LiME image is damaged: the header at {at:#x} is for the range from \
                     {first:#x} to {last:#x}"
                ));
            };
            if self.pieces.len() == MAX_RANGES {
                return Err(format!("a LiME image of more than {MAX_RANGES} ranges"));
            }
            let body = at + HEADER;
            if header.starts_with(AVML) {
                at = self.read_packed(source, body, first, len)?;
                continue;
            }
            if !self.blocks.is_empty() {
                return Err(format!("the image at {at:#x} goes on in LiME's other version"));
            }
            let there = len.min(source.len() - body);
            self.pieces.push(Piece { addr: first, len, offset: body });
            if there < len {
                return Err(format!(
                    "the LiME image is cut off: {there} of the {len} bytes at {first:#x} are there"
                ));
            }
            at = body + len;
        }
        Ok(())
    }

    /// Reads the chunks of one range. Returns where the next range's header is.
    fn read_packed(
        &mut self,
        source: &dyn Source,
        body: u64,
        first: u64,
        len: u64,
    ) -> Result<u64, String> {
        if !self.pieces.is_empty() && self.blocks.is_empty() {
            return Err(format!("the image at {body:#x} goes on in LiME's other version"));
        }
        let start = self.unpacked;
        let mut at = body;
        let done = loop {
            if self.unpacked - start >= len {
                break Ok(());
            }
            match self.read_chunk(source, at) {
                Ok(next) => at = next,
                Err(why) => break Err(why),
            }
        };
        let there = (self.unpacked - start).min(len);
        if there > 0 || done.is_ok() {
            self.pieces.push(Piece { addr: first, len, offset: start });
        }
        done.map_err(|why| format!("{why}: {there} of the {len} bytes at {first:#x} are there"))?;
        if self.unpacked - start > len {
            return Err(format!("the AVML image is damaged: more than {len} bytes at {first:#x}"));
        }
        let mut size = [0; 8];
        source
            .copy_to(at, &mut size)
            .map_err(|_| format!("the AVML image is cut off behind the range at {first:#x}"))?;
        if u64::from_le_bytes(size) != at - body {
            return Err(format!(
                "the AVML image is damaged: the range at {first:#x} takes {} bytes and says {}",
                at - body,
                u64::from_le_bytes(size)
            ));
        }
        Ok(at + 8)
    }

    /// Reads the head of a chunk. Returns where the next one is.
    fn read_chunk(&mut self, source: &dyn Source, at: u64) -> Result<u64, String> {
        let cut = || format!("the AVML image is cut off at {:#x}", source.len());
        let mut head = [0; 13];
        let there = source.len().saturating_sub(at).min(head.len() as u64) as usize;
        let bytes = head.get_mut(..there).unwrap_or_default();
        source.copy_to(at, bytes).map_err(|_| cut())?;
        if there < 4 {
            return Err(cut());
        }
        let [kind, a, b, c, ..] = head;
        let size = u64::from(u32::from_le_bytes([a, b, c, 0]));
        let next = at + 4 + size;
        let damaged = || format!("the AVML image is damaged at {at:#x}");
        let len = match kind {
            COMPRESSED => {
                codec::snappy_len(head.get(8..there).unwrap_or_default()).ok_or_else(damaged)?
            }
            PLAIN => size.checked_sub(4).ok_or_else(damaged)?,
            0xff if head.starts_with(STREAM_START) => 0,
            0x80..=0xfe => 0,
            _ => return Err(damaged()),
        };
        if next > source.len() {
            return Err(cut());
        }
        if len > LARGEST_CHUNK || (len == 0 && matches!(kind, COMPRESSED | PLAIN)) {
            return Err(damaged());
        }
        if len > 0 {
            self.blocks.push(Block {
                at: self.unpacked,
                len,
                stored_at: at,
                stored_len: 4 + size,
                flags: 0,
            });
            self.unpacked += len;
        }
        Ok(next)
    }
}

/// Unpacks a chunk, given with its head.
fn unpack(stored: &[u8], _flags: u32, len: usize) -> Result<Vec<u8>, String> {
    let (Some((head, data)), Some(sum)) = (stored.split_at_checked(8), Fields(stored).u32(4))
    else {
        return Err("it is cut off".to_owned());
    };
    let bytes = if head.first() == Some(&PLAIN) {
        data.to_vec()
    } else {
        let mut bytes = vec![0; len];
        codec::decompress(Codec::Snappy, data, &mut bytes)?;
        bytes
    };
    if crc32c(&bytes).rotate_right(15).wrapping_add(0xa282_ead8) != sum {
        return Err("its checksum does not match".to_owned());
    }
    Ok(bytes)
}

/// CRC-32C (RFC 3720, 12.1), by a table.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let mut crc = n as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
                bit += 1;
            }
            table[n] = crc;
            n += 1;
        }
        table
    };
    let step = |crc: u32, byte: &u8| TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8);
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_of_the_rfc() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
