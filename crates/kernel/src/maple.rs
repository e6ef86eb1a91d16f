//! Maple tree (include/linux/maple_tree.h, since v6.1): ranges of indices,
//! each with one entry. Processes keep their mappings in one, `mm_struct.mm_mt`.
//!
//! `maple_tree.ma_root` is NULL, an entry of index 0, or, with low bits `10`
//! and above 4096 (as in an xarray), a node. A pointer to a node has the node's
//! type in bits 3 to 6 (`mte_node_type`); nodes are aligned to 256 bytes. The
//! first word of a node is its parent's pointer. Types, numbered by `enum
//! maple_type`:
//!
//! Only the root word has the mark `10`; slots of inner nodes have pointers to
//! nodes without it.
//!
//! | type | slots | pivots | slots hold |
//! |---|---|---|---|
//! | `maple_dense` | `maple_node.slot` | none: one index each | entries |
//! | `maple_leaf_64` | `maple_range_64.slot` | one less | entries |
//! | `maple_range_64` | the same | the same | nodes |
//! | `maple_arange_64` | `maple_arange_64.slot` | one less | nodes, and the largest gap below each |
//!
//! Slot i holds the indices behind pivot i-1 up to pivot i, both within what
//! the parent's slot holds. A pivot of 0 behind the first one, or of the node's
//! last index, ends the node. As a node's pivots must lie in the range that led
//! to it, and a tree is at most 31 high (`MAPLE_HEIGHT_MAX`), a damaged tree
//! can't lead a walk in a circle.

use std::sync::Arc;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::layout::{Embedded, Place};
use crate::stack::hex;
use crate::vmstat::enumerator;
use crate::{Kernel, layout};

layout! {
    /// `struct maple_tree`, include/linux/maple_tree.h
    pub struct MapleTreeLayout for "maple_tree" {
        flags: u32 = "ma_flags",
        root: u64 = "ma_root",
    }
}

layout! {
    /// `struct maple_node`, include/linux/maple_tree.h
    pub struct MapleNodeLayout for "maple_node" {
        parent: u64 = "parent",
        slots: Embedded = "slot",
        range_pivots: Embedded = "mr64.pivot",
        range_slots: Embedded = "mr64.slot",
        alloc_pivots: Embedded = "ma64.pivot",
        alloc_slots: Embedded = "ma64.slot",
        alloc_gaps: Embedded = "ma64.gap",
        alloc_end: u8 = "ma64.meta.end",
        alloc_gap: u8 = "ma64.meta.gap",
    }
}

/// `MAPLE_HEIGHT_MAX`.
const HIGHEST: usize = 31;
/// Slots of the widest node (31 of a dense one).
const MOST_SLOTS: u64 = 64;
/// `MAPLE_NODE_MASK`: nodes are aligned to 256 bytes.
const NODE_MASK: u64 = 255;

/// Kinds of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MapleKind {
    /// One index per slot.
    Dense,
    /// Ranges of entries.
    Leaf,
    /// Ranges of nodes.
    Range,
    /// Ranges of nodes with the gaps in them.
    Allocation,
}

impl MapleKind {
    /// Whether its slots hold entries, not nodes.
    pub fn is_leaf(self) -> bool {
        matches!(self, MapleKind::Dense | MapleKind::Leaf)
    }
}

/// A used slot of a node, with the range of indices that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MapleSlot {
    /// Its number.
    pub slot: u32,
    /// First index.
    #[serde(serialize_with = "hex")]
    pub first: u64,
    /// Last index.
    #[serde(serialize_with = "hex")]
    pub last: u64,
    /// What it holds: an entry, NULL, or a pointer to a node with its type.
    #[serde(serialize_with = "hex")]
    pub entry: u64,
    /// Largest gap below it, in nodes that keep gaps.
    #[serde(skip)]
    pub gap: Option<u64>,
}

/// A node with its used slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MapleNode {
    /// Its address, without the type.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its kind.
    pub kind: MapleKind,
    /// Its parent word as stored.
    #[serde(serialize_with = "hex")]
    pub parent: u64,
    /// First index.
    #[serde(serialize_with = "hex")]
    pub first: u64,
    /// Last index.
    #[serde(serialize_with = "hex")]
    pub last: u64,
    /// Its used slots, NULL ones among them.
    pub slots: Vec<MapleSlot>,
    /// What its arrays hold, behind its end, too.
    #[serde(skip)]
    pub words: MapleWords,
}

/// A node as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MapleWords {
    /// Its type, an `enum maple_type`.
    pub number: u8,
    /// All slots.
    pub slots: Vec<u64>,
    /// All pivots; a dense node has none.
    pub pivots: Vec<u64>,
    /// All gaps, of a node that keeps them.
    pub gaps: Vec<u64>,
    /// Its last slot in use and the one with the largest gap, in a node that
    /// keeps gaps (`struct maple_metadata`).
    pub metadata: Option<(u8, u8)>,
}

/// An entry and the indices that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MapleEntry {
    /// First index.
    pub first: u64,
    /// Last index.
    pub last: u64,
    /// What is stored there, never NULL.
    #[serde(serialize_with = "hex")]
    pub entry: u64,
    /// The node that holds it; 0: the tree's root word does.
    #[serde(serialize_with = "hex")]
    pub node: u64,
    /// Its slot there.
    pub slot: u32,
    /// How many nodes lie above it.
    pub depth: u32,
}

/// Whether a tree's root word points to a node (`xa_is_node`). What the slots
/// of inner nodes hold are nodes, without that mark.
pub fn is_maple_node(entry: u64) -> bool {
    entry & 3 == 2 && entry > 4096
}

/// Types of nodes as this kernel numbers them, and where their arrays lie.
struct Shape {
    layout: Arc<MapleNodeLayout>,
    dense: i64,
    leaf: i64,
    range: i64,
    allocation: i64,
}

impl Shape {
    fn of(kernel: &Kernel) -> Result<Shape> {
        let number = |name| enumerator(kernel, "enum maple_type", name);
        Ok(Shape {
            layout: kernel.layout::<MapleNodeLayout>()?,
            dense: number("maple_dense")?,
            leaf: number("maple_leaf_64")?,
            range: number("maple_range_64")?,
            allocation: number("maple_arange_64")?,
        })
    }

    /// The node that `entry` points to, holding `first..=last`.
    fn read(&self, kernel: &Kernel, entry: u64, first: u64, last: u64) -> Result<MapleNode> {
        let addr = entry & !NODE_MASK;
        let number = (entry >> 3 & 0xf) as i64;
        let layout = &self.layout;
        let (kind, slots, pivots, gaps) = if number == self.leaf {
            (MapleKind::Leaf, layout.range_slots.place()?, Some(&layout.range_pivots), None)
        } else if number == self.range {
            (MapleKind::Range, layout.range_slots.place()?, Some(&layout.range_pivots), None)
        } else if number == self.allocation {
            let gaps = layout.alloc_gaps.place()?;
            let slots = layout.alloc_slots.place()?;
            (MapleKind::Allocation, slots, Some(&layout.alloc_pivots), Some(gaps))
        } else if number == self.dense {
            (MapleKind::Dense, layout.slots.place()?, None, None)
        } else {
            return Err(Error::corrupt("the type of a maple node", addr));
        };
        let words = |place: Place| -> Result<Vec<u64>> {
            let raw = kernel
                .read_bytes(addr.wrapping_add(place.offset), place.size.min(MOST_SLOTS * 8))?;
            let word = |w: &[u8]| w.try_into().map(u64::from_le_bytes).unwrap_or(0);
            Ok(raw.chunks_exact(8).map(word).collect())
        };
        let entries = words(slots)?;
        let pivots = pivots.map(|p| words(p.place()?)).transpose()?;
        let gaps = gaps.map(words).transpose()?;
        let slots = cut(addr, first, last, &entries, pivots.as_deref(), gaps.as_deref())?;
        let parent = layout.parent.read(kernel, addr)?;
        let metadata = match kind {
            MapleKind::Allocation => {
                Some((layout.alloc_end.read(kernel, addr)?, layout.alloc_gap.read(kernel, addr)?))
            }
            _ => None,
        };
        let words = MapleWords {
            number: number as u8,
            slots: entries,
            pivots: pivots.unwrap_or_default(),
            gaps: gaps.unwrap_or_default(),
            metadata,
        };
        Ok(MapleNode { addr, kind, parent, first, last, slots, words })
    }
}

/// Cuts `first..=last` at the pivots; without any, each slot is one index.
fn cut(
    addr: u64,
    first: u64,
    last: u64,
    entries: &[u64],
    pivots: Option<&[u64]>,
    gaps: Option<&[u64]>,
) -> Result<Vec<MapleSlot>> {
    let mut slots = Vec::new();
    let mut from = first;
    for (i, entry) in entries.iter().enumerate() {
        let to = match pivots {
            None => from,
            Some(pivots) => match pivots.get(i) {
                None => last,
                Some(0) if i > 0 => last,
                Some(pivot) => *pivot,
            },
        };
        if to < from || to > last {
            return Err(Error::corrupt("a pivot of a maple node", addr));
        }
        let gap = gaps.and_then(|gaps| gaps.get(i)).copied();
        slots.push(MapleSlot { slot: i as u32, first: from, last: to, entry: *entry, gap });
        if to == last {
            break;
        }
        from = to + 1;
    }
    Ok(slots)
}

/// The node that a pointer (with its type) leads to, which holds the indices from
/// the first to the last.
type ReadNode<'k> = Box<dyn Fn(u64, u64, u64) -> Result<MapleNode> + 'k>;

/// Iterator over the entries of a tree, ascending.
pub struct MapleEntries<'k> {
    nodes: ReadNode<'k>,
    /// Nodes from the root down, with the slot that comes next.
    stack: Vec<(MapleNode, usize)>,
    single: Option<u64>,
    failed: Option<Error>,
}

impl Kernel {
    /// The entries of the `struct maple_tree` at `addr`. A node that can't be
    /// read is one error, the walk goes on behind it.
    pub fn maple_tree(&self, addr: u64) -> Result<MapleEntries<'_>> {
        let root = self.layout::<MapleTreeLayout>()?.root.read(self, addr)?;
        if is_maple_node(root) {
            return self.maple_below(root);
        }
        // No node is read for one entry, whatever becomes of it.
        let nodes = |entry: u64, _, _| Err(Error::corrupt("the root of a maple tree", entry));
        let single = Some(root).filter(|root| *root != 0);
        Ok(MapleEntries { nodes: Box::new(nodes), stack: Vec::new(), single, failed: None })
    }

    /// The entries below the node that `entry` (a root word, or a slot of a
    /// node) points to, as if it were the root.
    pub fn maple_below(&self, entry: u64) -> Result<MapleEntries<'_>> {
        let shape = Shape::of(self)?;
        let nodes = move |entry, first, last| shape.read(self, entry, first, last);
        Ok(MapleEntries::below(entry, Box::new(nodes)))
    }

    /// The node that `entry` (a root word, or a slot of a node) points to,
    /// which holds the indices `first..=last`.
    pub fn maple_node(&self, entry: u64, first: u64, last: u64) -> Result<MapleNode> {
        Shape::of(self)?.read(self, entry, first, last)
    }
}

impl<'k> MapleEntries<'k> {
    fn below(entry: u64, nodes: ReadNode<'k>) -> MapleEntries<'k> {
        let mut walk = MapleEntries { nodes, stack: Vec::new(), single: None, failed: None };
        walk.descend(entry, 0, u64::MAX);
        walk
    }

    /// The numbers of the slots that led from the root to the last entry.
    pub fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        let slot = |(node, next): &(MapleNode, usize)| {
            next.checked_sub(1).and_then(|at| node.slots.get(at)).map(|slot| slot.slot)
        };
        self.stack.iter().filter_map(slot)
    }

    fn descend(&mut self, entry: u64, first: u64, last: u64) {
        if self.stack.len() >= HIGHEST {
            let addr = entry & !NODE_MASK;
            self.failed = Some(Error::Loop { what: "a maple tree".into(), addr });
            return;
        }
        match (self.nodes)(entry, first, last) {
            Ok(node) => self.stack.push((node, 0)),
            Err(e) => self.failed = Some(e),
        }
    }
}

impl Iterator for MapleEntries<'_> {
    type Item = Result<MapleEntry>;

    fn next(&mut self) -> Option<Result<MapleEntry>> {
        loop {
            if let Some(e) = self.failed.take() {
                if e.is_interrupted() {
                    self.stack.clear();
                }
                return Some(Err(e));
            }
            if let Some(entry) = self.single.take() {
                return Some(Ok(MapleEntry {
                    first: 0,
                    last: 0,
                    entry,
                    node: 0,
                    slot: 0,
                    depth: 0,
                }));
            }
            let depth = self.stack.len() as u32;
            let (node, next) = self.stack.last_mut()?;
            let Some(slot) = node.slots.get(*next).copied() else {
                self.stack.pop();
                continue;
            };
            *next += 1;
            if slot.entry == 0 {
                continue;
            }
            let MapleSlot { slot, first, last, entry, .. } = slot;
            if node.kind.is_leaf() {
                return Some(Ok(MapleEntry { first, last, entry, node: node.addr, slot, depth }));
            }
            if entry > NODE_MASK {
                self.descend(entry, first, last);
            } else {
                return Some(Err(Error::corrupt("a pointer to a maple node", node.addr)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(pivots: &[u64], entries: &[u64], last: u64) -> Vec<(u64, u64, u64)> {
        let slots = cut(0x100, 0, last, entries, Some(pivots), None).unwrap();
        slots.iter().map(|s| (s.first, s.last, s.entry)).collect()
    }

    #[test]
    fn pivots_cut_a_range() {
        assert_eq!(
            ranges(&[9, 19, 0], &[0xa, 0, 0xb, 0xc], 99),
            [(0, 9, 0xa), (10, 19, 0), (20, 99, 0xb)]
        );
        // The last slot of a full node has no pivot.
        assert_eq!(ranges(&[0], &[0xa, 0xb], 9), [(0, 0, 0xa), (1, 9, 0xb)]);
        // A pivot at the end hides what is left behind it.
        assert_eq!(ranges(&[4, 9, 3], &[0xa, 0xb, 0xc, 0xd], 9), [(0, 4, 0xa), (5, 9, 0xb)]);
    }

    #[test]
    fn dense_nodes_have_an_index_per_slot() {
        let slots = cut(0x100, 5, 7, &[1, 2, 3, 4], None, None).unwrap();
        assert_eq!(
            slots.iter().map(|s| (s.first, s.entry)).collect::<Vec<_>>(),
            [(5, 1), (6, 2), (7, 3)]
        );
    }

    #[test]
    fn pivots_out_of_the_node_or_falling_are_corrupt() {
        assert!(cut(0x100, 0, 99, &[1, 2, 3], Some(&[9, 8]), None).is_err());
        assert!(cut(0x100, 0, 99, &[1, 2], Some(&[100]), None).is_err());
        assert!(cut(0x100, 10, 99, &[1, 2], Some(&[9]), None).is_err());
    }

    /// A node's address, kind, pivots and slots.
    type Stored = (u64, MapleKind, &'static [u64], &'static [u64]);

    /// What a walk from `root` on finds in memory that holds `stored`: entries,
    /// and errors.
    fn walked(root: u64, stored: &[Stored]) -> Vec<Result<(u64, u64, u64)>> {
        let node = |entry: u64, first: u64, last: u64| {
            let addr = entry & !NODE_MASK;
            let found = stored.iter().find(|(at, ..)| *at == addr);
            let (_, kind, pivots, entries) =
                found.ok_or(Error::Unavailable(format!("{addr:#x} is not in the dump")))?;
            let slots = cut(addr, first, last, entries, Some(pivots), None)?;
            let (kind, words) = (*kind, MapleWords::default());
            Ok(MapleNode { addr, kind, parent: 0, first, last, slots, words })
        };
        let walk = MapleEntries::below(root, Box::new(node));
        walk.take(1000).map(|entry| entry.map(|e| (e.first, e.last, e.entry))).collect()
    }

    const ROOT: Stored = (0x1000, MapleKind::Range, &[9, u64::MAX], &[0x2000, 0x3000]);

    #[test]
    fn a_walk_gives_the_entries_of_all_leaves() {
        let left: Stored = (0x2000, MapleKind::Leaf, &[4, 9], &[0xa0, 0]);
        let right: Stored = (0x3000, MapleKind::Leaf, &[19, u64::MAX], &[0xb0, 0xc0]);
        let found: Result<Vec<_>> = walked(0x1000, &[ROOT, left, right]).into_iter().collect();
        assert_eq!(found.unwrap(), [(0, 4, 0xa0), (10, 19, 0xb0), (20, u64::MAX, 0xc0)]);
        // The node below the root alone, as if it were one.
        assert_eq!(walked(0x2000, &[left]).len(), 1);
    }

    #[test]
    fn a_node_that_is_absent_or_torn_is_one_error_and_the_rest_is_there() {
        let right: Stored = (0x3000, MapleKind::Leaf, &[u64::MAX], &[0xb0]);
        // Pivots of another range: the node was freed and used again.
        let torn: Stored = (0x2000, MapleKind::Leaf, &[400, 900], &[0xa0, 0xa1]);
        for stored in [&[ROOT, right][..], &[ROOT, torn, right]] {
            let found = walked(0x1000, stored);
            assert_eq!(found.len(), 2, "{found:?}");
            assert!(found[0].is_err());
            assert_eq!(found[1].as_ref().unwrap(), &(10, u64::MAX, 0xb0));
        }
        assert!(matches!(walked(0x1000, &[]).as_slice(), [Err(_)]));
        let small: Stored = (0x1000, MapleKind::Range, &[u64::MAX], &[0x20]);
        assert!(matches!(walked(0x1000, &[small]).as_slice(), [Err(_)]));
    }

    #[test]
    fn a_node_below_itself_is_a_loop() {
        let own: Stored = (0x1000, MapleKind::Range, &[u64::MAX], &[0x1000]);
        let found = walked(0x1000, &[own]);
        assert!(matches!(found.as_slice(), [Err(Error::Loop { addr: 0x1000, .. })]));
    }

    #[test]
    fn nodes_are_told_from_entries() {
        assert!(is_maple_node(0xffff_8880_0100_001e));
        assert!(!is_maple_node(0xffff_8880_0100_0000) && !is_maple_node(0x406));
    }
}
