//! The index of an xz file, and its blocks one at a time.
//!
//! Layout (The .xz File Format, version 1.2.1): streams, each followed by zeros in fours:
//!
//! ```text
//!   header  magic FD 37 7A 58 5A 00, flags 2 bytes (0, kind of check), crc32 of the flags
//!   blocks  each padded to 4 bytes
//!   index   00, number of records, records { unpadded size, unpacked size }, padding, crc32;
//!           numbers of 7 bits a byte, least significant first
//!   footer  crc32, index size / 4 - 1 as u32, flags 2 bytes, "YZ"
//! ```

use super::blocks::Block;
use super::decoder;
use crate::source::{Fields, Source};

const MAGIC: &[u8] = b"\xfd7zXZ\0";
const HEADER: u64 = 12;
const FOOTER: u64 = 12;

/// An index beyond this is not read: 4 million blocks.
const LARGEST_INDEX: u64 = 32 << 20;

/// Streams beyond this are not looked for.
const MAX_STREAMS: usize = 4096;

/// The blocks of all streams, from the indices at their ends. `None` for what has no sound ones.
pub(super) fn index(source: &dyn Source) -> Option<Vec<Block>> {
    let mut streams = Vec::new();
    let mut end = source.len();
    while end > 0 {
        if streams.len() == MAX_STREAMS {
            return None;
        }
        let (start, blocks) = stream_before(source, end)?;
        streams.push(blocks);
        end = start;
    }
    let mut at = 0u64;
    let mut all: Vec<Block> = Vec::new();
    for mut block in streams.into_iter().rev().flatten().filter(|block| block.len > 0) {
        block.at = at;
        at = at.checked_add(block.len)?;
        all.push(block);
    }
    Some(all)
}

/// Where the stream that ends at `end` starts, and its blocks.
fn stream_before(source: &dyn Source, mut end: u64) -> Option<(u64, Vec<Block>)> {
    let mut footer = [0; FOOTER as usize];
    let mut padding = 0;
    loop {
        source.copy_to(end.checked_sub(FOOTER)?, &mut footer).ok()?;
        if footer[8..] != [0; 4] {
            break;
        }
        // Padding that large is no padding.
        padding += 4;
        if padding > 1 << 20 {
            return None;
        }
        end -= 4;
    }
    let fields = Fields(&footer);
    if footer.get(10..) != Some(b"YZ") {
        return None;
    }
    let index_len = (u64::from(fields.u32(4)?) + 1) * 4;
    if index_len > LARGEST_INDEX {
        return None;
    }
    let index_at = end.checked_sub(FOOTER + index_len)?;
    let index = source.bytes(index_at, index_len as usize).ok()?;
    let sizes = records(&index)?;
    let padded = |size: u64| size.checked_next_multiple_of(4);
    let blocks_len =
        sizes.iter().try_fold(0u64, |sum, (stored, _)| sum.checked_add(padded(*stored)?))?;
    let first = index_at.checked_sub(blocks_len)?;
    let start = first.checked_sub(HEADER)?;
    let mut header = [0; 8];
    source.copy_to(start, &mut header).ok()?;
    if !header.starts_with(MAGIC) || header[6..] != footer[8..10] {
        return None;
    }
    let flags = u32::from(fields.u16(8)?);
    let mut stored_at = first;
    let mut blocks = Vec::with_capacity(sizes.len());
    for (stored_len, len) in sizes {
        blocks.push(Block { at: 0, len, stored_at, stored_len: padded(stored_len)?, flags });
        stored_at += padded(stored_len)?;
    }
    Some((start, blocks))
}

/// The records of an index.
fn records(index: &[u8]) -> Option<Vec<(u64, u64)>> {
    let mut rest = index.strip_prefix(&[0])?;
    let count = varint(&mut rest)?;
    // A record has two bytes at least.
    if count > index.len() as u64 / 2 {
        return None;
    }
    (0..count).map(|_| Some((varint(&mut rest)?, varint(&mut rest)?))).collect()
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Unpacks one block: as a stream that ends behind it.
pub(super) fn unpack_block(stored: &[u8], flags: u32, len: usize) -> Result<Vec<u8>, String> {
    use std::io::{ErrorKind, Read};
    let flags = (flags as u16).to_le_bytes();
    let mut crc = flate2::Crc::new();
    crc.update(&flags);
    let stream = [MAGIC, &flags, &crc.sum().to_le_bytes(), stored].concat();
    let mut decoder =
        decoder::member(super::Kind::Xz, stream.as_slice()).map_err(|error| error.to_string())?;
    let mut bytes = vec![0; len];
    decoder.read_exact(&mut bytes).map_err(|error| error.to_string())?;
    // Reading on is what verifies the block's check; then the index is missing, as it must be.
    match decoder.read(&mut [0]) {
        Ok(0) => Ok(bytes),
        Ok(_) => Err("it holds more than the index says".to_owned()),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_seven_bits_a_byte() {
        assert_eq!(varint(&mut [0x7f].as_slice()), Some(0x7f));
        assert_eq!(varint(&mut [0x80, 1].as_slice()), Some(0x80));
        assert_eq!(varint(&mut [0x80].as_slice()), None);
        assert_eq!(varint(&mut [0xff; 20].as_slice()), None);
    }

    #[test]
    fn an_index_that_promises_too_much_is_none() {
        assert_eq!(records(&[0, 1, 5, 6, 0, 0, 0, 0]), Some(vec![(5, 6)]));
        assert_eq!(records(&[0, 100, 5, 6]), None);
        assert_eq!(records(&[1]), None);
        assert!(index(&b"\xfd7zXZ\0\0\x04".to_vec()).is_none());
    }
}
