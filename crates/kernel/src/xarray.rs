//! XArray and radix tree (include/linux/xarray.h): the same layout since v4.20.
//!
//! `xa_head` (`rnode` of a radix tree) is an entry. An entry with low bits
//! `10` that is above 4096 points to a `struct xa_node`; with bit 0 set it is
//! a value; otherwise it points to what is stored. A node at `shift` s covers
//! slot i with indices from i << s.

use crate::error::{Error, Result};
use crate::layout::Embedded;
use crate::{Kernel, layout};

layout! {
    /// `struct xarray`, include/linux/xarray.h
    pub struct XarrayLayout for "xarray" {
        head: u64 = "xa_head",
    }
}

layout! {
    /// `struct xa_node`, include/linux/xarray.h
    pub struct XaNodeLayout for "xa_node" {
        shift: u8 = "shift",
        slots: Embedded = "slots",
    }
}

/// Iterator over (index, entry) of an xarray, ascending. Value entries are
/// given as they are stored (bit 0 set).
pub struct Entries<'k> {
    kernel: &'k Kernel,
    slots_at: u64,
    width: u64,
    shift: std::sync::Arc<XaNodeLayout>,
    /// (node, next slot, index of the node's first slot, shift)
    stack: Vec<(u64, u64, u64, u8)>,
    single: Option<u64>,
    failed: Option<Error>,
}

impl Kernel {
    /// The entries of the `struct xarray` (or radix tree root) at `addr`.
    pub fn xarray(&self, addr: u64) -> Result<Entries<'_>> {
        let root = self.layout::<XarrayLayout>()?;
        let node = self.layout::<XaNodeLayout>()?;
        let slots = node.slots.place()?;
        let head = root.head.read(self, addr)?;
        let mut entries = Entries {
            kernel: self,
            slots_at: slots.offset,
            width: (slots.size / 8).clamp(1, 64),
            shift: node,
            stack: Vec::new(),
            single: None,
            failed: None,
        };
        match as_node(head) {
            Some(node) => entries.descend(node, 0, None),
            None if head != 0 => entries.single = Some(head),
            None => {}
        }
        Ok(entries)
    }
}

/// The node that an entry points to, if it is one (`xa_is_node`).
fn as_node(entry: u64) -> Option<u64> {
    (entry & 3 == 2 && entry > 4096).then(|| entry - 2)
}

impl Entries<'_> {
    fn descend(&mut self, node: u64, base: u64, parent_shift: Option<u8>) {
        match self.shift.shift.read(self.kernel, node) {
            // Shifts fall from node to node: that bounds the depth.
            Ok(shift) if shift < 64 && parent_shift.is_none_or(|p| shift < p) => {
                self.stack.push((node, 0, base, shift));
            }
            Ok(_) => self.failed = Some(Error::corrupt("an xarray node", node)),
            Err(e) => self.failed = Some(e),
        }
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<(u64, u64)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(e) = self.failed.take() {
                return Some(Err(e));
            }
            if let Some(entry) = self.single.take() {
                return Some(Ok((0, entry)));
            }
            let (node, slot, base, shift) = self.stack.last_mut()?;
            if *slot >= self.width {
                self.stack.pop();
                continue;
            }
            let index = base.wrapping_add(*slot << *shift);
            let at = node.wrapping_add(self.slots_at + *slot * 8);
            let shift = *shift;
            *slot += 1;
            match self.kernel.read_u64(at) {
                Ok(0) => {}
                Ok(entry) => match as_node(entry) {
                    Some(child) if shift > 0 => self.descend(child, index, Some(shift)),
                    // Internal entries: sibling, retry, zero.
                    _ if entry & 3 == 2 => {}
                    _ => return Some(Ok((index, entry))),
                },
                Err(e) => return Some(Err(e)),
            }
        }
    }
}
