//! What was found out about addresses in code.
//!
//! A hundred thousand sleeping tasks have a few hundred return addresses among
//! them. What is known of each (its function, its unwind rule) takes searches
//! in compressed tables: it is found once and kept.

use std::sync::{Mutex, PoisonError};

use rustc_hash::FxHashMap;

/// Threads seldom meet in one of so many parts.
const SHARDS: usize = 16;
/// Entries of a shard: a real kernel sleeps in fewer places, and a dump that
/// was made to last begins anew.
const MOST: usize = 4096;

/// Values by address.
pub(crate) struct CodeCache<T> {
    shards: [Mutex<FxHashMap<u64, T>>; SHARDS],
}

impl<T> Default for CodeCache<T> {
    fn default() -> CodeCache<T> {
        CodeCache { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl<T: Clone> CodeCache<T> {
    /// The value of `addr`, from `find` where it is not known. Errors are not
    /// kept: the next one who asks may not be interrupted.
    pub(crate) fn get<E>(&self, addr: u64, find: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let shard = &self.shards[(addr >> 2) as usize % SHARDS];
        let lock = || shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = lock().get(&addr) {
            return Ok(value.clone());
        }
        let value = find()?;
        let mut shard = lock();
        if shard.len() >= MOST {
            shard.clear();
        }
        shard.insert(addr, value.clone());
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_once_and_keeps_no_errors() {
        let cache: CodeCache<u32> = CodeCache::default();
        assert_eq!(cache.get(8, || Err("not now")), Err("not now"));
        assert_eq!(cache.get(8, || Ok::<_, ()>(1)), Ok(1));
        assert_eq!(cache.get(8, || Ok::<_, ()>(2)), Ok(1));
    }

    #[test]
    fn stays_small() {
        let cache: CodeCache<u64> = CodeCache::default();
        for addr in 0..1 << 20 {
            assert_eq!(cache.get(addr, || Ok::<_, ()>(addr)), Ok(addr));
        }
        let kept: usize = cache.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(kept <= SHARDS * MOST, "{kept}");
    }
}
