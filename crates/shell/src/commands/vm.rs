//! `vm`: mappings of tasks.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::mm::TaskMemory;
use kmortem_kernel::task::Task;
use kmortem_kernel::vma::{Vma, Vmas};
use serde::Serialize;

use super::{chosen, failed, task_header, vm_flags, vm_pages, vm_struct};
use crate::address;
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "vm",
    summary: "lists the mappings of a task",
    arguments: "[PID | TASK]...",
    options: &[
        Opt::flag('p', "and where each of their pages is"),
        Opt::value('P', "VMA", "this mapping only, with its pages"),
        Opt::value('M', "MM", "of the mm_struct at this address"),
        Opt::flag('m', "the task's mm_struct"),
        Opt::flag('v', "the vm_area_struct of each mapping"),
        Opt::value('R', "TEXT", "only what refers to an address, a flags value or a file"),
        Opt::value('f', "FLAGS", "what a value of vm_flags means"),
        Opt::flag('x', "numbers of structures in hexadecimal"),
        Opt::flag('d', "numbers of structures in decimal"),
    ],
    details: "\
Without PID or TASK: those of the current task (see `set`). Behind a page's
address stands its physical one, `SWAP:` and where it was swapped out to,
`FILE:` and where it is to be read from, or `(not mapped)`.",
    examples: &[
        ("", "of the task that crashed"),
        ("1", "of PID 1"),
        ("-p 1", "with their pages"),
        ("-R bin 1", "those of files below a directory `bin`, or so named"),
        ("-f 100073", "the names of these flags"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "a task",
            members: "as `set`, and `mm` `pgd` `rss_kib` `total_vm_kib` `vmas` (`addr` `start` `end` `flags` `pgoff` `file` `name`) `unreadable`",
        },
        Rows {
            options: "-p, -P",
            row: "a mapping with its pages",
            members: "`pid` `task` `vma` `pages` (`address` and `physical`, `swap`, `file` or nothing)",
        },
        Rows { options: "-f", row: "a value of vm_flags", members: "`flags` `names`" },
    ],
    each: Some(show),
    run,
};

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    task: &'a Task,
    #[serde(flatten)]
    space: Option<&'a Space>,
    unreadable: Option<String>,
}

/// The address space of a task.
#[derive(Serialize)]
struct Space {
    // `mm` is one of the task's own members.
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    pgd: u64,
    rss_kib: i64,
    total_vm_kib: u64,
    vmas: Vec<Named>,
    #[serde(skip)]
    mm: u64,
}

/// A mapping with what it is called.
#[derive(Serialize)]
pub(super) struct Named {
    #[serde(flatten)]
    pub(super) vma: Vma,
    /// As /proc/PID/maps has it.
    pub(super) name: Option<String>,
    /// Whether the name of its file is no path.
    #[serde(skip)]
    pub(super) without_place: bool,
}

impl Named {
    pub(super) fn new(kernel: &Kernel, vma: Vma, name: Option<String>) -> Named {
        // What can't be told, the path's own error says.
        let without_place =
            vma.file != 0 && kernel.is_file_without_place(vma.file).unwrap_or(false);
        Named { vma, name, without_place }
    }

    /// Path of its file, or the mere name of one that is nowhere (`SYSV...`),
    /// as crash shows it.
    pub(super) fn file(&self) -> &str {
        let name = if self.vma.file == 0 { "" } else { self.name.as_deref().unwrap_or("-") };
        name.strip_prefix('/').filter(|_| self.without_place).unwrap_or(name)
    }
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    if let Some(value) = args.value('f') {
        return vm_flags::show(session.kernel(), value, out);
    }
    let session = &*session;
    let chosen = chosen(COMMAND.name, session, args, out)?;
    show(session, &chosen, args, out)
}

/// Shows the mappings of `chosen`.
pub(super) fn show(
    session: &Session,
    chosen: &[&Task],
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let forced = match args.value('M') {
        Some(word) => Some(address::address(COMMAND.name, kernel, word)?),
        None => None,
    };
    let only = match args.value('P') {
        Some(word) => Some(address::address(COMMAND.name, kernel, word)?),
        None => None,
    };
    let reference = args.value('R').map(vm_pages::Reference::new);
    let mut first = true;
    for task in chosen {
        let mm = forced.unwrap_or(task.mm);
        let task = &Task { mm, ..(*task).clone() };
        if (args.has('m') || args.has('v')) && !out.is_json() {
            separate(out, &mut first)?;
            task_header::render(out, task)?;
            vm_struct::show(session, task, args, out)?;
            continue;
        }
        let (space, unreadable) = match space(kernel, task, out) {
            Ok(space) => (Some(space), None),
            // One task alone: that is no answer.
            Err(error) if chosen.len() == 1 => return Err(failed(COMMAND.name)(error)),
            Err(error) => (None, Some(error.to_string())),
        };
        if out.is_json() && !args.has('p') && only.is_none() {
            out.row(&Row { task, space: space.as_ref(), unreadable })?;
            continue;
        }
        let space = match space {
            Some(space) => space,
            None => {
                separate(out, &mut first)?;
                task_header::render(out, task)?;
                writeln!(out, "<unreadable: {}>", unreadable.unwrap_or_default())?;
                continue;
            }
        };
        if let Some(reference) = &reference {
            vm_pages::search(kernel, task, &space.head(), &space.vmas, reference, out)?;
            continue;
        }
        if !out.is_json() {
            separate(out, &mut first)?;
            task_header::render(out, task)?;
        }
        match only {
            Some(addr) => match space.vmas.iter().find(|named| named.vma.addr == addr) {
                Some(named) => vm_pages::show(kernel, task, named, out)?,
                None => writeln!(out, "(not found)")?,
            },
            None if args.has('p') => {
                if !out.is_json() {
                    write!(out, "{}", space.head())?;
                }
                for named in &space.vmas {
                    vm_pages::show(kernel, task, named, out)?;
                }
            }
            None => render(out, &space)?,
        }
    }
    Ok(())
}

/// A blank line between tasks.
fn separate(out: &mut dyn Write, first: &mut bool) -> io::Result<()> {
    if !std::mem::take(first) {
        writeln!(out)?;
    }
    Ok(())
}

fn space(
    kernel: &Kernel,
    task: &Task,
    out: &mut Output<'_>,
) -> Result<Space, kmortem_kernel::Error> {
    if task.mm == 0 {
        return Ok(Space { mm: 0, pgd: 0, rss_kib: 0, total_vm_kib: 0, vmas: Vec::new() });
    }
    let memory = kernel.task_memory(task)?;
    let page_kib = (kernel.page_size() / 1024) as i64;
    let pages = |f: fn(&TaskMemory) -> i64| memory.as_ref().map_or(0, f) * page_kib;
    let Vmas { list, gaps } = kernel.vmas(task.mm)?;
    let named = |vma: Vma| {
        let name = kernel.vma_name(task.mm, &vma).unwrap_or_else(|e| Some(format!("<{e}>")));
        Named::new(kernel, vma, name)
    };
    // A remark that can't be written shows with the next line of the answer.
    let _ = super::note_gaps(out, [&gaps].into_iter());
    Ok(Space {
        mm: task.mm,
        pgd: kernel.mm_pgd(task.mm)?,
        rss_kib: pages(TaskMemory::rss),
        total_vm_kib: pages(|m| m.total_vm as i64) as u64,
        vmas: list.into_iter().map(named).collect(),
    })
}

impl Space {
    /// The two lines above the mappings.
    fn head(&self) -> String {
        let address = |at: u64| match at {
            0 => format!("{:^16}", "0"),
            at => format!("{at:016x}"),
        };
        let kib = |kib: String, width| format!("{kib:^width$}");
        format!(
            "       MM               PGD          RSS    TOTAL_VM\n{}  {}  {}  {}\n",
            address(self.mm),
            address(self.pgd),
            kib(format!("{}k", self.rss_kib), 6),
            kib(format!("{}k", self.total_vm_kib), 8)
        )
    }
}

/// The line above a mapping.
pub(super) const VMA_HEADER: &str = "      VMA           START       END     FLAGS FILE";

/// The line of a mapping.
pub(super) fn render_vma(out: &mut dyn Write, named: &Named) -> io::Result<()> {
    let Vma { addr, start, end, flags, .. } = &named.vma;
    writeln!(out, "{addr:016x} {start:>10x} {end:>10x} {flags:>6x} {}", named.file())
}

fn render(out: &mut dyn Write, space: &Space) -> io::Result<()> {
    write!(out, "{}", space.head())?;
    if space.mm == 0 {
        return Ok(());
    }
    writeln!(out, "{VMA_HEADER}")?;
    space.vmas.iter().try_for_each(|named| render_vma(out, named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_crash_has_them() {
        let vma = |start, end, flags, file, name: Option<&str>| Named {
            vma: Vma { addr: 0xff2e_5f7d_c1b4_be70, start, end, flags, pgoff: 0, file },
            name: name.map(str::to_owned),
            without_place: name.is_some_and(|name| name.starts_with("/SYSV")),
        };
        let mut space = Space {
            mm: 0xff2e_5f7d_c105_e880,
            pgd: 0xff2e_5f7d_c23d_a000,
            rss_kib: 1728,
            total_vm_kib: 2260,
            vmas: vec![
                vma(0x40_0000, 0x40_1000, 0x800_0071, 1, Some("/bin/busybox")),
                vma(0x11c_c000, 0x11e_e000, 0x810_0073, 0, Some("[heap]")),
                vma(0x7fd6_6817_e000, 0x7fd6_6818_2000, 0xc04_4411, 0, None),
                vma(0x7fd6_6819_2000, 0x7fd6_6819_3000, 0xfb, 1, Some("/SYSV00006b6d")),
            ],
        };
        let mut text = Vec::new();
        render(&mut text, &space).unwrap();
        space.mm = 0;
        (space.pgd, space.rss_kib, space.total_vm_kib) = (0, 0, 0);
        render(&mut text, &space).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}
