//! `files`: the open files of processes.

use std::collections::HashSet;

use kmortem_kernel::task::{PF_EXITING, TaskLayout};
use kmortem_kernel::vfs::OpenFile;
use kmortem_kernel::{Kernel, task::Task};
use rayon::prelude::*;

use crate::cell::{hex, hex_option, word};
use crate::schema::{BATCH, Column, FillError, Rows, Table};

/// An open file with whose it is.
pub(crate) struct FileRow {
    task: u64,
    pid: i32,
    file: OpenFile,
}

pub(crate) const FILES: Table<FileRow> = Table {
    name: "files",
    doc: "an open file of a process; threads that share a table of files show it once",
    columns: &[
        Column::address("task", "whose it is (`tasks.addr`)", |_, r| hex(r.task)),
        Column::integer("pid", "the task's thread ID", |_, r| r.pid.into()),
        Column::integer("fd", "file descriptor", |_, r| r.file.fd.into()),
        Column::address("file", "its `struct file`", |_, r| hex(r.file.file)),
        Column::address("dentry", "its `struct dentry`", |_, r| hex_option(r.file.dentry)),
        Column::address("inode", "its `struct inode`", |_, r| hex_option(r.file.inode)),
        Column::text("kind", "regular, directory, socket, fifo, ...", |_, r| word(&r.file.kind)),
        Column::text("path", "its path", |_, r| r.file.path.as_deref().into()),
        Column::flag("deleted", "its name is gone", |_, r| r.file.deleted.into()),
        Column::integer("flags", "`O_*` flags", |_, r| r.file.flags.into()),
        Column::quantity("position", "bytes", "where it is read or written next", |_, r| {
            r.file.position.into()
        }),
        Column::flag("close_on_exec", "it is closed by exec", |_, r| r.file.close_on_exec.into()),
    ],
    rows,
};

fn rows(kernel: &Kernel, rows: &mut Rows<'_, FileRow>) -> Result<(), FillError> {
    for batch in with_files(kernel, rows)?.chunks(BATCH) {
        let found: Vec<_> = batch.par_iter().map(|task| kernel.files(task)).collect();
        for (task, files) in batch.iter().zip(found) {
            match files {
                Ok(files) => {
                    rows.gaps(&files.gaps);
                    for file in files.list {
                        rows.gaps(&file.gaps);
                        rows.push(&FileRow { task: task.addr, pid: task.pid, file })?;
                    }
                }
                Err(error) => rows.remark(format_args!("PID {}: {error}", task.pid)),
            }
        }
    }
    Ok(())
}

/// One task for each table of files; none that has given its table back.
pub(super) fn with_files<'k, R>(
    kernel: &'k Kernel,
    rows: &mut Rows<'_, R>,
) -> Result<Vec<&'k Task>, FillError> {
    let table = kernel.tasks()?;
    let layout = kernel.layout::<TaskLayout>()?;
    table.broken.iter().for_each(|error| rows.remark(format_args!("some may be missing: {error}")));
    let mut seen = HashSet::new();
    let mut tasks = Vec::new();
    for task in table.list.iter().filter(|task| !task.is_kernel_thread() && task.pid != 0) {
        match layout.files.read(kernel, task.addr) {
            Ok(0) if task.flags & PF_EXITING != 0 => {}
            Ok(files) if seen.insert(files) => tasks.push(task),
            Ok(_) => {}
            Err(error) => rows.remark(format_args!("PID {}: {error}", task.pid)),
        }
    }
    Ok(tasks)
}
