//! `*`: as `struct` or `union`.

use super::structure::{ARGUMENTS, DETAILS, OPTIONS, ROWS, run};
use crate::registry::Command;

pub(crate) const COMMAND: Command = Command {
    name: "*",
    summary: "shows a struct or union: `struct` and `union` in one",
    arguments: ARGUMENTS,
    options: OPTIONS,
    details: DETAILS,
    examples: &[
        ("list_head modules", "an object"),
        ("sigval", "the definition of a union"),
        ("task_struct.pid,comm init_task", "two members"),
    ],
    takes_all: false,
    rows: ROWS,
    each: None,
    run: |session, args, out| run(session, args, out, None),
};
