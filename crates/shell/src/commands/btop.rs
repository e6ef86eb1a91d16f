//! `btop`: the page number of an address.

use std::io::Write;

use kmortem_kernel::stack::hex;
use serde::Serialize;

use crate::address;
use crate::args::Args;
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "btop",
    summary: "turns addresses into page numbers",
    arguments: "ADDRESS...",
    options: &[],
    details: "Numbers are hexadecimal.",
    examples: &[("512a000", "the page of a physical address")],
    takes_all: false,
    rows: &[Rows { options: "", row: "an address", members: "`address` `page`" }],
    each: None,
    run,
};

/// A row of JSON.
#[derive(Serialize)]
pub(super) struct Row {
    #[serde(serialize_with = "hex")]
    address: u64,
    #[serde(serialize_with = "hex")]
    page: u64,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let shift = session.kernel().page_size().trailing_zeros();
    for word in numbers(COMMAND.name, args)? {
        let address = number(COMMAND.name, word)?;
        let page = address >> shift;
        match out.is_json() {
            true => out.row(&Row { address, page })?,
            false => writeln!(out, "{word}: {page:x}")?,
        }
    }
    Ok(())
}

impl Row {
    pub(super) fn new(address: u64, page: u64) -> Row {
        Row { address, page }
    }
}

/// The words of a command that takes numbers and nothing else.
pub(super) fn numbers<'a>(
    command: &'static str,
    args: &'a Args,
) -> Result<&'a [String], CommandError> {
    match args.words.as_slice() {
        [] => Err(CommandError::Usage { command, what: "say which (hexadecimal)".to_owned() }),
        words => Ok(words),
    }
}

/// A hexadecimal word.
pub(super) fn number(command: &'static str, word: &str) -> Result<u64, CommandError> {
    let what = || format!("{word} is no hexadecimal number");
    address::hex(word).ok_or_else(|| CommandError::Usage { command, what: what() })
}
