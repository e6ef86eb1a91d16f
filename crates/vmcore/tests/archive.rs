//! Archives: written and read back, unpacked by zstd alone, cut off, damaged, with bases.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;

use common::{assert_absent, assert_page, open, refusal, try_open};
use kmortem_testkit::{Compression, Elf, Entry, Kdump, Seekable, notes, page};
use kmortem_vmcore::writer::{
    Archive, Base, Check, ImageContents, Options, Progress, WriteError, elf,
};
use kmortem_vmcore::{Absent, Codec, Image};

/// 2000 pages of memory, most of them alike in part.
fn dump() -> Kdump {
    let mut dump = Kdump::of(0..2000, 2100).compressed(Compression::Lzo);
    dump.pages.insert(7, Entry::Lost);
    dump.vmcoreinfo = "OSRELEASE=6.1.0-test\n".into();
    dump.notes = notes::prstatus_x86_64(7, &[5; 27]);
    dump
}

fn archive(image: &Image, base: Option<Base<'_>>) -> Vec<u8> {
    let mut contents = ImageContents::new(image, Check::Pages);
    contents.note_lost();
    let progress = Progress::default();
    let options = Options { threads: 2, ..Options::default() };
    let mut file = Vec::new();
    // Low levels look too briefly to find what is far away in a base.
    let level = if base.is_some() { 12 } else { 3 };
    let archive = Archive { level, threads: 2, base };
    let (_, size) = archive
        .write(&mut file, &progress, |out| elf::write(&contents, &options, &progress, out))
        .unwrap();
    assert_eq!(size, file.len() as u64);
    file
}

#[test]
fn what_goes_in_comes_out() {
    let input = open(dump().build());
    let file = archive(&input, None);
    let output = open(file.clone());
    for pfn in (0..2000).filter(|pfn| *pfn != 7) {
        assert_page(&output, pfn);
    }
    assert_absent(&output, 7, &Absent::Lost);
    assert_absent(&output, 2050, &Absent::Filtered { level: Some(31) });
    assert_absent(&output, 2100, &Absent::NotRam);
    assert_eq!(output.header(), input.header());
    assert_eq!(output.cpus(), input.cpus());
    assert_eq!(output.info().kind, "archive of ELF from kdump-compressed v6");
    assert_eq!(output.info().compression, [Codec::Zstd]);
    assert_eq!(output.completeness().incomplete, None);

    // zstd alone unpacks it to an ELF core.
    let unpacked = zstd::stream::decode_all(file.as_slice()).unwrap();
    assert!(unpacked.starts_with(b"\x7fELF"));
    assert_page(&open(unpacked), 1999);
}

#[test]
fn many_threads_read_the_same_bytes() {
    let file = archive(&open(dump().build()), None);
    let output = open(file);
    output.set_cache_bytes(0);
    std::thread::scope(|scope| {
        for start in 0..4 {
            let output = &output;
            scope.spawn(move || {
                for pfn in (start * 7 + 8..2000).step_by(13) {
                    assert_page(output, pfn);
                }
            });
        }
    });
}

#[test]
fn any_dump_in_any_seekable_file_opens() {
    let kdump = dump().build();
    for (frame, checksums) in [(1000, false), (70_000, true), (kdump.len(), false)] {
        let mut file = Seekable::of(&kdump, frame);
        file.checksums = checksums;
        let image = open(file.build());
        assert_eq!(image.info().kind, "archive of kdump-compressed v6");
        assert_page(&image, 1999);
        file.text = Some("whatever another program says".to_owned());
        assert_page(&open(file.build()), 3);
    }
}

#[test]
fn an_archive_cut_off_is_an_incomplete_dump() {
    let input = open(dump().build());
    let file = archive(&input, None);
    let mut opened = 0;
    for len in (0..file.len()).step_by(file.len() / 25) {
        let Ok(cut) = try_open(file[..len].to_vec()) else { continue };
        opened += 1;
        assert!(cut.completeness().incomplete.is_some(), "{len}");
        for pfn in (0..2000).step_by(17) {
            if let Ok(there) = cut.page(pfn << 12) {
                assert!(there[..] == *page(pfn), "{len} {pfn}");
            }
        }
    }
    assert!(opened > 5, "{opened}");
    // Only the table is missing: all of the memory is there.
    let whole = Elf::default().load(0, (0..600).flat_map(page).collect()).build();
    let file = Seekable {
        text: Some("kmortem archive\nformat=1\n".into()),
        cut_off: true,
        ..Seekable::of(&whole, 99_999)
    };
    let cut = open(file.build());
    assert_page(&cut, 599);
    assert!(cut.completeness().incomplete.unwrap().contains("no seek table"));
}

#[test]
fn tables_that_contradict_the_file_are_refused() {
    let whole = Elf::default().load(0, (0..100).flat_map(page).collect()).build();
    let sound = Seekable::of(&whole, 50_000);
    assert!(try_open(sound.build()).is_ok());

    for more in [1, 1000, u32::MAX - 9] {
        let file = Seekable { more_frames: more, ..sound.clone() };
        assert!(refusal(file.build()).contains("seek table"), "{more}");
    }
    let unknown = Seekable { descriptor: 0x40, ..sound.clone() };
    assert!(refusal(unknown.build()).contains("unknown kind"));
    let huge = Seekable { frames: vec![(vec![0x28, 0xb5, 0x2f, 0xfd], u32::MAX)], ..sound.clone() };
    assert!(refusal(huge.build()).contains("at most"));
    // A size that the frame itself does not have: those bytes can't be had, others can.
    let mut wrong = sound.clone();
    wrong.frames[2].1 += 1;
    let image = open(wrong.build());
    assert_page(&image, 1);
    assert!(matches!(image.page(30 << 12), Err(Absent::Corrupt { .. })));
    // No frame at all, and none that has bytes.
    assert!(try_open(Seekable::default().build()).is_err());
    let empty = Seekable { text: Some("kmortem archive\n".into()), ..Seekable::default() };
    assert!(try_open(empty.build()).is_err());
}

#[test]
fn damage_is_an_error_never_other_bytes() {
    let input = open(dump().build());
    let file = archive(&input, None);
    for at in (100..file.len()).step_by(file.len() / 20) {
        let mut damaged = file.clone();
        damaged[at] ^= 0x10;
        let Ok(image) = try_open(damaged) else { continue };
        for pfn in (8..2000).step_by(97) {
            if let Ok(there) = image.page(pfn << 12) {
                assert!(there[..] == *page(pfn), "{at} {pfn}");
            }
        }
    }
}

#[test]
fn a_base_is_looked_for_and_missed_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..1500).flat_map(page).collect();
    let base = Base { name: "abcd.kmortem-base", dir: Some("bases"), bytes: &bytes };
    let input = open(dump().build());
    let (with, without) = (archive(&input, Some(base)), archive(&input, None));
    assert!(with.len() * 2 < without.len(), "{} {}", with.len(), without.len());

    let path = folder.path().join("vmcore.zst");
    fs::write(&path, &with).unwrap();
    let error = Image::open(&[&path]).unwrap_err().to_string();
    assert!(error.contains("abcd.kmortem-base") && error.contains("KMORTEM_BASE"), "{error}");

    // In the folder where it was, as seen from the archive.
    fs::create_dir(folder.path().join("bases")).unwrap();
    fs::write(folder.path().join("bases/abcd.kmortem-base"), &bytes).unwrap();
    assert_page(&Image::open(&[&path]).unwrap(), 1999);

    // Beside it; another file of that name is not taken.
    fs::write(folder.path().join("abcd.kmortem-base"), &bytes[1..]).unwrap();
    assert_page(&Image::open(&[&path]).unwrap(), 1999);
    fs::remove_dir_all(folder.path().join("bases")).unwrap();
    let error = Image::open(&[&path]).unwrap_err().to_string();
    assert!(error.contains("another file"), "{error}");

    // One of the same size with other bytes: checksums tell.
    let other: Vec<u8> = bytes.iter().map(|byte| byte ^ 1).collect();
    fs::write(folder.path().join("abcd.kmortem-base"), &other).unwrap();
    match Image::open(&[&path]) {
        Ok(image) => assert!(matches!(image.page(1000 << 12), Err(Absent::Corrupt { .. }))),
        Err(error) => assert!(error.to_string().contains("another base"), "{error}"),
    }
}

#[test]
fn a_base_is_a_name_never_a_path() {
    let whole = Elf::default().load(0, page(0)).build();
    for (base, size) in [("../../etc/passwd", "1"), ("/etc/passwd", "1"), ("..", "1"), ("x", "-1")]
    {
        let text = format!("kmortem archive\nformat=1\nbase={base}\nbase_size={size}\n");
        let file = Seekable { text: Some(text), ..Seekable::of(&whole, 1000) };
        assert!(refusal(file.build()).contains("makes no sense"), "{base}");
    }
}

#[test]
fn levels_that_zstd_has_not_are_refused() {
    let archive = Archive { level: 99, threads: 1, base: None };
    let done = archive.write(&mut Vec::new(), &Progress::default(), |_| Ok(()));
    assert!(matches!(done, Err(WriteError::Codec { codec: Codec::Zstd, .. })));
}
