//! Where a machine's blocks of memory lie. A stream has their names and sizes, not their addresses.
//!
//! - PC (hw/i386/pc_piix.c, pc_q35.c, microvm.c): memory starts at 0. What does not fit below the
//!   devices' window goes on at 4 GiB. The window starts at 0xe0000000, or at 0xc0000000 where
//!   memory reaches it (`gigabyte_align`, machine types since 2.0); on Q35 at 0xb0000000 and
//!   0x80000000.
//! - arm virt (hw/arm/virt.c): memory starts at 0x40000000, `mach-virt.ram`.
//!
//! With memory backends the blocks are named by these, one per NUMA node, in their order; what
//! devices have (video memory, ROMs, flash) is known by name.

use std::ops::Range;

use super::ram::QemuRamBlock;
use crate::info::Machine;

const GIB4: u64 = 4 << 30;
const VIRT_RAM: u64 = 1 << 30;

/// Part of a block at its physical address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) range: Range<u64>,
    /// Number of the page at its start, counted through all blocks.
    pub(super) first_page: u64,
}

/// Whether the block is the machine's main memory, by its name.
fn is_main(name: &str) -> bool {
    // hw/i386/pc.c, hw/i386/microvm.c, hw/arm/virt.c: `default_ram_id`.
    matches!(name, "pc.ram" | "microvm.ram" | "mach-virt.ram" | "ram")
        // hw/core/numa.c: a node's memory where no backend was named; libvirt's names of backends.
        || name.starts_with("ram-node")
        || name.starts_with("/objects/ram-node")
        || matches!(name, "/objects/pc.ram" | "/objects/mach-virt.ram" | "/objects/ram")
}

/// Whether the block belongs to a device or the firmware, by its name.
fn is_of_a_device(name: &str) -> bool {
    const ENDS: [&str; 5] = [".rom", ".bios", "vram", ".flash0", ".flash1"];
    ENDS.iter().any(|end| name.ends_with(end))
        || name.starts_with("/rom@")
        || name.starts_with("/device_memory")
        || name.contains("vga")
        || name.starts_with("0000:")
}

/// Lays out the blocks.
pub(super) fn place(
    blocks: &[QemuRamBlock],
    machine_type: &str,
    machine: Option<Machine>,
    page_size: u64,
    oddities: &mut Vec<String>,
) -> Result<Vec<Placed>, String> {
    let mut main: Vec<&QemuRamBlock> = blocks.iter().filter(|block| is_main(&block.name)).collect();
    if main.is_empty() {
        // Backends with names of their own.
        main = blocks.iter().filter(|block| block.name.starts_with("/objects/")).collect();
    }
    if main.is_empty() {
        let largest = blocks.iter().filter(|b| !is_of_a_device(&b.name)).max_by_key(|b| b.len);
        main.extend(largest);
    }
    // ram-node10 comes behind ram-node2.
    main.sort_by_key(|block| node_of(&block.name));
    let others: Vec<&str> = blocks
        .iter()
        .filter(|block| !main.contains(block) && !is_of_a_device(&block.name))
        .map(|block| block.name.as_str())
        .collect();
    if !others.is_empty() {
        let names = others.join(", ");
        oddities.push(format!("where these blocks of memory lie is not known: {names}"));
    }
    let total = main.iter().map(|block| block.len).sum();
    if total == 0 {
        return Err("a QEMU migration stream with none of the machine's memory".to_owned());
    }
    let pieces = pieces(machine_type, machine, total, oddities);
    Ok(lay_out(&main, &pieces, page_size))
}

fn node_of(name: &str) -> u64 {
    let digits = name.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    name.get(digits..).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Physical ranges of the machine's memory.
fn pieces(
    machine_type: &str,
    machine: Option<Machine>,
    total: u64,
    oddities: &mut Vec<String>,
) -> Vec<Range<u64>> {
    let is_virt = machine_type.starts_with("virt");
    if machine == Some(Machine::Aarch64) || (machine.is_none() && is_virt) {
        if !is_virt {
            oddities.push(format!(
                "where the memory of the machine type {machine_type:?} starts is not known; \
                 taken for that of virt"
            ));
        }
        // One range: memory and devices do not share the space above.
        return std::iter::once(VIRT_RAM..VIRT_RAM.saturating_add(total)).collect();
    }
    let is_q35 = machine_type.contains("q35");
    let is_pc = is_q35 || machine_type.starts_with("pc") || machine_type.starts_with("microvm");
    let (window, aligned) =
        if is_q35 { (0xb000_0000, 0x8000_0000) } else { (0xe000_0000, 0xc000_0000) };
    let below = if total < window { total } else { aligned };
    if !is_pc && total > below {
        oddities.push(format!(
            "where the memory of the machine type {machine_type:?} goes on above 4 GiB is not \
             known; taken for that of a PC"
        ));
    }
    let mut pieces: Vec<Range<u64>> = std::iter::once(0..below.min(total)).collect();
    if total > below {
        pieces.push(GIB4..GIB4.saturating_add(total - below));
    }
    pieces
}

/// Fills the ranges with the blocks, one after the other.
fn lay_out(main: &[&QemuRamBlock], pieces: &[Range<u64>], page_size: u64) -> Vec<Placed> {
    let mut placed = Vec::new();
    let mut pieces = pieces.iter().cloned();
    let mut piece = pieces.next();
    for block in main {
        let mut used = 0;
        while used < block.len {
            let Some(range) = piece.as_mut().filter(|range| range.start < range.end) else {
                match pieces.next() {
                    Some(next) => piece = Some(next),
                    None => return placed,
                }
                continue;
            };
            let len = (block.len - used).min(range.end - range.start);
            placed.push(Placed {
                range: range.start..range.start + len,
                first_page: block.first_page + used / page_size,
            });
            range.start += len;
            used += len;
        }
    }
    placed
}

#[cfg(test)]
// Lists of ranges, some with one only.
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn block(name: &str, len: u64) -> QemuRamBlock {
        QemuRamBlock { name: name.to_owned(), len, first_page: 0 }
    }

    fn ranges(machine_type: &str, len: u64) -> Vec<Range<u64>> {
        let mut oddities = Vec::new();
        let placed = place(&[block("pc.ram", len)], machine_type, None, 4096, &mut oddities);
        assert!(oddities.is_empty(), "{oddities:?}");
        placed.unwrap().into_iter().map(|placed| placed.range).collect()
    }

    #[test]
    fn memory_of_a_pc_goes_on_above_the_window() {
        assert_eq!(ranges("pc-i440fx-7.2", 3 * GIB), [0..3 * GIB]);
        assert_eq!(ranges("pc-i440fx-7.2", 0xdfff_f000), [0..0xdfff_f000]);
        assert_eq!(ranges("pc-i440fx-7.2", 5 * GIB), [0..3 * GIB, 4 * GIB..6 * GIB]);
        assert_eq!(ranges("pc-q35-9.2", 2 * GIB), [0..2 * GIB]);
        assert_eq!(ranges("pc-q35-rhel9.4.0", 3 * GIB), [0..2 * GIB, 4 * GIB..5 * GIB]);
        assert_eq!(ranges("virt-9.0", 5 * GIB), [GIB..6 * GIB]);
    }

    #[test]
    fn nodes_follow_one_another_and_devices_are_left_out() {
        let blocks = [
            block("/objects/ram-node0", 2 * GIB),
            block("/objects/ram-node10", GIB),
            block("/objects/ram-node2", GIB),
            block("0000:00:02.0/vga.vram", 16 << 20),
            block("/objects/dimm0", GIB),
        ];
        let mut oddities = Vec::new();
        let placed = place(&blocks, "pc-q35-9.2", None, 4096, &mut oddities).unwrap();
        let starts: Vec<u64> = placed.iter().map(|placed| placed.range.start).collect();
        assert_eq!(starts, [0, 4 * GIB, 5 * GIB]);
        assert!(oddities.len() == 1 && oddities[0].contains("dimm0"));
    }
}
