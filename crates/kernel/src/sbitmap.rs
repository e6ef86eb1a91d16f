//! Scalable bitmaps (include/linux/sbitmap.h): which tags a block device has
//! given out.
//!
//! `sbitmap.map` is an array of `struct sbitmap_word`, each on cache lines of
//! its own and with `1 << shift` bits of use. A bit counts as free again once
//! it is set in `cleared` too: freeing puts it there first (v5.0, ea86ea2cdced).

use serde::Serialize;

use crate::error::{Error, Result};
use crate::layout::Embedded;
use crate::stack::hex;
use crate::{Kernel, layout};

layout! {
    /// `struct sbitmap`, include/linux/sbitmap.h
    pub struct SbitmapLayout for "sbitmap" {
        depth: u32 = "depth",
        shift: u32 = "shift",
        words: u32 = "map_nr",
        map: u64 = "map",
        alloc_hint: u64 = "alloc_hint",      // in the queue until v5.13
        round_robin: bool = "round_robin",   // in the queue until v5.13
    }
}

layout! {
    /// `struct sbitmap_word`, include/linux/sbitmap.h
    pub struct SbitmapWordLayout for "sbitmap_word" {
        word: u64 = "word",
        cleared: u64 = "cleared",
    }
}

layout! {
    /// `struct sbitmap_queue`, include/linux/sbitmap.h
    pub struct SbitmapQueueStateLayout for "sbitmap_queue" {
        bitmap: Embedded = "sb",
        alloc_hint: u64 = "alloc_hint",
        wake_batch: u32 = "wake_batch",
        wake_index: i32 = "wake_index",
        waits: u64 = "ws",
        ws_active: i32 = "ws_active",
        round_robin: bool = "round_robin",
        min_shallow_depth: u32 = "min_shallow_depth",
    }
}

layout! {
    /// `struct sbq_wait_state`, include/linux/sbitmap.h
    pub struct SbqWaitStateLayout for "sbq_wait_state" {
        count: i32 = "wait_cnt",   // until v6.1
        head: Embedded = "wait.head",
    }
}

/// `SBQ_WAIT_QUEUES`
const WAIT_QUEUES: u64 = 8;

/// A `struct sbitmap_queue`.
#[derive(Debug, Clone, Serialize)]
pub struct SbitmapQueue {
    /// Its address.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// How many bits it has.
    pub depth: u32,
    /// How many of them are in use.
    pub busy: u32,
    /// How many were freed and are not yet cleared.
    pub cleared: Option<u32>,
    /// Bits used of each word.
    pub bits_per_word: u32,
    /// Words.
    pub map_nr: u32,
    /// Where each possible CPU looks first.
    pub alloc_hint: Vec<u32>,
    /// Bits that are freed before somebody is woken.
    pub wake_batch: u32,
    /// The wait queue that is woken next.
    pub wake_index: i32,
    /// Wait queues with sleepers.
    pub ws_active: Option<i32>,
    /// The wait queues.
    pub waits: Vec<SbitmapWait>,
    /// Bits are given out in turn.
    pub round_robin: Option<bool>,
    /// The least that users limit themselves to, in bits of a word.
    pub min_shallow_depth: Option<u32>,
    /// Numbers of the bits in use.
    pub used: Vec<u32>,
    /// The bits in use as bytes, the lowest number first.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

/// A wait queue of a bitmap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SbitmapWait {
    /// Bits to be freed before it is woken.
    pub count: Option<i32>,
    /// Whether somebody sleeps there.
    pub active: bool,
}

/// More bits than any user of them asks for.
const LARGEST: u32 = 1 << 20;

impl Kernel {
    /// Numbers of the bits in use in the `struct sbitmap` at `addr`, ascending.
    pub fn sbitmap(&self, addr: u64) -> Result<Vec<u32>> {
        let layout = self.layout::<SbitmapLayout>()?;
        let word_layout = self.layout::<SbitmapWordLayout>()?;
        let depth = layout.depth.read(self, addr)?;
        let shift = layout.shift.read(self, addr)?;
        let words = layout.words.read(self, addr)?;
        if depth > LARGEST || shift > 6 || u64::from(words) << shift >= u64::from(depth) + 64 {
            return Err(Error::corrupt(format!("a bitmap of {depth} bits"), addr));
        }
        let map = layout.map.read(self, addr)?;
        let mut found = Vec::new();
        for i in 0..words {
            let at = map.wrapping_add(u64::from(i) * word_layout.size);
            let word = word_layout.word.read(self, at)?;
            let cleared = word_layout.cleared.read_if_exists(self, at)?.unwrap_or(0);
            found.extend(bits_of(word & !cleared, i << shift, 1 << shift, depth));
        }
        Ok(found)
    }
}

impl Kernel {
    /// The `struct sbitmap_queue` at `addr`.
    pub fn sbitmap_queue(&self, addr: u64) -> Result<SbitmapQueue> {
        let layout = self.layout::<SbitmapQueueStateLayout>()?;
        let inner = self.layout::<SbitmapLayout>()?;
        let bitmap = layout.bitmap.address(addr)?;
        let used = self.sbitmap(bitmap)?;
        let depth = inner.depth.read(self, bitmap)?;
        let map_nr = inner.words.read(self, bitmap)?;
        let hints = match inner.alloc_hint.read_if_exists(self, bitmap)? {
            Some(hints) => hints,
            None => layout.alloc_hint.read(self, addr)?,
        };
        let hint = |(_, offset): (u32, u64)| self.read_u32(hints.wrapping_add(offset));
        let round_robin = match inner.round_robin.read_if_exists(self, bitmap)? {
            None => layout.round_robin.read_if_exists(self, addr)?,
            found => found,
        };
        let mut bytes = vec![0u8; depth.div_ceil(8) as usize];
        for bit in &used {
            if let Some(byte) = bytes.get_mut((bit / 8) as usize) {
                *byte |= 1 << (bit % 8);
            }
        }
        Ok(SbitmapQueue {
            addr,
            depth,
            busy: used.len() as u32,
            cleared: self.cleared_bits(bitmap, map_nr)?,
            bits_per_word: 1 << inner.shift.read(self, bitmap)?.min(6),
            map_nr,
            alloc_hint: self.per_cpu_offsets()?.into_iter().map(hint).collect::<Result<_>>()?,
            wake_batch: layout.wake_batch.read(self, addr)?,
            wake_index: layout.wake_index.read(self, addr)?,
            ws_active: layout.ws_active.read_if_exists(self, addr)?,
            waits: self.sbitmap_waits(layout.waits.read(self, addr)?)?,
            round_robin,
            min_shallow_depth: layout.min_shallow_depth.read_if_exists(self, addr)?,
            used,
            bytes,
        })
    }

    /// Bits that were freed and not yet cleared.
    fn cleared_bits(&self, bitmap: u64, words: u32) -> Result<Option<u32>> {
        let word = self.layout::<SbitmapWordLayout>()?;
        let map = self.layout::<SbitmapLayout>()?.map.read(self, bitmap)?;
        let mut count = 0;
        for i in 0..u64::from(words) {
            match word.cleared.read_if_exists(self, map.wrapping_add(i * word.size))? {
                Some(cleared) => count += cleared.count_ones(),
                None => return Ok(None),
            }
        }
        Ok(Some(count))
    }

    fn sbitmap_waits(&self, first: u64) -> Result<Vec<SbitmapWait>> {
        let layout = self.layout::<SbqWaitStateLayout>()?;
        let wait = |i: u64| {
            let at = first.wrapping_add(i * layout.size);
            let head = layout.head.address(at)?;
            Ok(SbitmapWait {
                count: layout.count.read_if_exists(self, at)?,
                active: self.read_u64(head)? != head,
            })
        };
        (0..WAIT_QUEUES).map(wait).collect()
    }
}

/// The bits set in `word`, counted from `first`: at most `width` of them, and
/// below `depth`.
fn bits_of(word: u64, first: u32, width: u32, depth: u32) -> impl Iterator<Item = u32> {
    let set = (0..width).filter(move |bit| word >> bit & 1 == 1);
    set.map(move |bit| first + bit).take_while(move |n| *n < depth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_used_up_to_their_width_and_the_depth() {
        let bits =
            |word, first, width, depth| bits_of(word, first, width, depth).collect::<Vec<_>>();
        assert_eq!(bits(0b1011, 0, 64, 128), [0, 1, 3]);
        assert_eq!(bits(1 << 63 | 1, 64, 64, 128), [64, 127]);
        // Nothing behind the width or the depth counts.
        assert_eq!(bits(u64::MAX, 8, 4, 128), [8, 9, 10, 11]);
        assert_eq!(bits(u64::MAX, 8, 8, 10), [8, 9]);
    }
}
