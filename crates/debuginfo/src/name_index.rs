//! From a name to the numbers of those that carry it, in two flat arrays.
//!
//! A hash map with strings would cost many times the tables it indexes. Here a bucket is a range
//! of `ids`; whoever asks compares the few names in it, so a hash that collides costs a
//! comparison and is never an answer.

use std::hash::Hasher;

use rustc_hash::FxHasher;

/// Numbers sorted into buckets by the hash of their name.
pub(crate) struct NameIndex {
    /// `starts[b]..starts[b + 1]` is bucket `b` of `ids`.
    starts: Vec<u32>,
    ids: Vec<u32>,
    shift: u32,
}

impl NameIndex {
    /// `hashes[i]` is the hash of the name of number `i`; `None` leaves the number out.
    pub(crate) fn new(hashes: &[Option<u32>]) -> NameIndex {
        let buckets = (hashes.len() / 2).next_power_of_two().max(2);
        let shift = 32 - buckets.trailing_zeros();
        let mut starts = vec![0_u32; buckets + 1];
        for hash in hashes.iter().flatten() {
            starts[(hash >> shift) as usize + 1] += 1;
        }
        for bucket in 1..=buckets {
            starts[bucket] += starts[bucket - 1];
        }
        let mut next = starts.clone();
        let mut ids = vec![0_u32; starts[buckets] as usize];
        for (id, hash) in (0_u32..).zip(hashes) {
            if let Some(hash) = hash {
                let slot = &mut next[(hash >> shift) as usize];
                ids[*slot as usize] = id;
                *slot += 1;
            }
        }
        NameIndex { starts, ids, shift }
    }

    /// Numbers whose name may have this hash, ascending.
    pub(crate) fn candidates(&self, hash: u32) -> &[u32] {
        let bucket = (hash >> self.shift) as usize;
        &self.ids[self.starts[bucket] as usize..self.starts[bucket + 1] as usize]
    }

    /// Bytes of heap it holds.
    pub(crate) fn heap_size(&self) -> usize {
        (self.starts.capacity() + self.ids.capacity()) * size_of::<u32>()
    }
}

/// The hash that [`NameIndex`] wants: its buckets are taken from the upper bits.
pub(crate) fn hash(name: &[u8]) -> u32 {
    let mut hasher = FxHasher::default();
    hasher.write(name);
    (hasher.finish() >> 32) as u32 ^ hasher.finish() as u32
}
