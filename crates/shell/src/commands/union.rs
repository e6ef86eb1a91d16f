//! `union`: as `struct`, for unions.

use kmortem_debuginfo::btf::Kind;

use super::structure::{ARGUMENTS, DETAILS, OPTIONS, ROWS, run};
use crate::registry::Command;

pub(crate) const COMMAND: Command = Command {
    name: "union",
    summary: "shows the definition of a union, or one in memory",
    arguments: ARGUMENTS,
    options: OPTIONS,
    details: DETAILS,
    examples: &[("sigval", "the definition"), ("-o rcu_special", "with the offset of each member")],
    takes_all: false,
    rows: ROWS,
    each: None,
    run: |session, args, out| run(session, args, out, Some(Kind::Union)),
};
