//! sadump: partitions, sets of disks, media. All are synthetic: built by the test kit after crash's
//! headers.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use kmortem_testkit::{Sadump, Vcpu, page};
use kmortem_vmcore::{Absent, Image, Machine};

const FILTERED: Absent = Absent::Filtered { level: None };

fn dump() -> Sadump {
    let vcpus = [Vcpu::numbered(0), Vcpu::numbered(1)];
    let mut dump = Sadump::of((0..100).chain(300..340), &vcpus);
    for pfn in (0..100).step_by(7) {
        dump.pfns.insert(pfn, false);
    }
    dump
}

/// Sets of three disks.
fn set() -> Sadump {
    Sadump { pages_on_disks: vec![40, 30], ..dump() }
}

fn open(dump: &Sadump) -> Image {
    let files = dump.build(page);
    common::open_parts(&files).expect("a sound dump opens")
}

fn refusal(files: &[Vec<u8>]) -> String {
    common::open_parts(files).expect_err("must be refused").to_string()
}

fn check(image: &Image, dump: &Sadump) {
    for pfn in 0..dump.max_mapnr + 3 {
        match dump.pfns.get(&pfn) {
            Some(true) => common::assert_page(image, pfn),
            Some(false) => common::assert_absent(image, pfn, &FILTERED),
            None => common::assert_absent(image, pfn, &Absent::NotRam),
        }
    }
    assert_eq!(image.ram(), [0..100 << 12, 300 << 12..340 << 12]);
    let completeness = image.completeness();
    let count =
        |is_dumped| dump.pfns.values().filter(|dumped| **dumped == is_dumped).count() as u64;
    assert_eq!((completeness.stored, completeness.lost), (Some(count(true)), Some(0)));
    assert_eq!((completeness.filtered, completeness.incomplete), (Some(count(false)), None));
}

fn check_registers(image: &Image, vcpus: &[Vcpu]) {
    assert_eq!(image.cpus().len(), vcpus.len());
    for (found, vcpu) in image.cpus().iter().zip(vcpus) {
        let qemu = found.qemu.as_ref().unwrap();
        assert_eq!((qemu.gprs, qemu.rip, qemu.rflags), (vcpu.gprs, vcpu.rip, vcpu.rflags));
        // CR2 is not saved.
        assert_eq!(qemu.cr, [vcpu.cr[0], 0, 0, vcpu.cr[3], vcpu.cr[4]]);
        let segments = [qemu.es, qemu.cs, qemu.ss, qemu.ds, qemu.fs, qemu.gs, qemu.ldt, qemu.tr];
        let selectors = segments.map(|segment| segment.selector as u16);
        assert_eq!(selectors, vcpu.segments.map(|(selector, _)| selector));
        let tables = [qemu.gdt, qemu.idt].map(|table| (table.limit as u16, table.base));
        assert_eq!(tables, [vcpu.gdt, vcpu.idt]);
    }
}

#[test]
fn every_form() {
    let single = dump();
    let media = Sadump { is_media: true, ..dump() };
    let old = Sadump { header_version: 0, ..dump() };
    for (dump, kind) in [
        (&single, "sadump, single partition"),
        (&old, "sadump, single partition"),
        (&media, "sadump, media backup"),
        (&set(), "sadump, set of 3 disks"),
    ] {
        let image = open(dump);
        check(&image, dump);
        check_registers(&image, &[Vcpu::numbered(0), Vcpu::numbered(1)]);
        assert_eq!(
            (image.info().kind.as_str(), image.info().machine),
            (kind, Some(Machine::X86_64))
        );
        assert!(image.info().oddities.is_empty(), "{:?}", image.info().oddities);
    }
}

#[test]
fn disks_in_any_order() {
    let dump = set();
    let mut files = dump.build(page);
    files.rotate_left(1);
    let image = common::open_parts(&files).unwrap();
    check(&image, &dump);
    let names: Vec<&str> = image.info().files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["part2", "part0", "part1"]);
    assert_eq!(image.info().files[0].size, files[2].len() as u64);
}

#[test]
fn larger_blocks() {
    let big = |pfn: u64| [page(pfn), vec![pfn as u8; 12288]].concat();
    let dump =
        Sadump { block_size: 16384, sub_hdr_size: 1, ..Sadump::of(0..9, &[Vcpu::numbered(0)]) };
    for dump in [Sadump { is_media: true, ..dump.clone() }, dump] {
        let image = common::open(dump.build(big).remove(0));
        assert_eq!(image.page_size(), 16384);
        assert_eq!(*image.page(5 << 14).unwrap(), *big(5));
        assert_eq!(image.cpus().len(), 1);
    }
}

#[test]
fn cpus_that_are_not_there_are_left_out() {
    let vcpus = vec![None, Some(Vcpu::numbered(3)), None, Some(Vcpu::numbered(5))];
    let dump = Sadump { vcpus, sub_hdr_size: 2, ..dump() };
    check_registers(&open(&dump), &[Vcpu::numbered(3), Vcpu::numbered(5)]);
    let none = Sadump { vcpus: vec![None; 3], sub_hdr_size: 1, ..dump };
    assert!(open(&none).info().oddities[0].contains("no CPU of the sadump runs"));
    let without = Sadump { sub_hdr_size: 0, vcpus: Vec::new(), ..none };
    assert!(open(&without).info().oddities[0].contains("no registers"));
}

#[test]
fn cut_off_anywhere() {
    for dump in [dump(), Sadump { is_media: true, ..dump() }] {
        let (head, file) = (dump.head().len(), dump.build(page).remove(0));
        for len in (1..head).step_by(61).chain([8, 4095, 4096, 8191, 8192, head - 1]) {
            let error = common::try_open(file[..len].to_vec()).expect_err("no page can be there");
            let text = error.to_string();
            let is_sound = text.contains("ends in its") || text.contains("not a kernel dump");
            assert!(is_sound && !text.contains('\n'), "{len}: {text}");
        }
        for len in (head..file.len()).step_by(1009) {
            let image = common::open(file[..len].to_vec());
            common::assert_absent(&image, 339, &Absent::Lost);
            assert!(
                image.info().incomplete.as_ref().unwrap().contains("pages are not in the file")
            );
            common::exercise(&image, 200);
            for pfn in 0..340 {
                if let Ok(found) = image.page(pfn << 12) {
                    assert_eq!(*found, *page(pfn), "{len}");
                }
            }
        }
    }
    let files = set().build(page);
    for len in [100, 4096, 8192, 8200] {
        let cut = [files[0][..len].to_vec(), files[1].clone(), files[2].clone()];
        assert!(refusal(&cut).contains("sadump ends in its"), "{len}");
    }
}

#[test]
fn sets_that_are_not_whole() {
    let files = set().build(page);
    let image = common::open_parts(&[files[0].clone(), files[2].clone()]).unwrap();
    assert!(image.info().incomplete.as_ref().unwrap().contains("of the set disk 2 was not given"));
    common::assert_page(&image, 1);
    common::assert_absent(&image, 339, &Absent::Lost);
    let text = refusal(&files[1..]);
    assert!(text.contains("is disk 2 of a set; the first one is needed too"), "{text}");
    let twice = [files[0].clone(), files[1].clone(), files[1].clone()];
    assert!(refusal(&twice).contains("is disk 2 of the set, as another one is"));
    let other = |at: usize| {
        let mut files = files.clone();
        files[2][at] ^= 1;
        refusal(&files)
    };
    assert!(other(88).contains("its sadump_id is another one"));
    assert!(other(104).contains("its disk_set_id"));
    assert!(other(120).contains("its vol_id"));
    assert!(other(168).contains("magicnum is wrong"));
    assert!(other(154).contains("set_disk_set is 65539"));
    let mut fourth = files.clone();
    fourth[2][152] = 4;
    assert!(refusal(&fourth).contains("is disk 4 of a set of 3"));
    let two = [dump().build(page).remove(0), dump().build(page).remove(0)];
    assert!(refusal(&two).contains("only the disks of a set belong together"));
}

#[test]
fn contradictions_are_named() {
    let with = |base: &Sadump, at: usize, bytes: &[u8]| {
        let mut files = base.build(page);
        files[0][at..at + bytes.len()].copy_from_slice(bytes);
        refusal(&files)
    };
    let (single, media, set) = (dump(), Sadump { is_media: true, ..dump() }, set());
    let word = |word: u32| word.to_le_bytes();
    assert!(with(&single, 4096 + 40, &word(512)).contains("block_size is 512"));
    assert!(with(&single, 4096 + 40, &word(8192)).contains("followed by no dump header"));
    assert!(with(&single, 4096, b"x").contains("followed by no dump header"));
    assert!(with(&single, 4096 + 48, &word(u32::MAX)).contains("ends in its sub header"));
    assert!(with(&single, 4096 + 52, &word(u32::MAX)).contains("ends in its bitmap"));
    assert!(with(&single, 4096 + 56, &word(0)).contains("dumpable_bitmap_blocks is 0"));
    let text = with(&single, 4096 + 88, &(1u64 << 20).to_le_bytes());
    assert!(text.contains("bitmap_blocks is 1, too few for max_mapnr 0x100000"), "{text}");
    assert!(with(&single, 4096 + 88, &[0xff; 8]).contains("max_mapnr is 0xffffffffffffffff"));
    assert!(with(&media, 0, b"x").contains("media header: its sadump_id"));
    assert!(with(&media, 48, &[2]).contains("sequential_num is 2"));
    assert!(with(&set, 4096 + 4, &word(99)).contains("disk_num is 99"));
    assert!(with(&set, 4096 + 4, &word(1)).contains("disk_num is 1"));
    assert!(with(&set, 160, &100u64.to_le_bytes()).contains("used_device is 100"));
    // Registers that can't be are left out.
    let mut file = single.build(page).remove(0);
    file[8192..8196].copy_from_slice(&word(7));
    assert!(common::open(file.clone()).info().oddities[0].contains("a CPU's state has 3 bytes"));
    file[4096 + 80..4096 + 84].copy_from_slice(&word(u32::MAX));
    assert!(common::open(file).cpus().is_empty());
}
