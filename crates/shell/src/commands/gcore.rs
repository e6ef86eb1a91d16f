//! `gcore`: a process of the dead machine as a core file, for gdb.

use std::io::Write;
use std::path::{Path, PathBuf};

use kmortem_kernel::Kernel;
use kmortem_kernel::task::Task;
use serde::Serialize;

use super::{chosen, failed, gcore_elf, gcore_memory};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "gcore",
    summary: "writes a process as a core file for gdb",
    arguments: "[PID | TASK]...",
    options: &[
        Opt::value('o', "FILE", "where to, in place of core.PID.NAME in the current directory"),
        Opt::flag('f', "may overwrite that file"),
        Opt::flag('n', "only tells what would be written"),
    ],
    details: "\
Open it as `gdb PROGRAM core.PID.NAME`. It has all threads with their registers
in user space, and the pages that the dump has of the process. Pages that are in
no memory (swapped out, filtered, never read from their file, of the kernel's own vdso) are left out, told
by gdb as not accessible, and counted here: makedumpfile's usual filters drop
all user pages.",
    examples: &[("-n 1", "what a core file of PID 1 would have")],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "a core file",
        members: "`pid` `comm` `path` `threads` (`pid` `registers` `unknown`) `mappings` `pages` `zero` `in_file` `swapped` `unreadable` `reason` `bytes`",
    }],
    each: None,
    run,
};

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a> {
    pid: i32,
    comm: &'a str,
    /// Where it was written; none with `-n`.
    path: Option<String>,
    threads: &'a [kmortem_kernel::user_core::UserThread],
    mappings: usize,
    #[serde(flatten)]
    pages: &'a gcore_memory::Pages,
    bytes: u64,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let chosen = chosen(COMMAND.name, session, args, out)?;
    let mut leaders: Vec<i32> = chosen.iter().map(|task| task.tgid).collect();
    leaders.sort_unstable();
    leaders.dedup();
    if leaders.len() > 1 && args.has('o') {
        let what = "-o names one file, there are several processes".to_owned();
        return Err(CommandError::Usage { command: COMMAND.name, what });
    }
    for tgid in leaders {
        // The thread that was asked for comes first: gdb shows it at once.
        let first = chosen.iter().find(|task| task.tgid == tgid);
        if let Some(first) = first {
            write_core(session, first, args, out)?;
        }
    }
    Ok(())
}

fn write_core(
    session: &Session,
    first: &Task,
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    if first.mm == 0 {
        let what = format!("{} (PID {}) has no user memory", first.comm, first.pid);
        return Err(CommandError::Failed { command: COMMAND.name, what });
    }
    let threads = threads(kernel, first)?;
    let vmas = kernel.vmas(first.mm).map_err(failed(COMMAND.name))?;
    let memory = gcore_memory::Memory::of(kernel, first.mm, &vmas.list, session.progress())
        .map_err(failed(COMMAND.name))?;
    let mut notes_gaps = kmortem_kernel::gaps::Gaps::default();
    let core = gcore_elf::Core::new(kernel, first, &threads, &vmas.list, &mut notes_gaps);
    let mut path = None;
    if !args.has('n') {
        let target = match args.value('o') {
            Some(file) => PathBuf::from(file),
            // As the kernel does with names that hold a slash.
            None => PathBuf::from(format!("core.{}.{}", first.tgid, first.comm.replace('/', "!"))),
        };
        save(kernel, &core, &memory, &target, args.has('f'), session)?;
        path = Some(target.display().to_string());
    }
    if out.is_json() {
        out.row(&Row {
            pid: first.tgid,
            comm: &first.comm,
            path,
            threads: &threads,
            mappings: vmas.list.len(),
            pages: &memory.pages,
            bytes: core.bytes(&memory),
        })?;
    } else {
        match &path {
            Some(path) => writeln!(out, "Saved {path}")?,
            None => writeln!(out, "core.{}.{}: not written", first.tgid, first.comm)?,
        }
        let pages = &memory.pages;
        writeln!(
            out,
            "  {} threads, {} mappings: {} pages from memory, {} never touched (zeros)",
            threads.len(),
            vmas.list.len(),
            pages.pages,
            pages.zero
        )?;
        writeln!(
            out,
            "  left out: {} pages of files that were not in memory, {} swapped out, {} not in the dump",
            pages.in_file, pages.swapped, pages.unreadable
        )?;
    }
    if let Some(reason) = &memory.pages.reason {
        out.note(format_args!("the first page that can't be read: {reason}"))?;
    }
    for thread in threads.iter().filter(|thread| thread.registers.is_none()) {
        let why = thread.unknown.as_deref().unwrap_or("only a part of them was saved");
        out.note(format_args!("no registers of thread {}: {why}", thread.pid))?;
    }
    super::note_gaps(out, [&vmas.gaps, &notes_gaps].into_iter())
}

/// The threads of the process, `first` before the others.
fn threads(
    kernel: &Kernel,
    first: &Task,
) -> Result<Vec<kmortem_kernel::user_core::UserThread>, CommandError> {
    let tasks = kernel.tasks().map_err(failed(COMMAND.name))?;
    let others = tasks.list.iter().filter(|t| t.tgid == first.tgid && t.addr != first.addr);
    let all = std::iter::once(first).chain(others.filter(|t| t.mm == first.mm));
    Ok(all.map(|task| kernel.user_thread(task)).collect())
}

/// Writes under a name of its own, then gives it the right one: nobody sees half
/// a file, and what is there is not overwritten unless that is wanted.
fn save(
    kernel: &Kernel,
    core: &gcore_elf::Core,
    memory: &gcore_memory::Memory,
    target: &Path,
    overwrite: bool,
    session: &Session,
) -> Result<(), CommandError> {
    let failed = |what: String| CommandError::Failed { command: COMMAND.name, what };
    let shown = target.display();
    if !overwrite && target.symlink_metadata().is_ok() {
        return Err(failed(format!("{shown} is there already; -f overwrites it")));
    }
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = target.with_file_name(name);
    let written = (|| -> std::io::Result<()> {
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&part)?;
        core.write(kernel, memory, file, session.progress())?;
        if overwrite {
            return std::fs::rename(&part, target);
        }
        // Fails where somebody made the file in the meantime.
        std::fs::hard_link(&part, target)?;
        std::fs::remove_file(&part)
    })();
    written.map_err(|error| {
        let _ = std::fs::remove_file(&part);
        failed(format!("{shown} can't be written: {error}"))
    })
}
