//! `tree -t maple`: what a maple tree stores, and with -v its nodes as they are.

use std::io::{self, Write};

use kmortem_kernel::maple::{MapleNode, MapleSlot, MapleTreeLayout, is_maple_node};
use kmortem_kernel::{Error, Kernel};

use super::failed;
use super::tree::{COMMAND, Entry, Found, Sink};
use crate::error::CommandError;

/// What is stored in the maple tree at `root`, or below the node that `root`
/// points to.
pub(super) fn entries(
    kernel: &Kernel,
    root: u64,
    is_node: bool,
    show: Sink<'_>,
) -> Result<Option<Error>, CommandError> {
    let (entries, from) = match is_node {
        true => (kernel.maple_below(root), "direct"),
        false => (kernel.maple_tree(root), "root"),
    };
    let mut entries = entries.map_err(failed(COMMAND.name))?;
    let mut broken = None;
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => {
                let slots = entries.slots().map(|slot| format!("/{slot}")).collect::<String>();
                let position = match entry.node {
                    0 => "/0".to_owned(),
                    _ => format!("{from}{slots}"),
                };
                show(found(entry.entry, entry.first, position))?;
            }
            Err(error) => broken = Some(error),
        }
    }
    Ok(broken)
}

fn found(address: u64, first: u64, position: String) -> Found<'static> {
    Found::Entry(Entry { address, index: Some(first), position: Some(position), decimal: true })
}

/// `MAPLE_HEIGHT_MAX`.
const HIGHEST: u32 = 31;

/// The same with a line for the tree, for each node and for each slot of a leaf.
pub(super) fn nodes(
    kernel: &Kernel,
    root: u64,
    is_node: bool,
    hex: bool,
    show: Sink<'_>,
) -> Result<Option<Error>, CommandError> {
    let mut walk = Walk { kernel, hex, broken: None };
    if is_node {
        walk.descend(root, (0, u64::MAX), 0, "direct", show)?;
        return Ok(walk.broken);
    }
    let read = || -> Result<_, Error> {
        let tree = kernel.layout::<MapleTreeLayout>()?;
        Ok((tree.flags.read(kernel, root)?, tree.root.read(kernel, root)?))
    };
    let (flags, top) = read().map_err(failed(COMMAND.name))?;
    show(Found::Line(&|out| {
        // MT_FLAGS_HEIGHT_MASK, include/linux/maple_tree.h
        let height = flags >> 2 & 0x1f;
        writeln!(out, "maple_tree({root:x}) flags {flags:X}, height {height} root {top:#x}\n")
    }))?;
    match is_maple_node(top) {
        true => walk.descend(top, (0, u64::MAX), 0, "root", show)?,
        false => {
            show(Found::Line(&|out| render_slot(out, (0, 0), top, 0, hex)))?;
            if top != 0 {
                show(found(top, 0, "/0".to_owned()))?;
            }
        }
    }
    Ok(walk.broken)
}

struct Walk<'k> {
    kernel: &'k Kernel,
    hex: bool,
    /// Why a part is missing.
    broken: Option<Error>,
}

impl Walk<'_> {
    /// The node that `entry` points to, and what is below it.
    fn descend(
        &mut self,
        entry: u64,
        (first, last): (u64, u64),
        depth: u32,
        path: &str,
        show: Sink<'_>,
    ) -> Result<(), CommandError> {
        if self.broken.as_ref().is_some_and(Error::is_interrupted) {
            return Ok(());
        }
        if depth >= HIGHEST {
            self.broken = Some(Error::Loop { what: "a maple tree".to_owned(), addr: entry });
            return Ok(());
        }
        let node = match self.kernel.maple_node(entry, first, last) {
            Ok(node) => node,
            Err(error) => {
                self.broken = Some(error);
                return Ok(());
            }
        };
        let hex = self.hex;
        show(Found::Line(&|out| render_node(out, &node, depth, hex)))?;
        show(Found::Node(&node, depth))?;
        for slot in &node.slots {
            let MapleSlot { slot: number, first, last, entry, .. } = *slot;
            let place = format!("{path}/{number}");
            if !node.kind.is_leaf() {
                if entry != 0 {
                    self.descend(entry, (first, last), depth + 1, &place, show)?;
                }
                continue;
            }
            show(Found::Line(&|out| render_slot(out, (first, last), entry, depth + 1, hex)))?;
            if entry != 0 {
                show(found(entry, first, place))?;
            }
        }
        Ok(())
    }
}

/// `  0-8: `
fn render_range(
    out: &mut dyn Write,
    (first, last): (u64, u64),
    depth: u32,
    hex: bool,
) -> io::Result<()> {
    let (first, last) = (number(first, hex), number(last, hex));
    let range = if first == last { first } else { format!("{first}-{last}") };
    write!(out, "{:1$}{range}: ", "", depth as usize * 2)
}

/// The line of a node: all that its arrays hold, behind its end, too.
fn render_node(out: &mut dyn Write, node: &MapleNode, depth: u32, hex: bool) -> io::Result<()> {
    render_range(out, (node.first, node.last), depth, hex)?;
    let words = &node.words;
    let parent = pointer(node.parent);
    write!(out, "node {:#x} depth {depth} type {} parent {parent}", node.addr, words.number)?;
    write!(out, " contents: ")?;
    for gap in &words.gaps {
        write!(out, "{} ", number(*gap, hex))?;
    }
    if let Some((end, gap)) = words.metadata {
        write!(out, "| {end:02X} {gap:02X}| ")?;
    }
    let pivots = words.pivots.iter().map(|pivot| number(*pivot, hex));
    let words = words.slots.iter().map(|slot| pointer(*slot));
    let mut pivots = pivots.fuse();
    let cells = words.flat_map(|slot| [Some(slot), pivots.next()]).flatten();
    writeln!(out, "{}", cells.collect::<Vec<_>>().join(" "))
}

/// The line of a leaf's slot. A number is stored with a 1 below it
/// (`xa_mk_value`, include/linux/xarray.h).
fn render_slot(
    out: &mut dyn Write,
    range: (u64, u64),
    entry: u64,
    depth: u32,
    hex: bool,
) -> io::Result<()> {
    render_range(out, range, depth, hex)?;
    match (entry & 1 == 1, hex) {
        (true, _) => writeln!(out, "value {} ({:#x}) [{entry:#x}]", entry >> 1, entry >> 1),
        (false, true) => writeln!(out, "{entry:#x}"),
        (false, false) => writeln!(out, "{entry}"),
    }
}

fn number(number: u64, hex: bool) -> String {
    if hex { format!("{number:x}") } else { number.to_string() }
}

/// As C writes pointers.
fn pointer(word: u64) -> String {
    if word == 0 { "(nil)".to_owned() } else { format!("{word:#x}") }
}

#[cfg(test)]
mod tests {
    use kmortem_kernel::maple::{MapleKind, MapleWords};

    use super::*;

    #[test]
    fn a_node_shows_its_gaps_and_all_slots() {
        let words = MapleWords {
            number: 3,
            slots: vec![0xff2e_5f7d_c11c_f40c, 0],
            pivots: vec![8],
            gaps: vec![0, 12],
            metadata: Some((1, 1)),
        };
        let node = MapleNode {
            addr: 0xff2e_5f7d_c11c_e000,
            kind: MapleKind::Allocation,
            parent: 0xffff_ffff_9d4c_c761,
            first: 0,
            last: u64::MAX,
            slots: Vec::new(),
            words,
        };
        let mut text = Vec::new();
        render_node(&mut text, &node, 1, false).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "  0-18446744073709551615: node 0xff2e5f7dc11ce000 depth 1 type 3 parent \
             0xffffffff9d4cc761 contents: 0 12 | 01 01| 0xff2e5f7dc11cf40c 8 (nil)\n"
        );
    }

    #[test]
    fn slots_hold_pointers_numbers_or_nothing() {
        let line = |range, entry, hex| {
            let mut text = Vec::new();
            render_slot(&mut text, range, entry, 1, hex).unwrap();
            String::from_utf8(text).unwrap()
        };
        assert_eq!(line((16, 23), 0, true), "  10-17: 0x0\n");
        assert_eq!(line((16, 16), 0x100, false), "  16: 256\n");
        assert_eq!(line((1, 1), 0x15, false), "  1: value 10 (0xa) [0x15]\n");
    }
}
