//! One file per command. [`crate::registry`] lists them.

pub(crate) mod alias;
pub(crate) mod ascii;
pub(crate) mod blk;
pub(crate) mod bpf;
pub(crate) mod bt;
mod bt_search;
mod bt_words;
pub(crate) mod btop;
pub(crate) mod cgroup;
pub(crate) mod dev;
mod dev_dump;
mod dev_io;
mod dev_list;
mod dev_pci;
pub(crate) mod dis;
pub(crate) mod eval;
pub(crate) mod exit;
pub(crate) mod extend;
pub(crate) mod files;
mod files_pages;
pub(crate) mod foreach;
pub(crate) mod fuser;
pub(crate) mod gcore;
mod gcore_elf;
mod gcore_memory;
pub(crate) mod gdb;
mod gdb_layout;
mod gdb_memory;
mod gdb_printf;
pub(crate) mod help;
pub(crate) mod help_topics;
pub(crate) mod ipcs;
pub(crate) mod irq;
pub(crate) mod kmem;
mod kmem_address;
mod kmem_free;
mod kmem_nodes;
mod kmem_page;
mod kmem_slab;
mod kmem_tables;
mod kmem_vmalloc;
mod linked;
pub(crate) mod list;
pub(crate) mod locks;
pub(crate) mod log;
mod log_safe;
pub(crate) mod mach;
pub(crate) mod mem;
mod mem_suspects;
pub(crate) mod module;
pub(crate) mod mount;
pub(crate) mod net;
mod net_sockets;
pub(crate) mod pagecache;
pub(crate) mod print;
pub(crate) mod ps;
mod ps_family;
mod ps_process;
mod ps_times;
pub(crate) mod pte;
pub(crate) mod ptob;
pub(crate) mod ptov;
pub(crate) mod rd;
mod rd_text;
pub(crate) mod repeat;
pub(crate) mod runq;
mod runq_groups;
pub(crate) mod rustfilt;
pub(crate) mod sbitmapq;
pub(crate) mod search;
pub(crate) mod set;
pub(crate) mod set_variable;
pub(crate) mod sig;
mod size;
mod stack_registers;
mod stack_text;
pub(crate) mod star;
mod struct_pointers;
pub(crate) mod structure;
pub(crate) mod swap;
pub(crate) mod sym;
pub(crate) mod sys;
mod sys_calls;
pub(crate) mod task;
mod task_header;
#[cfg(test)]
mod testing;
pub(crate) mod timer;
pub(crate) mod trace;
mod trace_dat;
mod trace_format;
mod trace_parse;
mod trace_text;
pub(crate) mod tree;
mod tree_maple;
pub(crate) mod union;
pub(crate) mod virtio;
pub(crate) mod vm;
mod vm_flags;
mod vm_pages;
mod vm_struct;
pub(crate) mod vtop;
pub(crate) mod waitq;
pub(crate) mod whatis;
pub(crate) mod wq;
pub(crate) mod wr;
pub(crate) mod xen;

use kmortem_kernel::Error;
use kmortem_kernel::gaps::Gaps;
use kmortem_kernel::task::{Task, TaskTable};

use crate::args::Args;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;
use crate::target;

/// The kernel model's errors, as those of a command.
fn failed(command: &'static str) -> impl Fn(Error) -> CommandError {
    move |error| CommandError::Failed { command, what: error.to_string() }
}

/// All tasks, with a remark where some may be missing.
fn tasks<'s>(
    command: &'static str,
    session: &'s Session,
    out: &mut Output<'_>,
) -> Result<&'s TaskTable, CommandError> {
    let tasks = session.kernel().tasks().map_err(failed(command))?;
    match tasks.broken.as_slice() {
        [] => {}
        [error] => out.note(format_args!("tasks may be missing: {error}"))?,
        [error, rest @ ..] => {
            let more = rest.len();
            out.note(format_args!("tasks may be missing: {error}; and {more} more reasons"))?;
        }
    }
    Ok(tasks)
}

/// The tasks that the words of a command line name; without any, the current
/// task.
fn chosen<'s>(
    command: &'static str,
    session: &'s Session,
    args: &Args,
    out: &mut Output<'_>,
) -> Result<Vec<&'s Task>, CommandError> {
    let table = tasks(command, session, out)?;
    if args.words.is_empty() {
        return Ok(vec![session.current_task(command)?]);
    }
    let mut chosen = Vec::new();
    for word in &args.words {
        chosen.extend(target::find(command, table, word)?);
    }
    Ok(chosen)
}

/// Remarks on what an answer lacks, each reason once.
fn note_gaps<'a>(
    out: &mut Output<'_>,
    gaps: impl Iterator<Item = &'a Gaps>,
) -> Result<(), CommandError> {
    let mut told: Vec<&str> = Vec::new();
    for reason in gaps.flat_map(|gaps| gaps.reasons()) {
        if !told.contains(&reason.as_str()) {
            told.push(reason);
            out.note(reason)?;
        }
    }
    Ok(())
}
