//! `kmem`: memory of the machine.

use std::io::{self, Write};

use kmortem_kernel::memory::Memory;

use super::kmem_address::{self, Where};
use super::{failed, kmem_free, kmem_nodes, kmem_page, kmem_slab, kmem_tables, kmem_vmalloc, size};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::target;

pub(crate) const COMMAND: Command = Command {
    name: "kmem",
    summary: "shows how the machine's memory is used, and what an address is",
    arguments: "[ADDRESS | CACHE]...",
    options: &[
        Opt::optional('i', "=shared", "an overview of all memory"),
        Opt::flag('s', "the slab caches, all or those named; the object at an address"),
        Opt::optional('S', "=CPUS", "and their slabs and objects; the slab at an address"),
        Opt::value('I', "CACHE,...", "leave out these slab caches"),
        Opt::flag('r', "slab caches with their cgroups' children (kernels before v5.9)"),
        Opt::flag('f', "the lists of free pages; the one that an address is on"),
        Opt::flag('F', "and each block on them"),
        Opt::flag('v', "areas of vmalloc(); the one that an address lies in"),
        Opt::flag('V', "the kernel's tables of counters"),
        Opt::flag('n', "memory nodes, sections and blocks"),
        Opt::flag('z', "the counters of each zone"),
        Opt::flag('o', "where each CPU's own variables lie"),
        Opt::flag('h', "pools of huge pages"),
        Opt::flag('p', "the record of each page, or of that at an address"),
        Opt::value('m', "MEMBER,...", "these members of each page's record"),
        Opt::optional('g', "FLAGS", "the page flags, or those set in a value"),
        Opt::flag('P', "addresses are physical"),
        Opt::flag('c', "the hash of cached pages (kernels before v2.4)"),
        Opt::flag('C', "and its pages"),
    ],
    details: "\
ADDRESS without an option tells all that is known of it: symbol, slab object,
free block, area of vmalloc(), task or its stack, page. An address that can't be
one of the kernel's is a physical one. Counts of -i are pages; `-` stands where
the dump has no answer. -s counts free objects on all lists, those of CPUs that
a panic stopped among them. -V, -z and FREE of -f show the kernel's tables as
they stand; what each CPU holds back is added in -i. Slabs in use to the last
object are on no list: -S does not show them.",
    examples: &[
        ("-i", "total, free, used, cached, slab, huge pages, swap, commit"),
        ("-s", "all slab caches"),
        ("-s dentry kmalloc-64", "two of them"),
        ("-S task_struct", "the slabs and objects of one of them"),
        ("-s -I dentry,inode_cache", "all but two"),
        ("init_task", "what lies there"),
        ("-f", "free blocks by zone, order and type"),
        ("-F", "each of them"),
        ("-v", "areas of vmalloc"),
        ("-V", "counters of zones and nodes, and events since boot"),
        ("-n", "nodes with their zones, sections and blocks"),
        ("-z", "counters of each zone"),
        ("-o", "the offset of each CPU's variables"),
        ("-h", "pools of huge pages"),
        ("-p", "the record of each page"),
        ("-p init_task", "of the page that this lies in"),
        ("-m flags,mapping,_refcount init_task", "some members of it"),
        ("-g", "all page flags"),
        ("-g 0x80", "names of the flags set here"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "-i",
            row: "the machine's memory (one row, pages)",
            members: "`total` `free` `available` `shmem` `buffers` `cached` `slab_reclaimable` `slab_unreclaimable` `huge_pages` `swap_total` `swap_free` `commit_limit` `committed` `nodes` `counters` `page_size` `per_cpu_free` `swap_cached` `anon` `mapped` `page_tables` `kernel_stack_kib` `vmalloc` `per_cpu` `swap_areas` `overcommit_policy` `gaps`",
        },
        Rows {
            options: "-s",
            row: "a slab cache",
            members: "`addr` `name` `aliases` `object_size` `size` `slab_size` `objects_per_slab` `slabs` `objects` `allocated` `partial_slabs` `awaiting_rcu` `users` `flags` `gaps`; of an address `address` `cache` `slab`",
        },
        Rows {
            options: "-S",
            row: "a slab cache",
            members: "as `-s`, and `content`: `cpus` (`slab` and `partial` with their `objects`, `sheaves` (`name` `addr` `objects`)), `nodes`",
        },
        Rows {
            options: "-f, -F",
            row: "a list of free blocks",
            members: "`node` `zone` `order` `migrate_type` `addr` `free_blocks` `pages`; of an address `block` `index`",
        },
        Rows {
            options: "-v",
            row: "an area",
            members: "`addr` `vm` `start` `end` `flags` `pages` `phys` `caller` `bytes` `kind` `function` `gaps`",
        },
        Rows {
            options: "-V",
            row: "the counters (one row)",
            members: "`zones` `nodes` `numa` `events`",
        },
        Rows {
            options: "-n",
            row: "the machine (one row)",
            members: "`nodes` `sections` `blocks`",
        },
        Rows {
            options: "-z",
            row: "a zone",
            members: "`addr` `node` `name` `min` `low` `high` `boost` `reserved_highatomic` `lowmem_reserve` `start_pfn` `spanned` `present` `managed` `free` `per_cpu_free` `free_blocks` `counters`",
        },
        Rows { options: "-o", row: "a CPU", members: "`cpu` `offset`" },
        Rows {
            options: "-h",
            row: "a pool",
            members: "`addr` `name` `pages` `total` `free` `reserved` `surplus`",
        },
        Rows {
            options: "-p, -m",
            row: "a page",
            members: "`addr` `phys` `head` `mapping` `index` `refcount` `flags` `flag_names` `usage`",
        },
        Rows { options: "-g", row: "a page flag", members: "`name` `bit`" },
        Rows {
            options: "",
            row: "an address",
            members: "`address` `physical` `symbol` `task` `area` `object` `free` `page` `file`",
        },
    ],
    each: None,
    run,
};

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let kernel = session.kernel();
    if let Some(option) = args.letters().find(|letter| "rcC".contains(*letter)) {
        let why = match option {
            'r' => "caches of cgroups are no caches of their own since v5.9",
            _ => "the page cache has no global hash since v2.4; `pagecache` shows it by file",
        };
        let what = format!("-{option} does not apply to this kernel: {why}");
        return Err(CommandError::Failed { command: COMMAND.name, what });
    }
    let place = |word: &String| Where::parse(kernel, word, args.has('P'));
    let places = || args.words.iter().map(place).collect::<Result<Vec<_>, _>>();
    if args.has('s') || args.has('S') {
        return slabs(session, args, out);
    }
    if args.has('f') || args.has('F') {
        if args.words.is_empty() {
            return kmem_free::show(kernel, args.has('F'), out);
        }
        for place in places()? {
            match kmem_free::find(kernel, place, out)? {
                Some(block) if out.is_json() => out.row(&block)?,
                Some(_) => {}
                None => out.note(format_args!("{place}: not on a list of free pages"))?,
            }
        }
        return Ok(());
    }
    if args.has('p') || args.has('m') {
        return kmem_page::show(session, args.value('m'), &places()?, out);
    }
    if args.has('i') {
        return overview(session, out);
    }
    match args.letters().find(|letter| "vVnzohg".contains(*letter)) {
        Some('v') => kmem_vmalloc::show(kernel, &places()?, out),
        Some('V') => kmem_tables::counters(kernel, out),
        Some('n') => kmem_nodes::show(kernel, out),
        Some('z') => kmem_tables::zones(kernel, out),
        Some('o') => kmem_tables::offsets(kernel, out),
        Some('h') => kmem_tables::huge_pages(kernel, out),
        Some('g') => kmem_tables::page_flags(kernel, args.value('g'), out),
        _ if args.words.is_empty() => {
            let what = "say what of the memory is wanted (-i, -s, an address)".to_owned();
            Err(CommandError::Usage { command: COMMAND.name, what })
        }
        _ => places()?.into_iter().enumerate().try_for_each(|(i, place)| {
            if i > 0 && !out.is_json() {
                writeln!(out)?;
            }
            kmem_address::show(session, place, out)
        }),
    }
}

/// `-s`, `-S`: the value of -S is CPUs (`=1,3`), or the first cache.
fn slabs(session: &Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let mut words = args.words.clone();
    let mut cpus = None;
    match args.value('S') {
        Some(value) if value.starts_with('=') => {
            let possible = session.kernel().possible_cpus().map_err(failed(COMMAND.name))?;
            cpus = Some(target::cpus(COMMAND.name, &value[1..], &possible)?);
        }
        Some(cache) => words.insert(0, cache.to_owned()),
        None => {}
    }
    let ignore = args.value('I').map(|list| list.split(',').collect()).unwrap_or_default();
    let objects = args.has('S').then_some(cpus);
    kmem_slab::show(session, &kmem_slab::Wanted { words: &words, ignore, objects }, out)
}

/// `-i`.
fn overview(session: &Session, out: &mut Output<'_>) -> Result<(), CommandError> {
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
