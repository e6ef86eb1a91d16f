//! `vmas`: the mappings of processes.

use std::collections::HashSet;

use kmortem_kernel::Kernel;
use kmortem_kernel::task::Task;
use kmortem_kernel::vma::Vma;
use rayon::prelude::*;

use crate::cell::{Cell, hex};
use crate::schema::{BATCH, Column, FillError, Rows, Table};

/// A mapping with whose it is.
pub(crate) struct VmaRow {
    mm: u64,
    pid: i32,
    vma: Vma,
}

pub(crate) const VMAS: Table<VmaRow> = Table {
    name: "vmas",
    doc: "a mapping of a process; tasks that share their memory show it once",
    columns: &[
        Column::address("addr", "its `struct vm_area_struct`", |_, r| hex(r.vma.addr)),
        Column::address("mm", "the memory that it is in (`tasks.mm`)", |_, r| hex(r.mm)),
        Column::integer("pid", "the first task with that memory", |_, r| r.pid.into()),
        Column::address("start", "its first address", |_, r| hex(r.vma.start)),
        Column::address("end", "the address behind it", |_, r| hex(r.vma.end)),
        Column::quantity("size", "bytes", "its length", |_, r| r.vma.len().into()),
        Column::text("permissions", "as in /proc/PID/maps", |_, r| r.vma.permissions().into()),
        Column::integer("flags", "`VM_*` flags", |_, r| r.vma.flags.into()),
        Column::address("file", "its `struct file`; NULL: anonymous", |_, r| hex(r.vma.file)),
        Column::text("name", "path of its file, or what it is ([heap])", |kernel, r| {
            Cell::from(kernel.vma_name(r.mm, &r.vma))
        }),
    ],
    rows,
};

fn rows(kernel: &Kernel, rows: &mut Rows<'_, VmaRow>) -> Result<(), FillError> {
    let table = kernel.tasks()?;
    table.broken.iter().for_each(|error| rows.remark(format_args!("some may be missing: {error}")));
    let mut seen = HashSet::new();
    let tasks: Vec<&Task> =
        table.list.iter().filter(|task| task.mm != 0 && seen.insert(task.mm)).collect();
    for batch in tasks.chunks(BATCH) {
        let found: Vec<_> = batch.par_iter().map(|task| kernel.vmas(task.mm)).collect();
        for (task, vmas) in batch.iter().zip(found) {
            match vmas {
                Ok(vmas) => {
                    rows.gaps(&vmas.gaps);
                    let (mm, pid) = (task.mm, task.pid);
                    let list: Vec<VmaRow> =
                        vmas.list.into_iter().map(|vma| VmaRow { mm, pid, vma }).collect();
                    rows.push_all(&list)?;
                }
                Err(error) => rows.remark(format_args!("PID {}: {error}", task.pid)),
            }
        }
    }
    Ok(())
}
