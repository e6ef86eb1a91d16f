//! `ptob`: the address of a page number.

use std::io::Write;

use super::btop::{Row, numbers};
use crate::args::Args;
use crate::arithmetic;
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "ptob",
    summary: "turns page numbers into addresses",
    arguments: "PAGE...",
    options: &[],
    details: "As in crash, a number is decimal unless 0x or a letter says otherwise.",
    examples: &[("512a", "the physical address of a page frame")],
    takes_all: false,
    rows: &[Rows { options: "", row: "a page", members: "`address` `page`" }],
    each: None,
    run,
};

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let shift = session.kernel().page_size().trailing_zeros();
    for word in numbers(COMMAND.name, args)? {
        let page = arithmetic::number(word).ok().flatten().ok_or_else(|| {
            let what = format!("{word} is no number of a page");
            CommandError::Usage { command: COMMAND.name, what }
        })?;
        let address = page << shift;
        match out.is_json() {
            true => out.row(&Row::new(address, page))?,
            false => writeln!(out, "{page:x}: {address:x}")?,
        }
    }
    Ok(())
}
