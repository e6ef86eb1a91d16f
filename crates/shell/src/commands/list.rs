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
    let read = |addr: u64| kernel.read_u64(addr);
    let broken = list.walk(&read, &mut |address| {
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
    /// Gives each structure to `show`, of memory whose words `read` reads; why the walk ended, if not at an end.
    fn walk(
        &self,
        read: &dyn Fn(u64) -> Result<u64, Error>,
        show: &mut dyn FnMut(u64) -> Result<(), CommandError>,
    ) -> Result<Option<Error>, CommandError> {
        let mut seen = FxHashSet::default();
        let mut at = self.first;
        let mut inside = false;
        while at != 0 && self.end != Some(at) && !(at == self.head && (inside || self.bare)) {
            if !seen.insert(at) || seen.len() > LONGEST {
                return Ok(Some(Error::Loop { what: "the list".to_owned(), addr: at }));
            }
            let next = read(at.wrapping_add(self.link));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Structures that the list through `words` (address, content) has, and
    /// where it ended otherwise than at an end.
    fn walked(list: &List, words: &[(u64, u64)]) -> (Vec<u64>, Option<Error>) {
        let read = |addr: u64| {
            let word = words.iter().find(|(at, _)| *at == addr);
            word.map(|(_, word)| *word).ok_or(Error::corrupt("a word", addr))
        };
        let mut found = Vec::new();
        let broken = list.walk(&read, &mut |address| {
            found.push(address);
            Ok(())
        });
        (found, broken.unwrap())
    }

    /// Structures at 0x100, 0x200, ... with the link 8 bytes behind their start.
    fn linked(first: u64, head: u64, bare: bool) -> List {
        List { first, head, bare, link: 0, node: 8, end: None }
    }

    #[test]
    fn a_list_ends_at_its_head() {
        let words = [(0x1000, 0x108), (0x108, 0x208), (0x208, 0x1000)];
        let (found, broken) = walked(&linked(0x108, 0x1000, true), &words);
        assert_eq!((found, broken.is_none()), (vec![0x100, 0x200], true));
        // An empty one.
        assert_eq!(walked(&linked(0x1000, 0x1000, true), &words).0, [] as [u64; 0]);
        // From one of its structures on: the head is one of them.
        let (found, broken) = walked(&linked(0x208, 0x208, false), &words);
        assert_eq!((found, broken.is_none()), (vec![0x200, 0xff8, 0x100], true));
    }

    #[test]
    fn a_list_ends_at_null_at_itself_and_where_it_is_told() {
        let words = [(0x108, 0x208), (0x208, 0), (0x308, 0x308)];
        assert_eq!(walked(&linked(0x108, 0x108, false), &words).0, [0x100, 0x200]);
        assert_eq!(walked(&linked(0x308, 0x9000, false), &words).0, [0x300]);
        let list = List { end: Some(0x208), ..linked(0x108, 0x108, false) };
        assert_eq!(walked(&list, &words).0, [0x100]);
    }

    #[test]
    fn a_list_that_leads_back_into_itself_is_a_loop() {
        let words = [(0x108, 0x208), (0x208, 0x308), (0x308, 0x208)];
        let (found, broken) = walked(&linked(0x108, 0x1000, true), &words);
        assert_eq!(found, [0x100, 0x200, 0x300]);
        assert!(matches!(broken, Some(Error::Loop { addr: 0x208, .. })));
    }

    #[test]
    fn a_structure_that_is_absent_is_not_shown_but_told() {
        let (found, broken) = walked(&linked(0x108, 0x1000, true), &[(0x108, 0x208)]);
        assert_eq!(found, [0x100]);
        assert!(broken.is_some());
        // What the user has named is shown, be it unreadable.
        let (found, broken) = walked(&linked(0x108, 0x1000, true), &[]);
        assert_eq!((found, broken.is_some()), (vec![0x100], true));
    }
}
