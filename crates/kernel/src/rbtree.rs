//! Red-black trees (include/linux/rbtree.h), walked in order.
//!
//! `rb_root.rb_node` points to the top node. A `struct rb_node` has
//! `__rb_parent_color` (the parent's address, colour in the low bits),
//! `rb_right` and `rb_left`, and is embedded in what the tree holds.
//!
//! Each child must name the node that led to it as its parent. That alone
//! keeps a walk over a damaged tree from running in a loop: a node has one
//! parent word, so (its two children being different) it is entered once.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::{Kernel, layout};

layout! {
    /// `struct rb_node`, include/linux/rbtree_types.h
    pub struct RbNodeLayout for "rb_node" {
        parent_color: u64 = "__rb_parent_color",
        left: u64 = "rb_left",
        right: u64 = "rb_right",
    }
}

/// A red-black tree of n nodes is at most 2 log2(n + 1) high.
const HIGHEST: usize = 128;

/// Iterator over the structures of a tree, in the tree's order.
pub struct InOrder<'k> {
    kernel: &'k Kernel,
    node: Arc<RbNodeLayout>,
    node_offset: u64,
    what: &'static str,
    /// Nodes whose left side is done, with their right child.
    stack: Vec<(u64, u64)>,
    failed: Option<Error>,
}

impl Kernel {
    /// Structures in the tree whose `struct rb_root` (or `rb_root_cached`,
    /// which begins with it) is at `root`; they embed their node at
    /// `node_offset`.
    pub fn rbtree(&self, root: u64, node_offset: u64, what: &'static str) -> Result<InOrder<'_>> {
        let mut walk = InOrder {
            kernel: self,
            node: self.layout::<RbNodeLayout>()?,
            node_offset,
            what,
            stack: Vec::new(),
            failed: None,
        };
        let top = self.read_u64(root)?;
        walk.descend(top, 0);
        Ok(walk)
    }
}

impl InOrder<'_> {
    /// Stacks `node` and everything to the left of it.
    fn descend(&mut self, mut node: u64, mut parent: u64) {
        while node != 0 {
            match self.links(node, parent) {
                Ok((left, right)) => {
                    self.stack.push((node, right));
                    parent = node;
                    node = left;
                }
                Err(e) => {
                    self.failed = Some(e);
                    return;
                }
            }
        }
    }

    fn links(&self, node: u64, parent: u64) -> Result<(u64, u64)> {
        if self.stack.len() >= HIGHEST {
            return Err(Error::Loop { what: self.what.to_owned(), addr: node });
        }
        if self.node.parent_color.read(self.kernel, node)? & !3 != parent {
            return Err(Error::corrupt(format!("a node of {}", self.what), node));
        }
        let left = self.node.left.read(self.kernel, node)?;
        let right = self.node.right.read(self.kernel, node)?;
        if left == right && left != 0 {
            return Err(Error::corrupt(format!("a node of {}", self.what), node));
        }
        Ok((left, right))
    }
}

impl Iterator for InOrder<'_> {
    type Item = Result<u64>;

    fn next(&mut self) -> Option<Result<u64>> {
        // What is known of the other side of a break comes first, in order.
        if let Some((node, right)) = self.stack.pop() {
            if self.failed.is_none() {
                self.descend(right, node);
            }
            return Some(Ok(node.wrapping_sub(self.node_offset)));
        }
        self.failed.take().map(Err)
    }
}
