//! Scalable bitmaps (include/linux/sbitmap.h): which tags a block device has
//! given out.
//!
//! `sbitmap.map` is an array of `struct sbitmap_word`, each on cache lines of
//! its own and with `1 << shift` bits of use. A bit counts as free again once
//! it is set in `cleared` too: freeing puts it there first (v5.0, ea86ea2cdced).

use crate::error::{Error, Result};
use crate::{Kernel, layout};

layout! {
    /// `struct sbitmap`, include/linux/sbitmap.h
    pub struct SbitmapLayout for "sbitmap" {
        depth: u32 = "depth",
        shift: u32 = "shift",
        words: u32 = "map_nr",
        map: u64 = "map",
    }
}

layout! {
    /// `struct sbitmap_word`, include/linux/sbitmap.h
    pub struct SbitmapWordLayout for "sbitmap_word" {
        word: u64 = "word",
        cleared: u64 = "cleared",
    }
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
