//! zstd's frames: where each lies and how much it holds.
//!
//! Layout (RFC 8878, 3.1; numbers little-endian):
//!
//! ```text
//!   frame      magic 28 B5 2F FD, descriptor u8, [window u8], [dictionary 0, 1, 2 or 4 bytes],
//!              [content size 0, 1, 2, 4 or 8 bytes], blocks, [checksum u32 if descriptor & 4]
//!   descriptor bits 7-6: how long the content size is, bit 5: no window (the content is it),
//!              bits 1-0: how long the dictionary's number is
//!   block      3 bytes: bit 0 last, bits 2-1 type (0 raw, 1 one byte repeated, 2 compressed), size
//!   skippable  magic 50..5F 2A 4D 18, size u32, bytes
//! ```
//!
//! A file with a seek table at its end is an archive (`container/archive.rs`).

use super::ZSTD_MAGIC;
use super::blocks::Block;
use crate::source::{Fields, Source};

const SKIPPABLE: u32 = 0x184d_2a50;
/// An index beyond this is not made: memory in proportion to what was found so far only.
const MAX_WALKED: usize = 4 << 20;

/// A frame's header is no longer than this.
const LARGEST_HEADER: u64 = 18;

/// Content beyond this, per frame, is not read in place anyway.
const LARGEST_FRAME: u64 = 64 << 20;

fn is_skippable(magic: u32) -> bool {
    magic & 0xffff_fff0 == SKIPPABLE
}

/// Whether a frame of zstd follows a skippable one within the first bytes of a file.
pub(super) fn starts_behind_a_skippable_frame(head: &[u8]) -> bool {
    let fields = Fields(head);
    let (Some(magic), Some(size)) = (fields.u32(0), fields.u32(4)) else { return false };
    is_skippable(magic)
        && head.get(size as usize + 8..).is_some_and(|rest| rest.starts_with(ZSTD_MAGIC))
}

/// What is in front of a frame's blocks.
struct Header {
    size: u64,
    content: Option<u64>,
    has_checksum: bool,
}

fn header(bytes: &[u8]) -> Option<Header> {
    let rest = bytes.strip_prefix(ZSTD_MAGIC)?;
    let descriptor = *rest.first()?;
    let is_single = descriptor & 0x20 != 0;
    let window = usize::from(!is_single);
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let at = 1 + window + dictionary;
    let fields = Fields(rest);
    let (content_len, content) = match descriptor >> 6 {
        0 if is_single => (1, rest.get(at).map(|byte| u64::from(*byte))),
        0 => (0, None),
        1 => (2, fields.u16(at).map(|size| u64::from(size) + 256)),
        2 => (4, fields.u32(at).map(u64::from)),
        _ => (8, fields.u64(at)),
    };
    let size = (ZSTD_MAGIC.len() + at + content_len) as u64;
    Some(Header { size, content, has_checksum: descriptor & 4 != 0 })
}

fn header_at(source: &dyn Source, at: u64) -> Option<Header> {
    let len = source.len().checked_sub(at)?.min(LARGEST_HEADER) as usize;
    header(&source.bytes(at, len).ok()?)
}

/// What the first frame says it holds. Several frames hold more.
pub(super) fn first_content_size(source: &dyn Source) -> Option<u64> {
    header_at(source, 0)?.content
}

/// The frames of a file, by the heads of their blocks, if each frame says what it holds.
pub(super) fn index(source: &dyn Source) -> Option<Vec<Block>> {
    let mut blocks = Vec::new();
    let (mut at, mut stored_at) = (0u64, 0u64);
    while stored_at < source.len() {
        let mut head = [0; 8];
        if source.copy_to(stored_at, &mut head).is_ok()
            && let Some(magic) = Fields(&head).u32(0)
            && is_skippable(magic)
        {
            stored_at = stored_at.checked_add(8 + u64::from(Fields(&head).u32(4)?))?;
            continue;
        }
        let header = header_at(source, stored_at)?;
        let len = header.content.filter(|len| *len <= LARGEST_FRAME)?;
        let end = end_of_frame(source, stored_at, &header)?;
        if blocks.len() == MAX_WALKED {
            return None;
        }
        if len > 0 {
            let stored_len = end - stored_at;
            blocks.push(Block { at, len, stored_at, stored_len, flags: 0 });
        }
        at = at.checked_add(len)?;
        stored_at = end;
    }
    Some(blocks)
}

fn end_of_frame(source: &dyn Source, start: u64, header: &Header) -> Option<u64> {
    let mut at = start.checked_add(header.size)?;
    loop {
        let mut head = [0; 4];
        source.copy_to(at, head.get_mut(..3)?).ok()?;
        let head = u32::from_le_bytes(head);
        let size = u64::from(head >> 3);
        at = at.checked_add(3 + if head >> 1 & 3 == 1 { 1 } else { size })?;
        if head & 1 != 0 {
            break;
        }
    }
    let end = at.checked_add(if header.has_checksum { 4 } else { 0 })?;
    (end <= source.len()).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(bytes, 1).unwrap()
    }

    #[test]
    fn frames_are_found_one_behind_the_other() {
        let (a, b) = (frame(&[7; 1000]), frame(&[9; 300_000]));
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let file = [a.as_slice(), &skippable, &b].concat();
        let blocks = index(&file).unwrap();
        assert_eq!(
            blocks.iter().map(|b| (b.at, b.len)).collect::<Vec<_>>(),
            [(0, 1000), (1000, 300_000)]
        );
        assert_eq!(blocks[1].stored_at as usize, a.len() + skippable.len());
        assert!(index(&file[..file.len() - 1].to_vec()).is_none(), "cut off");
        let unknown = zstd::stream::encode_all([1; 100].as_slice(), 1).unwrap();
        assert!(index(&unknown).is_none(), "a stream does not know what it will hold");
    }
}
