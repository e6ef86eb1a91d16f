//! kdump-compressed dumps: every version, every codec, split, incomplete, damaged.

mod common;

use std::borrow::Cow;
use std::sync::Arc;

use common::{assert_absent, assert_page, open, open_parts, refusal};
use kmortem_testkit::{Compression, Entry, Kdump, notes, page};
use kmortem_vmcore::{Absent, Codec, Image, Machine, Source, SourceError};

const FILTERED: Absent = Absent::Filtered { level: Some(31) };

fn small() -> Kdump {
    Kdump::of([0, 1, 5, 6, 7, 63, 64, 65, 255], 256)
}

#[test]
fn every_version_with_every_codec() {
    for version in 1..=6 {
        for compression in Compression::ALL {
            let dump = Kdump { version, ..small().compressed(compression) };
            let image = open(dump.build());
            for &pfn in dump.pages.keys() {
                assert_page(&image, pfn);
            }
            assert_absent(&image, 2, &FILTERED);
            assert_absent(&image, 256, &Absent::NotRam);
            assert_eq!(image.info().kind, format!("kdump-compressed v{version}"));
            assert_eq!(image.info().filter_level, Some(31));
            assert_eq!(image.info().machine, Some(Machine::X86_64));
            let codecs: &[Codec] = match compression {
                Compression::Raw => &[],
                Compression::Zlib => &[Codec::Zlib],
                Compression::Lzo => &[Codec::Lzo],
                Compression::Snappy => &[Codec::Snappy],
                Compression::Zstd => &[Codec::Zstd],
            };
            assert_eq!(image.info().compression, codecs);
        }
    }
}

#[test]
fn runs_ranges_and_counts() {
    let mut dump = small();
    dump.ram = vec![0..160, 192..256];
    let image = open(dump.build());
    let present: Vec<_> = image.present().collect();
    assert_eq!(present, [0..0x2000, 0x5000..0x8000, 0x3f000..0x42000, 0xff000..0x100000],);
    assert_eq!(image.ram(), [0..160 * 4096, 192 * 4096..256 * 4096]);
    assert_absent(&image, 170, &Absent::NotRam);
    let counts = image.completeness();
    assert_eq!((counts.ram, counts.stored), (Some(224), Some(9)));
    assert_eq!((counts.filtered, counts.lost), (Some(215), Some(0)));
    assert_eq!(counts.incomplete, None);
}

#[test]
fn page_sizes_of_arm64() {
    for block_size in [16384u32, 65536] {
        let bytes: Vec<u8> = page(3).repeat(block_size as usize / 4096);
        let mut dump = Kdump::of([], 100).compressed(Compression::Zstd);
        dump.block_size = block_size;
        dump.machine = "aarch64".into();
        dump.pages.insert(99, Entry::Page(bytes.clone()));
        let image = open(dump.build());
        assert_eq!(image.page_size(), u64::from(block_size));
        let end = 100 * u64::from(block_size);
        assert_eq!(*image.page(end - 1).unwrap(), *bytes);
        assert_eq!(image.info().machine, Some(Machine::Aarch64));
    }
}

#[test]
fn ranks_over_several_blocks_of_the_bitmap() {
    // More than 4096 page frames, which is one block of counts, with an irregular pattern.
    let pfns: Vec<u64> = (0..20_000).filter(|pfn| pfn % 7 == 3 || pfn % 1000 < 5).collect();
    let image = open(Kdump::of(pfns.iter().copied(), 20_001).build());
    for &pfn in pfns.iter().rev().step_by(13) {
        assert_page(&image, pfn);
    }
}

#[test]
fn zeros_share_a_page_and_raw_pages_stand_among_compressed_ones() {
    let mut dump = small().compressed(Compression::Lzo);
    for pfn in [100, 101, 102] {
        dump.pages.insert(pfn, Entry::Page(vec![0; 4096]));
    }
    let mut noise = kmortem_testkit::mutate::Random::new(1);
    let random: Vec<u8> = (0..4096).map(|_| noise.draw() as u8).collect();
    dump.pages.insert(103, Entry::Page(random.clone()));
    let image = open(dump.build());
    for pfn in [100, 101, 102] {
        assert_eq!(*image.page(pfn * 4096).unwrap(), [0; 4096]);
    }
    assert_eq!(*image.page(103 * 4096).unwrap(), *random);
    assert_page(&image, 255);
}

#[test]
fn notes_and_vmcoreinfo() {
    let mut regs = [0; 27];
    regs.iter_mut().enumerate().for_each(|(n, reg)| *reg = n as u64 + 1000);
    let mut dump = small();
    dump.vmcoreinfo = "OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(a)=ffff0000\n".into();
    dump.notes = [
        notes::prstatus_x86_64(7, &regs),
        notes::prstatus_x86_64(8, &regs),
        notes::qemu_cpu(0x5000),
        notes::qemu_cpu(0x6000),
    ]
    .concat();
    let image = open(dump.build());
    let info = image.vmcoreinfo().unwrap();
    assert_eq!(info.symbol("a"), Some(0xffff_0000));
    assert_eq!(image.cpus().len(), 2);
    let cpu = &image.cpus()[1];
    let prstatus = cpu.prstatus.as_ref().unwrap();
    assert_eq!((prstatus.pid, prstatus.regs), (8, regs));
    let qemu = cpu.qemu.as_ref().unwrap();
    assert_eq!((qemu.gprs[0], qemu.gprs[15], qemu.rip), (0x6000, 0x600f, 0x6010));
    assert_eq!((qemu.gs.selector, qemu.gs.base, qemu.idt.base), (4, 0x6068, 0x606d));
    assert_eq!((qemu.cr[3], qemu.kernel_gs_base), (0x60cb, Some(0x60cd)));

    // Version 3 has no room for notes, version 2 none for VMCOREINFO.
    dump.version = 3;
    assert!(open(dump.build()).notes().is_empty());
    dump.version = 2;
    assert!(open(dump.build()).vmcoreinfo().is_none());
}

#[test]
fn vmcoreinfo_among_the_notes() {
    let mut dump = small();
    dump.notes = notes::vmcoreinfo("OSRELEASE=5.10.0\n");
    assert_eq!(open(dump.build()).vmcoreinfo().unwrap().osrelease(), Some("5.10.0"));
}

#[test]
fn parts_in_any_order() {
    let whole = small().compressed(Compression::Snappy);
    let parts: Vec<_> =
        [0..6, 6..64, 64..256].map(|pfns| whole.part(pfns).build()).into_iter().collect();
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let image = open_parts(&order.map(|n| parts[n].clone())).unwrap();
        whole.pages.keys().for_each(|&pfn| assert_page(&image, pfn));
        assert_eq!(image.info().split_parts, Some(3));
        assert_eq!(image.info().incomplete, None);
        let present: Vec<_> = image.present().collect();
        assert_eq!(present, open(whole.build()).present().collect::<Vec<_>>());
        assert_eq!(image.completeness().lost, Some(0));
    }
}

#[test]
fn a_missing_part_costs_its_pages_only() {
    let whole = small();
    let image = open_parts(&[whole.part(64..256).build(), whole.part(0..6).build()]).unwrap();
    assert_page(&image, 5);
    assert_page(&image, 255);
    assert_absent(&image, 63, &Absent::Lost);
    assert_absent(&image, 8, &FILTERED);
    let why = image.info().incomplete.as_deref().unwrap();
    assert!(why.contains("page frames 0x6 to 0x3f"), "{why}");
    assert_eq!(image.completeness().lost, Some(3));
}

#[test]
fn parts_that_do_not_belong_together() {
    let whole = small();
    let refused = |parts: &[Vec<u8>]| open_parts(parts).expect_err("refused").to_string();
    let (first, last) = (whole.part(0..6).build(), whole.part(6..256).build());
    let text = refused(&[first.clone(), first.clone()]);
    assert!(text.contains("same part"), "{text}");
    let text = refused(&[first.clone(), whole.build()]);
    assert!(text.contains("part1: a whole dump"), "{text}");
    let other = Kdump { timestamp: 5, ..whole.part(6..256) }.build();
    let text = refused(&[first.clone(), other]);
    assert!(text.contains("part1: a part of another dump than part0"), "{text}");
    let text = refused(&[last, b"\x7fELF".to_vec()]);
    assert!(text.contains("another kind of file"), "{text}");
}

#[test]
fn lost_damaged_and_unknown_pages_say_so() {
    let mut dump = small();
    dump.pages.insert(100, Entry::Lost);
    dump.pages.insert(101, Entry::Stored(0x40, vec![1; 4096]));
    dump.pages.insert(102, Entry::Stored(0x1, vec![1; 100]));
    dump.pages.insert(103, Entry::Stored(0, vec![1; 100]));
    dump.pages.insert(104, Entry::Descriptor(64, 4096, 0));
    dump.pages.insert(105, Entry::Descriptor(u64::MAX - 5, 4096, 0));
    dump.pages.insert(106, Entry::Descriptor(1 << 20, u32::MAX, 1));
    dump.pages.insert(107, Entry::Stored(0x20, Compression::Zstd.compress(&[1; 8192])));
    dump.pages.insert(108, Entry::Stored(0x4, Compression::Snappy.compress(&[1; 4095])));
    dump.pages.insert(109, Entry::Stored(0x2, Compression::Lzo.compress(&[1; 4097])));
    dump.pages.insert(110, Entry::Stored(0x1, Compression::Zlib.compress(&[1; 1])));
    let image = open(dump.build());
    assert_absent(&image, 100, &Absent::Lost);
    assert_absent(&image, 101, &Absent::Unsupported { what: "page flags 0x40".into() });
    assert_absent(&image, 105, &Absent::Lost);
    for pfn in [102, 103, 104, 106, 107, 108, 109, 110] {
        let why = image.page(pfn * 4096).expect_err("damaged");
        assert!(matches!(why, Absent::Corrupt { .. }), "page frame {pfn}: {why}");
    }
    assert_page(&image, 255);
}

#[test]
fn reads_go_across_pages_up_to_the_first_that_is_missing() {
    let image = open(small().compressed(Compression::Zlib).build());
    let mut buf = vec![0; 8192];
    image.read(5 * 4096 + 100, &mut buf).unwrap();
    assert_eq!(buf[..3996], page(5)[100..]);
    assert_eq!(buf[3996..8092], page(6));
    assert_eq!(buf[8092..], page(7)[..100]);
    let error = image.read(7 * 4096 + 4000, &mut buf).unwrap_err();
    assert_eq!((error.addr, error.reason), (8 * 4096, FILTERED));
}

#[test]
fn incomplete_dumps_give_what_they_have() {
    let mut dump = Kdump { status: 0x8, ..small() };
    dump.pages.insert(255, Entry::Lost);
    let image = open(dump.build());
    assert_page(&image, 65);
    assert_absent(&image, 255, &Absent::Lost);
    assert!(image.info().incomplete.as_deref().unwrap().contains("ran out of space"));
    assert_eq!(image.completeness().lost, Some(1));

    // Cut off without a word in the header.
    let whole = small().build();
    let image = open(whole[..whole.len() - 2 * 4096 - 1].to_vec());
    assert_eq!(image.info().incomplete.as_deref(), Some("its last pages are not in the file"));
    assert_page(&image, 63);
    for pfn in [64, 65, 255] {
        assert_absent(&image, pfn, &Absent::Lost);
    }
    let counts = image.completeness();
    assert_eq!((counts.stored, counts.lost), (Some(6), Some(3)));
    assert!(counts.incomplete.unwrap().contains("3 pages"));
}

#[test]
fn a_file_cut_off_anywhere_is_refused_or_opened_but_nothing_else() {
    let whole = small().compressed(Compression::Zstd).build();
    for len in (0..whole.len()).step_by(97).chain([1, 8, 463, 464, 4096, 8191, 8192, 16383, 16384])
    {
        match common::try_open(whole[..len].to_vec()) {
            Ok(image) => {
                assert!(len >= 12288 + 32, "256 bits of the second bitmap end there");
                common::exercise(&image, 100);
                assert!(image.completeness().incomplete.is_some());
            }
            Err(error) => {
                assert!(len < 12288 + 32, "{error}");
                assert!(!error.to_string().contains('\n'));
            }
        }
    }
}

#[test]
fn headers_that_contradict_themselves() {
    let put = |at: usize, bytes: &[u8]| {
        let mut file = small().build();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let u32s = |at, value: u32| refusal(put(at, &value.to_le_bytes()));
    assert!(u32s(8, 0).contains("version 0"));
    assert!(u32s(428, 4095).contains("4095"));
    assert!(u32s(428, 1 << 31).contains("pages of"));
    assert!(u32s(432, u32::MAX).contains("ends before the bitmaps"));
    assert!(u32s(436, 0).contains("too small"));
    assert!(u32s(436, u32::MAX).contains("ends before the bitmaps"));
    let mapnr = |value: u64| refusal(put(4096 + 96, &value.to_le_bytes()));
    assert!(mapnr(0).contains("without memory"));
    assert!(mapnr(1 << 20).contains("too small"));
    assert!(mapnr(u64::MAX).contains("page frames"));
}

#[test]
fn dumps_of_other_machines_are_named() {
    for machine in ["s390x", "ppc64le", "i686", "armv7l", "riscv64"] {
        let dump = Kdump { machine: machine.into(), ..small() };
        let text = refusal(dump.build());
        assert!(text.contains(&format!("a dump of a {machine} kernel")), "{text}");
    }
    let mut big_endian = Kdump { machine: String::new(), ..small() }.build();
    big_endian[8..12].copy_from_slice(&6u32.to_be_bytes());
    assert!(refusal(big_endian).contains("big-endian"));
    // QEMU may leave all of utsname empty.
    assert_page(&open(Kdump { machine: String::new(), ..small() }.build()), 255);
}

#[test]
fn a_newer_version_is_read_and_said() {
    let mut file = small().build();
    file[8] = 7;
    let image = open(file);
    assert_page(&image, 64);
    assert!(image.info().oddities.iter().any(|oddity| oddity.contains("version 7")));
}

#[test]
fn threads_share_an_image() {
    let pfns: Vec<u64> = (0..2000).collect();
    let image = open(Kdump::of(pfns.iter().copied(), 2000).compressed(Compression::Zstd).build());
    image.set_cache_bytes(64 * 4096);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let image = &image;
            scope.spawn(move || {
                (0..3000u64).for_each(|n| assert_page(image, (n * 37 + thread * 11) % 2000));
            });
        }
    });
}

/// A file of zeros with some pieces in it, too large to be held in memory.
struct Sparse {
    len: u64,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl Source for Sparse {
    fn len(&self) -> u64 {
        self.len
    }

    fn bytes(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>, SourceError> {
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.len);
        let end = end.ok_or(SourceError::OutOfRange { offset, len, size: self.len })?;
        assert!(len <= 4 << 20, "a bitmap is read piece by piece, not {len} bytes at once");
        let mut bytes = vec![0; len];
        for (at, piece) in &self.pieces {
            let (from, to) = (offset.max(*at), end.min(at + piece.len() as u64));
            if from < to {
                bytes[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&piece[(from - at) as usize..(to - at) as usize]);
            }
        }
        Ok(Cow::Owned(bytes))
    }
}

#[test]
fn page_frames_beyond_32_bits() {
    // 16 TiB and a little: bitmaps of 512 MiB.
    let max_mapnr = (1u64 << 32) + 4096;
    let bitmap_blocks = max_mapnr / 8 / 4096 + 1;
    let mut head = Kdump::of([], 4096).build();
    head.truncate(8192);
    head[436..440].copy_from_slice(&(2 * bitmap_blocks as u32).to_le_bytes());
    head[440..444].copy_from_slice(&u32::MAX.to_le_bytes());
    head[4096 + 96..4096 + 104].copy_from_slice(&max_mapnr.to_le_bytes());
    let (bitmap1, bitmap2) = (8192, 8192 + bitmap_blocks * 4096);
    let descriptors = bitmap2 + bitmap_blocks * 4096;
    let pfns = [5, (1 << 32) + 5];
    let mut pieces = vec![(0, head), (bitmap1 + (1 << 29), vec![0xff; 512])];
    for (index, pfn) in pfns.into_iter().enumerate() {
        pieces.push((bitmap2 + pfn / 8, vec![1 << (pfn % 8)]));
        let data = descriptors + 4096 * (index as u64 + 1);
        let descriptor = [data.to_le_bytes(), 4096u64.to_le_bytes(), [0; 8]].concat();
        pieces.push((descriptors + 24 * index as u64, descriptor));
        pieces.push((data, page(pfn)));
    }
    let source = Sparse { len: descriptors + 4 * 4096, pieces };
    let image = Image::from_sources(vec![("large".to_owned(), Arc::new(source))]).unwrap();
    pfns.iter().rev().for_each(|&pfn| assert_page(&image, pfn));
    assert_absent(&image, (1 << 32) + 6, &FILTERED);
    assert_absent(&image, 6, &Absent::NotRam);
    let present: Vec<_> = image.present().map(|run| run.start / 4096).collect();
    assert_eq!(present, pfns);
}
