//! A compressed file whose blocks can be unpacked one without the other, as the bytes in it.
//!
//! Blocks that were unpacked are kept, up to [`CACHE_BYTES`] of them, the longest unused leaves
//! first: the pages of a structure, and of what it points to, tend to lie in the same few blocks.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use crate::source::{Source, SourceError, in_range};

/// Blocks beyond this cost more to unpack than to unpack the whole file once.
const LARGEST_BLOCK: u64 = 4 << 20;

/// Unpacked blocks that are kept.
const CACHE_BYTES: u64 = 32 << 20;

/// A block, and where its bytes belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::container) struct Block {
    /// Offset of its first byte in the unpacked file.
    pub(in crate::container) at: u64,
    pub(in crate::container) len: u64,
    /// Where its compressed form lies, with all its headers.
    pub(in crate::container) stored_at: u64,
    pub(in crate::container) stored_len: u64,
    /// Flags of the stream that it is part of, where it takes them to read it.
    pub(in crate::container) flags: u32,
}

impl Block {
    fn end(&self) -> u64 {
        self.at.saturating_add(self.len)
    }
}

/// Whether the blocks follow one another without a gap, lie in the file, and are small and many.
pub(in crate::container) fn are_usable(blocks: &[Block], file_len: u64) -> bool {
    let mut end = 0;
    for block in blocks {
        let stored_end = block.stored_at.checked_add(block.stored_len);
        let fits = stored_end.is_some_and(|end| end <= file_len);
        if block.at != end || block.len == 0 || block.len > LARGEST_BLOCK || !fits {
            return false;
        }
        let Some(next) = end.checked_add(block.len) else { return false };
        end = next;
    }
    !blocks.is_empty()
}

/// Unpacks a block: its stored bytes, its flags, and how many bytes it holds.
pub(in crate::container) type Unpack = fn(&[u8], u32, usize) -> Result<Vec<u8>, String>;

/// The unpacked file.
pub(in crate::container) struct Blocks {
    source: Arc<dyn Source>,
    /// The method, for errors.
    method: &'static str,
    unpack: Unpack,
    blocks: Vec<Block>,
    len: u64,
    /// Index of the block and its bytes, the last used at the end.
    cache: Mutex<Vec<(usize, Arc<[u8]>)>>,
}

impl Blocks {
    pub(in crate::container) fn new(
        source: Arc<dyn Source>,
        method: &'static str,
        unpack: Unpack,
        blocks: Vec<Block>,
    ) -> Blocks {
        let len = blocks.last().map_or(0, Block::end);
        Blocks { source, method, unpack, blocks, len, cache: Mutex::default() }
    }

    fn block(&self, index: usize) -> Result<Arc<[u8]>, SourceError> {
        {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = cache.iter().rposition(|(number, _)| *number == index) {
                let entry = cache.remove(found);
                let bytes = Arc::clone(&entry.1);
                cache.push(entry);
                return Ok(bytes);
            }
        }
        // Not under the lock: others may unpack other blocks meanwhile.
        let damaged = |what: String| SourceError::Damaged { what };
        let block = self.blocks.get(index).ok_or_else(|| damaged("no such block".to_owned()))?;
        let stored = self.source.bytes(block.stored_at, block.stored_len as usize)?;
        let unpacked = (self.unpack)(&stored, block.flags, block.len as usize);
        let bytes: Arc<[u8]> = unpacked
            .map_err(|why| {
                damaged(format!("{} block at offset {:#x}: {why}", self.method, block.stored_at))
            })?
            .into();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.push((index, Arc::clone(&bytes)));
        let mut held: u64 = cache.iter().map(|(_, bytes)| Source::len(&**bytes)).sum();
        while held > CACHE_BYTES && cache.len() > 1 {
            held -= Source::len(&*cache.remove(0).1);
        }
        Ok(bytes)
    }
}

impl Source for Blocks {
    fn len(&self) -> u64 {
        self.len
    }

    fn bytes(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>, SourceError> {
        if !in_range(offset, len, self.len) {
            return Err(SourceError::OutOfRange { offset, len, size: self.len });
        }
        let mut bytes = vec![0; len];
        self.copy_to(offset, &mut bytes)?;
        Ok(Cow::Owned(bytes))
    }

    fn copy_to(&self, offset: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        if !in_range(offset, buf.len(), self.len) {
            return Err(SourceError::OutOfRange { offset, len: buf.len(), size: self.len });
        }
        let mut at = offset;
        let mut rest = buf;
        let mut index = self.blocks.partition_point(|block| block.end() <= offset);
        while !rest.is_empty() {
            let Some(start) = self.blocks.get(index).map(|block| block.at) else { break };
            let block = self.block(index)?;
            let from = (at - start) as usize;
            let Some(there) = block.get(from..) else { break };
            let n = rest.len().min(there.len());
            let (head, tail) = rest.split_at_mut(n);
            head.copy_from_slice(&there[..n]);
            rest = tail;
            at += n as u64;
            index += 1;
        }
        Ok(())
    }

    fn held(&self) -> u64 {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_with_gaps_or_beyond_the_file_are_not_used() {
        let block =
            |at, len, stored_at, stored_len| Block { at, len, stored_at, stored_len, flags: 0 };
        assert!(are_usable(&[block(0, 10, 0, 5), block(10, 10, 5, 5)], 10));
        assert!(!are_usable(&[], 10));
        assert!(!are_usable(&[block(0, 10, 0, 5), block(11, 10, 5, 5)], 10));
        assert!(!are_usable(&[block(0, 10, 0, 11)], 10));
        assert!(!are_usable(&[block(0, 10, u64::MAX, 11)], 10));
        assert!(!are_usable(&[block(0, LARGEST_BLOCK + 1, 0, 5)], 10));
        assert!(!are_usable(&[block(0, 0, 0, 5)], 10));
    }
}
