//! What hypervisors and forensic tools write of a crashed guest, and compressed files: every
//! command and the report answer as they do on QEMU's ELF dump of the same crash.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::panic)]

use kmortem_diagnose::{TextOptions, render_text, report};
use kmortem_kernel::Kernel;
use kmortem_lab::{Hypervisor, Lab, LabDump, dump};
use kmortem_shell::registry::COMMANDS;
use kmortem_shell::{Output, Session};
use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};

/// Commands that write files, run programs, end the session, or tell of the session itself.
const LEFT_OUT: &[&str] = &["gcore", "trace", "exit", "repeat", "extend", "help"];

fn open(dump: &LabDump) -> Kernel {
    Kernel::open_files(&dump.files).unwrap_or_else(|error| panic!("{}: {error}", dump.name))
}

/// Every example of every command's help, and what it answers.
fn answers(dump: &LabDump) -> Vec<(String, String)> {
    let mut session = Session::new(open(dump));
    let file = dump.files[0].display().to_string();
    let name = dump.files[0].file_name().unwrap().to_str().unwrap();
    let commands = COMMANDS.iter().filter(|command| !LEFT_OUT.contains(&command.name));
    let lines = commands.flat_map(|command| {
        command.examples.iter().map(|(words, _)| format!("{} {words}", command.name))
    });
    lines
        .filter(|line| !line.contains(['|', '>', '!']))
        .map(|line| {
            let (mut data, mut remarks) = (Vec::new(), Vec::new());
            session.run_told(&line, &mut Output::text(&mut data, &mut remarks)).unwrap();
            let text = String::from_utf8_lossy(&data).replace(&file, "FILE").replace(name, "FILE");
            (line, text)
        })
        .collect()
}

/// The cause, and the report without the names of files.
fn story(dump: &LabDump, kernel: &Kernel) -> (String, String) {
    let report = report(kernel);
    let text = render_text(&report, &TextOptions::default());
    let text = text.replace(&dump.files[0].display().to_string(), "FILE");
    let told = text.lines().skip_while(|line| !line.contains("CAUSE")).collect::<Vec<_>>();
    (report.cause.cause.clone(), told.join("\n"))
}

#[test]
fn every_command_and_the_report_answer_alike() {
    let base = "k612-null-host";
    let elf = dump(base).unwrap();
    let theirs = answers(&elf);
    let told = story(&elf, &open(&elf)).1;
    let formats = ["migration", "migration-zstd", "qemu-paging", "elf-gzip", "elf-xz", "elf-lz4"];
    let wrong: Vec<String> = formats
        .into_par_iter()
        .flat_map_iter(|format| {
            let dump = dump(&format!("{base}.{format}")).unwrap();
            let mut wrong = Vec::new();
            if story(&dump, &open(&dump)).1 != told {
                wrong.push(format!("{}: another report", dump.name));
            }
            for ((line, theirs), (_, ours)) in theirs.iter().zip(answers(&dump)) {
                if is_of_the_machine(line) || *theirs == ours {
                    continue;
                }
                let first = theirs.lines().zip(ours.lines()).find(|(a, b)| a != b);
                wrong.push(format!("{}: {line}: {first:?}", dump.name));
            }
            wrong
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether the answer depends on what the container has beside RAM: QEMU's ELF dump holds video
/// memory and the BIOS too.
fn is_of_the_machine(line: &str) -> bool {
    line.starts_with("search -p") || line.starts_with("search -k")
}

#[test]
fn memory_without_registers_gives_the_same_cause() {
    for base in ["k612-null-host", "k510-hung-host"] {
        let elf = dump(base).unwrap();
        let whole = open(&elf);
        let cause = story(&elf, &whole).0;
        let tasks = whole.tasks().unwrap();
        for format in ["raw", "lime"] {
            let name = format!("{base}.{format}");
            let dump = dump(&name).unwrap();
            let kernel = open(&dump);
            assert!(kernel.image().cpus().is_empty() && kernel.image().vmcoreinfo().is_none());
            assert_eq!(kernel.kaslr_offset(), whole.kaslr_offset(), "{name}");
            assert_eq!(story(&dump, &kernel).0, cause, "{name}");
            assert_eq!(kernel.tasks().unwrap().list, tasks.list, "{name}");
            // Sleeping tasks need no registers.
            for task in tasks.list.iter().filter(|task| !task.active) {
                let frames =
                    |k: &Kernel| k.stack(task).frames.iter().map(|f| f.pc).collect::<Vec<_>>();
                assert_eq!(frames(&kernel), frames(&whole), "{name}: {}", task.comm);
            }
        }
    }
}

#[test]
fn registers_of_a_migration_stream_are_those_of_the_notes() {
    for base in ["k612-null-host", "k510-hung-host"] {
        let notes = open(&dump(base).unwrap());
        let stream = open(&dump(&format!("{base}.migration")).unwrap());
        for (theirs, ours) in notes.image().cpus().iter().zip(stream.image().cpus()) {
            let (theirs, ours) = (theirs.qemu.as_ref().unwrap(), ours.qemu.as_ref().unwrap());
            assert_eq!((theirs.gprs, theirs.rip), (ours.gprs, ours.rip), "{base}");
            // CR1 does not exist.
            assert_eq!((theirs.cr[0], &theirs.cr[2..]), (ours.cr[0], &ours.cr[2..]), "{base}");
            assert_eq!(theirs.gs.base, ours.gs.base, "{base}");
            assert_eq!(theirs.kernel_gs_base, ours.kernel_gs_base, "{base}");
        }
        assert_eq!(notes.image().cpus().len(), stream.image().cpus().len());
    }
}

/// What virsh writes, compressed in each of its ways, is one guest's memory.
#[test]
fn what_libvirt_writes_tells_one_story() {
    let lab = Lab::open().unwrap();
    for base in ["k61-sysrq-libvirt", "k612-null-libvirt"] {
        let elf = dump(base).unwrap();
        let whole = open(&elf);
        let told = story(&elf, &whole);
        assert_eq!(report(&whole).cause.kind.word(), elf.expect.kind, "{base}");
        let boot = lab.matrix().boots.iter().find(|boot| boot.name == base).unwrap();
        assert!(boot.formats.len() >= 3, "{base}");
        boot.formats.par_iter().for_each(|format| {
            let dump = dump(&format!("{base}.{}", format.name())).unwrap();
            let kernel = open(&dump);
            assert_eq!(story(&dump, &kernel), told, "{}", dump.name);
            assert_eq!(kernel.image().cpus().len(), 2, "{}", dump.name);
            assert_eq!(kernel.tasks().unwrap().list, whole.tasks().unwrap().list, "{}", dump.name);
        });
    }
}

/// What xl dumps of a guest, and kexec of a host, that is what was said on the console.
#[test]
fn what_xen_writes_has_the_end_of_the_console_in_its_log() {
    for base in ["k61-sysrq-xen-pv", "k61-null-xen-pvh", "k61-sysrq-xen-host"] {
        let dump = dump(base).unwrap();
        let kernel = open(&dump);
        assert_eq!(report(&kernel).cause.kind.word(), dump.expect.kind, "{base}");
        // A host's registers are the hypervisor's.
        if dump.boot.hypervisor != Hypervisor::XenHost {
            assert_eq!(kernel.image().cpus().len() as u32, dump.boot.cpus, "{base}");
        }
        assert_eq!(kernel.kaslr_offset(), dump.facts.console.kernel_offset, "{base}");
        let log = kernel.log().unwrap();
        let console = std::fs::read_to_string(&dump.console).unwrap();
        let end = console.lines().skip_while(|line| !line.contains("LAB-READY"));
        // The kernel that wrote the dump of the host speaks next.
        let end = end.take_while(|line| !line.contains("Linux version"));
        let end = end.filter(|line| line.starts_with('['));
        let said: Vec<&str> = end.filter_map(|line| Some(line.split_once("] ")?.1)).collect();
        assert!(said.len() > 3, "{base}: {said:?}");
        for line in said {
            let there = log.records.iter().any(|record| record.text.contains(line.trim()));
            assert!(there, "{base}: {line:?}");
        }
    }
}

/// Boots a guest of 5 GiB when it is not in the cache; its memory is mostly untouched.
#[test]
fn memory_on_both_sides_of_the_window_of_devices() {
    let base = "k61-sysrq-5g";
    let elf = dump(base).unwrap();
    let whole = open(&elf);
    let cause = story(&elf, &whole).0;
    for format in ["migration", "raw"] {
        let dump = dump(&format!("{base}.{format}")).unwrap();
        let kernel = open(&dump);
        assert_eq!(kernel.image().ram(), [0..3 << 30, 4 << 30..6 << 30], "{format}");
        assert_eq!(kernel.tasks().unwrap().list, whole.tasks().unwrap().list, "{format}");
        assert_eq!(story(&dump, &kernel).0, cause, "{format}");
    }
}
