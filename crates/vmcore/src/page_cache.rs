//! Decompressed pages, shared between threads.
//!
//! Split into shards by page number, so that threads seldom meet; each shard has its own lock, held
//! for a look-up or an insertion and never while a page is decompressed. Two threads that miss the
//! same page at once both decompress it: that is cheaper than waiting for one another.
//!
//! A shard replaces by the clock rule: a page that was used since the hand last came by is passed
//! over once. That is as good as LRU here, and a hit writes nothing but a flag.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;

const SHARDS: usize = 64;

/// Bytes of pages kept unless told otherwise.
pub(crate) const DEFAULT_BYTES: u64 = 16 << 20;

struct Slot {
    number: u64,
    page: Arc<[u8]>,
    used: bool,
}

#[derive(Default)]
struct Shard {
    by_number: FxHashMap<u64, usize>,
    slots: Vec<Slot>,
    hand: usize,
}

pub(crate) struct PageCache {
    shards: Vec<Mutex<Shard>>,
    slots_per_shard: AtomicUsize,
    /// A dump of raw pages never inserts: its look-ups then take no lock.
    used: AtomicBool,
}

impl PageCache {
    pub(crate) fn new(bytes: u64, page_size: u64) -> PageCache {
        let cache = PageCache {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            slots_per_shard: AtomicUsize::new(1),
            used: AtomicBool::new(false),
        };
        cache.resize(bytes, page_size);
        cache
    }

    /// Sets the bound for the pages that come from now on.
    pub(crate) fn resize(&self, bytes: u64, page_size: u64) {
        let pages = usize::try_from(bytes / page_size.max(1)).unwrap_or(usize::MAX);
        self.slots_per_shard.store((pages / SHARDS).max(1), Ordering::Relaxed);
        for shard in &self.shards {
            *shard.lock().unwrap_or_else(PoisonError::into_inner) = Shard::default();
        }
    }

    fn shard(&self, number: u64) -> Option<std::sync::MutexGuard<'_, Shard>> {
        let shard = self.shards.get(number as usize % SHARDS)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn get(&self, number: u64) -> Option<Arc<[u8]>> {
        if !self.used.load(Ordering::Relaxed) {
            return None;
        }
        let mut shard = self.shard(number)?;
        let index = *shard.by_number.get(&number)?;
        let slot = shard.slots.get_mut(index)?;
        slot.used = true;
        Some(Arc::clone(&slot.page))
    }

    pub(crate) fn insert(&self, number: u64, page: Arc<[u8]>) {
        self.used.store(true, Ordering::Relaxed);
        let limit = self.slots_per_shard.load(Ordering::Relaxed);
        let Some(mut shard) = self.shard(number) else { return };
        if shard.by_number.contains_key(&number) {
            return;
        }
        let slot = Slot { number, page, used: false };
        let index = shard.slots.len();
        if index < limit {
            shard.slots.push(slot);
            shard.by_number.insert(number, index);
            return;
        }
        shard.replace(slot);
    }
}

impl Shard {
    fn replace(&mut self, new: Slot) {
        // After one round no page is marked any more: two rounds always find one.
        for _ in 0..2 * self.slots.len() {
            let index = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            let Some(slot) = self.slots.get_mut(index) else { return };
            if std::mem::take(&mut slot.used) {
                continue;
            }
            self.by_number.remove(&slot.number);
            self.by_number.insert(new.number, index);
            *slot = new;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(byte: u8) -> Arc<[u8]> {
        Arc::from([byte; 16].as_slice())
    }

    #[test]
    fn the_bound_holds_and_used_pages_stay() {
        // Two pages per shard.
        let cache = PageCache::new(2 * SHARDS as u64 * 16, 16);
        let in_shard = |n: u64| n * SHARDS as u64;
        cache.insert(in_shard(0), page(0));
        cache.insert(in_shard(1), page(1));
        for n in 2..50 {
            assert!(cache.get(in_shard(0)).is_some(), "used before each insertion");
            cache.insert(in_shard(n), page(n as u8));
        }
        let kept = (0..50).filter(|&n| cache.get(in_shard(n)).is_some()).count();
        assert_eq!(kept, 2);
        assert_eq!(cache.get(in_shard(0)).as_deref(), Some([0; 16].as_slice()));
    }

    #[test]
    fn a_bound_below_a_page_still_works() {
        let cache = PageCache::new(0, 4096);
        cache.insert(7, page(7));
        assert!(cache.get(7).is_some());
        cache.insert(7 + SHARDS as u64, page(8));
        assert!(cache.get(7).is_none());
    }

    #[test]
    fn many_threads_see_the_right_pages() {
        let cache = PageCache::new(256 * 16, 16);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let cache = &cache;
                scope.spawn(move || {
                    for n in 0..20_000u64 {
                        let number = (n * 31 + thread * 7) % 1000;
                        match cache.get(number) {
                            Some(page) => assert_eq!(page[0], number as u8),
                            None => cache.insert(number, page(number as u8)),
                        }
                    }
                });
            }
        });
    }
}
