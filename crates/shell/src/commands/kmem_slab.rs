//! `kmem -s`, `kmem -S`: the slab caches.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::slab::SlabCache;
use kmortem_kernel::slab::content::{CacheContent, Slab};
use rayon::prelude::*;
use serde::Serialize;

use super::failed;
use crate::address;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;

const NAME: &str = "kmem";

/// What of the caches is wanted.
pub(super) struct Wanted<'a> {
    /// Caches by name or address, or addresses of objects; none: all caches.
    pub(super) words: &'a [String],
    /// Caches to leave out.
    pub(super) ignore: Vec<&'a str>,
    /// Objects too, for these CPUs (none: all).
    pub(super) objects: Option<Option<Vec<u32>>>,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    cache: &'a SlabCache,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a CacheContent>,
}

/// Lists all caches, or those that are named: by name, by the name of a cache
/// that was merged into them, or by address of the cache or an object.
pub(super) fn show(
    session: &Session,
    wanted: &Wanted<'_>,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let caches = kernel.slab_caches().map_err(failed(NAME))?;
    if wanted.words == ["list"] && !out.is_json() {
        for cache in &caches {
            writeln!(out, "{:x} {}", cache.addr, cache.name)?;
        }
        return Ok(());
    }
    let is = |cache: &SlabCache, name: &str| {
        cache.is_named(name) || address::hex(name).is_some_and(|addr| addr == cache.addr)
    };
    let mut list: Vec<&SlabCache> = Vec::new();
    for word in wanted.words.iter().filter(|word| *word != "list") {
        match caches.iter().find(|cache| is(cache, word)) {
            Some(cache) => list.push(cache),
            None => match super::kmem_address::Where::parse(kernel, word, false) {
                Ok(place) => {
                    let objects = wanted.objects.is_some();
                    object(kernel, &caches, place.virt(kernel).unwrap_or(0), objects, out)?;
                }
                Err(_) => {
                    let what = format!("no slab cache is named {word}; `kmem -s` lists all");
                    return Err(CommandError::Failed { command: NAME, what });
                }
            },
        }
    }
    if wanted.words.is_empty() || wanted.words == ["list"] {
        list = caches.iter().collect();
    } else if list.is_empty() {
        return Ok(());
    }
    list.dedup_by_key(|cache| cache.addr);
    let ignored = |cache: &SlabCache| wanted.ignore.iter().any(|name| is(cache, name));
    match &wanted.objects {
        None => {
            let shown: Vec<_> = list.iter().copied().filter(|cache| !ignored(cache)).collect();
            match out.is_json() {
                true => out.rows(shown.iter().copied())?,
                false => {
                    writeln!(out, "{HEADER}")?;
                    for cache in &list {
                        if ignored(cache) {
                            render_ignored(out, cache)?;
                        } else {
                            render(out, cache)?;
                        }
                    }
                }
            }
            super::note_gaps(out, shown.iter().map(|cache| &cache.gaps))
        }
        Some(cpus) => {
            let shown: Vec<_> = list.into_iter().filter(|cache| !ignored(cache)).collect();
            contents(session, &shown, cpus.as_deref(), out)
        }
    }
}

/// The caches with their slabs and objects.
fn contents(
    session: &Session,
    caches: &[&SlabCache],
    cpus: Option<&[u32]>,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    session.progress().expect(caches.len() as u64);
    for batch in caches.chunks(rayon::current_num_threads().max(1) * 8) {
        let read: Vec<_> = batch
            .par_iter()
            .map(|cache| {
                let content = kernel.slab_reader(cache.addr).and_then(|r| r.content(cpus));
                session.progress().add(1);
                (*cache, content)
            })
            .collect();
        for (cache, content) in read {
            if out.is_json() {
                out.row(&Row { cache, content: content.as_ref().ok() })?;
            } else {
                writeln!(out, "{HEADER}")?;
                render(out, cache)?;
                if let Ok(content) = &content {
                    render_content(out, content)?;
                }
                writeln!(out)?;
            }
            match &content {
                Ok(content) => super::note_gaps(out, [&cache.gaps, &content.gaps].into_iter())?,
                Err(error) => out.note(format_args!("{}: {error}", cache.name))?,
            }
        }
    }
    Ok(())
}

/// The slab of an object: the object alone, or with `all` the whole slab. True
/// where the address is slab memory.
pub(super) fn object(
    kernel: &Kernel,
    caches: &[SlabCache],
    addr: u64,
    all: bool,
    out: &mut Output<'_>,
) -> Result<bool, CommandError> {
    let found = kernel.slab_of(addr).map_err(failed(NAME))?;
    let Some((cache, slab)) = found else {
        let what = format!("address is not allocated in slab subsystem: {addr:x}");
        return Err(CommandError::Failed { command: NAME, what });
    };
    let reader = kernel.slab_reader(cache).map_err(failed(NAME))?;
    let slab = reader.slab(slab, true).map_err(failed(NAME))?;
    let is_record = kernel.page_record(addr).is_some();
    let step = reader.step();
    let within = |object: u64| (object..object + step).contains(&addr);
    if out.is_json() {
        #[derive(Serialize)]
        struct Found<'a> {
            #[serde(serialize_with = "kmortem_kernel::stack::hex")]
            address: u64,
            cache: Option<&'a SlabCache>,
            slab: &'a Slab,
        }
        let cache = caches.iter().find(|c| c.addr == cache);
        out.row(&Found { address: addr, cache, slab: &slab })?;
        return Ok(true);
    }
    writeln!(out, "{HEADER}")?;
    match caches.iter().find(|c| c.addr == cache) {
        Some(cache) => render(out, cache)?,
        None => out.note(format_args!("{cache:x}: not in the list of slab caches"))?,
    }
    render_slab(out, &slab, |object| all || is_record || within(object))?;
    super::note_gaps(out, [&slab.gaps].into_iter())?;
    Ok(true)
}

/// The line above caches.
const HEADER: &str = "CACHE             OBJSIZE  ALLOCATED     TOTAL  SLABS  SSIZE  NAME";
/// The line above slabs.
const SLAB_HEADER: &str = "  SLAB              MEMORY            NODE  TOTAL  ALLOCATED  FREE";

fn render(out: &mut dyn Write, cache: &SlabCache) -> io::Result<()> {
    writeln!(
        out,
        "{:016x}  {:>7}  {:>9}  {:>8}  {:>5}  {:>4}k  {}",
        cache.addr,
        cache.object_size,
        cache.allocated,
        cache.objects,
        cache.slabs,
        cache.slab_size / 1024,
        cache.name
    )
}

fn render_ignored(out: &mut dyn Write, cache: &SlabCache) -> io::Result<()> {
    writeln!(out, "{:016x} {:<45}{}", cache.addr, "[IGNORED]", cache.name)
}

fn slab_line(out: &mut dyn Write, slab: &Slab) -> io::Result<()> {
    let Slab { addr, memory, node, total, allocated, .. } = slab;
    let free = total.saturating_sub(*allocated);
    writeln!(out, "  {addr:016x}  {memory:016x}  {node:>4}  {total:>5}  {allocated:>9}  {free:>4}")
}

fn render_slab(out: &mut dyn Write, slab: &Slab, wanted: impl Fn(u64) -> bool) -> io::Result<()> {
    writeln!(out, "{SLAB_HEADER}")?;
    slab_line(out, slab)?;
    writeln!(out, "  FREE / [ALLOCATED]")?;
    for slot in slab.objects.iter().filter(|slot| wanted(slot.addr)) {
        match (slot.free, &slot.sheaf, slab.cpu) {
            (false, ..) => writeln!(out, "  [{:x}]", slot.addr)?,
            (true, Some(sheaf), _) => writeln!(out, "   {:x}  ({sheaf})", slot.addr)?,
            (true, None, Some(cpu)) => writeln!(out, "   {:x}  (cpu {cpu} cache)", slot.addr)?,
            (true, None, None) => writeln!(out, "   {:x}  ", slot.addr)?,
        }
    }
    Ok(())
}

fn render_content(out: &mut dyn Write, content: &CacheContent) -> io::Result<()> {
    for cpu in &content.cpus {
        let n = cpu.cpu;
        if cpu.sheaves.is_empty() {
            writeln!(out, "CPU {n} KMEM_CACHE_CPU:\n  {:x}", cpu.addr)?;
            writeln!(out, "CPU {n} SLAB:")?;
            match &cpu.slab {
                Some(slab) => render_slab(out, slab, |_| true)?,
                None => writeln!(out, "  (empty)")?,
            }
            writeln!(out, "CPU {n} PARTIAL:")?;
            for slab in &cpu.partial {
                render_slab(out, slab, |_| true)?;
            }
            if cpu.partial.is_empty() {
                writeln!(out, "  (empty)")?;
            }
            continue;
        }
        writeln!(out, "CPU {n} SLUB_PERCPU_SHEAVES:\n  {:x}", cpu.addr)?;
        for sheaf in &cpu.sheaves {
            writeln!(out, "CPU {n} SHEAF {}: {:x}", sheaf.name, sheaf.addr)?;
            for object in &sheaf.objects {
                writeln!(out, "   {object:x}  ")?;
            }
            if sheaf.objects.is_empty() {
                writeln!(out, "  (empty)")?;
            }
        }
    }
    for node in &content.nodes {
        writeln!(out, "KMEM_CACHE_NODE   NODE  SLABS  PARTIAL  PER-CPU")?;
        writeln!(
            out,
            "{:x}  {:>4}  {:>5}  {:>7}  {:>7}",
            node.addr, node.node, node.slabs, node.nr_partial, node.per_cpu
        )?;
        let list = |out: &mut dyn Write, slabs: &[Slab]| -> io::Result<()> {
            if slabs.is_empty() {
                return writeln!(out, "  (empty)");
            }
            writeln!(out, "{SLAB_HEADER}")?;
            slabs.iter().try_for_each(|slab| slab_line(out, slab))
        };
        writeln!(out, "NODE {} PARTIAL:", node.node)?;
        list(out, &node.partial)?;
        writeln!(out, "NODE {} FULL:", node.node)?;
        match &node.full {
            Some(full) => list(out, full)?,
            None => writeln!(out, "  (not tracked)")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::gaps::Gaps;
    use kmortem_kernel::slab::content::{CpuSlabs, NodeSlabs, Slot};

    #[test]
    fn a_line_is_as_crash_has_it() {
        let cache = SlabCache {
            addr: 0xff2b_a215_c11a_af00,
            name: "task_struct".into(),
            aliases: None,
            object_size: 8328,
            size: 8384,
            slab_size: 32 << 10,
            objects_per_slab: 3,
            slabs: 26,
            partial_slabs: 1,
            objects: 78,
            allocated: 71,
            awaiting_rcu: 0,
            users: 1,
            flags: 0,
            gaps: Gaps::default(),
        };
        let mut text = Vec::new();
        writeln!(text, "{HEADER}").unwrap();
        render(&mut text, &cache).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }

    #[test]
    fn objects_show_who_has_them() {
        let slot = |n: u64, free, sheaf: Option<&str>| Slot {
            addr: 0xff2e_5f7d_c151_6000 + n * 0x90,
            free,
            sheaf: sheaf.map(str::to_owned),
        };
        let slab = |cpu, objects| Slab {
            addr: 0xffc5_c11e_4005_4580,
            memory: 0xff2e_5f7d_c151_6000,
            node: 0,
            total: 3,
            allocated: 1,
            cpu,
            objects,
            gaps: Gaps::default(),
        };
        let objects =
            vec![slot(0, true, None), slot(1, false, None), slot(2, true, Some("node 0 barn"))];
        let cpu = |cpu, slab| CpuSlabs {
            cpu,
            addr: 0xff88_b6e2_7fc0_07d0,
            slab,
            partial: Vec::new(),
            sheaves: Vec::new(),
        };
        let content = CacheContent {
            cpus: vec![cpu(0, Some(slab(Some(0), objects))), cpu(1, None)],
            nodes: vec![NodeSlabs {
                addr: 0xff2e_5f7d_c137_11c0,
                node: 0,
                slabs: 2,
                nr_partial: 1,
                per_cpu: 1,
                partial: vec![slab(None, Vec::new())],
                full: None,
            }],
            gaps: Gaps::default(),
        };
        let mut text = Vec::new();
        render_content(&mut text, &content).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}
