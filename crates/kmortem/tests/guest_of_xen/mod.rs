//! The bundled dump's memory as that of a PV guest of Xen's: elsewhere in the machine, with the
//! frames that it has there in all of its page tables.

// A helper of tests: its panic is the failure.
#![allow(clippy::unwrap_used, dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use kmortem_kernel::Kernel;
use kmortem_kernel::arch::Registers;
use kmortem_vmcore::Image;

pub(crate) const PAGE: u64 = 4096;
const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

pub(crate) fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/hung-mutex-6.12.vmcore")
}

/// Page frames that the dump has.
pub(crate) fn pages(image: &Image) -> BTreeMap<u64, Vec<u8>> {
    let addresses = image.present().flat_map(|run| run.step_by(PAGE as usize));
    addresses.filter_map(|addr| Some((addr / PAGE, image.page(addr).ok()?.to_vec()))).collect()
}

/// Where a frame is in the machine: large pages stay whole, their order does not.
pub(crate) fn machine_frame(frame: u64) -> u64 {
    const IN_LARGE: u64 = 512;
    // A prime beyond the count of the sample's large pages.
    const LARGE_PAGES: u64 = 8191;
    let (large, rest) = (frame / IN_LARGE, frame % IN_LARGE);
    let moved = if large < LARGE_PAGES { (large * 7 + 3) % LARGE_PAGES } else { large };
    (moved + 16) * IN_LARGE + rest
}

/// Puts machine frames into a table of page tables and all below it.
fn to_machine(pages: &mut BTreeMap<u64, Vec<u8>>, done: &mut BTreeSet<u64>, table: u64, level: u8) {
    if !done.insert(table) {
        return;
    }
    let Some(mut bytes) = pages.remove(&table) else { return };
    for entry in bytes.chunks_exact_mut(8) {
        let value = u64::from_le_bytes(entry.try_into().unwrap());
        if value & PRESENT == 0 {
            continue;
        }
        let is_page = level == 1 || value & LARGE != 0;
        assert!(level < 3 || !is_page, "pages of 1 GiB do not stay whole");
        // The lowest bit of the address of a large page is a flag.
        let flag = if level == 2 && is_page { value & PAGE } else { 0 };
        let frame = (value & ADDRESS & !flag) / PAGE;
        let machine = value & !ADDRESS | flag | (machine_frame(frame) * PAGE);
        entry.copy_from_slice(&machine.to_le_bytes());
        if !is_page {
            to_machine(pages, done, frame, level - 1);
        }
    }
    pages.insert(table, bytes);
}

/// dom0's, or a guest's, pages: number, frame in the machine, content.
pub(crate) fn pv_pages(kernel: &Kernel) -> Vec<(u64, u64, Vec<u8>)> {
    let tables = kernel.space().tables();
    let mut pages = pages(kernel.image());
    let mut done = BTreeSet::new();
    to_machine(&mut pages, &mut done, tables.root / PAGE, tables.levels);
    for task in &kernel.tasks().unwrap().list {
        let mm = kernel.object_at("mm_struct", task.mm);
        let Ok(pgd) = mm.and_then(|mm| mm.field("pgd")?.u64()) else { continue };
        let root = kernel.space().translate(pgd).unwrap();
        to_machine(&mut pages, &mut done, root / PAGE, tables.levels);
    }
    pages.into_iter().map(|(frame, page)| (frame, machine_frame(frame), page)).collect()
}

/// In the order of Xen's `struct cpu_user_regs`.
pub(crate) fn general_registers(registers: &Registers) -> [u64; 15] {
    const NAMES: [&str; 15] = [
        "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx",
        "rsi", "rdi",
    ];
    NAMES.map(|name| registers.iter().find(|(n, _)| *n == name).map_or(0, |(_, v)| v))
}
