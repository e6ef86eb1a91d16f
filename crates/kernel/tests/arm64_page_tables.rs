//! arm64 page tables of every granule and width of address, made in code by the
//! rules of the Arm ARM, and the kernel's place found in them.

#![allow(clippy::unwrap_used, clippy::panic)] // also outside of the test functions

use std::collections::BTreeMap;
use std::sync::Arc;

use kmortem_kernel::arch::arm64::Arm64;
use kmortem_kernel::arch::arm64::paging::OutputAddress;
use kmortem_kernel::arch::mapped::Mapped;
use kmortem_kernel::arch::page_table::{Entries, Half};
use kmortem_kernel::arch::{Architecture, PageTables, WalkError};
use kmortem_testkit::{Elf, notes};
use kmortem_vmcore::{Image, Source};

/// Where tables are made.
const TABLES: u64 = 0x4000_0000;
/// Where pages are mapped to.
const PAGES: u64 = 0x8000_0000;

/// Memory of 8-byte words, and tables in it.
struct Memory {
    page_shift: u32,
    va_bits: u32,
    lpa2: bool,
    words: BTreeMap<u64, u64>,
    next: u64,
}

impl Memory {
    fn new(page_shift: u32, va_bits: u32, lpa2: bool) -> Memory {
        let next = TABLES + (1 << page_shift);
        Memory { page_shift, va_bits, lpa2, words: BTreeMap::new(), next }
    }

    /// Levels that it takes to translate all bits.
    fn levels(&self) -> u32 {
        (self.va_bits - self.page_shift).div_ceil(self.page_shift - 3)
    }

    fn entry(&self, phys: u64, kind: u64) -> u64 {
        let upper = match (self.page_shift, self.lpa2) {
            (16, _) => (phys >> 48 & 0xf) << 12 | phys & 0xffff_ffff_ffff,
            (_, true) => (phys >> 50 & 3) << 8 | phys & 0x3_ffff_ffff_ffff,
            _ => phys,
        };
        // AF; without LPA2 inner shareable; PXN and UXN.
        let shared = if self.lpa2 { 0 } else { 3 << 8 };
        upper | kind | 1 << 10 | shared | 3 << 53
    }

    /// Maps `addr` to `phys`, by an entry of `level` (1 is the lowest).
    fn map(&mut self, addr: u64, phys: u64, level: u32) {
        let mut table = TABLES;
        for at in (level..=self.levels()).rev() {
            let shift = self.page_shift + (self.page_shift - 3) * (at - 1);
            let bits = (self.va_bits - shift).min(self.page_shift - 3);
            let slot = table + (addr >> shift & ((1 << bits) - 1)) * 8;
            if at == level {
                let kind = if level == 1 { 3 } else { 1 };
                let entry = self.entry(phys, kind);
                self.words.insert(slot, entry);
            } else if let Some(entry) = self.words.get(&slot) {
                table = entry & 0xffff_ffff_f000 & !((1 << self.page_shift) - 1);
            } else {
                let next = self.next;
                self.next += 1 << self.page_shift;
                let entry = self.entry(next, 3);
                self.words.insert(slot, entry);
                table = next;
            }
        }
    }

    fn elf(&self) -> Elf {
        let mut bytes = vec![0; (self.next - TABLES) as usize];
        for (at, word) in &self.words {
            let at = (at - TABLES) as usize;
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        Elf { machine: 183, ..Elf::default() }.load(TABLES, bytes)
    }

    fn image(&self) -> Image {
        open(&self.elf())
    }

    fn tables(&self) -> PageTables {
        PageTables {
            root: TABLES,
            levels: self.levels() as u8,
            page_shift: self.page_shift as u8,
            va_bits: self.va_bits as u8,
            half: Half::Upper,
            entries: Entries::Arm64(match self.lpa2 {
                true => OutputAddress::Lpa2,
                false => OutputAddress::Plain,
            }),
        }
    }
}

fn open(elf: &Elf) -> Image {
    let source: Arc<dyn Source> = Arc::new(elf.build());
    Image::from_sources(vec![("arm64".into(), source)]).unwrap()
}

/// (page shift, bits of address, LPA2): what kernels can be built for.
const GEOMETRIES: [(u32, u32, bool); 9] = [
    (12, 39, false),
    (12, 48, false),
    (12, 52, true),
    (14, 36, false),
    (14, 47, false),
    (14, 48, false),
    (14, 52, true),
    (16, 42, false),
    (16, 52, false),
];

#[test]
fn pages_and_blocks_are_found_in_every_geometry() {
    for (page_shift, va_bits, lpa2) in GEOMETRIES {
        let mut memory = Memory::new(page_shift, va_bits, lpa2);
        let page = 1u64 << page_shift;
        let block = 1u64 << (2 * page_shift - 3);
        let lowest = (1u64 << va_bits).wrapping_neg();
        let highest = 0u64.wrapping_sub(page);
        let in_block = lowest + 3 * block;
        memory.map(lowest, PAGES, 1);
        memory.map(highest, PAGES + 5 * page, 1);
        memory.map(in_block, 0x40_0000_0000, 2);
        let (image, tables) = (memory.image(), memory.tables());
        let at = |addr: u64| {
            let found = tables.walk(&image, addr).unwrap_or_else(|e| {
                panic!("{page_shift} {va_bits} {addr:#x}: {e:?}");
            });
            (found.phys, found.page_size)
        };
        assert_eq!(at(lowest + 0x123), (PAGES + 0x123, page), "{page_shift} {va_bits}");
        assert_eq!(at(highest + 8), (PAGES + 5 * page + 8, page), "{page_shift} {va_bits}");
        assert_eq!(at(in_block + page + 4), (0x40_0000_0000 + page + 4, block));
        assert!(matches!(
            tables.walk(&image, lowest + 2 * page),
            Err(WalkError::NotPresent { level: 1, entry: 0 })
        ));
        // An address of user space, and one below the kernel's half.
        for addr in [0x1000, lowest - page] {
            assert!(matches!(tables.walk(&image, addr), Err(WalkError::NonCanonical)), "{addr:#x}");
        }
        let runs: Vec<(u64, u64)> = Mapped::new(&image, &tables, lowest..u64::MAX)
            .map(|run| (run.addr, run.phys))
            .collect();
        assert_eq!(
            runs,
            [(lowest, PAGES), (in_block, 0x40_0000_0000), (highest, PAGES + 5 * page)],
            "{page_shift} {va_bits}"
        );
    }
}

#[test]
fn physical_addresses_may_have_52_bits() {
    for (page_shift, va_bits, lpa2) in [(12, 52, true), (14, 52, true), (16, 52, false)] {
        let mut memory = Memory::new(page_shift, va_bits, lpa2);
        let addr = (1u64 << va_bits).wrapping_neg();
        let phys = 0xb_4321_0000_0000;
        memory.map(addr, phys, 1);
        let found = memory.tables().walk(&memory.image(), addr).unwrap();
        assert_eq!(found.phys, phys, "{page_shift}");
    }
}

#[test]
fn tags_of_user_pointers_are_ignored() {
    let mut memory = Memory::new(12, 48, false);
    memory.map(0xaaaa_0000_1000, PAGES, 1);
    let tables = memory.tables().of_user(TABLES);
    let image = memory.image();
    assert_eq!(tables.walk(&image, 0x5a00_aaaa_0000_1010).unwrap().phys, PAGES + 0x10);
    assert!(matches!(tables.walk(&image, 0xffff_aaaa_0000_1000), Err(WalkError::NonCanonical)));
}

/// A kernel for `built_for` bits on a processor that translates `actual`.
fn locate(page_shift: u32, built_for: u32, actual: u32) -> Result<(u64, u8, u64), String> {
    let lpa2 = page_shift < 16 && actual > 48;
    let indexed = if page_shift == 16 { built_for } else { actual };
    let mut memory = Memory::new(page_shift, indexed, lpa2);
    let offset = 0xffff_8000_0000_0000u64;
    let text = offset + 0x5001_0000;
    memory.map(text, 0x5001_0000, 1);
    let info = format!(
        "OSRELEASE=6.12.0\nPAGESIZE={}\nSYMBOL(swapper_pg_dir)={:x}\nSYMBOL(_stext)={text:x}\n\
         NUMBER(VA_BITS)={built_for}\nNUMBER(TCR_EL1_T1SZ)=0x{:x}\n\
         NUMBER(kimage_voffset)=0x{offset:x}\n",
        1u64 << page_shift,
        offset + TABLES,
        64 - actual,
    );
    let mut elf = memory.elf();
    elf.notes.push(notes::vmcoreinfo(&info));
    let found = Arm64.locate(&open(&elf)).map_err(|e| e.to_string())?;
    Ok((found.tables.root, found.tables.levels, found.image_range.start))
}

#[test]
fn vmcoreinfo_leads_to_the_tables() {
    let text = 0xffff_8000_5001_0000;
    for (page_shift, built_for, actual, levels) in [
        (12, 48, 48, 4),
        (12, 52, 52, 5),
        (12, 52, 48, 4),
        (14, 52, 52, 4),
        (16, 52, 52, 3),
        (16, 52, 48, 3),
    ] {
        assert_eq!(
            locate(page_shift, built_for, actual),
            Ok((TABLES, levels, text)),
            "{page_shift} {built_for} {actual}"
        );
    }
}
