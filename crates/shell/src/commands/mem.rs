//! `mem`: one page on where all memory went.

use std::cmp::Reverse;
use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::gaps::Gaps;
use kmortem_kernel::memory_use::{MemoryUse, Share};
use kmortem_kernel::slab;
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::{failed, mem_suspects, pagecache, size};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "mem",
    summary: "shows on one page where all memory went",
    arguments: "",
    options: &[Opt::value('n', "COUNT", "holders shown of each kind (3)")],
    details: "\
All pages that the kernel's allocator manages (MemTotal), by owner, and below
each the largest holders. `unaccounted` was taken by somebody who counts it
nowhere: drivers' buffers, or a leak of pages. SUSPECT: what is large without a
good reason, and slab caches whose lists of free objects are damaged.",
    examples: &[("", "the page"), ("-n 10", "with ten holders of each kind")],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "the machine's memory (one row, pages)",
        members: "`total` `shares` (`name` `pages` `holders`) `unaccounted` `overlap` `reserved` `balloon` `suspects` `gaps`",
    }],
    each: None,
    run,
};

const SHOWN: usize = 3;
/// The owner whose pages are told by process and by control group.
pub(super) const ANON: &str = "anonymous memory of processes";
const ANON_BY_CGROUP: &str = "anonymous memory by cgroup";

/// A holder of some of an owner's pages.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Holder {
    pub(super) name: String,
    pub(super) pages: u64,
    /// What else there is to say.
    pub(super) what: String,
}

/// Holders of an owner's pages, the largest first.
pub(super) type Holders = FxHashMap<&'static str, Vec<Holder>>;

#[derive(Serialize)]
struct Line<'a> {
    name: &'static str,
    pages: u64,
    holders: Vec<&'a Holder>,
}

#[derive(Serialize)]
struct Row<'a> {
    total: u64,
    shares: Vec<Line<'a>>,
    unaccounted: u64,
    overlap: u64,
    reserved: &'a [Share],
    balloon: Option<u64>,
    suspects: &'a [String],
    gaps: &'a Gaps,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let shown = match args.value('n').map(|word| (word, word.parse::<usize>())) {
        None => SHOWN,
        Some((_, Ok(count))) => count,
        Some((word, Err(_))) => {
            let what = format!("`{word}` is no number");
            return Err(CommandError::Usage { command: COMMAND.name, what });
        }
    };
    let memory = kernel.memory().map_err(failed(COMMAND.name))?;
    let mut used = kernel.memory_use(&memory);
    let mut holders = holders(kernel, memory.page_size, &mut used.gaps);
    let suspects = mem_suspects::find(kernel, &used, &holders, memory.page_size);
    for list in holders.values_mut() {
        list.truncate(shown);
    }
    if out.is_json() {
        let line = |share: &'_ Share| Line {
            name: share.name,
            pages: share.pages,
            holders: holders_of(&holders, share.name).collect(),
        };
        out.row(&Row {
            total: used.total,
            shares: used.shares.iter().map(line).collect(),
            unaccounted: used.unaccounted,
            overlap: used.overlap,
            reserved: &used.reserved,
            balloon: used.balloon,
            suspects: &suspects,
            gaps: &used.gaps,
        })?;
    } else {
        render(out, &used, &holders, &suspects, memory.page_size)?;
    }
    super::note_gaps(out, [&used.gaps].into_iter())
}

/// The holders of all owners that can be told apart.
fn holders(kernel: &Kernel, page: u64, gaps: &mut Gaps) -> Holders {
    let mut all = Holders::default();
    let mut add = |owner: &'static str, mut list: Vec<Holder>| {
        list.retain(|holder| holder.pages > 0);
        list.sort_by(|a, b| b.pages.cmp(&a.pages).then_with(|| a.name.cmp(&b.name)));
        all.insert(owner, list);
    };
    if let Some(caches) = gaps.keep("slab caches", kernel.slab_caches()) {
        let account = slab::layout::flag(kernel, "RECLAIM_ACCOUNT", 0x2_0000);
        let reclaimable = |flags: u64| flags & account != 0;
        for (owner, wanted) in [("slab, reclaimable", true), ("slab, unreclaimable", false)] {
            let list = caches.iter().filter(|c| reclaimable(c.flags) == wanted).map(|c| Holder {
                name: c.name.clone(),
                pages: c.bytes() / page,
                what: format!("{} objects of {} bytes", c.allocated, c.object_size),
            });
            add(owner, list.collect());
        }
    }
    if let Some(areas) = gaps.keep("vmalloc areas", kernel.vmap_areas()) {
        let mut callers: FxHashMap<u64, (u64, u64)> = FxHashMap::default();
        let stacks = stack_areas(kernel);
        for area in areas.list.iter().filter(|area| !stacks.contains(&area.start)) {
            let sum = callers.entry(area.caller).or_default();
            *sum = (sum.0 + 1, sum.1.saturating_add(area.pages));
        }
        let name = |caller| match kernel.symbol_at(caller) {
            Some(symbol) => symbol.to_string(),
            None => format!("{caller:#x}"),
        };
        let list = callers.into_iter().map(|(caller, (areas, pages))| Holder {
            name: name(caller),
            pages,
            what: format!("{areas} areas"),
        });
        add("vmalloc", list.collect());
    }
    if let Some((files, lost)) = gaps.keep("files", kernel.cached_files()) {
        gaps.extend(lost);
        let paths = kernel.inode_paths();
        let mut by_pages: Vec<_> = files.iter().filter(|f| f.fs_type != "bdev").collect();
        by_pages.sort_by_key(|file| (Reverse(file.pages), file.inode));
        let (mut cached, mut shmem) = (Vec::new(), Vec::new());
        for sum in pagecache::sums(&files) {
            let holder = Holder {
                name: format!("{} on {}", sum.fs_type, sum.device),
                pages: sum.pages,
                what: format!("{} files", sum.files),
            };
            match sum.fs_type.as_str() {
                "bdev" => {}
                fs if is_shmem(kernel, fs) => shmem.push(holder),
                _ => cached.push(holder),
            }
        }
        // A file that holds much of its file system is named, too.
        for file in by_pages.into_iter().take(3) {
            let path = kernel.inode_path(&paths, file.inode).ok().flatten();
            let holder = Holder {
                name: path.unwrap_or_else(|| format!("inode {}", file.ino)),
                pages: file.pages,
                what: format!("of {} on {}", file.fs_type, file.device),
            };
            if is_shmem(kernel, &file.fs_type) { &mut shmem } else { &mut cached }.push(holder);
        }
        add("files in the page cache", cached);
        add("tmpfs and shared memory", shmem);
    }
    let (processes, groups) = processes(kernel, gaps);
    add(ANON, processes);
    add(ANON_BY_CGROUP, groups);
    all
}

/// Whether a file system keeps its files in shared memory: `shmem` is behind
/// tmpfs and what is built on it. rootfs is ramfs or tmpfs; ramfs is not counted
/// as shmem.
fn is_shmem(kernel: &Kernel, fs_type: &str) -> bool {
    match fs_type {
        "tmpfs" | "devtmpfs" | "shm" => true,
        // `is_tmpfs` (init/do_mounts.c).
        "rootfs" => kernel
            .symbol("is_tmpfs")
            .ok()
            .and_then(|at| {
                let mut byte = [0];
                kernel.read(at, &mut byte).ok().map(|()| byte[0] != 0)
            })
            .unwrap_or(false),
        _ => false,
    }
}

/// First addresses of the tasks' stacks.
fn stack_areas(kernel: &Kernel) -> rustc_hash::FxHashSet<u64> {
    let tasks = kernel.tasks().map(|tasks| tasks.list.as_slice()).unwrap_or_default();
    tasks.iter().map(|task| task.stack).collect()
}

/// Anonymous memory by process, and by control group.
fn processes(kernel: &Kernel, gaps: &mut Gaps) -> (Vec<Holder>, Vec<Holder>) {
    let Some(tasks) = gaps.keep("tasks", kernel.tasks()) else { return Default::default() };
    let found: Vec<(Holder, String)> = tasks
        .list
        .par_iter()
        .filter(|task| task.mm != 0 && task.is_leader())
        .filter_map(|task| {
            let memory = kernel.task_memory(task).ok()??;
            let holder = Holder {
                name: format!("{} (PID {})", task.comm, task.pid),
                pages: memory.rss_anon.max(0) as u64,
                what: format!("{} pages mapped in all", memory.rss().max(0)),
            };
            Some((holder, kernel.task_cgroup(task).unwrap_or_default()))
        })
        .collect();
    let mut groups: FxHashMap<&str, (u64, u64)> = FxHashMap::default();
    for (holder, group) in found.iter().filter(|(_, group)| !matches!(group.as_str(), "" | "/")) {
        let sum = groups.entry(group).or_default();
        *sum = (sum.0 + 1, sum.1.saturating_add(holder.pages));
    }
    let groups = groups.into_iter().map(|(group, (processes, pages))| Holder {
        name: format!("cgroup {group}"),
        pages,
        what: format!("{processes} processes"),
    });
    let groups = groups.collect();
    (found.into_iter().map(|(holder, _)| holder).collect(), groups)
}

/// The holders of a share, and where there are any, the same by control group.
fn holders_of<'h>(holders: &'h Holders, owner: &str) -> impl Iterator<Item = &'h Holder> {
    let groups = if owner == ANON { holders.get(ANON_BY_CGROUP) } else { None };
    holders.get(owner).into_iter().chain(groups).flatten()
}

fn render(
    out: &mut dyn Write,
    used: &MemoryUse,
    holders: &Holders,
    suspects: &[String],
    page: u64,
) -> io::Result<()> {
    let bytes = |pages: u64| size::bytes(pages.saturating_mul(page));
    let tenths = |pages: u64| pages.saturating_mul(1000).checked_div(used.total).unwrap_or(0);
    let line = |out: &mut dyn Write, name: &str, pages: u64| {
        let tenths = tenths(pages);
        let (whole, rest) = (tenths / 10, tenths % 10);
        writeln!(out, "{name:<32} {pages:>10} {:>10} {whole:>4}.{rest}%", bytes(pages))
    };
    writeln!(out, "{:<32} {:>10} {:>10} {:>7}", "OWNER", "PAGES", "SIZE", "OF ALL")?;
    for share in used.shares.iter().filter(|share| share.pages > 0) {
        line(out, share.name, share.pages)?;
        for Holder { name, pages, what } in holders_of(holders, share.name) {
            let name: String = name.chars().take(60).collect();
            writeln!(out, "  {name:<30} {pages:>10} {:>10}   {what}", bytes(*pages))?;
        }
    }
    line(out, "unaccounted", used.unaccounted)?;
    if used.overlap > 0 {
        line(out, "counted twice (to be taken off)", used.overlap)?;
    }
    line(out, "TOTAL (MemTotal)", used.total)?;
    writeln!(out, "\nNOT IN THE TOTAL")?;
    for share in &used.reserved {
        writeln!(out, "{:<40} {:>8} {:>10}", share.name, share.pages, bytes(share.pages))?;
    }
    if let Some(pages) = used.balloon.filter(|pages| *pages > 0) {
        writeln!(out, "{:<40} {pages:>8} {:>10}", "given to the host (balloon)", bytes(pages))?;
    }
    if !suspects.is_empty() {
        writeln!(out)?;
    }
    suspects.iter().try_for_each(|suspect| writeln!(out, "SUSPECT: {suspect}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_owners_holders_and_the_rest() {
        let share = |name, pages| Share { name, pages };
        let used = MemoryUse {
            total: 54268,
            shares: vec![
                share("free", 46097),
                share("swap cache", 0),
                share("slab, unreclaimable", 2266),
            ],
            unaccounted: 5905,
            overlap: 0,
            reserved: vec![share("kernel image", 9216)],
            balloon: Some(256),
            gaps: Gaps::default(),
        };
        let holder = Holder {
            name: "task_struct".to_owned(),
            pages: 232,
            what: "80 objects of 8392 bytes".to_owned(),
        };
        let holders = Holders::from_iter([("slab, unreclaimable", vec![holder])]);
        let mut text = Vec::new();
        let suspects = ["10.8 % of all memory is counted nowhere".to_owned()];
        render(&mut text, &used, &holders, &suspects, 4096).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}
