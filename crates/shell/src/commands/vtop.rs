//! `vtop`: the way of a virtual address through the page tables.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::task::Task;
use kmortem_kernel::translation::Translation;
use serde::Serialize;

use super::vm::{Named, VMA_HEADER, render_vma};
use super::{failed, kmem_page, pte, task_header, tasks};
use crate::address;
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::memory::is_user;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::target;

pub(crate) const COMMAND: Command = Command {
    name: "vtop",
    summary: "translates virtual addresses",
    arguments: "ADDRESS...",
    options: &[
        Opt::value('c', "PID | TASK", "user addresses are those of this task"),
        Opt::flag('u', "user addresses"),
        Opt::flag('k', "kernel addresses"),
    ],
    details: "\
With all entries of the page tables on the way, the mapping that a user address is
in, and the record of the page. Without -c, user addresses are those of the current
task. Kernel addresses go through the kernel's own tables, whichever the task.",
    examples: &[("init_task", "a kernel address"), ("-c 1 400000", "an address of PID 1")],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "an address",
        members: "`address` `physical` (null: not mapped) `page_size` `entries` (`level` `at` `value`) `broken` `pid` `vma` `swap`",
    }],
    each: Some(show),
    run,
};

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    way: &'a Translation,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vma: Option<&'a Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swap: Option<&'a str>,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let task = match args.value('c') {
        Some(word) => {
            let table = tasks(COMMAND.name, session, out)?;
            target::find(COMMAND.name, table, word)?.first().copied()
        }
        None => session.current_task(COMMAND.name).ok(),
    };
    translate(session, task, args, &mut false, out)
}

/// For each of the tasks that `foreach` chose.
fn show(
    session: &Session,
    chosen: &[&Task],
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    if args.words.is_empty() {
        return Err(no_address());
    }
    // Titles of page records stand above the first, as in crash.
    let mut titled = false;
    for task in chosen {
        if !out.is_json() {
            task_header::render(out, task)?;
        }
        translate(session, Some(task), args, &mut titled, out)?;
        if !out.is_json() {
            writeln!(out)?;
        }
    }
    Ok(())
}

fn translate(
    session: &Session,
    task: Option<&Task>,
    args: &Args,
    titled: &mut bool,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let command = COMMAND.name;
    let kernel = session.kernel();
    if args.words.is_empty() {
        return Err(no_address());
    }
    for (i, word) in address::with_expressions(&args.words).iter().enumerate() {
        let addr = address::address(command, kernel, word)?;
        if i > 0 && !out.is_json() {
            writeln!(out)?;
        }
        if args.has('k') && is_user(addr) {
            let what = format!("{addr:x} is no kernel virtual address");
            return Err(CommandError::Failed { command, what });
        }
        if args.has('u') && !is_user(addr) {
            let what = format!("{addr:x} is no user virtual address");
            return Err(CommandError::Failed { command, what });
        }
        match is_user(addr) {
            true => user(kernel, task, addr, titled, out)?,
            false => of_kernel(kernel, addr, titled, out)?,
        }
    }
    Ok(())
}

fn no_address() -> CommandError {
    CommandError::Usage { command: COMMAND.name, what: "say which address".to_owned() }
}

fn of_kernel(
    kernel: &Kernel,
    addr: u64,
    titled: &mut bool,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let way = kernel.translation(addr);
    if out.is_json() {
        return Ok(out.row(&Row { way: &way, pid: None, vma: None, swap: None })?);
    }
    render_head(out, &way, 16, "(not mapped)")?;
    writeln!(out)?;
    let top = kernel.symbol("init_top_pgt").or_else(|_| kernel.symbol("swapper_pg_dir"));
    if let Ok(top) = top {
        writeln!(out, "PGD DIRECTORY: {top:x}")?;
    }
    if let [first, rest @ ..] = way.entries.as_slice() {
        writeln!(out, "PAGE DIRECTORY: {:x}", first.value)?;
        for entry in rest {
            writeln!(out, "   {}: {:x} => {:x}", entry.level, entry.at, entry.value)?;
        }
    }
    render_page(out, &way, "")?;
    render_entry(kernel, &way, out)?;
    page_record(kernel, &way, titled, out)
}

fn user(
    kernel: &Kernel,
    task: Option<&Task>,
    addr: u64,
    titled: &mut bool,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let mapped = match task.filter(|task| task.mm != 0) {
        Some(task) => {
            let vmas = kernel.vmas(task.mm).map_err(failed(COMMAND.name))?;
            let name = |vma: &_| kernel.vma_name(task.mm, vma).ok().flatten();
            vmas.at(addr).map(|vma| (task, Named::new(kernel, vma.clone(), name(vma))))
        }
        None => None,
    };
    let Some((task, vma)) = mapped else {
        let whose = task.map_or("of no task".to_owned(), |task| format!("of PID {}", task.pid));
        out.note(format_args!("{addr:#x} is in no mapping {whose}"))?;
        let way = Translation {
            address: addr,
            physical: None,
            page_size: None,
            entries: Vec::new(),
            broken: None,
        };
        if out.is_json() {
            let pid = task.map(|task| task.pid);
            return Ok(out.row(&Row { way: &way, pid, vma: None, swap: None })?);
        }
        render_head(out, &way, 10, "(not accessible)")?;
        return Ok(writeln!(out)?);
    };
    let way = kernel.user_translation(task.mm, addr).map_err(failed(COMMAND.name))?;
    let entry = way.entries.last().map(|last| pte::Entry::read(kernel, last.value));
    let swap = entry.as_ref().filter(|_| way.physical.is_none()).and_then(|e| e.swap.as_deref());
    if out.is_json() {
        return Ok(out.row(&Row { way: &way, pid: Some(task.pid), vma: Some(&vma), swap })?);
    }
    render_head(out, &way, 10, "(not mapped)")?;
    writeln!(out)?;
    for entry in &way.entries {
        writeln!(out, "   {}: {:x} => {:x}", entry.level, entry.at, entry.value)?;
    }
    render_page(out, &way, "  ")?;
    render_entry(kernel, &way, out)?;
    writeln!(out, "\n{VMA_HEADER}")?;
    render_vma(out, &vma)?;
    if way.physical.is_none() && swap.is_none() && vma.vma.file != 0 {
        let page = kernel.page_size();
        let offset = (addr - vma.vma.start) / page * page + vma.vma.pgoff * page;
        render_file(out, vma.file(), offset)?;
    }
    page_record(kernel, &way, titled, out)
}

fn render_head(
    out: &mut dyn Write,
    way: &Translation,
    width: usize,
    without: &str,
) -> io::Result<()> {
    let physical = way.physical.map_or(without.to_owned(), |phys| format!("{phys:x}"));
    writeln!(out, "{:<width$}  {:<16}", "VIRTUAL", "PHYSICAL")?;
    match way.physical {
        Some(_) => writeln!(out, "{:<width$x}  {physical:<16}", way.address),
        None => writeln!(out, "{:<width$x}  {physical}", way.address),
    }
}

/// The line of the page, which has its size where that is not the usual one.
fn render_page(out: &mut dyn Write, way: &Translation, usual: &str) -> io::Result<()> {
    if let Some(why) = &way.broken {
        return writeln!(out, "   (no further: {why})");
    }
    let Some((physical, size)) = way.physical.zip(way.page_size) else { return Ok(()) };
    let size_name = match size {
        0x1000 => usual,
        0x20_0000 => "  (2MB)",
        _ => "  (1GB)",
    };
    writeln!(out, "  PAGE: {:x}{size_name}", physical & !(size - 1))
}

/// The place in a file of a page that is not in memory: an empty line behind it, too, as in crash.
fn render_file(out: &mut dyn Write, file: &str, offset: u64) -> io::Result<()> {
    writeln!(out, "\nFILE: {file}  OFFSET: {offset:x}\n")
}

/// What the last entry says, if it says anything.
fn render_entry(kernel: &Kernel, way: &Translation, out: &mut Output<'_>) -> io::Result<()> {
    let says = |value: &u64| way.physical.is_some() || *value != 0;
    let last = way.entries.last().map(|entry| entry.value).filter(says);
    match last.filter(|_| way.broken.is_none()) {
        Some(value) => {
            writeln!(out)?;
            pte::render(out, &pte::Entry::read(kernel, value))
        }
        None => Ok(()),
    }
}

/// The `struct page` of the page, where there is one.
fn page_record(
    kernel: &Kernel,
    way: &Translation,
    titled: &mut bool,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let Some(physical) = way.physical else { return Ok(()) };
    writeln!(out)?;
    if !kmem_page::one(kernel, physical, titled, out)? {
        out.note(format_args!("physical {physical:#x} has no page record"))?;
    }
    Ok(())
}
