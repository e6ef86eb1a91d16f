//! Finding the kernel in an arm64 memory image.
//!
//! VMCOREINFO says all that is needed (arch/arm64/kernel/vmcore_info.c):
//! - `SYMBOL(swapper_pg_dir)` and `NUMBER(kimage_voffset)`: the page tables and
//!   what the image's virtual addresses are above its physical ones;
//! - `NUMBER(VA_BITS)`: for how many bits of address the kernel was built;
//!   `NUMBER(TCR_EL1_T1SZ)` (since v5.8): 64 less the bits that the processor
//!   translates, which are fewer where it lacks LVA or LPA2;
//! - `PAGESIZE`.
//!
//! It comes from the container, else from the page of memory in which the
//! kernel keeps it. A processor's registers are no help: TTBR1 is in no dump.
//!
//! The image begins with a header of 64 bytes (Documentation/arch/arm64/booting.rst):
//! `image_size` at 16, the magic "ARM\x64" at 56. It is at `_text`, which is up
//! to 64 KiB before `_stext`.

use std::ops::Range;

use kmortem_vmcore::{Image, VmcoreInfo};

use super::paging::OutputAddress;
use crate::Kernel;
use crate::arch::page_table::{Entries, Half, PageTables};
use crate::arch::{Located, vmcoreinfo};
use crate::error::OpenError;

const IMAGE_MAGIC: &[u8; 4] = b"ARM\x64";
/// Largest image that is believed.
const LARGEST_IMAGE: u64 = 512 << 20;
/// What is taken for the image where it has lost its header.
const USUAL_IMAGE: u64 = 64 << 20;
/// Segments of the image begin at multiples of this (`SEGMENT_ALIGN`).
const SEGMENT: u64 = 64 << 10;

/// Finds the kernel, or says what was tried.
pub(super) fn locate(image: &Image) -> Result<Located, OpenError> {
    let mut tried = Vec::new();
    match image.vmcoreinfo() {
        Some(info) => {
            match from_vmcoreinfo(image, info.clone(), "VMCOREINFO of the dump's header") {
                Ok(found) => return Ok(found),
                Err(why) => tried.push(format!("VMCOREINFO is there but {why}")),
            }
        }
        None => tried.push("the dump has no VMCOREINFO".to_owned()),
    }
    match vmcoreinfo::search(image, |info, how| from_vmcoreinfo(image, info, how)) {
        Ok(found) => return Ok(found),
        Err(why) => tried.push(why),
    }
    Err(OpenError::NoKernel(tried.join("; ")))
}

fn from_vmcoreinfo(image: &Image, info: VmcoreInfo, source: &str) -> Result<Located, String> {
    let root = info.symbol("swapper_pg_dir").ok_or("does not name the kernel's page tables")?;
    let offset =
        info.number("kimage_voffset")
            .ok_or("does not say where the kernel lies in memory (kimage_voffset)")? as u64;
    let tables = tables(&info, root.wrapping_sub(offset))?;
    let stext = info.symbol("_stext").unwrap_or(root);
    if stext >> 55 != u64::MAX >> 55 {
        return Err(format!("has the kernel at {stext:#x}, where no kernel is linked to"));
    }
    // The tables may have been lost to a filter, while the image itself still
    // translates by its offset; where both are there they have to agree.
    match tables.walk(image, stext) {
        Ok(mapping) if mapping.phys != stext.wrapping_sub(offset) => {
            return Err(format!(
                "has the kernel's text at physical {:#x}, its page tables at {:#x}",
                stext.wrapping_sub(offset),
                mapping.phys
            ));
        }
        Ok(_) => {}
        Err(_) => {
            let mut probe = [0; 8];
            image.read(stext.wrapping_sub(offset), &mut probe).map_err(|e| {
                format!("the kernel's page tables and text are not in the dump ({e})")
            })?;
        }
    }
    Ok(Located {
        tables,
        image_range: image_range(image, stext, offset),
        image_offset: Some(offset),
        vmcoreinfo: Some(info),
        how: source.to_owned(),
    })
}

fn tables(info: &VmcoreInfo, root: u64) -> Result<PageTables, String> {
    let number = |name: &str| info.number(name).and_then(|n| u8::try_from(n).ok());
    let built_for = number("VA_BITS").filter(|bits| (36..=52).contains(bits));
    let built_for = built_for.ok_or("does not say how wide addresses are (VA_BITS)")?;
    let translated = number("TCR_EL1_T1SZ").and_then(|unused| 64u8.checked_sub(unused));
    let actual = translated.filter(|bits| (36..=52).contains(bits)).unwrap_or(built_for);
    let page_shift = match info.page_size() {
        Some(0x1000) => 12,
        Some(0x4000) => 14,
        Some(0x10000) => 16,
        other => return Err(format!("has pages of {other:?} bytes, which no arm64 kernel has")),
    };
    Ok(geometry(root, page_shift, built_for, actual))
}

/// Tables of a kernel that was built for `built_for` bits and runs with `actual`.
///
/// With pages of 64 KiB the top table is that of 52 bits all the same, of which
/// 48-bit processors use the last part; with smaller pages a level is left out
/// (arch/arm64/include/asm/pgtable.h, `pgtable_l4_enabled`, `pgtable_l5_enabled`).
pub(super) fn geometry(root: u64, page_shift: u8, built_for: u8, actual: u8) -> PageTables {
    let va_bits = if page_shift == 16 { built_for } else { actual };
    let levels = (va_bits - page_shift).div_ceil(page_shift - 3);
    let output = match page_shift < 16 && actual > 48 {
        true => OutputAddress::Lpa2,
        false => OutputAddress::Plain,
    };
    PageTables {
        root,
        levels,
        page_shift,
        va_bits,
        half: Half::Upper,
        entries: Entries::Arm64(output),
    }
}

/// Bits of address that the processor translates. Only with pages of 64 KiB may
/// the tables be made for more.
pub(super) fn translated_bits(kernel: &Kernel) -> u8 {
    let tables = kernel.space().tables();
    if tables.page_shift < 16 {
        return tables.va_bits;
    }
    let unused = kernel.vmcoreinfo().and_then(|info| info.number("TCR_EL1_T1SZ"));
    let bits = unused.and_then(|n| 64u8.checked_sub(u8::try_from(n).ok()?));
    bits.filter(|bits| (36..=52).contains(bits)).unwrap_or(tables.va_bits)
}

/// The image's virtual range, from its header.
fn image_range(image: &Image, stext: u64, offset: u64) -> Range<u64> {
    let first = stext & !(SEGMENT - 1);
    for start in [first, first.wrapping_sub(SEGMENT)] {
        let mut header = [0; 64];
        if image.read(start.wrapping_sub(offset), &mut header).is_err() {
            continue;
        }
        let size = header[16..24].iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
        if &header[56..60] == IMAGE_MAGIC && (1 << 20..LARGEST_IMAGE).contains(&size) {
            return start..start.saturating_add(size);
        }
    }
    first..first.saturating_add(USUAL_IMAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(page_shift: u8, built_for: u8, actual: u8) -> (u8, u8, usize) {
        let tables = geometry(0, page_shift, built_for, actual);
        (tables.levels, tables.va_bits, tables.table_len(tables.levels))
    }

    #[test]
    fn every_granule_has_its_levels() {
        assert_eq!(levels(12, 39, 39), (3, 39, 512));
        assert_eq!(levels(12, 48, 48), (4, 48, 512));
        assert_eq!(levels(12, 52, 52), (5, 52, 16));
        // Built for LPA2, on a processor without it.
        assert_eq!(levels(12, 52, 48), (4, 48, 512));
        assert_eq!(levels(14, 36, 36), (2, 36, 2048));
        assert_eq!(levels(14, 47, 47), (3, 47, 2048));
        assert_eq!(levels(14, 48, 48), (4, 48, 2));
        assert_eq!(levels(14, 52, 52), (4, 52, 32));
        assert_eq!(levels(14, 52, 47), (3, 47, 2048));
        assert_eq!(levels(16, 42, 42), (2, 42, 8192));
        assert_eq!(levels(16, 48, 48), (3, 48, 64));
        assert_eq!(levels(16, 52, 52), (3, 52, 1024));
        // The top table keeps its size.
        assert_eq!(levels(16, 52, 48), (3, 52, 1024));
    }

    #[test]
    fn only_lpa2_has_its_entries() {
        let entries = |page, built_for, actual| geometry(0, page, built_for, actual).entries;
        assert_eq!(entries(12, 52, 52), Entries::Arm64(OutputAddress::Lpa2));
        assert_eq!(entries(12, 52, 48), Entries::Arm64(OutputAddress::Plain));
        assert_eq!(entries(16, 52, 52), Entries::Arm64(OutputAddress::Plain));
    }
}
