//! Dumps within compressed files: whole, nested, in several members, cut off, damaged, swelling.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::cell::Cell;
use std::io::{Read, Write};
use std::ops::ControlFlow;

use kmortem_testkit::mutate::{Mutation, mutations};
use kmortem_testkit::{Compression, Elf, Kdump, Load, flatten, lzop, page};
use kmortem_vmcore::overlay::Overlay;
use kmortem_vmcore::{Image, OpenError, OpenOptions, Source};

const PAGES: u64 = 700;

/// Large enough to go to a file.
fn dump() -> Vec<u8> {
    let bytes = (0..PAGES).flat_map(page).collect();
    Elf { loads: vec![Load { vaddr: 0, paddr: 0, mem_len: PAGES << 12, bytes }], ..Elf::default() }
        .build()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    bzip2::read::BzEncoder::new(bytes, bzip2::Compression::fast())
        .read_to_end(&mut packed)
        .unwrap();
    packed
}

fn xz(bytes: &[u8], block: Option<u64>) -> Vec<u8> {
    let mut options = lzma_rust2::XzOptions::with_preset(0);
    options.set_block_size(block.and_then(std::num::NonZeroU64::new));
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

/// Frames that say their size.
fn zstd_frames(bytes: &[u8], frame: usize) -> Vec<u8> {
    bytes.chunks(frame).flat_map(|piece| zstd::bulk::compress(piece, 1).unwrap()).collect()
}

fn lz4(bytes: &[u8]) -> Vec<u8> {
    // The command's default for files is 4 MiB: more than the dump here has.
    let blocks = lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max64KB);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(blocks, Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Every way to pack, with the words that `info` has for it.
fn all_ways(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("gzip (unpacked", gzip(bytes)),
        ("bzip2 (unpacked", bzip2(bytes)),
        ("xz (unpacked", xz(bytes, Some(16 << 20))),
        ("xz (read in place", xz(bytes, Some(64 << 10))),
        ("zstd (unpacked", zstd(bytes)),
        ("zstd (read in place", zstd_frames(bytes, 100_000)),
        ("lz4 (unpacked", lz4(bytes)),
        ("lzop (read in place", lzop(bytes, 256 << 10)),
    ]
}

#[test]
fn every_page_comes_out_of_every_method() {
    let plain = dump();
    for (layer, packed) in all_ways(&plain) {
        // One block is read in place too, if it is small.
        let image = common::open(packed.clone());
        let found = &image.info().layers;
        assert!(found.len() == 1 && found[0].starts_with(&layer[..4]), "{layer}: {found:?}");
        if layer.contains("in place") {
            assert!(found[0].starts_with(layer), "{layer}: {found:?}");
        }
        (0..PAGES).rev().for_each(|pfn| common::assert_page(&image, pfn));
        assert_eq!(image.info().kind, "ELF");
        assert_eq!(image.info().files[0].size, packed.len() as u64);
        assert_eq!(image.completeness().incomplete, None, "{layer}");
    }
}

#[test]
fn layers_are_taken_off_one_by_one() {
    let kdump = Kdump::of(0..300, 300).compressed(Compression::Lzo).build();
    let image = common::open(zstd(&gzip(&flatten(&kdump, 5000))));
    (0..300).for_each(|pfn| common::assert_page(&image, pfn));
    let layers: Vec<&str> =
        image.info().layers.iter().filter_map(|layer| layer.split(' ').next()).collect();
    assert_eq!(layers, ["zstd", "gzip", "flattened"]);
    assert!(image.info().flattened);

    let russian = (0..10).fold(kdump, |inner, _| gzip(&inner));
    assert!(common::refusal(russian).contains("layers"));
}

#[test]
fn members_one_behind_the_other_are_one_file() {
    let plain = dump();
    let (a, b) = plain.split_at(1_000_003);
    type Packer = fn(&[u8]) -> Vec<u8>;
    let packers: [Packer; 6] =
        [gzip, bzip2, |bytes| xz(bytes, None), zstd, lz4, |bytes| lzop(bytes, 100_000)];
    for packer in packers {
        let joined = [packer(a), packer(b)].concat();
        let image = common::open(joined.clone());
        (0..PAGES).for_each(|pfn| common::assert_page(&image, pfn));

        // Zeros up to a block of a tape say nothing, anything else is told of.
        let padded = common::open([joined.clone(), vec![0; 8192]].concat());
        let told = &padded.info().oddities;
        assert!(!told.iter().any(|odd| odd.contains("left out")), "{told:?}");
        assert_eq!(padded.completeness().incomplete, None);
        let trailed = common::open([joined, b"signature".to_vec()].concat());
        (0..PAGES).for_each(|pfn| common::assert_page(&trailed, pfn));
    }
}

#[test]
fn what_is_cut_off_gives_what_came_before() {
    let plain = dump();
    for (layer, packed) in all_ways(&plain) {
        let cut = packed[..packed.len() * 3 / 4].to_vec();
        let image = common::open(cut);
        let why = image.completeness().incomplete.unwrap_or_default();
        assert!(why.contains("cut off") && why.contains(&layer[..3]), "{layer}: {why}");
        common::assert_page(&image, 0);
        assert!(image.page((PAGES - 1) << 12).is_err(), "{layer}");
        // Early ends: a sentence, and no panic.
        for len in (0..64).chain([100, 1000]) {
            if let Err(error) = common::try_open(packed[..len.min(packed.len())].to_vec()) {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }
}

#[test]
fn a_file_that_swells_is_stopped() {
    let zeros = vec![0; 64 << 20];
    let options = OpenOptions { most_unpacked: Some(8 << 20), ..OpenOptions::default() };
    for bomb in [gzip(&zeros), bzip2(&zeros), zstd(&zeros), lz4(&zeros)] {
        let sources = vec![("bomb".to_owned(), common::source(bomb))];
        let error = Image::from_sources_with(sources, &options).expect_err("refused").to_string();
        assert!(error.contains("unpack to more than 8388608 bytes"), "{error}");
    }
}

#[test]
fn unpacking_tells_of_its_progress_and_can_be_ended() {
    let packed = gzip(&vec![0x5a; 64 << 20]);
    let calls = Cell::new(0);
    let count = |state: &kmortem_vmcore::Unpacking| {
        calls.set(calls.get() + 1);
        assert!(state.read <= state.total && state.unpacked >= 16 << 20);
        if calls.get() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let options = OpenOptions { progress: Some(&count), ..OpenOptions::default() };
    let sources = vec![("packed".to_owned(), common::source(packed))];
    let error = Image::from_sources_with(sources, &options).expect_err("ended");
    assert!(matches!(&error, OpenError::Unpack { what, .. } if what.contains("interrupted")));
    assert_eq!(calls.get(), 3);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let options =
        OpenOptions { temp_dir: Some("/does/not/exist".into()), ..OpenOptions::default() };
    let sources = vec![("packed".to_owned(), common::source(gzip(&dump())))];
    let error = Image::from_sources_with(sources, &options).expect_err("no room").to_string();
    assert!(error.contains("/does/not/exist") && error.contains("TMPDIR"), "{error}");
}

#[test]
fn damage_costs_an_error_or_a_page() {
    let plain = Kdump::of(0..60, 60).compressed(Compression::Zlib).build();
    let options = OpenOptions { most_unpacked: Some(16 << 20), ..OpenOptions::default() };
    for (layer, packed) in all_ways(&plain) {
        let base = common::source(packed);
        for seed in 0..100 {
            let damaged = mutations(seed, base.len(), 2000).into_iter().fold(
                Overlay::new(base.clone()),
                |overlay, mutation| match mutation {
                    Mutation::Set(at, bytes) => overlay.set(at, &bytes),
                    Mutation::Flip(bit) => overlay.flip_bit(bit),
                    Mutation::Truncate(len) => overlay.truncate(len),
                },
            );
            let sources: Vec<(String, std::sync::Arc<dyn Source>)> =
                vec![(layer.to_owned(), std::sync::Arc::new(damaged))];
            if let Ok(image) = Image::from_sources_with(sources, &options) {
                common::exercise(&image, 60);
            }
        }
    }
}
