//! `kmortem convert` on the bundled dump: every form is the same memory with the same answers.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used)]

mod common;
mod same;

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Done, kmortem};
use tempfile::TempDir;

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/hung-mutex-6.12.vmcore")
}

fn convert(from: &[PathBuf], to: &Path, options: &[&str]) -> Done {
    let mut words: Vec<OsString> = vec!["convert".into()];
    words.extend(from.iter().map(|path| path.into()));
    words.push(to.into());
    words.extend(options.iter().map(OsString::from));
    kmortem(words)
}

#[track_caller]
fn converted(from: &[PathBuf], to: &Path, options: &[&str]) -> Done {
    let done = convert(from, to, options);
    assert_eq!(done.code, 0, "{done:?}");
    done
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_form_is_the_same_memory() {
    let folder = tempfile::tempdir().unwrap();
    let original = vec![sample()];
    let open = |files: &[PathBuf]| kmortem_vmcore::Image::open(files).unwrap();
    let at = |name: &str| vec![folder.path().join(name)];
    // One after the other, so that each is also a source.
    let chain: &[(&str, &[&str])] = &[
        ("a.elf", &[]),
        ("b", &["--to", "kdump-lzo"]),
        ("c.kdump", &["--threads", "1"]),
        ("d", &["--to", "flattened-kdump-zlib", "--level", "9"]),
        ("e", &["--to", "rearranged"]),
        ("f.flat", &[]),
        ("g", &["--to", "kdump-snappy"]),
        ("h", &["--to", "flattened-elf"]),
        ("i", &["--to", "kdump-raw"]),
        ("j.zst", &["--level", "1"]),
        ("k.zst", &["--level", "3", "--base", folder.path().to_str().unwrap()]),
        ("l", &["--to", "kdump-zlib"]),
    ];
    let mut from = original.clone();
    for (name, options) in chain {
        let to = at(name);
        converted(&from, &to[0], options);
        // Whoever has the same pages and notes has the same answers: asked once per kind.
        let same = match name.contains('.') {
            true => same::compare(&to, &original),
            false => same::same_pages(&open(&to), &open(&original)),
        };
        same.unwrap_or_else(|why| panic!("{name}: {why}"));
        from = to;
    }
    // Bitmaps and headers are those of the first dump.
    assert_eq!(open(&from).header(), open(&original).header());
    assert_eq!(open(&from).completeness(), open(&original).completeness());
    let left: Vec<String> = names(&folder).into_iter().filter(|n| n.ends_with(".part")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn parts_and_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("part");
    let done = converted(&[sample()], &out, &["--to", "kdump-zstd", "--split", "3", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(json["files"].as_array().unwrap().len(), 3);
    assert_eq!(names(&folder), ["part.1", "part.2", "part.3"]);
    let parts: Vec<PathBuf> = (1..4).map(|n| folder.path().join(format!("part.{n}"))).collect();
    same::compare(&parts, &[sample()]).unwrap();
    let whole = folder.path().join("whole.kdump");
    converted(&parts, &whole, &[]);
    same::compare(&[whole], &[sample()]).unwrap();
}

#[test]
fn raw_memory_comes_with_a_map() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("ram.raw");
    let done = converted(&[sample()], &out, &[]);
    assert!(done.stdout.contains("ram.raw.map"), "{done:?}");
    let map = fs::read_to_string(folder.path().join("ram.raw.map")).unwrap();
    let image = kmortem_vmcore::Image::open(&[sample()]).unwrap();
    let bytes = fs::read(&out).unwrap();
    let mut pages = 0;
    for line in map.lines() {
        let (range, what) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
        for addr in (hex(start)..hex(end)).step_by(4096) {
            match image.page(addr) {
                Ok(page) => {
                    assert_eq!(what, "memory", "{addr:#x}");
                    assert!(page[..] == bytes[addr as usize..][..4096], "{addr:#x}");
                    pages += 1;
                }
                Err(_) => assert_eq!(what, "filtered", "{addr:#x}"),
            }
        }
    }
    assert_eq!(Some(pages), image.completeness().stored);
}

#[test]
fn a_pipe_takes_what_is_written_in_order() {
    let folder = tempfile::tempdir().unwrap();
    for form in ["elf", "flattened-kdump-lzo", "archive"] {
        let path = folder.path().join(form);
        let done = Command::new(env!("CARGO_BIN_EXE_kmortem"))
            .args(["convert".as_ref(), sample().as_os_str(), "-".as_ref()])
            .args(["--to", form, "--threads", "2"])
            .args((form == "archive").then_some("--level=1"))
            .stdout(File::create(&path).unwrap())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        assert!(String::from_utf8_lossy(&done.stderr).contains("pages"), "{done:?}");
        same::compare(&[path], &[sample()]).unwrap();
    }
    for form in ["kdump-zstd", "raw"] {
        let done = convert(&[sample()], Path::new("-"), &["--to", form]);
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{done:?}");
        assert!(done.stderr.contains("pipe"), "{done:?}");
    }
}

#[test]
fn a_full_disk_is_named() {
    let done = Command::new(env!("CARGO_BIN_EXE_kmortem"))
        .args(["convert".as_ref(), sample().as_os_str(), "-".as_ref()])
        .args(["--to", "elf"])
        .stdout(fs::OpenOptions::new().write(true).open("/dev/full").unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("free some space"), "{said}");
}

#[test]
fn an_interrupt_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.zst");
    let mut child = Command::new(env!("CARGO_BIN_EXE_kmortem"))
        .args(["convert".as_ref(), sample().as_os_str(), out.as_os_str()])
        // Slow enough to be met at work.
        .args(["--level", "22"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while names(&folder).is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it began");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(names(&folder)[0].ends_with(".part"), "{:?}", names(&folder));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(130), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("interrupted"), "{done:?}");
    assert!(names(&folder).is_empty(), "{:?}", names(&folder));
}

#[test]
fn what_is_there_is_not_replaced_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.elf");
    fs::write(&out, "precious").unwrap();
    let done = convert(&[sample()], &out, &[]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("--force"), "{done:?}");
    assert_eq!(fs::read(&out).unwrap(), b"precious");
    converted(&[sample()], &out, &["--force"]);
    assert_eq!(names(&folder), ["out.elf"]);
    // Nor is a folder.
    assert_eq!(convert(&[sample()], folder.path(), &["--to", "elf", "--force"]).code, 1);
}

#[test]
fn what_can_not_be_done_is_said_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let misuses: &[&[&str]] = &[
        &[],
        &["--to", "nonsense"],
        &["--to", "elf", "--level", "3"],
        &["--to", "elf", "--split", "2"],
        &["--to", "flattened-kdump-lzo", "--split", "2"],
        &["--to", "kdump-zstd", "--base", "."],
        &["--to", "kdump-zstd", "--split", "0"],
    ];
    for options in misuses {
        let done = convert(&[sample()], &out, options);
        assert_eq!(done.code, 2, "{options:?}: {done:?}");
    }
    for (form, level) in
        [("kdump-zlib", "10"), ("kdump-zstd", "77"), ("kdump-lzo", "1"), ("archive", "77")]
    {
        let done = convert(&[sample()], &out, &["--to", form, "--level", level]);
        assert_eq!(done.code, 1, "{form} {level}: {done:?}");
    }
    let done = convert(&["/does/not/exist".into()], &out, &["--to", "elf"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(names(&folder).is_empty(), "{:?}", names(&folder));
}

#[test]
fn an_incomplete_dump_stays_one() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read(sample()).unwrap();
    let cut = folder.path().join("cut");
    fs::write(&cut, &whole[..whole.len() * 2 / 3]).unwrap();
    let mut from = vec![cut.clone()];
    for (name, options) in
        [("a.elf", &[][..]), ("b.kdump", &[]), ("c.zst", &["--level", "1"]), ("d.kdump", &[])]
    {
        let to = folder.path().join(name);
        let done = converted(&from, &to, options);
        assert!(done.stdout.contains("incomplete"), "{done:?}");
        let open = |path: &Path| kmortem_vmcore::Image::open(&[path]).unwrap();
        let (ours, theirs) = (open(&to), open(&cut));
        same::same_pages(&ours, &theirs).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert!(ours.completeness().incomplete.is_some(), "{name}");
        assert_eq!(ours.completeness().lost, theirs.completeness().lost, "{name}");
        from = vec![to];
    }
}
