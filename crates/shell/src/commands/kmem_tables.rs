//! `kmem -V -z -h -o -g`: tables that the kernel keeps of its memory.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::memory::HugePages;
use kmortem_kernel::vmstat::{Counters, Node, VmTables};
use serde::Serialize;

use super::failed;
use crate::address;
use crate::error::CommandError;
use crate::output::Output;

const NAME: &str = "kmem";

/// `kmem -V`.
pub(super) fn counters(kernel: &Kernel, out: &mut Output<'_>) -> Result<(), CommandError> {
    let tables = kernel.vm_tables().map_err(failed(NAME))?;
    match out.is_json() {
        true => Ok(out.row(&tables)?),
        false => Ok(render_counters(out, &tables)?),
    }
}

/// Width of the longest name.
fn width(tables: &[&Counters]) -> usize {
    tables.iter().flat_map(|t| &t.0).map(|(name, _)| name.len()).max().unwrap_or(0)
}

fn render_table(out: &mut dyn Write, table: &Counters, width: usize) -> io::Result<()> {
    table.0.iter().try_for_each(|(name, value)| writeln!(out, "{name:>width$}: {value}"))
}

fn render_counters(out: &mut dyn Write, tables: &VmTables) -> io::Result<()> {
    let stat = width(&[&tables.zones, &tables.nodes, &tables.numa]);
    writeln!(out, "  VM_ZONE_STAT:")?;
    render_table(out, &tables.zones, stat)?;
    writeln!(out, "\n  VM_NODE_STAT:")?;
    render_table(out, &tables.nodes, stat)?;
    if !tables.numa.0.is_empty() {
        writeln!(out, "\n  VM_NUMA_STAT:")?;
        render_table(out, &tables.numa, stat)?;
    }
    writeln!(out, "\n  VM_EVENT_STATES:")?;
    render_table(out, &tables.events, width(&[&tables.events]))
}

/// `kmem -z`.
pub(super) fn zones(kernel: &Kernel, out: &mut Output<'_>) -> Result<(), CommandError> {
    let nodes = kernel.nodes().map_err(failed(NAME))?;
    if out.is_json() {
        return Ok(out.rows(nodes.iter().flat_map(|node| &node.zones))?);
    }
    Ok(render_zones(out, &nodes)?)
}

fn render_zones(out: &mut dyn Write, nodes: &[Node]) -> io::Result<()> {
    for node in nodes {
        for (i, zone) in node.zones.iter().enumerate() {
            writeln!(
                out,
                "NODE: {}  ZONE: {i}  ADDR: {:x}  NAME: \"{}\"",
                node.id, zone.addr, zone.name
            )?;
            if zone.spanned == 0 {
                writeln!(out, "  [unpopulated]\n")?;
                continue;
            }
            write!(out, "  SIZE: {}", zone.spanned)?;
            if zone.present < zone.spanned {
                write!(out, "  PRESENT: {}", zone.present)?;
            }
            writeln!(out, "  MIN/LOW/HIGH: {}/{}/{}", zone.min, zone.low, zone.high)?;
            writeln!(out, "  VM_STAT:")?;
            render_table(out, &zone.table, width(&[&zone.table]))?;
            writeln!(out, "\n")?;
        }
    }
    Ok(())
}

/// `kmem -h`.
pub(super) fn huge_pages(kernel: &Kernel, out: &mut Output<'_>) -> Result<(), CommandError> {
    let memory = kernel.memory().map_err(failed(NAME))?;
    if out.is_json() {
        return Ok(out.rows(&memory.huge_pages)?);
    }
    if memory.huge_pages.is_empty() {
        out.note("this kernel has no huge page pools (hugetlbfs)")?;
    }
    Ok(render_huge_pages(out, &memory.huge_pages, memory.page_size)?)
}

fn render_huge_pages(out: &mut dyn Write, pools: &[HugePages], page: u64) -> io::Result<()> {
    writeln!(out, "     HSTATE        SIZE    FREE   TOTAL  NAME")?;
    for pool in pools {
        let bytes = pool.pages.saturating_mul(page);
        let size = match bytes {
            b if b >= 1 << 30 => format!("{}GB", b >> 30),
            b if b >= 1 << 20 => format!("{}MB", b >> 20),
            b => format!("{}KB", b >> 10),
        };
        let HugePages { addr, free, total, name, .. } = pool;
        writeln!(out, "{addr:016x}  {size:>5}  {free:>6}  {total:>6}  {name}")?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Offset {
    cpu: u32,
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    offset: u64,
}

/// `kmem -o`.
pub(super) fn offsets(kernel: &Kernel, out: &mut Output<'_>) -> Result<(), CommandError> {
    let offsets = kernel.per_cpu_offsets().map_err(failed(NAME))?;
    if out.is_json() {
        for (cpu, offset) in offsets {
            out.row(&Offset { cpu, offset })?;
        }
        return Ok(());
    }
    writeln!(out, "PER-CPU OFFSET VALUES:")?;
    for (cpu, offset) in offsets {
        writeln!(out, "  CPU {cpu}: {offset:x}")?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Flag<'a> {
    name: &'a str,
    bit: u32,
}

/// `kmem -g`: the page flags, all or those that are set in a value.
pub(super) fn page_flags(
    kernel: &Kernel,
    value: Option<&str>,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let set = match value {
        None => None,
        Some(word) => Some(address::hex(word).ok_or_else(|| CommandError::Usage {
            command: NAME,
            what: format!("`{word}` is no hexadecimal number"),
        })?),
    };
    let all = kernel.page_flag_bits().map_err(failed(NAME))?;
    let wanted = |bit: u32| set.is_none_or(|set| set >> bit & 1 == 1);
    if out.is_json() {
        for (name, bit) in all.iter().filter(|(_, bit)| wanted(*bit)) {
            out.row(&Flag { name, bit: *bit })?;
        }
        return Ok(());
    }
    Ok(render_flags(out, &all, set)?)
}

fn render_flags(out: &mut dyn Write, all: &[(&str, u32)], set: Option<u64>) -> io::Result<()> {
    let width = all.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(14);
    let highest = all.iter().map(|(_, bit)| *bit).max().unwrap_or(0) as usize;
    let digits = (highest + 1) / 4 + 1;
    let set = set.filter(|set| *set != 0);
    let indent = if set.is_some() { "  " } else { "" };
    if let Some(set) = set {
        writeln!(out, "FLAGS: {set:x}")?;
    }
    writeln!(out, "{indent}{:<width$} BIT  VALUE", "PAGE-FLAG")?;
    let mut found = false;
    for (name, bit) in all {
        if set.is_none_or(|set| set >> bit & 1 == 1) {
            found = true;
            writeln!(out, "{indent}{name:<width$}  {bit:>2}  {:0digits$x}", 1u64 << bit)?;
        }
    }
    if !found {
        writeln!(out, "  (none found)")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(render: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        render(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn flags_that_share_a_bit_are_all_listed() {
        let all = [("PG_locked", 0), ("PG_workingset", 9), ("__x", 24), ("PG_large_rmappable", 9)];
        insta::assert_snapshot!(text(|out| render_flags(out, &all, None)));
        insta::assert_snapshot!(text(|out| render_flags(out, &all, Some(0x201))));
    }

    #[test]
    fn huge_page_sizes_have_their_unit() {
        let pool = |pages, name: &str| HugePages {
            addr: 0xffff_ffff_9df7_4180,
            name: name.to_owned(),
            pages,
            total: 4,
            free: 1,
            reserved: 0,
            surplus: 0,
        };
        let pools = [pool(1 << 18, "hugepages-1048576kB"), pool(512, "hugepages-2048kB")];
        insta::assert_snapshot!(text(|out| render_huge_pages(out, &pools, 4096)));
    }

    #[test]
    fn counters_stand_below_each_other() {
        let table = |list: &[(&str, i64)]| {
            Counters(list.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect())
        };
        let tables = VmTables {
            zones: table(&[("NR_FREE_PAGES", 46103), ("NR_MLOCK", 0)]),
            nodes: table(&[("NR_SLAB_UNRECLAIMABLE_B", 2266)]),
            numa: Counters::default(),
            events: table(&[("PGPGIN", 30), ("PSWPIN", 0)]),
        };
        insta::assert_snapshot!(text(|out| render_counters(out, &tables)));
    }
}
