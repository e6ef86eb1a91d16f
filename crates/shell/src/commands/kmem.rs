//! `kmem`: memory of the machine.

use std::io::{self, Write};

use kmortem_kernel::memory::Memory;

use super::{failed, kmem_slab, size};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "kmem",
    summary: "shows how the machine's memory is used",
    arguments: "[CACHE]...",
    options: &[
        Opt::flag('i', "an overview of all memory"),
        Opt::flag('s', "the slab caches, all or those named"),
        Opt::later('S'),
        Opt::later('f'),
        Opt::later('F'),
        Opt::later('v'),
        Opt::later('V'),
        Opt::later('n'),
        Opt::later('z'),
        Opt::later('o'),
        Opt::later('h'),
        Opt::later('p'),
        Opt::later('m'),
        Opt::later('r'),
        Opt::later('I'),
        Opt::later('g'),
        Opt::later('c'),
        Opt::later('C'),
        Opt::later('P'),
        Opt::later('L'),
    ],
    details: "\
Counts of -i are pages; `-` stands where the dump has no answer. -s counts free
objects on all lists, those of CPUs that a panic stopped among them.",
    examples: &[
        ("-i", "total, free, used, cached, slab, huge pages, swap, commit"),
        ("-s", "all slab caches"),
        ("-s dentry kmalloc-64", "two of them"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "-i",
            row: "the machine's memory (one row, pages)",
            members: "`total` `free` `available` `shmem` `buffers` `cached` `slab_reclaimable` `slab_unreclaimable` `huge_pages` `swap_total` `swap_free` `commit_limit` `committed` `nodes` `counters` `anon` `mapped` `kernel_stack_kib` `page_tables` `page_size` `per_cpu` `per_cpu_free` `vmalloc` `overcommit_policy` `swap_areas` `swap_cached` `gaps`",
        },
        Rows {
            options: "-s",
            row: "a slab cache",
            members: "`addr` `name` `aliases` `object_size` `size` `slab_size` `objects_per_slab` `slabs` `objects` `allocated` `awaiting_rcu` `partial_slabs` `flags` `users` `gaps`",
        },
    ],
    each: None,
    run,
};

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    if args.has('s') {
        return kmem_slab::show(session, &args.words, out);
    }
    if !args.has('i') {
        let what = "say what of the memory is wanted (-i, -s)".to_owned();
        return Err(CommandError::Usage { command: COMMAND.name, what });
    }
    let memory = session.kernel().memory().map_err(failed(COMMAND.name))?;
    match out.is_json() {
        true => out.row(&memory)?,
        false => render(out, &memory)?,
    }
    super::note_gaps(out, [&memory.gaps].into_iter())
}

/// One line: pages, and the whole that they are a part of.
struct Line {
    name: &'static str,
    pages: Option<u64>,
    of: Option<(Option<u64>, &'static str)>,
}

fn lines(memory: &Memory) -> [Vec<Line>; 4] {
    let whole = |name, pages| Line { name, pages, of: None };
    let part = |name, pages, of, what| Line { name, pages, of: Some((of, what)) };
    let total = Some(memory.total);
    let of_memory = |name, pages| part(name, pages, total, "TOTAL MEM");
    let (huge, huge_free) = memory.huge_total_and_free();
    let swap_used = memory.swap_total.zip(memory.swap_free).map(|(t, f)| t.saturating_sub(f));
    let of_swap = |name, pages| part(name, pages, memory.swap_total, "TOTAL SWAP");
    let committed = memory.committed.map(|pages| pages.max(0) as u64);
    [
        vec![
            whole("TOTAL MEM", total),
            of_memory("FREE", Some(memory.free)),
            of_memory("USED", Some(memory.used())),
            of_memory("BUFFERS", memory.buffers),
            of_memory("CACHED", memory.cached),
            of_memory("SLAB", memory.slab()),
        ],
        vec![
            whole("TOTAL HUGE", Some(huge)),
            part("HUGE FREE", Some(huge_free), Some(huge), "TOTAL HUGE"),
        ],
        vec![
            whole("TOTAL SWAP", memory.swap_total),
            of_swap("SWAP USED", swap_used),
            of_swap("SWAP FREE", memory.swap_free),
        ],
        vec![
            whole("COMMIT LIMIT", memory.commit_limit),
            part("COMMITTED", committed, memory.commit_limit, "TOTAL LIMIT"),
        ],
    ]
}

fn render(out: &mut dyn Write, memory: &Memory) -> io::Result<()> {
    writeln!(out, "                 PAGES        TOTAL      PERCENTAGE")?;
    for (i, group) in lines(memory).iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        for line in group {
            render_line(out, line, memory.page_size)?;
        }
    }
    Ok(())
}

fn render_line(out: &mut dyn Write, line: &Line, page_size: u64) -> io::Result<()> {
    let (pages, amount) = match line.pages {
        Some(pages) => (pages.to_string(), size::bytes(pages.saturating_mul(page_size))),
        None => ("-".to_owned(), "-".to_owned()),
    };
    write!(out, "{:>13}  {pages:>7}  {amount:>11}", line.name)?;
    let Some((whole, what)) = line.of else { return writeln!(out, "         ----") };
    // Nothing is no part of nothing: 0%.
    let percent = |(n, whole): (u64, u64)| n.saturating_mul(100).checked_div(whole).unwrap_or(0);
    let percent = line.pages.zip(whole).map(percent);
    writeln!(out, "  {:>3}% of {what}", percent.map_or("-".to_owned(), |p| p.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_their_part_of_the_whole() {
        let text = |line: Line| {
            let mut out = Vec::new();
            render_line(&mut out, &line, 4096).unwrap();
            String::from_utf8(out).unwrap()
        };
        let of = |pages, whole| text(Line { name: "FREE", pages, of: Some((whole, "TOTAL MEM")) });
        assert_eq!(
            text(Line { name: "TOTAL MEM", pages: Some(55591), of: None }),
            "    TOTAL MEM    55591     217.2 MB         ----\n"
        );
        assert_eq!(
            of(Some(46400), Some(55591)),
            "         FREE    46400     181.2 MB   83% of TOTAL MEM\n"
        );
        assert_eq!(
            of(Some(0), Some(0)),
            "         FREE        0            0    0% of TOTAL MEM\n"
        );
        assert_eq!(of(None, Some(1)), "         FREE        -            -    -% of TOTAL MEM\n");
    }
}
