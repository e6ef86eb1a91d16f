//! LiME, AVML, raw memory, /proc/kcore: images without a kernel's own headers.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use kmortem_testkit::{Elf, Load, avml, lime, notes, page};
use kmortem_vmcore::{Absent, Image};

fn pages(pfns: std::ops::Range<u64>) -> Vec<u8> {
    pfns.flat_map(page).collect()
}

fn ranges() -> Vec<(u64, Vec<u8>)> {
    // The first one ends within a page, as a PC's does below the EBDA.
    let mut first = pages(1..9);
    first.extend_from_slice(&page(9)[..0xc00]);
    vec![
        (0x1000, first),
        (0x10_0000, pages(0x100..0x180)),
        (1 << 32, pages(1 << 20..(1 << 20) + 40)),
    ]
}

#[test]
fn ranges_lie_where_they_say() {
    for image in [lime(&ranges()), avml(&ranges())] {
        let padded = [image.clone(), vec![0; 4096]].concat();
        for image in [common::open(image), common::open(padded)] {
            (1..9).chain(0x100..0x180).for_each(|pfn| common::assert_page(&image, pfn));
            (1 << 20..(1 << 20) + 40).for_each(|pfn| common::assert_page(&image, pfn));
            common::assert_absent(&image, 0, &Absent::NotRam);
            common::assert_absent(&image, 0x180, &Absent::NotRam);
            let mut part = [0; 0xc00];
            image.read(0x9000, &mut part).unwrap();
            assert_eq!(part, page(9)[..0xc00]);
            assert!(image.read(0x9c00, &mut [0]).is_err());
            assert_eq!(image.completeness().incomplete, None);
        }
    }
}

#[test]
fn cut_off_images_give_what_they_have() {
    let ranges = vec![(0x1000, pages(1..4)), (0x8000, pages(8..20))];
    for bytes in [lime(&ranges), avml(&ranges)] {
        let ends = [0x20, 0x20 + 3 * 4096, 0x40 + 3 * 4096];
        for len in
            (1..bytes.len()).filter(|n| ends.iter().any(|e| n.abs_diff(*e) < 40) || n % 61 == 0)
        {
            match common::try_open(bytes[..len].to_vec()) {
                Ok(image) => {
                    for pfn in (1..4).chain(8..20) {
                        if let Ok(found) = image.page(pfn << 12) {
                            assert_eq!(*found, *page(pfn), "{len}: {pfn}");
                        }
                    }
                    common::exercise(&image, 30);
                    let is_whole = image.page(19 << 12).is_ok();
                    assert!(
                        is_whole || image.info().incomplete.is_some() || len == 0x20 + 3 * 4096
                    );
                }
                Err(error) => assert!(!error.to_string().contains('\n')),
            }
        }
    }
}

#[test]
fn contradictions_are_named() {
    let mut backwards = lime(&[(0x1000, page(1))]);
    backwards[16..24].copy_from_slice(&0x10u64.to_le_bytes());
    assert!(common::refusal(backwards).contains("from 0x1000 to 0x10"));
    let mut endless = lime(&[(0, page(1))]);
    endless[16..24].fill(0xff);
    assert!(common::refusal(endless).contains("LiME"));

    // Ranges that overlap: the first counts.
    let twice = common::open(lime(&[(0x1000, pages(1..3)), (0x2000, page(7))]));
    common::assert_page(&twice, 2);

    // A length behind the range that is not that of its frames, and a damaged chunk.
    let sound = avml(&[(0, pages(0..40))]);
    let mut wrong = sound.clone();
    let at = wrong.len() - 8;
    wrong[at] ^= 1;
    let image = common::open(wrong);
    assert!(image.info().incomplete.as_ref().is_some_and(|why| why.contains("says")));
    common::assert_page(&image, 39);
    let mut flipped = sound;
    flipped[32 + 10 + 4] ^= 1;
    let image = common::open(flipped);
    assert!(matches!(image.page(0), Err(Absent::Corrupt { what }) if what.contains("snappy")));
    common::assert_page(&image, 39);
}

#[test]
fn raw_files_with_their_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: Vec<u8>| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let low = put("low", pages(0..50));
    let high = put("high", pages(1 << 20..(1 << 20) + 10));
    let image = Image::open(&[format!("{high}@0x100000000"), format!("{low}@0")]).unwrap();
    (0..50).chain(1 << 20..(1 << 20) + 10).for_each(|pfn| common::assert_page(&image, pfn));
    assert_eq!(image.info().kind, "raw memory (2 files)");
    // 16 bytes of either, across an end that is no end of memory.
    let one = put("one", pages(0..1));
    let two = put("two", pages(1..2));
    let image = Image::open(&[format!("{one}@0"), format!("{two}@4096")]).unwrap();
    let mut both = [0; 16];
    image.read(4088, &mut both).unwrap();
    assert_eq!(both, [&page(0)[4088..], &page(1)[..8]].concat()[..]);

    let error = |files: &[String]| Image::open(files).expect_err("refused").to_string();
    assert!(error(&[format!("{low}@0"), format!("{high}@0x1000")]).contains("lie over"));
    assert!(error(&[format!("{low}@0"), high.clone()]).contains("FILE@ADDRESS"));
    assert!(error(&[format!("{low}@0xfffffffffffff000")]).contains("lie over"));
    assert!(error(&[format!("{low}@home")]).contains("can't be opened"));
    // A file that is really called so.
    let named = put("named@5", Elf::default().load(0, page(0)).build());
    common::assert_page(&Image::open(&[named]).unwrap(), 0);
}

#[test]
fn raw_memory_is_known_by_the_kernel_in_it() {
    let mut bytes = pages(0..600);
    assert!(common::refusal(bytes.clone()).contains("no known kind"));
    let banner = b"Linux version 6.1.0-56-cloud-amd64 (debian@debian.org) (gcc-12) #1 SMP";
    bytes[0x9_0000..0x9_0000 + banner.len()].copy_from_slice(banner);
    let image = common::open(bytes.clone());
    common::assert_page(&image, 599);
    assert_eq!((image.info().kind.as_str(), image.ram().len()), ("raw memory", 1));

    // The head of an arm64 image: memory starts at 1 GiB.
    bytes[0x2_0038..0x2_003c].copy_from_slice(b"ARM\x64");
    let image = common::open(bytes);
    assert_eq!(image.ram()[0].start, 1 << 30);
}

#[test]
fn the_running_kernels_core() {
    // fs/proc/kcore.c: notes of a process beside VMCOREINFO, segments without a physical address.
    let notes = vec![
        notes::prstatus_x86_64(0, &[0; 27]),
        notes::note("CORE", 3, &[0; 136]),
        notes::note("CORE", 4, &[0; 64]),
        notes::vmcoreinfo("OSRELEASE=6.1.0\n"),
    ];
    let load =
        |vaddr, paddr, bytes: Vec<u8>| Load { vaddr, paddr, mem_len: bytes.len() as u64, bytes };
    let loads = vec![
        load(0xffff_ffff_ff60_0000, u64::MAX, page(50)),
        load(0xffff_ffff_8100_0000, 0x2000, page(2)),
        load(0xffff_c900_0000_0000, u64::MAX, page(51)),
        load(0xffff_8880_0000_1000, 0x1000, pages(1..20)),
    ];
    let image = common::open(Elf { notes, loads, ..Elf::default() }.build());
    (1..20).for_each(|pfn| common::assert_page(&image, pfn));
    assert!(image.info().oddities.iter().any(|odd| odd.contains("no physical address")));
    assert_eq!(image.vmcoreinfo().and_then(|info| info.osrelease()), Some("6.1.0"));
}
