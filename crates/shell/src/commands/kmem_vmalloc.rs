//! `kmem -v`: areas of vmalloc().

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::vmalloc::VmapArea;
use serde::Serialize;

use super::failed;
use super::kmem_address::Where;
use crate::error::CommandError;
use crate::output::Output;

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    area: &'a VmapArea,
    bytes: u64,
    kind: &'static str,
    /// Who asked for it.
    function: Option<String>,
}

/// Lists the areas: all, or those that hold one of the addresses.
pub(super) fn show(
    kernel: &Kernel,
    wanted: &[Where],
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let areas = kernel.vmap_areas().map_err(failed("kmem"))?;
    let is_wanted = |area: &VmapArea| {
        wanted.is_empty()
            || wanted.iter().any(|place| match place {
                Where::Virtual(addr) => (area.start..area.end).contains(addr),
                Where::Physical(phys) => mapped_at(kernel, area, *phys).is_some(),
            })
    };
    let list: Vec<&VmapArea> = areas.list.iter().filter(|a| a.vm != 0 && is_wanted(a)).collect();
    if out.is_json() {
        for area in list {
            let function = kernel.symbol_at(area.caller).map(|symbol| symbol.to_string());
            out.row(&Row { area, bytes: area.len(), kind: area.kind(), function })?;
        }
    } else {
        render(out, list.into_iter())?;
    }
    super::note_gaps(out, [&areas.gaps].into_iter())
}

/// Where in the area the frame of `phys` is mapped, if it is.
pub(super) fn mapped_at(kernel: &Kernel, area: &VmapArea, phys: u64) -> Option<u64> {
    let page_size = kernel.page_size();
    let pages = (area.len() / page_size).min(1 << 26);
    (0..pages)
        .map(|n| area.start + n * page_size)
        .take_while(|_| !kernel.is_interrupted())
        .find(|addr| {
            kernel.space().translate(*addr).is_ok_and(|at| at / page_size == phys / page_size)
        })
        .map(|addr| addr | (phys & (page_size - 1)))
}

/// The header and a line for each area.
pub(super) fn render<'a>(
    out: &mut dyn Write,
    areas: impl Iterator<Item = &'a VmapArea>,
) -> io::Result<()> {
    writeln!(
        out,
        "   VMAP_AREA         VM_STRUCT                 ADDRESS RANGE                SIZE"
    )?;
    for area in areas {
        let VmapArea { addr, vm, start, end, .. } = area;
        writeln!(out, "{addr:016x}  {vm:016x}  {start:016x} - {end:016x}  {:>7}", area.len())?;
    }
    Ok(())
}
