//! `kmem ADDRESS`: what an address is.

use std::fmt;
use std::io::Write;

use kmortem_kernel::Kernel;
use kmortem_kernel::page::{Page, PageUse};
use kmortem_kernel::slab::object::SlabObject;
use kmortem_kernel::symbol::SymbolAt;
use kmortem_kernel::task::Task;
use kmortem_kernel::vmalloc::VmapArea;
use rayon::prelude::*;
use serde::Serialize;

use super::kmem_free::{self, FreeBlock};
use super::{failed, kmem_page, kmem_slab, kmem_vmalloc, set};
use crate::address;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;

const NAME: &str = "kmem";

/// An address: of the kernel's virtual memory, or physical.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    Virtual(u64),
    Physical(u64),
}

impl Where {
    /// Reads a word: a symbol, or a number, which is physical where it can't be
    /// one of the kernel's addresses, or is said to be.
    pub(super) fn parse(
        kernel: &Kernel,
        word: &str,
        physical: bool,
    ) -> Result<Where, CommandError> {
        let at = address::address(NAME, kernel, word)?;
        Ok(if physical || at >> 63 == 0 { Where::Physical(at) } else { Where::Virtual(at) })
    }

    /// Its physical address; of a page record's, the page's.
    pub(super) fn phys(self, kernel: &Kernel) -> Option<u64> {
        match self {
            Where::Physical(at) => Some(at),
            Where::Virtual(at) => {
                kernel.page_record(at).or_else(|| kernel.space().translate(at).ok())
            }
        }
    }

    /// Its virtual address: of a physical one in the direct map.
    pub(super) fn virt(self, kernel: &Kernel) -> Option<u64> {
        match self {
            Where::Virtual(at) => Some(at),
            Where::Physical(at) => kernel.space().phys_to_virt(at),
        }
    }
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Where::Virtual(at) => write!(f, "{at:x}: kernel virtual"),
            Where::Physical(at) => write!(f, "{at:x}: physical"),
        }
    }
}

/// A row of JSON: all that an address is.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    address: u64,
    #[serde(serialize_with = "kmortem_kernel::stack::hex_option")]
    physical: Option<u64>,
    symbol: Option<SymbolAt>,
    task: Option<&'a Task>,
    area: Option<VmapArea>,
    object: Option<SlabObject>,
    free: Option<FreeBlock>,
    page: Option<Page>,
    file: Option<String>,
}

/// Tells what `place` is.
pub(super) fn show(
    session: &Session,
    place: Where,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let phys = place.phys(kernel);
    let areas = kernel.vmap_areas().map(|areas| areas.list).unwrap_or_default();
    let areas: Vec<&VmapArea> = areas.iter().filter(|area| area.vm != 0).collect();
    // The address in an area: a physical one may be mapped there.
    let mapped = match place {
        Where::Virtual(at) => {
            areas.iter().find(|area| (area.start..area.end).contains(&at)).map(|area| (*area, at))
        }
        Where::Physical(at) => areas
            .par_iter()
            .find_map_first(|area| Some((*area, kmem_vmalloc::mapped_at(kernel, area, at)?))),
    };
    let area = mapped.map(|(area, _)| area);
    let virt = mapped.map(|(_, at)| at).or(place.virt(kernel));
    let symbol = match (place, mapped) {
        (_, Some((_, at))) | (Where::Virtual(at), None) => kernel.symbol_at(at),
        (Where::Physical(_), None) => None,
    };
    let task = virt.and_then(|at| task_of(kernel, at));
    let slab = virt.filter(|_| area.is_none()).and_then(|at| kernel.slab_of(at).ok().flatten());
    let page = phys.and_then(|phys| kernel.page(phys).ok());
    let file = page.as_ref().and_then(|page| kernel.page_file(page).ok().flatten());
    let at = match place {
        Where::Virtual(at) | Where::Physical(at) => at,
    };
    if out.is_json() {
        let object = virt.and_then(|at| kernel.slab_object(at).ok().flatten());
        let free = kmem_free::find(kernel, place, out)?;
        let area = area.cloned();
        let physical = phys;
        out.row(&Row { address: at, physical, symbol, task, area, object, free, page, file })?;
        return Ok(());
    }
    if let Some(symbol) = &symbol {
        render_symbol(out, kernel, virt.unwrap_or(at), symbol)?;
    }
    let shown_task = |out: &mut Output<'_>| -> Result<(), CommandError> {
        if let Some(task) = task {
            set::context(session, task, out)?;
            writeln!(out)?;
        }
        Ok(())
    };
    if let Some(area) = area {
        shown_task(out)?;
        kmem_vmalloc::render(out, [area].into_iter())?;
        writeln!(out)?;
    } else {
        if slab.is_some() {
            let caches = kernel.slab_caches().map_err(failed(NAME))?;
            kmem_slab::object(kernel, &caches, virt.unwrap_or(at), false, out)?;
            writeln!(out)?;
        }
        if kmem_free::find(kernel, place, out)?.is_some() {
            writeln!(out)?;
        }
        shown_task(out)?;
    }
    let found = match phys {
        Some(phys) => kmem_page::one(kernel, phys, &mut false, out)?,
        None => false,
    };
    if let Some(file) = file {
        out.note(format_args!("{at:x}: a page of {file}"))?;
    } else if let Some(PageUse::Type(kind)) = page.filter(|_| slab.is_none()).map(|p| p.usage) {
        out.note(format_args!("{at:x}: a page of type {kind}"))?;
    }
    match found || symbol.is_some() || area.is_some() {
        true => Ok(()),
        false => {
            let what = format!("{place} address not found in mem map");
            Err(CommandError::Failed { command: NAME, what })
        }
    }
}

/// The task whose structure or kernel stack holds `addr`. Structures are
/// allocated shorter than their type is (the FPU's part ends it): the nearest
/// one below is meant.
fn task_of(kernel: &Kernel, addr: u64) -> Option<&Task> {
    let size = kernel.ty("struct task_struct").ok()?.size()?;
    let stack = kernel.thread_size().ok()?;
    let tasks = kernel.tasks().ok()?;
    let within = |start: u64, len: u64| start != 0 && addr.wrapping_sub(start) < len;
    let holder = tasks.list.iter().filter(|task| within(task.addr, size));
    holder
        .max_by_key(|task| task.addr)
        .or_else(|| tasks.list.iter().find(|task| within(task.stack, stack)))
}

fn render_symbol(
    out: &mut dyn Write,
    kernel: &Kernel,
    addr: u64,
    symbol: &SymbolAt,
) -> std::io::Result<()> {
    let letter = match &symbol.module {
        None => kernel.kallsyms().ok().and_then(|k| k.lookup(addr)).map(|found| found.kind),
        Some(_) => kernel.module_at(addr).and_then(|module| {
            let symbols = module.symbols(kernel).ok()?;
            symbols.iter().find(|(_, _, name)| *name == symbol.name).map(|(_, kind, _)| kind)
        }),
    };
    let letter = char::from(letter.unwrap_or(b'?'));
    write!(out, "{addr:x} ({letter}) {}", symbol.name)?;
    if symbol.offset != 0 {
        write!(out, "+{}", symbol.offset)?;
    }
    if let Some(module) = &symbol.module {
        write!(out, " [{module}] ")?;
    }
    writeln!(out, "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_with_their_kind() {
        assert_eq!(Where::Physical(0x1000).to_string(), "1000: physical");
        let place = Where::Virtual(0xffff_8880_0000_0000);
        assert_eq!(place.to_string(), "ffff888000000000: kernel virtual");
    }
}
