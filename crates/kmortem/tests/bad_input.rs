//! What is no dump costs one clear sentence and an exit code, never a panic.

mod common;

use std::fs;
use std::path::PathBuf;

use common::{Done, kmortem};
use kmortem_testkit::{Compression, Elf, Kdump, page};
use tempfile::TempDir;

/// A file in a folder that goes away with the test.
struct File {
    _folder: TempDir,
    path: PathBuf,
}

fn file(bytes: &[u8]) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vmcore");
    fs::write(&path, bytes).unwrap();
    File { _folder: folder, path }
}

fn info(file: &File) -> Done {
    kmortem(["info".as_ref(), file.path.as_os_str()])
}

fn run(file: &File) -> Done {
    kmortem(["run".as_ref(), file.path.as_os_str(), "-c".as_ref(), "bt".as_ref()])
}

fn report(file: &File) -> Done {
    kmortem(["report".as_ref(), file.path.as_os_str()])
}

/// All subcommands refuse the file with one sentence that has `words`.
fn assert_refused(bytes: &[u8], words: &[&str]) {
    let file = file(bytes);
    for done in [info(&file), run(&file), report(&file)] {
        assert_eq!(done.code, 1, "{done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
        for word in words {
            assert!(done.stderr.contains(word), "no {word:?} in {done:?}");
        }
    }
    assert_eq!(run(&file).stdout, "");
}

/// Memory without a kernel in it.
fn no_kernel() -> Kdump {
    Kdump::of(0..64, 64).compressed(Compression::Zlib)
}

#[test]
fn an_empty_file() {
    assert_refused(b"", &["vmcore"]);
}

#[test]
fn a_file_of_another_kind_is_named_with_the_next_step() {
    assert_refused(b"\x1f\x8b\x08\0 and so on", &["gzip", "gunzip"]);
    assert_refused(b"just text\n", &["text"]);
    assert_refused(&[0; 8192], &["zeros"]);
    assert_refused(&[0xa5; 8192], &["a5 a5"]);
}

#[test]
fn a_file_that_is_not_there() {
    let done = kmortem(["info", "/does/not/exist"]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("check the path"), "{done:?}");
}

#[test]
fn a_dump_of_a_machine_that_is_not_read() {
    let powerpc = Elf { machine: 21, ..Elf::default() }.load(0, page(0)).build();
    assert_refused(&powerpc, &["x86_64"]);
}

#[test]
fn memory_without_a_kernel() {
    assert_refused(&no_kernel().build(), &["kernel", "kmortem info"]);
}

#[test]
fn info_tells_of_the_container_even_without_a_kernel() {
    let file = file(&no_kernel().build());
    let done = info(&file);
    assert!(done.stdout.contains("kdump-compressed"), "{done:?}");
    assert!(done.stdout.contains("zlib"), "{done:?}");
    let json = kmortem(["info".as_ref(), "--json".as_ref(), file.path.as_os_str()]);
    assert_eq!(json.code, 1);
    let value: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(value["container"]["compression"][0], "zlib");
    assert!(value["kernel"]["unreadable"].is_string());
}

#[test]
fn cut_off_anywhere() {
    let whole = no_kernel().build();
    for len in [1, 7, 64, 463, 464, 4095, 4096, 5000, 8192, whole.len() / 2, whole.len() - 1] {
        let done = run(&file(&whole[..len]));
        assert_eq!(done.code, 1, "{len}: {done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{len}: {done:?}");
    }
}

#[test]
fn flipped_bits_never_panic() {
    let whole = no_kernel().build();
    for at in (0..whole.len().min(9000)).step_by(97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        let done = run(&file(&bytes));
        assert_eq!(done.code, 1, "{at}: {done:?}");
        assert!(!done.stderr.contains("a bug in kmortem"), "{at}: {done:?}");
    }
}
