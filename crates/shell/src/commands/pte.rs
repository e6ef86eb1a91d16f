//! `pte`: what a page table entry says.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::stack::hex;
use kmortem_kernel::translation::EntryMeaning;
use serde::Serialize;

use super::btop::{number, numbers};
use crate::args::Args;
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "pte",
    summary: "explains page table entries",
    arguments: "ENTRY...",
    options: &[],
    details: "Entries are hexadecimal.",
    examples: &[("d8e067", "where the page is, and what may be done with it")],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "an entry",
        members: "`entry` `state` (empty, page, swap) `physical` `flags` `area` `offset` `swap` (path of the area)",
    }],
    each: None,
    run,
};

/// An entry with all that is known of it.
#[derive(Serialize)]
pub(super) struct Entry {
    #[serde(serialize_with = "hex")]
    entry: u64,
    #[serde(flatten)]
    meaning: EntryMeaning,
    /// Path of the swap area.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) swap: Option<String>,
}

impl Entry {
    pub(super) fn read(kernel: &Kernel, entry: u64) -> Entry {
        let meaning = kernel.arch().entry_meaning(kernel, entry);
        let swap = match meaning {
            EntryMeaning::Swap { area, .. } => swap_path(kernel, area),
            _ => None,
        };
        Entry { entry, meaning, swap }
    }
}

/// Where the swap area `area` is.
fn swap_path(kernel: &Kernel, area: u32) -> Option<String> {
    let areas = kernel.swap_areas().ok()?;
    let file = areas.iter().find(|swap| swap.index == area)?.file;
    kernel.file_path(file).ok()
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    for word in numbers(COMMAND.name, args)? {
        let entry = Entry::read(session.kernel(), number(COMMAND.name, word)?);
        match out.is_json() {
            true => out.row(&entry)?,
            false => render(out, &entry)?,
        }
    }
    Ok(())
}

pub(super) fn render(out: &mut dyn Write, entry: &Entry) -> io::Result<()> {
    let bits = format!("{:x}", entry.entry);
    let (physical, flags) = match &entry.meaning {
        EntryMeaning::Empty => ("0".to_owned(), "no mapping".to_owned()),
        EntryMeaning::Page { physical, flags } => (format!("{physical:x}"), flags.join("|")),
        EntryMeaning::Swap { area, offset } => {
            let path = match &entry.swap {
                Some(path) => path.clone(),
                None => format!("(no swap area {area})"),
            };
            let (first, second) = (bits.len().max(3), path.len().max(4));
            writeln!(out, "{:^first$}  {:^second$}  OFFSET", "PTE", "SWAP")?;
            return writeln!(out, "{bits:>first$}  {path:^second$}  {offset}");
        }
    };
    let (first, second) = (bits.len().max(3), physical.len().max(8));
    writeln!(out, "{:^first$}  {:^second$}  FLAGS", "PTE", "PHYSICAL")?;
    writeln!(out, "{}  {}  ({flags})", centered(&bits, first), centered(&physical, second))
}

/// In the middle, to the right of it where there is none.
fn centered(text: &str, width: usize) -> String {
    let room = width.saturating_sub(text.len());
    format!("{:left$}{text}{:right$}", "", "", left = room.div_ceil(2), right = room / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::arch::x86_64::paging::meaning;

    #[test]
    fn entries_stand_below_their_header() {
        let mut out = Vec::new();
        for entry in [0xd8e067, 0, 0x8000_0001_0120_01e3, 0x8000_0000_0fe0_01e3, 1 << 59 | 0x200] {
            let entry = Entry { entry, meaning: meaning(entry, 0), swap: None };
            render(&mut out, &entry).unwrap();
        }
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}
