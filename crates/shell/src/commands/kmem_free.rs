//! `kmem -f`, `kmem -F`: the lists of free pages.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::buddy::FreeList;
use kmortem_kernel::vmstat::{Node, Zone};
use serde::Serialize;

use super::kmem_address::Where;
use super::{failed, size};
use crate::error::CommandError;
use crate::output::Output;

const NAME: &str = "kmem";
const AREA: &str = "AREA    SIZE  FREE_AREA_STRUCT";

#[derive(Serialize)]
struct Row<'a> {
    node: i32,
    zone: &'a str,
    #[serde(flatten)]
    list: &'a FreeList,
    free_blocks: usize,
    pages: u64,
}

/// Shows all lists, with `verbose` each block, and checks them against the count.
pub(super) fn show(
    kernel: &Kernel,
    verbose: bool,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let nodes = kernel.nodes().map_err(failed(NAME))?;
    let mut found = 0;
    let mut broken = Vec::new();
    for node in &nodes {
        if nodes.len() > 1 && !out.is_json() {
            writeln!(out, "NODE\n {:>2}", node.id)?;
        }
        for (i, zone) in node.zones.iter().enumerate() {
            let lists = kernel.free_lists(zone).map_err(failed(NAME))?;
            found += lists.iter().map(FreeList::pages).sum::<u64>();
            broken.extend(lists.iter().filter_map(|list| list.broken.clone()));
            if out.is_json() {
                for list in &lists {
                    let (free_blocks, pages) = (list.blocks.len(), list.pages());
                    let zone = &zone.name;
                    out.row(&Row { node: node.id, zone, list, free_blocks, pages })?;
                }
                continue;
            }
            render_zone(out, kernel, node, i, zone)?;
            if zone.spanned != 0 {
                render_lists(out, kernel.page_size(), &lists, verbose)?;
            }
            writeln!(out)?;
        }
    }
    let counted: i64 = nodes.iter().flat_map(|node| &node.zones).map(|zone| zone.free).sum();
    let tables = kernel.vm_tables().map_err(failed(NAME))?;
    let table = tables.zones.get("NR_FREE_PAGES").unwrap_or(counted);
    if !out.is_json() {
        match table == found as i64 {
            true => writeln!(out, "nr_free_pages: {table}  (verified)")?,
            false => writeln!(out, "nr_free_pages: {table}  (found {found})")?,
        }
    }
    for error in &broken {
        out.note(error)?;
    }
    if counted != found as i64 {
        out.note(format_args!(
            "the lists have {found} pages, the zones count {counted} with what each CPU holds \
             back: a list was being changed, or is damaged"
        ))?;
    } else if table != counted {
        out.note(format_args!("{counted} with what each CPU holds back: the lists agree"))?;
    }
    Ok(())
}

fn render_zone(
    out: &mut dyn Write,
    kernel: &Kernel,
    node: &Node,
    number: usize,
    zone: &Zone,
) -> io::Result<()> {
    let page_size = kernel.page_size();
    let (mut map, mut start, mut mapnr) = (0, 0, 0);
    if zone.spanned != 0 {
        start = zone.start_pfn.wrapping_mul(page_size);
        map = kernel.page_of(start).unwrap_or(0);
        mapnr = zone.start_pfn.saturating_sub(node.start_pfn);
    }
    let free = zone.table.get("NR_FREE_PAGES").unwrap_or(zone.free);
    writeln!(out, "ZONE  NAME        SIZE    FREE      MEM_MAP       START_PADDR  START_MAPNR")?;
    let map = if map == 0 { size::centered("0", 16) } else { format!("{map:016x}") };
    writeln!(
        out,
        "{number:>3}   {:<9} {:>6}  {free:>6}  {map}  {}  {}",
        zone.name,
        zone.spanned,
        size::centered_right(&format!("{start:x}"), 11),
        size::centered_right(&mapnr.to_string(), 11)
    )
}

fn area_line(list: &FreeList, page_size: u64) -> String {
    let size = format!("{}k", (page_size >> 10) << list.order);
    format!("{:>3}  {size:>7}  {:016x}  ", list.order, list.addr)
}

fn render_lists(
    out: &mut dyn Write,
    page_size: u64,
    lists: &[FreeList],
    verbose: bool,
) -> io::Result<()> {
    if !verbose {
        writeln!(out, "{AREA}  BLOCKS  PAGES")?;
    }
    for list in lists {
        if verbose {
            writeln!(out, "{AREA}\n{}", area_line(list, page_size))?;
            list.blocks.iter().try_for_each(|block| writeln!(out, "{block:x}"))?;
        } else {
            writeln!(
                out,
                "{}{:>6} {:>6}",
                area_line(list, page_size),
                list.blocks.len(),
                list.pages()
            )?;
        }
    }
    Ok(())
}

/// A free block that holds an address.
#[derive(Debug, Clone, Serialize)]
pub(super) struct FreeBlock {
    /// The zone's name.
    pub(super) zone: String,
    /// Its first record.
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    pub(super) block: u64,
    /// It is 2^order pages.
    pub(super) order: u32,
    /// Which of them, from 0.
    pub(super) index: u64,
}

/// Shows the list that the page of `place` is on, if any.
pub(super) fn find(
    kernel: &Kernel,
    place: Where,
    out: &mut Output<'_>,
) -> Result<Option<FreeBlock>, CommandError> {
    let Some(phys) = place.phys(kernel) else { return Ok(None) };
    let pfn = phys / kernel.page_size();
    for node in kernel.nodes().map_err(failed(NAME))? {
        for (i, zone) in node.zones.iter().enumerate() {
            if pfn < zone.start_pfn || pfn - zone.start_pfn >= zone.spanned {
                continue;
            }
            for list in kernel.free_lists(zone).map_err(failed(NAME))? {
                let index = |block: &u64| {
                    let first = kernel.page_phys(*block).ok()? / kernel.page_size();
                    pfn.checked_sub(first).filter(|index| *index < 1 << list.order)
                };
                let Some((block, index)) =
                    list.blocks.iter().find_map(|block| Some((*block, index(block)?)))
                else {
                    continue;
                };
                if !out.is_json() {
                    render_zone(out, kernel, &node, i, zone)?;
                    writeln!(out, "{AREA}\n{}", area_line(&list, kernel.page_size()))?;
                    let nth = ordinal(index + 1);
                    let which = match (list.order, place) {
                        (0, _) => String::new(),
                        (_, Where::Virtual(at)) => {
                            format!("({at:x} is {nth} of {} pages)", 1u64 << list.order)
                        }
                        (_, Where::Physical(at)) => {
                            let inside = if at % kernel.page_size() != 0 { "in " } else { "" };
                            format!("({at:x} is {inside}{nth} of {} pages)", 1u64 << list.order)
                        }
                    };
                    writeln!(out, "{block:x}  {which}")?;
                }
                let zone = zone.name.clone();
                return Ok(Some(FreeBlock { zone, block, order: list.order, index }));
            }
        }
    }
    Ok(None)
}

/// "1st", "2nd", "33rd".
fn ordinal(n: u64) -> String {
    let ending = match (n % 100, n % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_as_crash_has_them() {
        let list = |order, blocks: &[u64]| FreeList {
            order,
            migrate_type: 0,
            addr: 0xff2e_5f7d_cf98_1780,
            blocks: blocks.to_vec(),
            broken: None,
        };
        let lists = [list(0, &[]), list(10, &[0xffc5_c11e_4000_5000, 0xffc5_c11e_4001_5000])];
        let mut text = Vec::new();
        render_lists(&mut text, 4096, &lists, false).unwrap();
        render_lists(&mut text, 4096, &lists, true).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }

    #[test]
    fn ordinals_end_as_spoken() {
        let all: Vec<String> = [1, 2, 3, 4, 11, 12, 21, 112, 133].map(ordinal).into();
        assert_eq!(all, ["1st", "2nd", "3rd", "4th", "11th", "12th", "21st", "112th", "133rd"]);
    }
}
