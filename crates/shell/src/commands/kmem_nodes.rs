//! `kmem -n`: memory nodes, sections and blocks.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::sparse::{MemoryBlock, MemorySection};
use kmortem_kernel::vmstat::Node;
use serde::Serialize;

use super::{failed, size};
use crate::error::CommandError;
use crate::output::Output;

#[derive(Serialize)]
struct Row<'a> {
    nodes: &'a [Node],
    sections: &'a [MemorySection],
    blocks: &'a [MemoryBlock],
}

/// What is shown besides the nodes themselves.
struct Places<'a> {
    /// Record of a frame.
    page: &'a dyn Fn(u64) -> u64,
    page_size: u64,
    /// Digits of the highest physical address.
    digits: usize,
}

pub(super) fn show(kernel: &Kernel, out: &mut Output<'_>) -> Result<(), CommandError> {
    let nodes = kernel.nodes().map_err(failed("kmem"))?;
    let mut gaps = kmortem_kernel::gaps::Gaps::default();
    let sections = gaps.keep("sections", kernel.memory_sections()).unwrap_or_default();
    let blocks = gaps.keep("memory blocks", kernel.memory_blocks()).unwrap_or_default();
    if out.is_json() {
        out.row(&Row { nodes: &nodes, sections: &sections, blocks: &blocks })?;
    } else {
        let page_size = kernel.page_size();
        let page = |pfn: u64| kernel.page_of(pfn.wrapping_mul(page_size)).unwrap_or(0);
        let places = Places { page: &page, page_size, digits: digits(&nodes, page_size) };
        for (i, node) in nodes.iter().enumerate() {
            render_node(out, node, &places, i > 0)?;
        }
        if !sections.is_empty() {
            writeln!(out, "\n{}", "-".repeat(67))?;
            render_sections(out, &sections)?;
        }
        if !blocks.is_empty() {
            render_blocks(out, &blocks, places.digits)?;
        }
    }
    super::note_gaps(out, [&gaps].into_iter())
}

/// Hexadecimal digits of the end of memory.
pub(super) fn digits(nodes: &[Node], page_size: u64) -> usize {
    let end = nodes.iter().map(|node| node.start_pfn.saturating_add(node.spanned)).max();
    format!("{:x}", end.unwrap_or(0).saturating_mul(page_size)).len()
}

fn render_node(
    out: &mut dyn Write,
    node: &Node,
    places: &Places<'_>,
    further: bool,
) -> io::Result<()> {
    if further {
        writeln!(out)?;
    }
    writeln!(out, "NODE    SIZE      PGLIST_DATA       BOOTMEM_DATA       NODE_ZONES   ")?;
    let zones: Vec<u64> = node.zones.iter().map(|zone| zone.addr).collect();
    let spanned = size::centered(&node.spanned.to_string(), 8);
    let first = zones.first().copied().unwrap_or(0);
    writeln!(out, " {:>2}   {spanned}  {:016x}        ----        {first:x}", node.id, node.addr)?;
    for zone in zones.iter().skip(1) {
        writeln!(out, "{:52}{zone:x}", "")?;
    }
    let start = node.start_pfn.wrapping_mul(places.page_size);
    writeln!(out, "    MEM_MAP          START_PADDR    START_MAPNR")?;
    writeln!(
        out,
        "{:016x}  {}  {}",
        (places.page)(node.start_pfn),
        size::centered(&format!("{start:x}"), 16),
        size::centered(&node.start_pfn.to_string(), 11)
    )?;
    writeln!(out, "\nZONE  NAME         SIZE       MEM_MAP      START_PADDR  START_MAPNR")?;
    for (i, zone) in node.zones.iter().enumerate() {
        let (mut map, mut start, mut pfn) = (0, 0, 0);
        if zone.spanned != 0 {
            pfn = zone.start_pfn;
            (map, start) = ((places.page)(pfn), pfn.wrapping_mul(places.page_size));
        }
        writeln!(
            out,
            " {i:>2}   {:<9} {:>7}  {map:>16x}  {start:>11x}  {pfn:>11}",
            zone.name, zone.spanned
        )?;
    }
    Ok(())
}

fn render_sections(out: &mut dyn Write, sections: &[MemorySection]) -> io::Result<()> {
    writeln!(out, "\nNR      SECTION        CODED_MEM_MAP        MEM_MAP       STATE PFN")?;
    for section in sections {
        writeln!(
            out,
            "{:>2}  {:016x}  {:016x}  {:016x}  {} {:<16}",
            section.number,
            section.addr,
            section.coded_mem_map,
            section.mem_map,
            size::centered(&section.letters(), 5),
            section.start_pfn
        )?;
    }
    Ok(())
}

fn render_blocks(out: &mut dyn Write, blocks: &[MemoryBlock], digits: usize) -> io::Result<()> {
    let range = if blocks.iter().any(|b| b.last.is_some()) { "RANGE" } else { "START" };
    let range = size::centered(&format!("PHYSICAL {range}"), digits * 2 + 2);
    writeln!(out, "\n   MEM_BLOCK        NAME      {range}   NODE  STATE   START_SECTION_NO")?;
    for block in blocks {
        let last = block.last.map_or(String::new(), |last| format!(" - {last:>digits$x}"));
        writeln!(
            out,
            " {:016x} {} {:>digits$x}{last} {}  {:<7} {:<12}",
            block.addr,
            size::centered(&block.name, 12),
            block.start,
            size::centered(&block.node.map_or("-".to_owned(), |node| node.to_string()), 4),
            block.state_name(),
            block.start_section
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_and_blocks_are_as_crash_has_them() {
        let section = MemorySection {
            number: 1,
            addr: 0xff2e_5f7d_cffd_c010,
            coded_mem_map: 0xffc5_c11e_4000_0000,
            mem_map: 0xffc5_c11e_4020_0000,
            flags: 0xf,
            start_pfn: 32768,
            pages: 32768,
        };
        let block = MemoryBlock {
            addr: 0xff2e_5f7d_c122_1400,
            name: "memory0".to_owned(),
            start: 0,
            last: Some(0x7ff_ffff),
            node: Some(0),
            state: 1,
            start_section: 0,
        };
        let mut text = Vec::new();
        render_sections(&mut text, &[section]).unwrap();
        render_blocks(&mut text, &[block], 7).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}
