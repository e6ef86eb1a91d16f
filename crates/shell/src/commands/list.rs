//! `list`: structures that are linked to each other.

use std::io::Write;

use kmortem_kernel::stack::hex;
use kmortem_kernel::{Error, Kernel};
use rustc_hash::FxHashSet;
use serde::Serialize;

use super::failed;
use super::linked::{self, Members};
use crate::address::{self, with_expressions};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::value::{Reader, Shown, Style};

pub(crate) const COMMAND: Command = Command {
    name: "list",
    summary: "walks a linked list",
    arguments: "[STRUCT.MEMBER] START",
    options: &[
        Opt::value('o', "OFFSET", "of the link in the structure: STRUCT.MEMBER, or bytes"),
        Opt::value('e', "END", "ends in front of this address"),
        Opt::value('s', "STRUCT[.MEMBER,...]", "shows each as this structure, or its members"),
        Opt::value('S', "STRUCT[.MEMBER,...]", "the same, with numbers for constants"),
        Opt::value('l', "OFFSET", "of the link, where START is an address of links (with -s)"),
        Opt::flag('x', "numbers in hexadecimal"),
        Opt::flag('d', "numbers in decimal"),
        Opt::flag('r', "backwards, by `prev`"),
        Opt::flag('B', "finds loops (always done)"),
        Opt::flag('h', "START is a structure of the list"),
        Opt::value('O', "OFFSET", "of the list's head in START (with -h)"),
        Opt::flag('H', "START is the list_head at the list's head"),
    ],
    details: "\
Without -h and -H the link of a structure is the address of the next structure; with
them it is that of the next link (struct list_head). The list ends at NULL, at its
start, or where it leads back into itself, which is told.",
    examples: &[
        ("-H modules module.list -s module.name", "the modules"),
        ("task_struct.parent init_task", "a task and its parents"),
        ("-h -o task_struct.tasks init_task -s task_struct.pid", "all processes"),
    ],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "a structure",
        members: "`address` `shown` (-s, -S: its members)",
    }],
    each: None,
    run,
};

/// No list of a real machine is longer.
const LONGEST: usize = 1 << 24;

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(serialize_with = "hex")]
    address: u64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    shown: &'a [Shown],
}

/// Where a list begins and how it goes on.
struct List {
    /// The first address: of a structure, or of a link.
    first: u64,
    /// Where it comes back to.
    head: u64,
    /// Whether that is a head of its own, and no structure of the list.
    bare: bool,
    /// From an address to the word that has the next one.
    link: u64,
    /// Taken off an address to give the structure's.
    node: u64,
    end: Option<u64>,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let kernel = session.kernel();
    let members = Members::of(COMMAND.name, kernel, args)?;
    let list = parse(kernel, args)?;
    let style = Style::of(session.settings(), args);
    let inner = match args.value('l') {
        Some(word) => linked::offset(COMMAND.name, kernel, word)?,
        None => 0,
    };
    let mut some = false;
    let broken = list.walk(kernel, &mut |address| {
        some = true;
        let shown =
            members.shown(Reader::of(session, out.is_json()), address.wrapping_sub(inner))?;
        if out.is_json() {
            return Ok(out.row(&Row { address, shown: &shown })?);
        }
        writeln!(out, "{address:x}")?;
        Ok(linked::render(out, &shown, style)?)
    })?;
    match broken {
        Some(error) if some => Ok(out.note(error)?),
        Some(error) => Err(failed(COMMAND.name)(error)),
        None if !some && !out.is_json() => Ok(writeln!(out, "(empty)")?),
        None => Ok(()),
    }
}

fn parse(kernel: &Kernel, args: &Args) -> Result<List, CommandError> {
    let usage = |what: &str| CommandError::Usage { command: COMMAND.name, what: what.to_owned() };
    let at = |word: &str| address::address(COMMAND.name, kernel, word);
    let offset = |word: &str| linked::offset(COMMAND.name, kernel, word);
    let words = with_expressions(&args.words);
    // The offset may stand without -o, in front of the start or behind it.
    let is_member = |word: &&String| {
        word.split_once('.').is_some_and(|(ty, _)| kernel.ty(ty).is_ok()) && !word.starts_with('(')
    };
    let (members, starts): (Vec<&String>, Vec<&String>) = words.iter().partition(is_member);
    let (link_at, start) = match (args.value('o'), members.as_slice(), starts.as_slice()) {
        (Some(word), [], [start]) => (offset(word)?, at(start)?),
        (None, [], [start]) => (0, at(start)?),
        (None, [word], [start]) => (offset(word)?, at(start)?),
        (None, [], [bytes, start]) => (offset(bytes)?, at(start)?),
        (_, _, []) => return Err(usage("say where the list starts")),
        _ => return Err(usage("there is one start, and one offset, too much")),
    };
    if start == 0 {
        let what = "0 is no address of a structure".to_owned();
        return Err(CommandError::Failed { command: COMMAND.name, what });
    }
    let end = args.value('e').map(at).transpose()?;
    let prev = if args.has('r') { 8 } else { 0 };
    let read = |addr: u64| kernel.read_u64(addr).map_err(failed(COMMAND.name));
    if args.has('H') {
        let first = read(start.wrapping_add(prev))?;
        return Ok(List { first, head: start, bare: true, link: prev, node: link_at, end });
    }
    if args.has('h') {
        let Some(word) = args.value('O') else {
            let first = start.wrapping_add(link_at);
            return Ok(List { first, head: first, bare: false, link: prev, node: link_at, end });
        };
        let head = start.wrapping_add(offset(word)?);
        let first = read(head.wrapping_add(prev))?;
        return Ok(List { first, head, bare: true, link: prev, node: link_at, end });
    }
    let link = link_at.wrapping_add(prev);
    Ok(List { first: start, head: start, bare: false, link, node: 0, end })
}

impl List {
    /// Gives each structure to `show`; why the walk ended, if not at an end.
    fn walk(
        &self,
        kernel: &Kernel,
        show: &mut dyn FnMut(u64) -> Result<(), CommandError>,
    ) -> Result<Option<Error>, CommandError> {
        let mut seen = FxHashSet::default();
        let mut at = self.first;
        let mut inside = false;
        while at != 0 && self.end != Some(at) && !(at == self.head && (inside || self.bare)) {
            if !seen.insert(at) || seen.len() > LONGEST {
                return Ok(Some(Error::Loop { what: "the list".to_owned(), addr: at }));
            }
            let next = kernel.read_u64(at.wrapping_add(self.link));
            if let (Err(error), true) = (&next, inside) {
                return Ok(Some(error.clone()));
            }
            show(at.wrapping_sub(self.node))?;
            let next = match next {
                Ok(next) => next,
                Err(error) => return Ok(Some(error)),
            };
            // What points to itself is the last one (the first task is its own parent).
            if next == at {
                break;
            }
            inside = true;
            at = next;
        }
        Ok(None)
    }
}
