//! Where arm64 has its kernel memory (Documentation/arch/arm64/memory.rst).
//!
//! Since v5.4 the lower half of the kernel's addresses is the linear map, the
//! upper one holds modules, the image, vmalloc memory and the records of page
//! frames; before, it was the other way round. The linear map begins at
//! `PHYS_OFFSET`, which is below all memory, by chance too (KASLR), and below
//! zero where a kernel built for 52 bits runs with 48.

use std::ops::Range;

use crate::Kernel;
use crate::arch::{Areas, DirectMap};
use crate::error::{Error, Result};
use crate::search::KernelPart;

fn number(kernel: &Kernel, name: &str) -> Option<u64> {
    kernel.vmcoreinfo()?.number(name).map(|n| n as u64)
}

fn variable(kernel: &Kernel, name: &str) -> Option<u64> {
    kernel.symbol(name).and_then(|at| kernel.read_u64(at)).ok()
}

/// Bits of address that the kernel was built for.
fn built_for(kernel: &Kernel) -> u32 {
    let bits = number(kernel, "VA_BITS").and_then(|n| u32::try_from(n).ok());
    let bits = bits.filter(|bits| (36..=52).contains(bits));
    bits.unwrap_or_else(|| kernel.space().tables().va_bits.into())
}

/// First address of the half of the kernel that its image is in (`PAGE_END`).
fn page_end(kernel: &Kernel) -> u64 {
    // What a processor without LVA or LPA2 has: 47 bits with pages of 16 KiB.
    let least = if kernel.space().tables().page_shift == 14 { 47 } else { 48 };
    let bits = built_for(kernel);
    let bits = if bits > 48 { least } else { bits };
    (1u64 << (bits - 1)).wrapping_neg()
}

pub(super) fn direct_map(kernel: &Kernel) -> Option<DirectMap> {
    let phys = number(kernel, "PHYS_OFFSET").or_else(|| variable(kernel, "memstart_addr"))?;
    let bits = built_for(kernel);
    let flipped = DirectMap { range: (1u64 << bits).wrapping_neg()..page_end(kernel), phys };
    let older = DirectMap { range: (1u64 << (bits - 1)).wrapping_neg()..u64::MAX, phys };
    // The image is mapped there, too: the page tables tell which of them it is.
    let image = kernel.space().image_range().start.wrapping_sub(kernel.space().image_offset()?);
    let is_mapped = |map: &DirectMap| {
        let addr = map.range.start.wrapping_add(image.wrapping_sub(phys));
        let tables = kernel.space().tables();
        tables.walk(kernel.image(), addr).is_ok_and(|mapping| mapping.phys == image)
    };
    Some(if !is_mapped(&flipped) && is_mapped(&older) { older } else { flipped })
}

/// In VMCOREINFO since v6.12 (`vmemmap`); else from a section of memory, which
/// notes where its records would be if they began at frame 0.
pub(super) fn vmemmap(kernel: &Kernel) -> Result<u64> {
    if let Some(noted) = kernel.vmcoreinfo().and_then(|info| info.symbol("vmemmap")) {
        return Ok(noted);
    }
    let sections = kernel.memory_sections()?;
    let section = sections.iter().find(|section| section.has_mem_map());
    let none = || Error::Unavailable("no section of memory has records of its frames".into());
    Ok(section.ok_or_else(none)?.coded_mem_map)
}

/// From the place of the image and the address it is linked to: behind the room
/// for modules, whose place VMCOREINFO notes since v6.1.
pub(super) fn kaslr_offset(kernel: &Kernel) -> Option<u64> {
    let linked = number(kernel, "MODULES_END")?;
    kernel.symbol("_text").ok()?.checked_sub(linked)
}

/// All but the linear map. The image lies in the middle.
pub(super) fn mapped(kernel: &Kernel) -> Vec<(Range<u64>, KernelPart)> {
    let linear = kernel.space().direct_map().unwrap_or(0..0);
    let start = if linear.end == u64::MAX { 1u64 << 63 } else { page_end(kernel) };
    let end = if linear.end == u64::MAX { linear.start } else { u64::MAX };
    let image = kernel.space().image_range();
    vec![
        (start..image.start.max(start), KernelPart::Mapped),
        (image.clone(), KernelPart::Linear),
        (image.end.min(end)..end, KernelPart::Mapped),
    ]
}

pub(super) fn areas(kernel: &Kernel) -> Areas {
    let offset = kernel.kaslr_offset();
    let text = kernel.symbol("_text").ok();
    Areas {
        vmalloc: number(kernel, "VMALLOC_START"),
        image: text.zip(offset).and_then(|(text, offset)| text.checked_sub(offset)),
        modules: number(kernel, "MODULES_VADDR"),
    }
}
