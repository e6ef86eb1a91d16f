//! `exit` and `q`: the end of the session.

use crate::args::Args;
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::Command;
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "exit",
    summary: "ends the session",
    arguments: "",
    options: &[],
    details: "The lines behind it are not run. `q` and `quit` are the same.",
    examples: &[("", "ends the session")],
    takes_all: false,
    rows: &[],
    each: None,
    run,
};

pub(crate) const Q: Command = Command {
    name: "q",
    summary: "ends the session, as `exit` does",
    examples: &[("", "ends the session")],
    ..COMMAND
};

fn run(session: &mut Session, _: &Args, _: &mut Output<'_>) -> Result<(), CommandError> {
    session.end();
    Ok(())
}
