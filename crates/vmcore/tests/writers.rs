//! What is written reads back as what it was written from: pages, bitmaps, headers, notes, and why
//! the rest is absent. The dumps that are written from are the test kit's.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{open, open_parts, try_open};
use kmortem_testkit::{Compression, Elf, Entry, Kdump, Load, notes, page};
use kmortem_vmcore::writer::{
    Check, Contents, FileOutput, Flattened, ImageContents, Options, Progress, Stream, Summary,
    WriteError, elf, flattened, kdump, raw,
};
use kmortem_vmcore::{Absent, Codec, Image};
use proptest::prelude::*;
use std::io::{Read, Seek};
use std::sync::Arc;

const CODECS: [Option<Codec>; 5] =
    [None, Some(Codec::Zlib), Some(Codec::Lzo), Some(Codec::Snappy), Some(Codec::Zstd)];

fn options(threads: usize) -> Options {
    Options { threads, batch: 20 << 10 }
}

fn to_file(write: impl FnOnce(&mut FileOutput) -> Result<Summary, WriteError>) -> Vec<u8> {
    let mut out = FileOutput::new(tempfile::tempfile().unwrap());
    let summary = write(&mut out).unwrap();
    let mut file = out.into_file();
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, summary.bytes);
    bytes
}

fn to_kdump(image: &Image, codec: Option<Codec>, threads: usize) -> Vec<u8> {
    let contents = ImageContents::new(image, Check::Index);
    let compression = codec.map(|codec| (codec, None));
    let progress = Progress::default();
    to_file(|out| kdump::write(&contents, compression, None, &options(threads), &progress, out))
}

fn to_elf(image: &Image, threads: usize) -> Vec<u8> {
    let mut contents = ImageContents::new(image, Check::Pages);
    contents.note_lost();
    let progress = Progress::default();
    let written = |contents: &ImageContents<'_>| {
        let mut out = Stream::new(Vec::new());
        let done = elf::write(contents, &options(threads), &progress, &mut out);
        done.map(|_| out.into_inner())
    };
    match written(&contents) {
        Ok(bytes) => bytes,
        Err(WriteError::Unreadable { runs, .. }) => {
            contents.set_unreadable(runs);
            written(&contents).unwrap()
        }
        Err(error) => panic!("{error}"),
    }
}

/// All that must survive: each page or why it is absent.
fn pages_of(image: &Image, end: u64) -> Vec<Result<Vec<u8>, Absent>> {
    (0..end)
        .map(|pfn| image.page(pfn * image.page_size()).map(|page| page.to_vec()))
        .map(|page| {
            // What was wrong with a page is not kept, that something was is.
            page.map_err(|why| match why {
                Absent::Corrupt { .. } | Absent::Unsupported { .. } => Absent::Lost,
                other => other,
            })
        })
        .collect()
}

#[track_caller]
fn assert_same(ours: &Image, theirs: &Image, end: u64) {
    assert_eq!(ours.page_size(), theirs.page_size());
    let (a, b) = (pages_of(ours, end), pages_of(theirs, end));
    for (pfn, (a, b)) in a.iter().zip(&b).enumerate() {
        assert!(
            a == b,
            "page frame {pfn:#x}: {:?} is now {:?}",
            b.as_ref().err(),
            a.as_ref().err()
        );
    }
    assert_eq!(ours.ram_runs().collect::<Vec<_>>(), theirs.ram_runs().collect::<Vec<_>>());
    assert_eq!(ours.cpus(), theirs.cpus());
    let text = |image: &Image| image.vmcoreinfo().map(|info| info.raw().to_owned());
    assert_eq!(text(ours), text(theirs));
}

fn kdump_with_everything(compression: Compression, block_size: u32) -> Kdump {
    let size = block_size as usize;
    let whole = |pfn: u64| page(pfn).repeat(size / 4096);
    let mut dump = Kdump { block_size, compression, max_mapnr: 900, ..Kdump::default() };
    for pfn in (3..300).filter(|pfn| pfn % 7 != 2).chain(500..503).chain([899]) {
        dump.pages.insert(pfn, Entry::Page(whole(pfn)));
    }
    for pfn in [4, 77, 501] {
        dump.pages.insert(pfn, Entry::Page(vec![0; size]));
    }
    dump.pages.insert(10, Entry::Lost);
    dump.pages.insert(11, Entry::Lost);
    dump.pages.insert(20, Entry::Stored(1, b"no zlib stream".to_vec()));
    dump.ram = vec![0..400, 450..800, 899..900];
    dump.release = "6.1.0-test".into();
    dump.timestamp = 1_795_371_000;
    dump.vmcoreinfo = "OSRELEASE=6.1.0-test\nSYMBOL(x)=ffffffff81000000\n".into();
    dump.notes = [
        notes::prstatus_x86_64(7, &[5; 27]),
        notes::prstatus_x86_64(8, &[6; 27]),
        notes::qemu_cpu(9),
    ]
    .concat();
    dump
}

#[test]
fn every_codec_and_page_size_comes_back() {
    for block_size in [4096, 16384, 65536] {
        let input = open(kdump_with_everything(Compression::Zlib, block_size).build());
        for codec in CODECS {
            for threads in [1, 3] {
                let output = open(to_kdump(&input, codec, threads));
                assert_same(&output, &input, 901);
                let (ours, theirs) = (output.header().unwrap(), input.header().unwrap());
                assert_eq!((ours.timestamp, &ours.utsname), (theirs.timestamp, &theirs.utsname));
                assert_eq!((ours.dump_level, ours.max_mapnr), (31, 900));
                assert!(ours.incomplete, "it has lost pages");
                assert_eq!(
                    output.page(4 * u64::from(block_size)).unwrap()[..],
                    vec![0; block_size as usize]
                );
            }
        }
    }
}

#[test]
fn an_elf_core_between_changes_nothing() {
    for block_size in [4096, 16384, 65536] {
        let input = open(kdump_with_everything(Compression::Lzo, block_size).build());
        let elf = open(to_elf(&input, 2));
        assert_same(&elf, &input, 901);
        assert!(elf.info().kind.contains("kdump-compressed v6"), "{}", elf.info().kind);
        let counts = elf.completeness();
        assert_eq!(counts.lost, Some(3));
        let back = open(to_kdump(&elf, Some(Codec::Zstd), 2));
        assert_same(&back, &input, 901);
        let mut theirs = input.header().unwrap().clone();
        theirs.incomplete = true;
        assert_eq!(back.header(), Some(&theirs));
        // And once more: notes of ours do not pile up.
        let again = open(to_elf(&elf, 1));
        assert_eq!(again.notes(), elf.notes());
        assert_same(&again, &input, 901);
    }
}

#[test]
fn flattened_streams_come_back() {
    let input = open(kdump_with_everything(Compression::Snappy, 4096).build());
    let contents = ImageContents::new(&input, Check::Index);
    let mut out = Flattened::new(Vec::new());
    let codec = Some((Codec::Zlib, Some(9)));
    kdump::write(&contents, codec, None, &options(2), &Progress::default(), &mut out).unwrap();
    let stream = out.into_inner();
    let output = open(stream.clone());
    assert!(output.info().flattened);
    assert_same(&output, &input, 901);

    // Put in order it is the file that would have been written.
    let source: Arc<dyn kmortem_vmcore::Source> = Arc::new(stream.clone());
    let rearranged = to_file(|out| {
        let copied = flattened::copy("flat", &source, &Progress::default(), out).unwrap();
        assert_eq!(copied.1, None);
        Ok(Summary { bytes: copied.0, ..Summary::default() })
    });
    let direct =
        to_file(|out| kdump::write(&contents, codec, None, &options(1), &Progress::default(), out));
    assert!(rearranged == direct);

    // And flattened again.
    let source: Arc<dyn kmortem_vmcore::Source> = Arc::new(direct);
    let mut out = Flattened::new(Vec::new());
    flattened::copy("plain", &source, &Progress::default(), &mut out).unwrap();
    assert_same(&open(out.into_inner()), &input, 901);

    // Cut off anywhere it is an incomplete dump or none, never another one.
    for len in (0..stream.len()).step_by(29_917) {
        let Ok(cut) = try_open(stream[..len].to_vec()) else { continue };
        assert!(cut.completeness().incomplete.is_some(), "{len}");
        for (ours, theirs) in pages_of(&cut, 901).into_iter().zip(pages_of(&input, 901)) {
            assert!(ours.is_err() || ours == theirs, "{len}");
        }
    }
}

#[test]
fn files_cut_off_are_incomplete_dumps() {
    let input = open(kdump_with_everything(Compression::Zstd, 4096).build());
    for file in [to_kdump(&input, Some(Codec::Zstd), 1), to_elf(&input, 1)] {
        let mut opened = 0;
        for len in (0..file.len()).step_by(19_997) {
            let Ok(cut) = try_open(file[..len].to_vec()) else { continue };
            opened += 1;
            assert!(cut.completeness().incomplete.is_some(), "{len}");
            for (ours, theirs) in pages_of(&cut, 901).into_iter().zip(pages_of(&input, 901)) {
                assert!(ours.is_err() || ours == theirs, "{len}");
            }
        }
        assert!(opened > 3, "{opened}");
    }
}

#[test]
fn parts_are_the_whole() {
    let input = open(kdump_with_everything(Compression::Raw, 4096).build());
    let contents = ImageContents::new(&input, Check::Index);
    for count in [1, 2, 3, 7, 400] {
        let bounds = kdump::split(&contents, count);
        assert_eq!(bounds.len() as u64, count);
        assert_eq!((bounds[0].start, bounds[bounds.len() - 1].end), (0, 900));
        assert!(bounds.windows(2).all(|pair| pair[0].end == pair[1].start));
        let progress = Progress::default();
        let parts: Vec<Vec<u8>> = bounds
            .into_iter()
            .map(|pfns| {
                to_file(|out| {
                    let lzo = Some((Codec::Lzo, None));
                    kdump::write(&contents, lzo, Some(pfns), &options(2), &progress, out)
                })
            })
            .collect();
        let output = open_parts(&parts).unwrap();
        assert_same(&output, &input, 901);
        assert_eq!(output.info().split_parts, Some(count as u32));
    }
}

#[test]
fn an_elf_cores_odd_ends_and_addresses_are_kept() {
    let mut core = Elf::default();
    let load =
        |paddr, vaddr, mem_len, bytes: &[u8]| Load { vaddr, paddr, mem_len, bytes: bytes.to_vec() };
    core.loads.push(load(0x1100, 0xffff_8880_0000_1100, 0x2f00, &page(1).repeat(2)[..0x1300]));
    core.loads.push(load(0x4000, 0xffff_8880_0000_4000, 0x1000, &page(2)));
    core.loads.push(load(0x5000, 0xffff_ffff_8100_0000, 0x1000, &page(3)));
    core.loads.push(load(0x9000, 0xffff_8880_0000_9000, 0x1000, &[]));
    core.notes = vec![notes::vmcoreinfo("OSRELEASE=x\n")];
    let input = open(core.build());
    let output = open(to_elf(&input, 1));
    assert_eq!(output.extents().collect::<Vec<_>>(), input.extents().collect::<Vec<_>>());
    let vaddr = |image: &Image, paddr: u64| {
        let mapped = image.mapped();
        let (range, vaddr) = mapped.iter().find(|(range, _)| range.contains(&paddr)).unwrap();
        vaddr + (paddr - range.start)
    };
    for paddr in [0x1100, 0x2400, 0x4010, 0x5fff, 0x9000] {
        assert_eq!(vaddr(&output, paddr), vaddr(&input, paddr), "{paddr:#x}");
    }
    let mut part = [0; 0x1300];
    output.read(0x1100, &mut part).unwrap();
    assert_eq!(part[..], page(1).repeat(2)[..0x1300]);
    // kdump-compressed has whole pages only, and says how many it can't hold.
    let contents = ImageContents::new(&input, Check::Index);
    let mut out = FileOutput::new(tempfile::tempfile().unwrap());
    let progress = Progress::default();
    let done = kdump::write(&contents, None, None, &options(1), &progress, &mut out).unwrap();
    assert_eq!((done.written, done.partial), (2, 2));
}

#[test]
fn more_segments_than_the_header_can_count() {
    let mut dump = Kdump { max_mapnr: 140_000, ..Kdump::default() };
    for pfn in 0..70_000 {
        dump.pages.insert(2 * pfn, Entry::Page(vec![0; 4096]));
    }
    dump.pages.insert(139_998, Entry::Page(page(139_998)));
    let input = open(dump.build());
    let elf = to_elf(&input, 2);
    assert_eq!(elf[56..58], [0xff, 0xff]);
    let output = open(elf);
    common::assert_page(&output, 139_998);
    assert_eq!(output.present().count(), 70_000);
}

#[test]
fn raw_memory_has_a_map() {
    let input = open(kdump_with_everything(Compression::Zstd, 4096).build());
    let mut contents = ImageContents::new(&input, Check::Pages);
    contents.set_unreadable(std::iter::once(20 << 12..21 << 12).collect());
    let progress = Progress::default();
    let bytes = to_file(|out| raw::write(&contents, &options(2), &progress, out));
    assert_eq!(bytes.len(), 900 << 12);
    let mut covered = 0;
    for (run, place) in raw::map(&contents) {
        assert!(run.start >= covered, "ascending");
        covered = run.end;
        for pfn in run.start >> 12..run.end >> 12 {
            let there = &bytes[(pfn << 12) as usize..][..4096];
            match (input.page(pfn << 12), place) {
                (Ok(page), raw::Place::Memory) => assert!(page[..] == *there, "{pfn}"),
                (Err(Absent::Filtered { .. }), raw::Place::Filtered) => {}
                (Err(Absent::Lost | Absent::Corrupt { .. }), raw::Place::Lost) => {}
                (page, place) => panic!("{pfn}: {place}, but {:?}", page.err()),
            }
        }
    }
    assert_eq!(covered, 900 << 12);
}

#[test]
fn whoever_wants_it_stopped_is_obeyed() {
    let input = open(kdump_with_everything(Compression::Raw, 4096).build());
    let contents = ImageContents::new(&input, Check::Index);
    let progress = Progress::default();
    progress.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut out = Flattened::new(Vec::new());
    let done = kdump::write(&contents, None, None, &options(3), &progress, &mut out);
    assert!(matches!(done, Err(WriteError::Interrupted)));
    let done = elf::write(&contents, &options(1), &progress, &mut Stream::new(Vec::new()));
    assert!(matches!(done, Err(WriteError::Interrupted)));
}

#[test]
fn what_must_be_sought_does_not_go_down_a_pipe() {
    let input = open(kdump_with_everything(Compression::Raw, 4096).build());
    let contents = ImageContents::new(&input, Check::Index);
    let mut out = Stream::new(Vec::new());
    let done = kdump::write(&contents, None, None, &options(1), &Progress::default(), &mut out);
    assert!(matches!(done, Err(WriteError::Unfit(_))));
}

/// A page: absent, zero, or of some bytes.
fn any_entry() -> impl Strategy<Value = Option<Entry>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(Entry::Page(vec![0; 4096]))),
        1 => Just(Some(Entry::Lost)),
        4 => any::<u64>().prop_map(|seed| Some(Entry::Page(page(seed)))),
        1 => proptest::collection::vec(any::<u8>(), 4096).prop_map(|page| Some(Entry::Page(page))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_dump_survives_any_way(
        entries in proptest::collection::vec(any_entry(), 1..60),
        ram in proptest::collection::vec((0u64..70, 1u64..30), 0..4),
        codec in prop::sample::select(CODECS.to_vec()),
        threads in 1usize..4,
        gap in 0u64..100_000,
    ) {
        let mut dump = Kdump { max_mapnr: gap + 100, vmcoreinfo: "OSRELEASE=x\n".into(), ..Kdump::default() };
        for (pfn, entry) in entries.into_iter().enumerate() {
            if let Some(entry) = entry {
                dump.pages.insert(gap + pfn as u64, entry);
            }
        }
        // Without any memory it would be no dump.
        dump.pages.insert(gap + 99, Entry::Page(page(99)));
        dump.ram = ram.into_iter().map(|(start, len)| gap + start..gap + start + len).collect();
        // A bitmap of RAM has all that is in the dump.
        dump.ram.extend(dump.pages.keys().map(|pfn| *pfn..*pfn + 1));
        let input = open(dump.build());
        let ends = (gap + 101) << 12;
        let same = |image: &Image| {
            for pfn in gap..gap + 101 {
                prop_assert_eq!(
                    image.page(pfn << 12).map(|page| page.to_vec()),
                    input.page(pfn << 12).map(|page| page.to_vec())
                );
            }
            prop_assert_eq!(image.ram(), input.ram());
            prop_assert!(image.page(ends).is_err());
            Ok(())
        };
        let direct = open(to_kdump(&input, codec, threads));
        same(&direct)?;
        let elf = open(to_elf(&direct, threads));
        same(&elf)?;
        let back = open(to_kdump(&elf, codec, threads));
        same(&back)?;
        prop_assert_eq!(back.header(), direct.header());
        let contents = ImageContents::new(&input, Check::Index);
        prop_assert_eq!(contents.header().page_size, 4096);
    }
}
