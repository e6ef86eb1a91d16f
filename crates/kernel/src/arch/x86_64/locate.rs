//! Finding the kernel in an x86_64 memory image.
//!
//! Three ways, the first that works is taken:
//! 1. VMCOREINFO of the container (ELF note, kdump sub-header):
//!    `NUMBER(phys_base)`, `SYMBOL(init_top_pgt)` (written `swapper_pg_dir`
//!    by the generic code), `NUMBER(pgtable_l5_enabled)`, `NUMBER(sme_mask)`
//!    (Documentation/admin-guide/kdump/vmcoreinfo.rst).
//! 2. CR3 of a virtual CPU (QEMU's notes, Xen's contexts): the tables that the CPU ran on
//!    map the kernel's image between `__START_KERNEL_map` and + 1 GiB. Under
//!    page table isolation the user half has bit 12 of CR3 set and maps almost
//!    nothing, the kernel half is the page before it.
//! 3. A page of memory that starts with `OSRELEASE=`: the kernel keeps its own
//!    VMCOREINFO in a page of its own (kernel/crash_core.c).

use std::ops::Range;

use kmortem_vmcore::{Image, VmcoreInfo};

use super::{KERNEL_IMAGE_SIZE, START_KERNEL_MAP, paging};
use crate::arch::{Located, PageTables, vmcoreinfo};
use crate::error::OpenError;

/// Finds the kernel, or says what was tried.
pub(super) fn locate(image: &Image) -> Result<Located, OpenError> {
    let mut tried = Vec::new();
    if let Some(info) = image.vmcoreinfo() {
        match from_vmcoreinfo(image, info.clone(), "VMCOREINFO of the dump's header") {
            Ok(found) => return Ok(found),
            Err(why) => tried.push(format!("VMCOREINFO is there but {why}")),
        }
    } else {
        tried.push("the dump has no VMCOREINFO".to_owned());
    }
    match from_cpu_state(image) {
        Ok(found) => return Ok(found),
        Err(why) => tried.push(why),
    }
    let found = vmcoreinfo::search(image, |info, how| from_vmcoreinfo(image, info, how));
    match found {
        Ok(found) => return Ok(found),
        Err(why) => tried.push(why),
    }
    Err(OpenError::NoKernel(tried.join("; ")))
}

fn from_vmcoreinfo(image: &Image, info: VmcoreInfo, source: &str) -> Result<Located, String> {
    let root_va = info
        .symbol("init_top_pgt")
        .or_else(|| info.symbol("swapper_pg_dir"))
        .ok_or("does not name the kernel's page tables")?;
    let phys_base = match info.number("phys_base") {
        Some(n) => n as u64,
        None => return Err("does not say where the kernel lies in memory (phys_base)".into()),
    };
    let encryption_mask = info.number("sme_mask").unwrap_or(0) as u64;
    let levels = if info.number("pgtable_l5_enabled") == Some(1) { 5 } else { 4 };
    let root = root_va.wrapping_sub(START_KERNEL_MAP).wrapping_add(phys_base);
    let tables = paging::tables(root, levels, encryption_mask);
    let hint = text_hint(&info, root_va)?;
    let mut image_range = image_range(image, &tables, hint);
    if image_range.is_empty() {
        // The tables may have been lost to a filter or a cut-off dump, while
        // the image itself still translates by phys_base.
        let mut probe = [0; 8];
        image
            .read(hint.wrapping_sub(START_KERNEL_MAP).wrapping_add(phys_base), &mut probe)
            .map_err(|e| format!("the kernel's page tables and text are not in the dump ({e})"))?;
        image_range = hint..hint.saturating_add(64 << 20);
    }
    Ok(Located {
        tables,
        image_offset: Some(START_KERNEL_MAP.wrapping_sub(phys_base)),
        vmcoreinfo: Some(info),
        image_range,
        how: source.to_owned(),
    })
}

/// The 2 MiB step that the kernel's text starts in, or its page tables are in.
/// A search from anywhere else would take minutes.
fn text_hint(info: &VmcoreInfo, root_va: u64) -> Result<u64, String> {
    let hint = info.symbol("_stext").unwrap_or(root_va);
    match (START_KERNEL_MAP..START_KERNEL_MAP + KERNEL_IMAGE_SIZE).contains(&hint) {
        true => Ok(hint & !((2 << 20) - 1)),
        false => Err(format!("has the kernel at {hint:#x}, where no kernel is linked to")),
    }
}

/// The run of mapped image pages around `hint`, or the first one at all.
fn image_range(image: &Image, tables: &PageTables, hint: u64) -> Range<u64> {
    let limit = START_KERNEL_MAP + KERNEL_IMAGE_SIZE;
    match paging::next_mapped(image, tables, hint, limit) {
        Some(start) => start..paging::end_of_run(image, tables, start, limit),
        None => hint..hint,
    }
}

fn from_cpu_state(image: &Image) -> Result<Located, String> {
    let mut seen = 0;
    for (index, cpu) in image.cpus().iter().enumerate() {
        let Some((cr3, cr4)) = cpu.cr3_and_cr4() else { continue };
        seen += 1;
        let levels = if cr4 & (1 << 12) != 0 { 5 } else { 4 };
        for root in [cr3 & !0x1fff & PHYS, cr3 & !0xfff & PHYS] {
            let Some(root) = image.physical(root) else { continue };
            let tables = paging::tables(root, levels, 0);
            let range = image_range(image, &tables, START_KERNEL_MAP);
            if range.end - range.start < (4 << 20) {
                continue;
            }
            let first = tables.walk(image, range.start).ok();
            let image_offset = first.map(|mapping| range.start.wrapping_sub(mapping.phys));
            return Ok(Located {
                tables,
                image_offset,
                vmcoreinfo: None,
                image_range: range,
                how: format!("page tables of virtual CPU {index} (CR3 {cr3:#x})"),
            });
        }
    }
    Err(match seen {
        0 => "it has no CPU state to start from".into(),
        n => format!("the page tables of its {n} CPUs map no kernel image"),
    })
}

const PHYS: u64 = 0x000f_ffff_ffff_ffff;

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(stext: &str) -> Result<u64, String> {
        let text = format!("OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(_stext)={stext}\n");
        let info = VmcoreInfo::find_in(text.as_bytes()).ok_or("no VMCOREINFO")?;
        text_hint(&info, 0)
    }

    #[test]
    fn text_is_searched_where_kernels_are_linked_to() {
        assert_eq!(hint("ffffffff81001000"), Ok(0xffff_ffff_8100_0000));
        // This one took half a minute.
        assert!(hint("ffc00000a5000000").unwrap_err().contains("no kernel is linked"));
        assert!(hint("fffffffffffff000").is_err());
    }
}
