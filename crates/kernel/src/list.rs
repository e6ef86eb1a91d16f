//! Walks over the kernel's linked structures, bounded and loop-detecting.
//!
//! `struct list_head` (include/linux/types.h) is a ring: it ends where it
//! began. `struct hlist_head` ends with NULL, `hlist_nulls` with an odd
//! pointer, `llist` with NULL. A dump shows them as they were in the middle of
//! an update, or overwritten: every walk stops after a bound, and Brent's
//! algorithm stops it at the first repeat of a ring that misses its head.
//!
//! Many heads may lead into one and the same chain of a dump that was made to
//! last. On a sound ring each node points back to the node before it; where one
//! does not, what follows may be another's ring, and only so much of it is
//! walked. So all rings together cost no more than memory holds nodes.

use crate::Kernel;
use crate::error::{Error, Result};

/// No ring of a real machine is longer (tasks: `PID_MAX_LIMIT`, 1 << 22;
/// slabs of one cache: 64 GiB of pages); a longer walk is a loop in disguise.
const LONGEST_RING: u64 = 1 << 24;
/// NULL-ended chains are the buckets of hash tables and other short lists.
const LONGEST_CHAIN: u64 = 1 << 20;
/// How far a ring is followed behind a node that does not point back: lists
/// that were overwritten are worth reading on, no longer than this.
const BEHIND_A_BREAK: u64 = 1 << 16;

/// How a chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Back at the head.
    Head(u64),
    /// NULL, or an odd "nulls" marker.
    Null,
}

/// Iterator over the addresses of a chain's nodes.
pub struct Walk<'k> {
    kernel: &'k Kernel,
    what: &'static str,
    /// Offset of the `next` pointer in a node.
    next_at: u64,
    /// Subtracted from a node to give the structure that holds it.
    node_offset: u64,
    end: End,
    at: Option<Result<u64>>,
    /// The node before `at`, on a ring.
    before: u64,
    steps: u64,
    /// Steps after which the walk is given up.
    bound: u64,
    /// Brent: the tortoise, and when it jumps to the hare.
    mark: u64,
    jump: u64,
}

impl<'k> Walk<'k> {
    fn start(
        kernel: &'k Kernel,
        what: &'static str,
        first: Result<u64>,
        end: End,
        node_offset: u64,
    ) -> Walk<'k> {
        let (before, bound) = match end {
            End::Head(head) => (head, LONGEST_RING),
            End::Null => (0, LONGEST_CHAIN),
        };
        Walk {
            kernel,
            what,
            next_at: 0,
            node_offset,
            end,
            at: Some(first),
            before,
            steps: 0,
            bound,
            mark: 0,
            jump: 1,
        }
    }

    /// The node after `node`; on a ring also whether `node` points back.
    fn after(&mut self, node: u64) -> Result<u64> {
        let End::Head(_) = self.end else {
            return self.kernel.read_u64(node.wrapping_add(self.next_at));
        };
        let mut links = [[0; 8]; 2];
        self.kernel.read(node, links.as_flattened_mut())?;
        let [next, prev] = links.map(u64::from_le_bytes);
        if prev != self.before {
            self.bound = self.bound.min(self.steps + BEHIND_A_BREAK);
        }
        self.before = node;
        Ok(next)
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<u64>;

    fn next(&mut self) -> Option<Result<u64>> {
        let node = match self.at.take()? {
            Ok(node) => node,
            Err(e) => return Some(Err(e)),
        };
        let at_end = match self.end {
            End::Head(head) => node == head,
            End::Null => node == 0 || node & 1 == 1,
        };
        if at_end {
            return None;
        }
        if node == 0 {
            return Some(Err(Error::Null(format!("next of {}", self.what))));
        }
        self.steps += 1;
        if node == self.mark || self.steps > self.bound {
            return Some(Err(Error::Loop { what: self.what.to_owned(), addr: node }));
        }
        if self.steps == self.jump {
            self.mark = node;
            self.jump *= 2;
        }
        self.at = Some(self.after(node));
        Some(Ok(node.wrapping_sub(self.node_offset)))
    }
}

impl Kernel {
    /// Structures on the ring of `struct list_head` at `head`, which embed
    /// their node at `node_offset`. The head itself is not among them.
    pub fn list(&self, head: u64, node_offset: u64, what: &'static str) -> Walk<'_> {
        Walk::start(self, what, self.read_u64(head), End::Head(head), node_offset)
    }

    /// Structures on a chain whose head is a pointer to the first node
    /// (`hlist_head`, `hlist_nulls_head`, `llist_head`).
    pub fn hlist(&self, head: u64, node_offset: u64, what: &'static str) -> Walk<'_> {
        Walk::start(self, what, self.read_u64(head), End::Null, node_offset)
    }

    /// A NULL-ended chain of structures from `first` on, whose link to the
    /// next structure is the pointer at `next_offset`.
    pub fn chain(&self, first: u64, next_offset: u64, what: &'static str) -> Walk<'_> {
        let mut walk = Walk::start(self, what, Ok(first), End::Null, 0);
        walk.next_at = next_offset;
        walk
    }
}
