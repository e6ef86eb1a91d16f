//! `tree`: structures in a red-black tree, an xarray, a radix tree or a maple tree.

use std::io::Write;

use kmortem_kernel::maple::MapleNode;
use kmortem_kernel::stack::hex;
use kmortem_kernel::{Error, Kernel};
use rustc_hash::FxHashSet;
use serde::Serialize;

use super::failed;
use super::linked::{self, Members};
use super::tree_maple;
use crate::address::{self, with_expressions};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::settings::Radix;
use crate::value::{Reader, Shown, Style, expression};

pub(crate) const COMMAND: Command = Command {
    name: "tree",
    summary: "walks a red-black tree, an xarray, a radix tree or a maple tree",
    arguments: "START",
    options: &[
        Opt::value('t', "TYPE", "rbtree (if nothing is said), xarray, radix or maple"),
        Opt::value('r', "OFFSET", "of the tree's root in START: STRUCT.MEMBER, or bytes"),
        Opt::value('o', "OFFSET", "of the rb_node in the structures"),
        Opt::value('s', "STRUCT[.MEMBER,...]", "shows each as this structure, or its members"),
        Opt::value('S', "STRUCT[.MEMBER,...]", "the same"),
        Opt::flag('l', "a red-black tree in the order of its keys"),
        Opt::flag('p', "with its place in the tree"),
        Opt::flag('x', "numbers in hexadecimal"),
        Opt::flag('d', "numbers in decimal"),
        Opt::flag('N', "START is a node, not a root (of red-black and maple trees)"),
        Opt::flag('v', "with each node (of maple trees)"),
    ],
    details: "\
START is the root of the tree, or with -r a structure that has it; with -N a node, as an
address or an expression (a node of a maple tree with its type, as slots have it). Of xarrays, radix
and maple trees only what is stored is shown, no empty slots. Entries of maple trees
are decimal numbers, as in crash.",
    examples: &[
        ("-t rbtree -o vmap_area.rb_node free_vmap_area_root", "free vmalloc memory"),
        ("-l -o vmap_area.rb_node free_vmap_area_root -s vmap_area.va_start", "by address"),
        ("-t maple -v sparse_irqs", "a maple tree, node by node"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "an entry",
            members: "`address` `index` (not of red-black trees) `position` (-p) `shown` (-s, -S)",
        },
        Rows {
            options: "-t maple -v",
            row: "a node, in front of its entries",
            members: "`depth` `node` (`addr` `kind` `parent` `first` `last` `slots`)",
        },
    ],
    each: None,
    run,
};

/// No tree of a real machine has more nodes.
const MOST_NODES: usize = 1 << 24;

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(serialize_with = "hex")]
    address: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    shown: &'a [Shown],
}

/// An entry: its address, its index, and its place below the root.
pub(super) struct Entry {
    pub(super) address: u64,
    pub(super) index: Option<u64>,
    pub(super) position: Option<String>,
    /// Whether its address is written as a decimal number.
    pub(super) decimal: bool,
}

pub(super) type Sink<'s> = &'s mut dyn FnMut(Found<'_>) -> Result<(), CommandError>;

/// What a walk finds.
pub(super) enum Found<'f> {
    Entry(Entry),
    /// With -v: a line on the tree, a node, or a slot of one.
    Line(&'f dyn Fn(&mut dyn Write) -> std::io::Result<()>),
    /// With -v: a node, and how deep it lies.
    Node(&'f MapleNode, u32),
}

/// A row of JSON.
#[derive(Serialize)]
struct NodeRow<'a> {
    depth: u32,
    node: &'a MapleNode,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let kernel = session.kernel();
    let command = COMMAND.name;
    let usage = |what: String| CommandError::Usage { command, what };
    let words = with_expressions(&args.words);
    let [start] = words.as_slice() else {
        return Err(usage("say where the tree starts, and no more".to_owned()));
    };
    let offset = |letter| match args.value(letter) {
        Some(word) => linked::offset(command, kernel, word),
        None => Ok(0),
    };
    let start = match address::address(command, kernel, start) {
        Ok(start) => start,
        Err(error) => expression::address(session, start).map_err(|_| error)?,
    };
    let root = start.wrapping_add(offset('r')?);
    let members = Members::of(command, kernel, args)?;
    let style = Style::of(session.settings(), args);
    let mut count = 0;
    let verbose = args.has('v');
    let mut show = |found: Found<'_>| -> Result<(), CommandError> {
        let entry = match found {
            Found::Entry(entry) => entry,
            Found::Line(_) if out.is_json() => return Ok(()),
            Found::Line(line) => return Ok(line(out)?),
            Found::Node(node, depth) if out.is_json() => {
                return Ok(out.row(&NodeRow { depth, node })?);
            }
            Found::Node(..) => return Ok(()),
        };
        count += 1;
        let shown = members.shown(Reader::of(session, out.is_json()), entry.address)?;
        let position = entry.position.filter(|_| args.has('p'));
        if out.is_json() {
            let (address, index) = (entry.address, entry.index);
            return Ok(out.row(&Row { address, index, position, shown: &shown })?);
        }
        match entry.decimal && !args.has('x') {
            // Its slot has a line of its own.
            _ if entry.decimal && verbose => {}
            true => writeln!(out, "{}", entry.address)?,
            false => writeln!(out, "{:x}", entry.address)?,
        }
        if let Some(position) = position {
            // Of maple trees, whose entries stand for ranges, crash counts them.
            let index = if entry.decimal { Some(count) } else { entry.index };
            let index = index.map_or(String::new(), |index| format!("index: {index}  "));
            writeln!(out, "  {index}position: {position}")?;
        }
        Ok(linked::render(out, &shown, style)?)
    };
    let kind = args.value('t').unwrap_or("rbtree");
    let only_roots = || usage("-N is there for red-black and maple trees only".to_owned());
    let broken = match kind {
        "rb" | "rbtree" => {
            let node = match args.has('N') {
                true => root,
                false => kernel.read_u64(root).map_err(failed(command))?,
            };
            red_black(kernel, node, offset('o')?, args.has('l'), &mut show)?
        }
        "ra" | "radix" | "x" | "xarray" if args.has('N') => return Err(only_roots()),
        "ra" | "radix" | "x" | "xarray" => xarray(kernel, root, &mut show)?,
        "m" | "maple" if verbose => {
            tree_maple::nodes(kernel, root, args.has('N'), style.radix == Radix::Hex, &mut show)?
        }
        "m" | "maple" => tree_maple::entries(kernel, root, args.has('N'), &mut show)?,
        other => return Err(usage(format!("{other} is no kind of tree"))),
    };
    match broken {
        Some(error) if count > 0 => Ok(out.note(format_args!("entries may be missing: {error}"))?),
        Some(error) => Err(failed(command)(error)),
        None => Ok(()),
    }
}

/// Root first, then what is left of it, then what is right of it; or in order.
fn red_black(
    kernel: &Kernel,
    root: u64,
    offset: u64,
    in_order: bool,
    show: Sink<'_>,
) -> Result<Option<Error>, CommandError> {
    use kmortem_kernel::rbtree::RbNodeLayout;
    let layout = kernel.layout::<RbNodeLayout>().map_err(failed(COMMAND.name))?;
    let mut seen = FxHashSet::default();
    let mut broken = None;
    // (node, its place, whether its left side is done)
    let mut stack = vec![(root, "root".to_owned(), false)];
    while let Some((node, position, expanded)) = stack.pop() {
        let entry = |position: &str| Entry {
            address: node.wrapping_sub(offset),
            index: None,
            position: Some(position.to_owned()),
            decimal: false,
        };
        if expanded {
            show(Found::Entry(entry(&position)))?;
            continue;
        }
        if node == 0 {
            continue;
        }
        if !seen.insert(node) || seen.len() > MOST_NODES {
            broken = Some(Error::Loop { what: "the tree".to_owned(), addr: node });
            break;
        }
        let links = layout
            .left
            .read(kernel, node)
            .and_then(|left| Ok((left, layout.right.read(kernel, node)?)));
        let (left, right) = match links {
            Ok(links) => links,
            Err(error) => {
                broken = Some(error);
                continue;
            }
        };
        let children = |side| format!("{position}/{side}");
        stack.push((right, children("r"), false));
        if in_order {
            let left_place = children("l");
            stack.push((node, position, true));
            stack.push((left, left_place, false));
        } else {
            stack.push((left, children("l"), false));
            show(Found::Entry(entry(&position)))?;
        }
    }
    Ok(broken)
}

/// What is stored in the xarray (or radix tree) at `root`.
fn xarray(kernel: &Kernel, root: u64, show: Sink<'_>) -> Result<Option<Error>, CommandError> {
    use kmortem_kernel::xarray::{XaNodeLayout, XarrayLayout};
    let find = || -> Result<_, Error> {
        let head = kernel.layout::<XarrayLayout>()?.head.read(kernel, root)?;
        // A node is marked by bit 1 (`xa_is_node`, include/linux/xarray.h).
        let top = match head & 3 == 2 && head > 4096 {
            true => Some(kernel.layout::<XaNodeLayout>()?.shift.read(kernel, head - 2)?),
            false => None,
        };
        Ok((top, kernel.xarray(root)?))
    };
    let (top, entries) = find().map_err(failed(COMMAND.name))?;
    let mut broken = None;
    for entry in entries {
        match entry {
            Ok((index, address)) => {
                let position = Some(place(index, top));
                show(Found::Entry(Entry {
                    address,
                    index: Some(index),
                    position,
                    decimal: false,
                }))?;
            }
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    Ok(broken)
}

/// The slots that lead to `index`, 64 to a node (`XA_CHUNK_SHIFT` is 6); crash's word for the only
/// entry of a tree without nodes.
fn place(index: u64, top: Option<u8>) -> String {
    let Some(top) = top else { return "direct/0".to_owned() };
    let slots = (0..=top.min(60)).step_by(6).rev().map(|shift| format!("/{}", index >> shift & 63));
    format!("root{}", slots.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn places_name_the_slots_from_the_root() {
        assert_eq!(place(90, Some(6)), "root/1/26");
        assert_eq!(place(5, Some(0)), "root/5");
        assert_eq!(place(0, None), "direct/0");
    }
}
