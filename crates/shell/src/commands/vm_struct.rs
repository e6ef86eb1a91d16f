//! `vm -m`, `vm -v`: the structures of a task's memory.

use kmortem_kernel::task::Task;

use crate::args::Args;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;

pub(super) fn show(
    _: &Session,
    _: &Task,
    args: &Args,
    _: &mut Output<'_>,
) -> Result<(), CommandError> {
    let option = if args.has('m') { 'm' } else { 'v' };
    Err(CommandError::NotYet(format!("vm -{option}")))
}
