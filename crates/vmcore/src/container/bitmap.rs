//! A bitmap of page frames in the file, with ranks: kdump-compressed's and sadump's.
//!
//! The n-th set bit belongs to the n-th page descriptor, so a look-up needs the number of bits set
//! before a page frame. Counts are kept for each 512 bytes of bitmap (4096 page frames): 4 bytes
//! each, so a machine of 24 TiB takes 6 MiB of counts for a bitmap of 800 MB. They are filled in
//! from the front, in chunks of 4 MiB of bitmap, no further than somebody asked.
//!
//! Bit n is bit `n % 8` of byte `n / 8`; of sadump's bit `7 - n % 8`.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::source::Source;

const BLOCK: u64 = 512;
const CHUNK: u64 = 4 << 20;

pub(super) struct Bitmap {
    source: Arc<dyn Source>,
    offset: u64,
    /// Number of page frames; bits behind it are padding.
    bits: u64,
    chunks: Vec<OnceLock<Chunk>>,
}

struct Chunk {
    /// Bits set before the chunk, and with it.
    before: u64,
    after: u64,
    /// Bits set before each block, within the chunk.
    blocks: Vec<u32>,
}

impl Bitmap {
    /// A bitmap at `offset`. The caller has checked that it lies in the source.
    pub(super) fn new(source: Arc<dyn Source>, offset: u64, bits: u64) -> Bitmap {
        let chunks = bits.div_ceil(8).div_ceil(CHUNK) as usize;
        Bitmap { source, offset, bits, chunks: (0..chunks).map(|_| OnceLock::new()).collect() }
    }

    /// Bytes of a piece of the bitmap that starts at byte `at`; what can't be read counts as
    /// not set.
    fn bytes(&self, at: u64, len: u64) -> std::borrow::Cow<'_, [u8]> {
        let len = len.min(self.bits.div_ceil(8).saturating_sub(at));
        self.source.bytes(self.offset + at, len as usize).unwrap_or_default()
    }

    pub(super) fn is_set(&self, pfn: u64) -> bool {
        pfn < self.bits
            && self.bytes(pfn / 8, 1).first().is_some_and(|byte| byte >> (pfn % 8) & 1 != 0)
    }

    /// Number of bits set before `pfn`.
    pub(super) fn rank(&self, pfn: u64) -> u64 {
        let pfn = pfn.min(self.bits);
        let byte = pfn / 8;
        if pfn == self.bits {
            return self.count();
        }
        let Some(chunk) = self.chunk((byte / CHUNK) as usize) else { return 0 };
        let block = (byte % CHUNK / BLOCK) as usize;
        let block_start = byte / BLOCK * BLOCK;
        let bytes = self.bytes(block_start, byte - block_start + 1);
        let (last, whole) = match bytes.split_last() {
            Some((last, whole)) => (*last, whole),
            None => (0, [].as_slice()),
        };
        let within = ones(whole) + u64::from((last & ((1 << (pfn % 8)) - 1)).count_ones());
        chunk.before + u64::from(chunk.blocks.get(block).copied().unwrap_or(0)) + within
    }

    /// Number of all bits set.
    pub(super) fn count(&self) -> u64 {
        match self.chunks.len() {
            0 => 0,
            len => self.chunk(len - 1).map_or(0, |chunk| chunk.after),
        }
    }

    fn chunk(&self, index: usize) -> Option<&Chunk> {
        if let Some(chunk) = self.chunks.get(index)?.get() {
            return Some(chunk);
        }
        // All chunks before this one, as far as they are not there yet.
        let first = (0..index).rev().find_map(|i| Some((i, self.chunks.get(i)?.get()?.after)));
        let (mut from, mut before) = first.map_or((0, 0), |(i, after)| (i + 1, after));
        while from <= index {
            before = self.chunks.get(from)?.get_or_init(|| self.count_chunk(from, before)).after;
            from += 1;
        }
        self.chunks.get(index)?.get()
    }

    fn count_chunk(&self, index: usize, before: u64) -> Chunk {
        let at = index as u64 * CHUNK;
        let bytes = self.bytes(at, CHUNK);
        let mut blocks = Vec::with_capacity(bytes.len().div_ceil(BLOCK as usize));
        let mut count = 0u64;
        for (number, block) in bytes.chunks(BLOCK as usize).enumerate() {
            blocks.push(count as u32);
            count += ones(self.without_padding(block, at + number as u64 * BLOCK).as_ref());
        }
        Chunk { before, after: before + count, blocks }
    }

    /// Clears bits behind the last page frame: the last byte may have them.
    fn without_padding<'a>(&self, bytes: &'a [u8], at: u64) -> std::borrow::Cow<'a, [u8]> {
        let mut bytes = std::borrow::Cow::Borrowed(bytes);
        if !self.bits.is_multiple_of(8)
            && at + bytes.len() as u64 == self.bits.div_ceil(8)
            && let Some(last) = bytes.to_mut().last_mut()
        {
            *last &= (1 << (self.bits % 8)) - 1;
        }
        bytes
    }

    /// Runs of set bits within `pfns`, ascending. Reads the bitmap as it goes.
    pub(super) fn runs(&self, pfns: Range<u64>) -> Runs<'_> {
        Runs {
            bitmap: self,
            next: pfns.start,
            end: pfns.end.min(self.bits),
            block: Block::default(),
        }
    }
}

fn ones(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8);
    let rest: u64 = words.remainder().iter().map(|byte| u64::from(byte.count_ones())).sum();
    words
        .filter_map(|word| word.try_into().ok())
        .fold(rest, |sum, word| sum + u64::from(u64::from_le_bytes(word).count_ones()))
}

/// A copy of one block, so that a walk asks the source once for 4096 bits.
struct Block {
    number: u64,
    words: [u64; BLOCK as usize / 8],
}

impl Default for Block {
    fn default() -> Block {
        Block { number: u64::MAX, words: [0; BLOCK as usize / 8] }
    }
}

pub(super) struct Runs<'a> {
    bitmap: &'a Bitmap,
    next: u64,
    end: u64,
    block: Block,
}

impl Runs<'_> {
    /// First bit at or after `from` that is as `set` says; the end if there is none.
    fn find(&mut self, from: u64, set: bool) -> u64 {
        let mut pfn = from;
        while pfn < self.end {
            self.load(pfn / (BLOCK * 8));
            let word = self.block.words[(pfn / 64) as usize % self.block.words.len()];
            let word = if set { word } else { !word } >> (pfn % 64);
            if word != 0 {
                return (pfn + u64::from(word.trailing_zeros())).min(self.end);
            }
            pfn = (pfn / 64 + 1) * 64;
        }
        self.end
    }

    fn load(&mut self, number: u64) {
        if self.block.number == number {
            return;
        }
        self.block = Block { number, ..Block::default() };
        let bytes = self.bitmap.bytes(number * BLOCK, BLOCK);
        for (word, bytes) in self.block.words.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(whole);
        }
    }
}

impl Iterator for Runs<'_> {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        let start = self.find(self.next, true);
        if start >= self.end {
            return None;
        }
        self.next = self.find(start, false);
        Some(start..self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bitmap(bytes: Vec<u8>, bits: u64) -> Bitmap {
        Bitmap::new(Arc::new(bytes), 0, bits)
    }

    fn bits_of(bytes: &[u8], bits: u64) -> Vec<u64> {
        (0..bits).filter(|bit| bytes[(bit / 8) as usize] >> (bit % 8) & 1 != 0).collect()
    }

    #[test]
    fn ranks_over_chunks() {
        // Two chunks and a bit of a third, with a pattern that differs between blocks.
        let bytes: Vec<u8> = (0..2 * CHUNK + 1000).map(|n| ((n * n) >> 9) as u8).collect();
        let ones = |len: u64| ones(&bytes[..len as usize]);
        let bits = 8 * bytes.len() as u64;
        let bitmap = bitmap(bytes.clone(), bits);
        // The last one first: the chunks before it are filled in for it.
        for byte in [2 * CHUNK + 999, CHUNK, CHUNK - 1, 0, 512, 513, 2 * CHUNK] {
            assert_eq!(bitmap.rank(8 * byte), ones(byte), "byte {byte:#x}");
        }
        assert_eq!(bitmap.count(), ones(bits / 8));
        assert_eq!(bitmap.rank(u64::MAX), bitmap.count());
    }

    #[test]
    fn bits_behind_the_last_page_frame_do_not_count() {
        let bitmap = bitmap(vec![0xff; 2], 11);
        assert_eq!(bitmap.count(), 11);
        assert!(bitmap.is_set(10) && !bitmap.is_set(11));
        assert!(bitmap.runs(0..100).eq(std::iter::once(0..11)));
    }

    #[test]
    fn a_bitmap_without_bits() {
        let bitmap = bitmap(Vec::new(), 0);
        assert_eq!((bitmap.count(), bitmap.rank(0), bitmap.runs(0..10).count()), (0, 0, 0));
        assert!(!bitmap.is_set(0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn ranks_and_runs_are_those_of_a_plain_count(
            bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 1..3000),
            cut in 0u64..8,
            from in any::<prop::sample::Index>(),
        ) {
            let bits = 8 * bytes.len() as u64 - cut;
            let set = bits_of(&bytes, bits);
            let bitmap = bitmap(bytes, bits);
            for pfn in (0..bits).step_by(61) {
                let before = set.partition_point(|&bit| bit < pfn) as u64;
                prop_assert_eq!(bitmap.rank(pfn), before);
            }
            prop_assert_eq!(bitmap.count(), set.len() as u64);
            let from = from.index(bits as usize) as u64;
            let runs: Vec<u64> = bitmap.runs(from..bits).flatten().collect();
            prop_assert_eq!(&runs, &set[set.partition_point(|&bit| bit < from)..]);
            let mut end = None;
            for run in bitmap.runs(0..bits) {
                prop_assert!(run.start < run.end && end.is_none_or(|end| run.start > end));
                end = Some(run.end);
            }
        }
    }
}
