//! What `kmortem convert` writes is what crash, drgn and makedumpfile open.
//!
//! For one dump of each kernel, out of different containers: every form is the same memory with
//! the same answers, and the programs that can read the form give the same answer as on the
//! original. crash 9.0.2 opens no 7.3 dump.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;
mod same;

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::kmortem;
use kmortem_lab::Lab;

/// Dumps to convert. The peers are asked about the form of the second column made of it.
const DUMPS: [(&str, &[&str]); 6] = [
    ("k510-sysrq", &["kdump-zlib"]),
    ("k510-sysrq.kdump-zlib", &["elf"]),
    ("k61-sysrq.flattened", &["kdump-zstd"]),
    ("k61-sysrq.split", &["archive"]),
    ("k612-sysrq", &["kdump-lzo"]),
    ("k7x-sysrq.kdump-lzo", &["elf"]),
];

const DRGN: &str = r#"
from drgn.helpers.linux.pid import for_each_task
print(prog["init_uts_ns"].name.release.string_().decode())
for task in for_each_task(prog):
    trace = prog.stack_trace(task) if task.pid == 1 else None
    print(task.pid.value_(), task.comm.string_().decode(), trace)
"#;

fn convert(from: &[PathBuf], to: &Path, options: &[&str]) -> Result<(), String> {
    let mut words: Vec<OsString> = vec!["convert".into()];
    words.extend(from.iter().map(OsString::from));
    words.push(to.into());
    words.extend(options.iter().map(OsString::from));
    let done = kmortem(words);
    match done.code {
        0 => Ok(()),
        code => Err(format!("{options:?}: exit code {code}: {}{}", done.stdout, done.stderr)),
    }
}

/// Runs a peer, at most two minutes.
fn ask(command: &mut Command, input: &str) -> Result<String, String> {
    let mut limited = Command::new("timeout");
    limited.args(["-s", "KILL", "120"]).arg(command.get_program()).args(command.get_args());
    let mut child = limited
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    child.stdin.take().ok_or("no input")?.write_all(input.as_bytes()).map_err(|e| e.to_string())?;
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{:?}: {}", command, String::from_utf8_lossy(&output.stderr))),
    }
}

struct Peers {
    lab: Lab,
    crash: PathBuf,
    drgn: PathBuf,
    makedumpfile: PathBuf,
}

impl Peers {
    fn open() -> Peers {
        let lab = Lab::open().unwrap();
        let programs = lab.peer_programs().unwrap();
        let path = |name: &str| {
            let found = programs.iter().find(|peer| peer.name == name);
            found.unwrap_or_else(|| panic!("the lab has no {name}")).path.clone()
        };
        let (crash, drgn) = (path("crash-sid"), path("drgn"));
        Peers { crash, drgn, makedumpfile: path("makedumpfile-sid"), lab }
    }

    /// What crash and drgn say of a dump.
    fn answers(&self, kernel: &str, dump: &Path) -> Result<Vec<String>, String> {
        let vmlinux = self.lab.vmlinux(kernel).map_err(|e| e.to_string())?.path;
        // A file: drgn reads its script twice.
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let script = folder.path().join("script.py");
        std::fs::write(&script, DRGN).map_err(|e| e.to_string())?;
        let mut drgn = Command::new(&self.drgn);
        drgn.arg("-q").arg("-c").arg(dump).arg("-s").arg(&vmlinux).arg(&script);
        let mut answers = vec![ask(&mut drgn, "")?];
        if kernel != "k7x" {
            let mut crash = Command::new(&self.crash);
            // No `bt -a`: of a running task crash starts elsewhere in an ELF file than in a
            // kdump-compressed one with the same notes.
            let answer = ask(crash.arg("-s").arg(&vmlinux).arg(dump), "ps\nmod\nquit\n")?;
            answers.push(answer);
        }
        if answers.iter().any(|answer| answer.lines().count() < 20) {
            return Err(format!("hardly an answer: {answers:?}"));
        }
        Ok(answers)
    }
}

#[test]
fn every_form_of_real_dumps_is_the_same_memory() {
    let lab = Lab::open().unwrap();
    for (name, _) in DUMPS {
        let dump = lab.dump(name).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for form in ["elf", "kdump-zstd", "flattened-kdump-snappy", "archive"] {
            let out = folder.path().join(form);
            let level = (form == "archive").then_some("--level=1");
            let options: Vec<&str> = ["--to", form].into_iter().chain(level).collect();
            convert(&dump.files, &out, &options).unwrap_or_else(|why| panic!("{name}: {why}"));
            same::compare(&[out], &dump.files)
                .unwrap_or_else(|why| panic!("{name} as {form}: {why}"));
        }
    }
}

#[test]
fn crash_and_drgn_open_what_is_written() {
    let peers = Peers::open();
    for (name, forms) in DUMPS {
        let dump = peers.lab.dump(name).unwrap();
        let kernel = dump.boot.kernel.as_str();
        let folder = tempfile::tempdir().unwrap();
        // None of them reads a stream, or all parts by one name: an ELF core stands for these.
        let whole = folder.path().join("whole");
        convert(&dump.files, &whole, &["--to", "kdump-raw"]).unwrap();
        let expected = peers.answers(kernel, &whole).unwrap();
        for form in forms {
            let mut out = folder.path().join(form);
            let level = (*form == "archive").then_some("--level=1");
            let options: Vec<&str> = ["--to", form].into_iter().chain(level).collect();
            convert(&dump.files, &out, &options).unwrap();
            if *form == "archive" {
                // As anybody unpacks it.
                let plain = folder.path().join("plain");
                let mut packed = File::open(&out).unwrap();
                zstd::stream::copy_decode(&mut packed, File::create(&plain).unwrap()).unwrap();
                out = plain;
            }
            let answers = peers.answers(kernel, &out).unwrap();
            assert!(answers == expected, "{name} as {form}: {answers:#?}\nnot {expected:#?}");
        }
    }
}

#[test]
fn makedumpfile_puts_together_what_is_written() {
    let peers = Peers::open();
    let dump = peers.lab.dump("k61-sysrq.kdump-zstd").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    convert(&dump.files, &at("part"), &["--to", "kdump-zlib", "--split", "3"]).unwrap();
    let mut makedumpfile = Command::new(&peers.makedumpfile);
    makedumpfile.arg("--reassemble").args([at("part.1"), at("part.2"), at("part.3"), at("whole")]);
    ask(&mut makedumpfile, "").unwrap();
    same::compare(&[at("whole")], &dump.files).unwrap();

    convert(&dump.files, &at("flat"), &["--to", "flattened-kdump-zstd"]).unwrap();
    let done = Command::new(&peers.makedumpfile)
        .arg("-R")
        .arg(at("rearranged"))
        .stdin(File::open(at("flat")).unwrap())
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    same::compare(&[at("rearranged")], &dump.files).unwrap();

    // It filters an ELF core of ours; QEMU's own it refuses.
    let qemu = peers.lab.dump("k61-sysrq").unwrap();
    convert(&qemu.files, &at("elf"), &["--to", "elf"]).unwrap();
    let mut makedumpfile = Command::new(&peers.makedumpfile);
    makedumpfile.args(["-l", "-d", "31"]).args([at("elf"), at("filtered")]);
    ask(&mut makedumpfile, "").unwrap();
    let filtered = kmortem_vmcore::Image::open(&[at("filtered")]).unwrap();
    assert!(filtered.completeness().stored.unwrap() > 5000);
}
