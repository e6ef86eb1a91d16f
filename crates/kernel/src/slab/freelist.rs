//! Chains of free objects: each has the pointer to the next one at
//! `kmem_cache.offset`.

use std::ops::Range;

use crate::Kernel;
use crate::error::{Error, Result};

use super::layout::KmemCacheLayout;

/// `MAX_OBJS_PER_PAGE` (mm/slub.c): a slab's count of objects has 15 bits.
const MOST_OBJECTS: u32 = 1 << 15;

/// How a cache chains its free objects.
pub(super) struct FreePointers {
    offset: u64,
    random: Option<u64>,
}

impl FreePointers {
    /// Those of the cache at `cache`.
    pub(super) fn of(kernel: &Kernel, cache: u64) -> Result<FreePointers> {
        let layout = kernel.layout::<KmemCacheLayout>()?;
        Ok(FreePointers {
            offset: u64::from(layout.free_pointer.read(kernel, cache)?),
            random: layout.random.read_if_exists(kernel, cache)?,
        })
    }

    /// The free objects from `first` on, in the slab whose objects lie in
    /// `memory`, at most `objects` of them.
    pub(super) fn walk(
        &self,
        kernel: &Kernel,
        first: u64,
        memory: &Range<u64>,
        objects: u32,
    ) -> Result<Vec<u64>> {
        let mut free = Vec::new();
        let mut object = first;
        while object != 0 {
            if !memory.contains(&object) {
                return Err(Error::corrupt("a pointer to a free object out of its slab", object));
            }
            if free.len() >= objects.min(MOST_OBJECTS) as usize {
                return Err(Error::Loop { what: "a freelist".into(), addr: object });
            }
            free.push(object);
            let at = object.wrapping_add(self.offset);
            object = decode(kernel.read_u64(at)?, at, self.random, memory);
        }
        Ok(free)
    }
}

/// A free pointer as it is stored at `at`. CONFIG_SLAB_FREELIST_HARDENED mixes
/// it with the cache's random number and its own address, byte-swapped since
/// v5.7 (1ad53d9fa3f6): the reading that stays in the slab is right.
fn decode(stored: u64, at: u64, random: Option<u64>, slab: &Range<u64>) -> u64 {
    let Some(random) = random else { return stored };
    let swapped = stored ^ random ^ at.swap_bytes();
    let plain = stored ^ random ^ at;
    let fits = |pointer: u64| pointer == 0 || slab.contains(&pointer);
    if !fits(swapped) && fits(plain) { plain } else { swapped }
}

#[cfg(test)]
mod tests {
    use super::decode;

    const SLAB: std::ops::Range<u64> = 0xffff_8880_0100_0000..0xffff_8880_0100_1000;

    #[test]
    fn free_pointers_are_plain_without_hardening() {
        assert_eq!(decode(0xffff_8880_0100_0040, 0, None, &SLAB), 0xffff_8880_0100_0040);
    }

    #[test]
    fn hardened_free_pointers_are_decoded_in_both_forms() {
        let (at, next, random) = (SLAB.start + 0x20, SLAB.start + 0x40, 0x1234_5678_9abc_def0);
        assert_eq!(decode(next ^ random ^ at.swap_bytes(), at, Some(random), &SLAB), next);
        assert_eq!(decode(next ^ random ^ at, at, Some(random), &SLAB), next);
        assert_eq!(decode(random ^ at.swap_bytes(), at, Some(random), &SLAB), 0);
    }

    #[test]
    fn an_overwritten_free_pointer_does_not_become_one_in_the_slab() {
        let at = SLAB.start;
        let found = decode(0x4141_4141_4141_4141, at, Some(7), &SLAB);
        assert!(!SLAB.contains(&found) && found != 0);
    }
}
