//! `vm -p`, `vm -R`: where the pages of a mapping are.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::task::Task;
use kmortem_kernel::user::{UserPage, UserSpace};
use serde::Serialize;

use super::{failed, task_header};
use crate::address;
use crate::commands::vm::{Named, VMA_HEADER, render_vma};
use crate::error::CommandError;
use crate::output::Output;

/// A mapping larger than this many pages is shown in part (8 TiB: reserved
/// address space of sanitizers and others).
const MOST_PAGES: u64 = 1 << 31;

/// Where a page is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    Physical(u64),
    Swap(String, u64),
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    File(u64),
    None,
}

#[derive(Serialize)]
struct PageRow {
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    address: u64,
    #[serde(flatten)]
    place: Option<Place>,
}

#[derive(Serialize)]
struct Row<'a> {
    pid: i32,
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    task: u64,
    vma: &'a Named,
    pages: Vec<PageRow>,
}

/// Looks up pages of one mapping.
struct Pages<'k> {
    kernel: &'k Kernel,
    space: UserSpace<'k>,
    named: &'k Named,
}

impl<'k> Pages<'k> {
    fn of(kernel: &'k Kernel, task: &Task, named: &'k Named) -> Result<Pages<'k>, CommandError> {
        let space = kernel.user_space_of(task.mm).map_err(failed("vm"))?;
        Ok(Pages { kernel, space, named })
    }

    fn addresses(&self) -> impl Iterator<Item = u64> + use<> {
        let (start, end) = (self.named.vma.start, self.named.vma.end);
        let page_size = self.kernel.page_size();
        let pages = (end.saturating_sub(start) / page_size).min(MOST_PAGES);
        (0..pages).map(move |n| start + n * page_size)
    }

    fn place(&self, address: u64) -> Place {
        let vma = &self.named.vma;
        match self.space.page(address) {
            Ok(UserPage::Present(phys)) => Place::Physical(phys),
            Ok(UserPage::Swapped { area, offset }) => {
                let file = self
                    .kernel
                    .swap_file(area)
                    .unwrap_or_else(|_| "(unknown swap location)".into());
                Place::Swap(file, offset)
            }
            _ if vma.file != 0 => {
                let first = vma.pgoff.wrapping_mul(self.kernel.page_size());
                Place::File((address - vma.start).wrapping_add(first))
            }
            _ => Place::None,
        }
    }

    fn line(&self, out: &mut dyn Write, address: u64, place: &Place) -> io::Result<()> {
        match place {
            Place::Physical(phys) => writeln!(out, "{address:<10x}  {phys:>8x}"),
            Place::Swap(file, offset) => {
                writeln!(out, "{address:<10x}  SWAP: {file}  OFFSET: {offset}")
            }
            Place::File(offset) => {
                let file = self.named.file();
                writeln!(out, "{address:<10x}  FILE: {file}  OFFSET: {offset:x}")
            }
            Place::None => writeln!(out, "{address:<10x}  (not mapped)"),
        }
    }
}

const PAGES_HEADER: &str = "VIRTUAL     PHYSICAL";

/// A mapping with all its pages.
pub(super) fn show(
    kernel: &Kernel,
    task: &Task,
    named: &Named,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let pages = Pages::of(kernel, task, named)?;
    if out.is_json() {
        let row = |address| PageRow {
            address,
            place: Some(pages.place(address)).filter(|p| *p != Place::None),
        };
        let pages: Vec<PageRow> = pages.addresses().take(1 << 20).map(row).collect();
        return Ok(out.row(&Row { pid: task.pid, task: task.addr, vma: named, pages })?);
    }
    writeln!(out, "{VMA_HEADER}")?;
    render_vma(out, named)?;
    writeln!(out, "{PAGES_HEADER}")?;
    for address in pages.addresses() {
        if kernel.is_interrupted() {
            break;
        }
        pages.line(out, address, &pages.place(address))?;
    }
    Ok(())
}

/// What `vm -R` looks for.
pub(super) struct Reference {
    text: String,
    hex: Option<u64>,
    decimal: Option<u64>,
}

impl Reference {
    pub(super) fn new(text: &str) -> Reference {
        Reference { text: text.to_owned(), hex: address::hex(text), decimal: text.parse().ok() }
    }

    /// Whether a path has it: as a part of it, or all of it.
    fn names(&self, path: &str) -> bool {
        if self.text == "/" { path == "/" } else { path.contains(&self.text) }
    }

    fn is_vma(&self, named: &Named) -> bool {
        let vma = &named.vma;
        let number = self.hex.is_some_and(|hex| hex == vma.addr || hex == vma.flags);
        number || (vma.file != 0 && named.name.as_deref().is_some_and(|name| self.names(name)))
    }

    fn is_page(&self, address: u64, place: &Place) -> bool {
        let hex = |value: u64| self.hex == Some(value);
        hex(address)
            || match place {
                Place::Physical(phys) => hex(*phys),
                Place::File(offset) => hex(*offset),
                Place::Swap(file, offset) => self.decimal == Some(*offset) || self.names(file),
                Place::None => false,
            }
    }
}

/// Shows what of a task refers to `reference`; nothing where nothing does.
pub(super) fn search(
    kernel: &Kernel,
    task: &Task,
    head: &str,
    vmas: &[Named],
    reference: &Reference,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let mut headed = false;
    let mut begin = |out: &mut Output<'_>| -> io::Result<()> {
        if !std::mem::replace(&mut headed, true) {
            task_header::render(out, task)?;
            write!(out, "{head}")?;
        }
        Ok(())
    };
    let whole = reference.hex.is_some_and(|hex| hex != 0 && hex == task.mm);
    if whole {
        begin(out)?;
        writeln!(out)?;
        return Ok(());
    }
    let mut listed = false;
    for named in vmas {
        if kernel.is_interrupted() {
            break;
        }
        let is_vma = reference.is_vma(named);
        let mut pages = Vec::new();
        // Pages are found by number, or by the name of a swap file.
        if reference.hex.is_some() || named.vma.file == 0 {
            let all = Pages::of(kernel, task, named)?;
            for address in all.addresses() {
                let place = all.place(address);
                if reference.is_page(address, &place) {
                    pages.push((address, place));
                }
            }
        }
        if !is_vma && pages.is_empty() {
            continue;
        }
        begin(out)?;
        if !listed || !pages.is_empty() {
            writeln!(out, "{VMA_HEADER}")?;
        }
        listed = pages.is_empty();
        render_vma(out, named)?;
        if !pages.is_empty() {
            writeln!(out, "{PAGES_HEADER}")?;
            let all = Pages::of(kernel, task, named)?;
            for (address, place) in &pages {
                all.line(out, *address, place)?;
            }
        }
    }
    if headed {
        writeln!(out)?;
    }
    Ok(())
}
