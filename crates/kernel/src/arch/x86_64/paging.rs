//! x86_64 page tables, 4 and 5 levels (Intel SDM vol. 3, 4.5).
//!
//! Every table has 512 entries of 8 bytes. Bit 0 is "present", bit 7 in a PUD
//! or PMD entry says that it maps a 1 GiB or 2 MiB page itself; bits 12..51
//! are the physical address. The kernel marks pages of `PROT_NONE` mappings
//! with bit 8 and no bit 0: they are in memory all the same.

use kmortem_vmcore::Image;

use crate::arch::{Mapping, PageTables, WalkError};

const PRESENT: u64 = 1;
const HUGE: u64 = 1 << 7;
const PROTNONE: u64 = 1 << 8;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// True if bits above the implemented ones are copies of the highest one.
pub fn is_canonical(addr: u64, levels: u8) -> bool {
    let unused = if levels == 5 { 64 - 57 } else { 64 - 48 };
    ((addr << unused) as i64 >> unused) as u64 == addr
}

/// Walks the tables down from `tables.root`.
pub fn walk(image: &Image, tables: &PageTables, addr: u64) -> Result<Mapping, WalkError> {
    if !is_canonical(addr, tables.levels) {
        return Err(WalkError::NonCanonical);
    }
    let address_bits = ADDRESS & !tables.encryption_mask;
    let mut table = tables.root & ADDRESS;
    let mut level = tables.levels;
    loop {
        let shift = 12 + 9 * (u32::from(level) - 1);
        let slot = table + ((addr >> shift) & 0x1ff) * 8;
        let mut raw = [0; 8];
        image
            .read(slot, &mut raw)
            .map_err(|e| WalkError::Absent { table: slot, reason: e.reason })?;
        let entry = u64::from_le_bytes(raw);
        let in_memory = entry & PRESENT != 0 || (level == 1 && entry & PROTNONE != 0);
        if !in_memory {
            return Err(WalkError::NotPresent { level, entry });
        }
        let maps_page = level == 1 || (entry & HUGE != 0 && level <= 3);
        if maps_page {
            let page_size = 1u64 << shift;
            let base = entry & address_bits & !(page_size - 1);
            return Ok(Mapping { phys: base | (addr & (page_size - 1)), page_size, entry });
        }
        table = entry & address_bits;
        level -= 1;
    }
}

/// First mapped 2 MiB step at or after `start` and below `end`. Steps over
/// what an absent upper entry covers, so that a sparse range costs little.
pub fn next_mapped(image: &Image, tables: &PageTables, start: u64, end: u64) -> Option<u64> {
    let mut addr = start;
    while addr < end {
        match walk(image, tables, addr) {
            Ok(_) => return Some(addr),
            Err(WalkError::NotPresent { level, .. }) => {
                let shift = (12 + 9 * (u32::from(level) - 1)).max(21);
                addr = (addr >> shift).checked_add(1)?.checked_shl(shift)?;
                if addr == 0 {
                    return None;
                }
            }
            Err(_) => addr = addr.checked_add(2 << 20)?,
        }
    }
    None
}

/// End of the mapped run that starts at `start`, in steps of 2 MiB, at most
/// `limit`. A hole of one step is taken as part of the run: the kernel unmaps
/// parts of its image (init sections) after boot.
pub fn end_of_run(image: &Image, tables: &PageTables, start: u64, limit: u64) -> u64 {
    const STEP: u64 = 2 << 20;
    let mut end = start;
    let mut addr = start & !(STEP - 1);
    let mut holes = 0;
    while addr < limit && holes <= 4 {
        // A step counts as mapped when either of its halves is.
        let mapped =
            [0, STEP / 2, STEP - 4096].iter().any(|o| walk(image, tables, addr + o).is_ok());
        if mapped {
            end = addr + STEP;
            holes = 0;
        } else {
            holes += 1;
        }
        addr += STEP;
    }
    end.min(limit)
}
