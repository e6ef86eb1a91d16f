//! ELF cores: odd headers, very many segments, holes, overlaps, truncation.

mod common;

use common::{assert_absent, assert_page, open, refusal, try_open};
use kmortem_testkit::{Elf, Load, PAGE, notes, page};
use kmortem_vmcore::{Absent, Machine};

fn pages(pfns: std::ops::Range<u64>) -> Vec<u8> {
    pfns.flat_map(page).collect()
}

fn small() -> Elf {
    let mut elf = Elf::default().load(0x1000, pages(1..5));
    elf.loads.push(Load { vaddr: 0, paddr: 0x10_0000, mem_len: 0x4000, bytes: pages(256..258) });
    elf
}

#[test]
fn stored_left_out_and_never_there() {
    let image = open(small().build());
    for pfn in [1, 2, 3, 4, 256, 257] {
        assert_page(&image, pfn);
    }
    assert_absent(&image, 258, &Absent::Filtered { level: None });
    assert_absent(&image, 0, &Absent::NotRam);
    assert_absent(&image, 5, &Absent::NotRam);
    assert_absent(&image, 260, &Absent::NotRam);
    assert_eq!(image.ram(), [0x1000..0x5000, 0x10_0000..0x10_4000]);
    assert_eq!(image.present().collect::<Vec<_>>(), [0x1000..0x5000, 0x10_0000..0x10_2000]);
    let counts = image.completeness();
    assert_eq!((counts.ram, counts.stored), (Some(8), Some(6)));
    assert_eq!((counts.filtered, counts.lost), (Some(2), Some(0)));
    assert_eq!(image.info().machine, Some(Machine::X86_64));
}

#[test]
fn qemu_72_headers() {
    let elf = Elf { ehsize: 8, phoff: 192, ..small() };
    let image = open(elf.build());
    assert_page(&image, 257);
    assert_eq!(image.info().kind, "ELF (QEMU)");
    assert_eq!(image.info().oddities.len(), 1);
}

#[test]
fn more_segments_than_the_header_can_count() {
    let mut elf = Elf { xnum: true, ..Elf::default() };
    for pfn in 0..70_000u64 {
        let bytes = if pfn % 1000 == 999 { page(2 * pfn) } else { Vec::new() };
        elf.loads.push(Load { vaddr: 0, paddr: 2 * pfn * PAGE, mem_len: PAGE, bytes });
    }
    let file = elf.build();
    let image = open(file.clone());
    assert_page(&image, 2 * 69_999);
    assert_absent(&image, 2 * 69_998, &Absent::Filtered { level: None });
    assert_absent(&image, 2 * 69_998 + 1, &Absent::NotRam);
    assert_eq!(image.ram().len(), 70_000);

    // The count lies: more than the file has room for.
    let mut lying = file;
    lying[64 + 44..64 + 48].copy_from_slice(&u32::MAX.to_le_bytes());
    let image = open(lying);
    assert!(image.info().incomplete.is_some());
    let mut nowhere = elf.build();
    nowhere[40..48].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(refusal(nowhere).contains("section header"));
}

#[test]
fn views_of_the_same_memory_overlap() {
    let mut elf = Elf::default();
    // The kernel's text, and all of RAM with a hole where the text is.
    elf.loads.push(Load { vaddr: 1 << 63, paddr: 0x3000, mem_len: 0x2000, bytes: pages(3..5) });
    elf.loads.push(Load { vaddr: 0, paddr: 0x1000, mem_len: 0x8000, bytes: pages(1..4) });
    let image = open(elf.build());
    for pfn in 1..5 {
        assert_page(&image, pfn);
    }
    assert_absent(&image, 5, &Absent::Filtered { level: None });
    assert_eq!(image.ram().len(), 1);
}

#[test]
fn a_page_in_two_segments_and_a_page_of_which_half_is_there() {
    let whole = pages(1..4);
    let elf = Elf::default()
        .load(0x1000, whole[..0x1800].to_vec())
        .load(0x2800, whole[0x1800..0x2c00].to_vec());
    let image = open(elf.build());
    assert_page(&image, 1);
    assert_page(&image, 2);
    assert_absent(&image, 3, &Absent::NotRam);
    assert!(image.present().eq(std::iter::once(0x1000..0x3000)));
    // What is there of the last page can still be read.
    let mut buf = [0; 0x200];
    image.read(0x3a00, &mut buf).unwrap();
    assert_eq!(buf, whole[0x2a00..0x2c00]);
    let error = image.read(0x3b00, &mut buf).unwrap_err();
    assert_eq!((error.addr, error.reason), (0x3c00, Absent::NotRam));
}

#[test]
fn segments_without_a_physical_address() {
    let direct = 0xffff_8880_0000_0000;
    let load = |vaddr, paddr, pfn| Load { vaddr, paddr, mem_len: PAGE, bytes: page(pfn) };
    let mut elf = Elf::default();
    elf.loads.push(load(0xffff_c900_0000_0000, 0, 77));
    elf.loads.push(load(0xffff_ffff_c000_0000, u64::MAX, 78));
    elf.loads.push(load(direct, 0, 0));
    elf.loads.push(load(direct + 0x1000, 0x1000, 1));
    let image = open(elf.build());
    assert_page(&image, 0);
    assert_page(&image, 1);
    assert!(image.info().oddities.iter().any(|oddity| oddity.contains("2 segments")));
}

#[test]
fn notes_of_several_segments() {
    let mut elf = small();
    elf.notes = vec![
        [notes::prstatus_x86_64(1, &[5; 27]), vec![0; 100]].concat(),
        notes::qemu_cpu(7),
        notes::vmcoreinfo("OSRELEASE=6.12.0\nCRASHTIME=5\n"),
    ];
    let image = open(elf.build());
    assert_eq!(image.notes().len(), 3);
    assert_eq!(image.cpus().len(), 1);
    assert_eq!(image.cpus()[0].prstatus.as_ref().unwrap().regs, [5; 27]);
    assert_eq!(image.cpus()[0].qemu.as_ref().unwrap().gprs[0], 7);
    assert_eq!(image.vmcoreinfo().unwrap().crash_time(), Some(5));
}

#[test]
fn arm64() {
    let mut elf = Elf { machine: 183, ..small() };
    let mut regs = [0; 34];
    regs.iter_mut().enumerate().for_each(|(n, reg)| *reg = n as u64);
    elf.notes = vec![notes::prstatus_aarch64(9, &regs)];
    let image = open(elf.build());
    assert_eq!(image.info().machine, Some(Machine::Aarch64));
    let cpu = image.cpus()[0].prstatus_arm64.as_ref().unwrap();
    assert_eq!((cpu.pid, cpu.x[30], cpu.sp, cpu.pc, cpu.pstate), (9, 30, 31, 32, 33));
}

#[test]
fn files_that_are_cut_off() {
    let whole = small().build();
    let headers = 64 + 2 * 56;
    for len in
        (1..whole.len()).step_by(53).chain([15, 16, 63, 64, headers - 1, headers, headers + 1])
    {
        match try_open(whole[..len].to_vec()) {
            Ok(image) => {
                assert!(len >= 64 + 56);
                assert!(image.completeness().incomplete.is_some(), "{len}");
                common::exercise(&image, 100);
            }
            Err(error) => assert!(len < headers + 56, "{len}: {error}"),
        }
    }
    let image = open(whole[..whole.len() - 1].to_vec());
    assert_page(&image, 256);
    assert_absent(&image, 257, &Absent::Lost);
    assert_eq!(image.completeness().lost, Some(1));
    let mut buf = [0; 16];
    image.read(257 * PAGE + 4079, &mut buf).unwrap();
    let error = image.read(257 * PAGE + 4080, &mut buf).unwrap_err();
    assert_eq!((error.addr, error.reason), (257 * PAGE + 4095, Absent::Lost));
}

#[test]
fn an_incomplete_one_says_so() {
    let image = open(Elf { flags: 1, ..small() }.build());
    assert!(image.info().incomplete.as_deref().unwrap().contains("ran out of space"));
}

#[test]
fn what_is_no_dump_of_a_kernel() {
    let with = |elf: Elf| refusal(elf.build());
    assert!(with(Elf { kind: 2, ..small() }).contains("vmlinux"));
    assert!(with(Elf { kind: 3, ..small() }).contains("executable"));
    assert!(with(Elf { kind: 1, ..small() }).contains("module"));
    assert!(with(Elf { class: 1, machine: 3, ..small() }).contains("32-bit i386 kernel"));
    assert!(with(Elf { machine: 21, ..small() }).contains("powerpc64"));
    assert!(with(Elf { machine: 243, ..small() }).contains("riscv"));
    assert!(with(Elf { machine: 999, ..small() }).contains("machine 999"));
    let mut s390 = small().build();
    s390[5] = 2;
    s390[16..20].copy_from_slice(&[0, 4, 0, 22]);
    assert!(refusal(s390).contains("big-endian s390 kernel"));
    assert!(with(Elf::default()).contains("without any memory"));
    // A process: notes that no kernel writes.
    let mut process = small();
    process.notes = vec![notes::note("CORE", 0x4649_4c45, &[0; 64])];
    assert!(with(process).contains("a process"));
}

#[test]
fn several_files_are_no_parts_of_an_elf_core() {
    let file = small().build();
    let text = common::open_parts(&[file.clone(), file]).expect_err("refused").to_string();
    assert!(text.contains("only kdump-compressed dumps come in parts"), "{text}");
}
