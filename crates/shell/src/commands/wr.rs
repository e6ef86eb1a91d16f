//! `wr`: writes memory, which a dump does not allow.

use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::Command;
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "wr",
    summary: "writes memory: refused, a dump stays as it is",
    arguments: "ADDRESS VALUE",
    options: &[
        Opt::flag('u', "a user address"),
        Opt::flag('k', "a kernel address"),
        Opt::flag('p', "a physical address"),
        Opt::number("8", "a byte"),
        Opt::number("16", "2 bytes"),
        Opt::number("32", "4 bytes"),
        Opt::number("64", "8 bytes"),
    ],
    details: "crash(8) writes to the memory of a live machine only; this never does.",
    examples: &[],
    takes_all: false,
    rows: &[],
    each: None,
    run,
};

fn run(_: &mut Session, _: &Args, _: &mut Output<'_>) -> Result<(), CommandError> {
    let what = "not allowed on dumpfiles".to_owned();
    Err(CommandError::Failed { command: COMMAND.name, what })
}
