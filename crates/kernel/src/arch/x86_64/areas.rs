//! Where x86_64 has its kernel memory (Documentation/arch/x86/x86_64/mm.rst).
//!
//! Randomised kernels keep the bases of the direct map, of vmalloc memory and
//! of the records of page frames in variables; others have them at fixed places.

use std::ops::Range;

use super::{KERNEL_IMAGE_SIZE, START_KERNEL_MAP};
use crate::Kernel;
use crate::arch::{Areas, DirectMap};
use crate::error::Result;
use crate::search::KernelPart;

fn five_levels(kernel: &Kernel) -> bool {
    kernel.space().tables().levels == 5
}

fn variable(kernel: &Kernel, name: &str) -> Result<u64> {
    kernel.symbol(name).and_then(|at| kernel.read_u64(at))
}

pub(super) fn direct_map(kernel: &Kernel) -> DirectMap {
    let five = five_levels(kernel);
    let fixed: u64 = if five { 0xff11_0000_0000_0000 } else { 0xffff_8880_0000_0000 };
    let noted = variable(kernel, "page_offset_base").ok();
    let base = noted.filter(|base| *base >> 63 == 1).unwrap_or(fixed);
    let largest: u64 = if five { 1 << 55 } else { 1 << 46 };
    let size = match variable(kernel, "vmalloc_base") {
        Ok(end) if end > base => (end - base).min(largest),
        _ => largest,
    };
    DirectMap { range: base..base.saturating_add(size), phys: 0 }
}

pub(super) fn vmemmap(kernel: &Kernel) -> Result<u64> {
    match kernel.symbol("vmemmap_base") {
        Ok(variable) => kernel.read_u64(variable),
        Err(_) if five_levels(kernel) => Ok(0xffd4_0000_0000_0000),
        Err(_) => Ok(0xffff_ea00_0000_0000),
    }
}

/// From `_text` and the address that kernels are linked to
/// (CONFIG_PHYSICAL_START).
pub(super) fn kaslr_offset(kernel: &Kernel) -> Option<u64> {
    let linked = 0xffff_ffff_8100_0000u64;
    kernel.symbol("_text").ok().and_then(|text| text.checked_sub(linked))
}

/// Guard holes, the shadow of KASAN and the stacks of ESPFIX, all of which map
/// one page many times, are none of the areas.
pub(super) fn mapped(kernel: &Kernel) -> Result<Vec<(Range<u64>, KernelPart)>> {
    let five = five_levels(kernel);
    let vmalloc = match variable(kernel, "vmalloc_base") {
        Ok(base) => base,
        Err(_) if five => 0xffa0_0000_0000_0000,
        Err(_) => 0xffff_c900_0000_0000,
    };
    let vmemmap = vmemmap(kernel)?;
    let (vmalloc_len, vmemmap_len) =
        if five { (12800u64 << 40, 512u64 << 40) } else { (32u64 << 40, 1u64 << 40) };
    let vmalloc_end = vmalloc.saturating_add(vmalloc_len).min(vmemmap.max(vmalloc));
    let vmemmap_end = vmemmap.saturating_add(vmemmap_len).min(START_KERNEL_MAP);
    let image = kernel.space().image_range();
    // Fixed mappings begin where the modules end.
    const MODULES_END: u64 = 0xffff_ffff_ff00_0000;
    Ok(vec![
        (vmalloc..vmalloc_end, KernelPart::Mapped),
        (vmemmap..vmemmap_end, KernelPart::Mapped),
        (START_KERNEL_MAP..image.end, KernelPart::Linear),
        (image.end..MODULES_END, KernelPart::Mapped),
    ])
}

/// Modules come behind the room for the kernel's image.
pub(super) fn areas(kernel: &Kernel) -> Areas {
    let noted = kernel.vmcoreinfo().and_then(|info| info.number("KERNEL_IMAGE_SIZE"));
    let size = noted.and_then(|size| u64::try_from(size).ok()).filter(|n| *n <= KERNEL_IMAGE_SIZE);
    Areas {
        vmalloc: variable(kernel, "vmalloc_base").ok(),
        image: Some(START_KERNEL_MAP),
        modules: size.map(|size| START_KERNEL_MAP + size),
    }
}
