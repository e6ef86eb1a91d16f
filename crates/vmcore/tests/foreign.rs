//! Files that are no dump, from a file system.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use kmortem_testkit::Kdump;
use kmortem_vmcore::Image;

fn refusal_of(name: &str, contents: &[u8]) -> String {
    let dir = std::env::temp_dir().join(format!("vmcore-foreign-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join(name);
    std::fs::write(&path, contents).unwrap();
    let error = Image::open(&[&path]).expect_err("refused");
    std::fs::remove_dir_all(&dir).unwrap();
    let text = error.to_string();
    assert!(text.contains(name) && !text.contains('\n'), "{text}");
    text
}

#[test]
fn each_says_what_it_looks_like() {
    assert!(refusal_of("empty", b"").contains("it is empty"));
    assert!(refusal_of("one", b"x").contains("it is text"));
    assert!(refusal_of("vmcore.gz", b"\x1f\x8b\x08\0\0\0").contains("gzip data"));
    assert!(refusal_of("vmcore.xz", b"\xfd7zXZ\0\0\x04").contains("xz data"));
    assert!(refusal_of("vmcore.zst", b"\x28\xb5\x2f\xfd\x04").contains("zstd data"));
    assert!(refusal_of("dmesg.txt", b"[    0.000000] Linux version 6.1").contains("kernel log"));
    assert!(refusal_of("half", b"KDUMP   ").contains("cut off"));
    assert!(refusal_of("elf", b"\x7fELF").contains("cut off"));
    assert!(refusal_of("flat", b"makedumpfile\0\0\0\0").contains("cut off"));
    let qemu = [b"QEVM\0\0\0\x03".as_slice(), &[0; 5000]].concat();
    assert!(refusal_of("virsh", &qemu).contains("migration stream with none"));
}

#[test]
fn what_can_not_be_opened() {
    let open = |path: &str| Image::open(&[path]).expect_err("refused").to_string();
    assert!(open("/nowhere/at/all").contains("can't be opened"));
    assert!(open("/").contains("directory"));
    #[cfg(unix)]
    assert!(open("/dev/null").contains("neither a regular file"));
    let none: [&str; 0] = [];
    assert_eq!(Image::open(&none).expect_err("refused").to_string(), "no file was given");
}

#[test]
fn a_dump_in_a_file() {
    let path = std::env::temp_dir().join(format!("vmcore-dump-{}", std::process::id()));
    let dump = Kdump::of(0..20, 20).build();
    std::fs::write(&path, &dump).unwrap();
    let image = Image::open(&[&path]).unwrap();
    (0..20).for_each(|pfn| common::assert_page(&image, pfn));
    assert_eq!(image.info().files[0].size, dump.len() as u64);
    std::fs::remove_file(&path).unwrap();
}
