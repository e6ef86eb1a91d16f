//! QEMU's migration stream, alone and in a saved guest of libvirt's.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::single_range_in_vec_init)]

mod common;

use kmortem_testkit::{Migration, Record, libvirt_save, page};
use kmortem_vmcore::{Absent, Machine};

const PAGES: u64 = 300;

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

#[test]
fn every_page_and_the_registers() {
    for footers in [true, false] {
        let image = common::open(Migration { footers, ..Migration::of(PAGES) }.build());
        (0..PAGES).for_each(|pfn| common::assert_page(&image, pfn));
        assert_eq!(image.ram(), std::slice::from_ref(&(0..PAGES << 12)));
        assert_eq!(image.info().kind, "QEMU migration stream (pc-i440fx-7.2)");
        assert_eq!(image.info().machine, Some(Machine::X86_64));
        assert_eq!(image.info().oddities, Vec::<String>::new());
        let done = image.completeness();
        assert_eq!((done.ram, done.stored, done.incomplete), (Some(PAGES), Some(PAGES), None));

        let cpu = &image.cpus()[1];
        let qemu = cpu.qemu.as_ref().unwrap();
        assert_eq!((qemu.rip, qemu.cr[3], qemu.cr[2]), (0x22, 0x2000, 0xdead_0000));
        // ax, bx, cx, dx: the instruction set counts them ax, cx, dx, bx.
        assert_eq!(qemu.gprs[..4], [0x22, 0x25, 0x23, 0x24]);
        assert_eq!((qemu.cs.selector, qemu.gs.selector, qemu.idt.selector), (1, 5, 9));
        assert_eq!(qemu.kernel_gs_base, Some(0x1022));
        let prstatus = cpu.prstatus.as_ref().unwrap();
        assert_eq!((prstatus.pid, prstatus.regs[16], prstatus.regs[19]), (2, 0x22, 0x26));
    }
}

#[test]
fn later_copies_count_and_what_was_not_sent_is_absent() {
    let mut stream = Migration::of(10);
    stream.records.remove(7);
    stream.records.push(Record::Page(0, 3, page(103)));
    stream.records.push(Record::Fill(0, 4, 0x5a));
    stream.records.push(Record::Fill(1, 0, 1));
    let image = common::open(stream.build());
    assert_eq!(*image.page(3 << 12).unwrap(), *page(103));
    assert!(image.page(4 << 12).unwrap().iter().all(|byte| *byte == 0x5a));
    common::assert_page(&image, 9);
    common::assert_absent(&image, 7, &Absent::Filtered { level: None });
    common::assert_absent(&image, 10, &Absent::NotRam);
    assert_eq!(image.present().collect::<Vec<_>>(), [0..7 << 12, 8 << 12..10 << 12]);
}

#[test]
fn pages_at_fixed_places() {
    let mut stream = Migration { mapped: Some(1 << 16), ..Migration::of(PAGES) };
    stream.records.remove(5);
    let image = common::open(stream.build());
    (0..PAGES).filter(|pfn| *pfn != 5).for_each(|pfn| common::assert_page(&image, pfn));
    assert!(image.page(5 << 12).unwrap().iter().all(|byte| *byte == 0));
    assert!(image.info().kind.ends_with("mapped-ram"));
    assert_eq!(image.cpus().len(), 2);

    // Offsets count from the start of the file, libvirt's header included.
    stream.base = libvirt_save(b"", 6).len() as u64;
    let image = common::open(libvirt_save(&stream.build(), 6));
    (6..PAGES).for_each(|pfn| common::assert_page(&image, pfn));
    assert_eq!(image.info().layers, ["virsh save"]);
}

#[test]
fn a_saved_guest_compressed_or_not() {
    let stream = Migration::of(PAGES).build();
    for (image, layers) in [
        (libvirt_save(&stream, 0), 1),
        (libvirt_save(&zstd(&stream), 5), 2),
        (zstd(&libvirt_save(&stream, 0)), 2),
    ] {
        let image = common::open(image);
        (0..PAGES).for_each(|pfn| common::assert_page(&image, pfn));
        assert_eq!(image.info().layers.len(), layers);
    }
    let mut partial = libvirt_save(&stream, 0);
    partial[12..16].copy_from_slice(b"Part");
    assert!(common::open(partial).info().oddities[0].contains("did not finish"));
}

#[test]
fn cut_off_anywhere() {
    let mut stream = Migration::of(6);
    stream.records.push(Record::Fill(1, 0, 1));
    for bytes in [
        stream.build(),
        Migration { mapped: Some(4096), ..stream.clone() }.build(),
        libvirt_save(&stream.build(), 0),
    ] {
        let mut opened = 0;
        // The headers byte by byte, the pages less so.
        for len in (1..bytes.len()).filter(|len| *len < 300 || len % 37 == 0) {
            match common::try_open(bytes[..len].to_vec()) {
                Ok(image) => {
                    opened += 1;
                    common::exercise(&image, 10);
                    // Nothing is made up for what is missing.
                    for pfn in 0..6 {
                        if let Ok(found) = image.page(pfn << 12) {
                            assert_eq!(*found, *page(pfn), "{len} bytes, page {pfn}");
                        }
                    }
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(!text.contains('\n') && text.starts_with("dump: "), "{text}");
                }
            }
        }
        assert!(opened > 6 * 4096 / 37);
    }
}

#[test]
fn contradictions_are_named() {
    let with = |record: &[u8]| {
        let mut stream = Migration::of(4);
        stream.records.insert(2, Record::Raw(record.to_vec()));
        stream.build()
    };
    let why = |bytes: Vec<u8>| common::open(bytes).completeness().incomplete.unwrap_or_default();
    let word = |word: u64| word.to_be_bytes().to_vec();
    assert!(why(with(&word(0x7000 | 0x28))).contains("a page at 0x7000 of \"pc.ram\""));
    assert!(why(with(&[word(8), vec![2, b'n', b'o']].concat())).contains("\"no\""));
    assert!(why(with(&word(0x800))).contains("flags 0x800"));
    assert!(why(with(&word(!0xfff | 0x28))).contains("of \"pc.ram\""));

    for (flag, what) in [(0x40, "xbzrle"), (0x100, "compress"), (0x80, "RDMA")] {
        assert!(common::refusal(with(&word(flag))).contains(what));
    }
    let mut version = Migration::of(1).build();
    version[7] = 2;
    assert!(common::refusal(version).contains("version 2"));

    // Blocks that are larger than all of them.
    let mut bytes = Migration::of(4).build();
    let at = memchr::memmem::find(&bytes, b"pc.ram").unwrap() + 6;
    bytes[at..at + 8].copy_from_slice(&u64::MAX.to_be_bytes());
    assert!(common::refusal(bytes).contains("the block \"pc.ram\" has 0xffffffffffffffff"));
}

#[test]
fn memory_above_the_window_of_devices() {
    // A stream of 5 GiB that has a page just below 3 GiB and one just behind.
    let mut stream = Migration::of(0);
    stream.blocks = vec![("pc.ram".to_owned(), 5 << 30)];
    stream.records = vec![Record::Page(0, 0xb_ffff, page(1)), Record::Page(0, 0xc_0000, page(2))];
    let image = common::open(stream.build());
    assert_eq!(image.ram(), [0..3 << 30, 4 << 30..6 << 30]);
    assert_eq!(*image.page(0xbfff_f000).unwrap(), *page(1));
    assert_eq!(*image.page(4 << 30).unwrap(), *page(2));
    common::assert_absent(&image, 0xc_0000, &Absent::NotRam);
}
