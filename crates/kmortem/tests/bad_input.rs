//! What is no dump costs one clear sentence and an exit code, never a panic.

// A helper of tests: its panic is the failure.
#![allow(clippy::unwrap_used)]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Done, kmortem};
use kmortem_testkit::mutate::Random;
use kmortem_testkit::{Compression, Elf, Kdump, notes, page};
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

/// All subcommands refuse the file with one sentence that has `words`.
fn assert_refused(bytes: &[u8], words: &[&str]) {
    let file = file(bytes);
    assert_path_refused(&file.path, words);
    assert_eq!(run(&file).stdout, "");
}

fn assert_path_refused(path: &Path, words: &[&str]) {
    let path = path.as_os_str();
    let commands: [&[&str]; 3] = [&["info"], &["run", "-c", "bt"], &["report"]];
    for command in commands {
        let done = kmortem(command.iter().map(OsStr::new).chain([path]));
        assert_eq!(done.code, 1, "{done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
        for word in words {
            assert!(done.stderr.contains(word), "no {word:?} in {done:?}");
        }
        assert!(!done.stderr.contains("a bug in kmortem"), "{done:?}");
    }
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
    assert_refused(b"\x1f\x8b\x08\0 and so on", &["gzip", "cut off"]);
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

/// A core that names the machine `machine`, with memory and registers.
fn core_of(machine: u16) -> Elf {
    let registers = notes::prstatus_x86_64(1, &[0; 27]);
    Elf { machine, notes: vec![registers], ..Elf::default() }.load(0, page(0))
}

#[test]
fn other_architectures_are_named() {
    for (machine, name) in [(22, "s390"), (243, "riscv")] {
        assert_refused(&core_of(machine).build(), &[name, "x86_64"]);
    }
    for machine in ["s390x", "ppc64le"] {
        let dump = Kdump { machine: machine.into(), ..no_kernel() };
        assert_refused(&dump.build(), &[machine, "x86_64"]);
    }
}

#[test]
fn an_elf_that_is_no_dump_of_memory() {
    // A 32-bit core, a program without memory, and a real one: this test.
    assert_refused(&Elf { class: 1, ..core_of(3) }.build(), &[]);
    assert_refused(&Elf { kind: 2, ..core_of(62) }.build(), &[]);
    assert_path_refused(&std::env::current_exe().unwrap(), &[]);
}

#[test]
fn the_core_of_a_process() {
    // Its memory is virtual: no physical address is stated.
    let mut core = core_of(62);
    for (load, vaddr) in core.loads.iter_mut().zip([0x5555_5555_4000]) {
        load.vaddr = vaddr;
    }
    assert_refused(&core.build(), &["kernel"]);
}

#[test]
fn what_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    assert_path_refused(folder.path(), &["director"]);
    assert_path_refused(Path::new("/dev/null"), &["/dev/null"]);
}

#[test]
fn memory_of_noise() {
    let mut random = Random::new(7);
    let noise: Vec<u8> = (0..1 << 16).flat_map(|_| random.draw().to_le_bytes()).collect();
    assert_refused(&Elf::default().load(0, noise.clone()).build(), &["kernel"]);
    assert_refused(&Elf::default().load(0, vec![0; 1 << 19]).build(), &["kernel"]);
    assert_refused(&noise, &["no known kind of dump"]);
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
