//! The rings that waiters are on, each walked once.
//!
//! A thousand tasks that wait for one lock are on one ring: to walk it anew
//! for each of them, and to look for the lock's head on it, would take the
//! square of the time.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::Kernel;

/// Most waiters that a ring is walked for.
const MOST_WAITERS: usize = 1 << 20;

/// The nodes of one ring: waiters, and the head if it has one.
pub(super) struct Ring {
    nodes: FxHashSet<u64>,
    /// In the order of the ring.
    order: Vec<u64>,
    head: OnceLock<Option<u64>>,
}

impl Ring {
    /// The node that is no waiter. All who ask mean the same kind of waiter:
    /// that of the lock whose ring it is.
    pub(super) fn head(&self, is_waiter: impl Fn(u64) -> bool) -> Option<u64> {
        let find = || self.order.iter().copied().find(|node| !is_waiter(*node));
        *self.head.get_or_init(find)
    }

    /// Whether `node` is on it.
    pub(super) fn contains(&self, node: u64) -> bool {
        self.nodes.contains(&node)
    }
}

/// Rings that were walked, by node; none: what starts there is no ring.
#[derive(Default)]
pub(super) struct Rings(Mutex<FxHashMap<u64, Option<Arc<Ring>>>>);

impl Rings {
    /// The ring that `node` is on. None unless both neighbours point back and
    /// the ring closes.
    pub(super) fn of(&self, kernel: &Kernel, node: u64) -> Option<Arc<Ring>> {
        if let Some(known) = self.known(node) {
            return known;
        }
        let read = |addr| kernel.read_u64(addr).ok();
        let (next, prev) = (read(node)?, read(node.wrapping_add(8))?);
        if read(prev)? != node || read(next.wrapping_add(8))? != node {
            return None;
        }
        let mut order = vec![node];
        let mut closes = false;
        let mut walk = kernel.list(node, 0, "the waiters for a lock");
        for _ in 0..MOST_WAITERS {
            let other = match walk.next() {
                None => {
                    closes = true;
                    break;
                }
                Some(Ok(other)) => other,
                Some(Err(_)) => break,
            };
            match self.known(other) {
                None => order.push(other),
                // Another thread was faster.
                Some(Some(ring)) if ring.contains(node) => return Some(ring),
                // It leads to where others are, and not back.
                Some(_) => break,
            }
        }
        let ring = closes.then(|| {
            let nodes = order.iter().copied().collect();
            Arc::new(Ring { nodes, order: order.clone(), head: OnceLock::new() })
        });
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for node in order {
            known.entry(node).or_insert_with(|| ring.clone());
        }
        ring
    }

    fn known(&self, node: u64) -> Option<Option<Arc<Ring>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }
}
