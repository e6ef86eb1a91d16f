//! `vm -m`, `vm -v`: the structures of a task's memory.

use kmortem_kernel::task::Task;

use super::failed;
use crate::args::Args;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;
use crate::value::{Reader, Shown, Style};

/// The task's `mm_struct`, or with `-v` the `vm_area_struct` of each mapping.
pub(super) fn show(
    session: &Session,
    task: &Task,
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    if task.mm == 0 {
        return Ok(());
    }
    let kernel = session.kernel();
    let style = Style::of(session.settings(), args);
    let (name, list) = if args.has('m') {
        ("struct mm_struct", vec![task.mm])
    } else {
        let vmas = kernel.vmas(task.mm).map_err(failed("vm"))?;
        super::note_gaps(out, [&vmas.gaps].into_iter())?;
        ("struct vm_area_struct", vmas.list.iter().map(|vma| vma.addr).collect())
    };
    for addr in list {
        let object = kernel.object_at(name, addr).map_err(failed("vm"))?;
        Shown::whole(&mut Reader::of(session, false), &object).render(out, style)?;
    }
    Ok(())
}
