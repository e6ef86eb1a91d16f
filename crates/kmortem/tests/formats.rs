//! One memory in many containers gives one answer.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use kmortem_diagnose::report;
use kmortem_kernel::Kernel;
use kmortem_kernel::stack::StackEnd;
use kmortem_lab::Lab;
use kmortem_vmcore::overlay::Overlay;
use kmortem_vmcore::{Image, MappedFile, Source};

mod lab;

/// What must not depend on the container: (task, its frames) and the log. What
/// user space had in its memory is left out of filtered dumps.
fn answers(kernel: &Kernel) -> Result<(Vec<String>, Vec<String>), String> {
    let tasks = kernel.tasks().map_err(|e| e.to_string())?;
    let stacks = tasks.list.iter().map(|task| {
        let stack = kernel.stack(task);
        let frames: Vec<u64> = stack.frames.iter().map(|f| f.pc).collect();
        let end = match &stack.end {
            StackEnd::User { registers } => format!("user {:#x}", registers.ip()),
            other => format!("{other:?}"),
        };
        format!("{:#x} {} {} {frames:x?} {end}", task.addr, task.pid, task.comm)
    });
    let log = kernel.log().map_err(|e| e.to_string())?;
    let lines = log.records.iter().map(|r| format!("{} {}", r.ts_ns, r.text));
    Ok((stacks.collect(), lines.collect()))
}

#[test]
fn every_container_gives_the_answers_of_the_raw_memory() {
    let lab = Lab::open().unwrap();
    lab::for_each_dump(&[], |dump| {
        let Some((base, format)) = dump.name.split_once('.') else { return Ok(()) };
        // These two lack memory on purpose: see below.
        if matches!(format, "truncated" | "overfiltered") {
            return Ok(());
        }
        // These have no registers, so what ran is known less well: see host_formats.rs.
        if matches!(format, "raw" | "lime") {
            return Ok(());
        }
        let raw = lab.dump(base).map_err(|e| e.to_string())?;
        let raw = Kernel::open_files(&raw.files).map_err(|e| e.to_string())?;
        let kernel = Kernel::open_files(&dump.files).map_err(|e| e.to_string())?;
        let (theirs, ours) = (answers(&raw)?, answers(&kernel)?);
        if theirs.1 != ours.1 {
            return Err("another log".into());
        }
        let different = theirs.0.iter().zip(&ours.0).find(|(a, b)| a != b);
        if let Some((a, b)) = different {
            return Err(format!("{a}\n    is, in this container,\n    {b}"));
        }
        if theirs.0.len() != ours.0.len() {
            return Err(format!("{} tasks, {} in this container", theirs.0.len(), ours.0.len()));
        }
        Ok(())
    });
}

#[test]
fn a_dump_that_lost_memory_yields_what_it_has_and_says_what_is_missing() {
    // makedumpfile 1.7.2 takes slab pages of 6.12 for user data: task
    // structures are gone.
    let dump = kmortem_lab::dump("k612-sysrq.overfiltered").unwrap();
    let kernel = Kernel::open_files(&dump.files).unwrap();
    let report = report(&kernel);
    assert_eq!(report.cause.kind.word(), "sysrq", "{}", report.cause.cause);
    assert!(!report.missing.is_empty(), "nothing is said to be missing");
    assert!(kernel.log().unwrap().records.len() > 100);

    // The end of the file was cut off.
    let dump = kmortem_lab::dump("k61-sysrq.truncated").unwrap();
    let kernel = Kernel::open_files(&dump.files).unwrap();
    assert!(kernel.image().completeness().incomplete.is_some());
    let report = kmortem_diagnose::report(&kernel);
    assert!(!report.missing.is_empty(), "nothing is said to be missing");
}

/// The same memory without any notes: neither VMCOREINFO nor registers.
fn without_notes(file: &std::path::Path) -> Image {
    let source: Arc<dyn Source> = Arc::new(MappedFile::open(file).unwrap());
    let word = |at: u64, n: usize| {
        source.bytes(at, n).unwrap().iter().rev().fold(0u64, |v, b| v << 8 | u64::from(*b))
    };
    const PT_NOTE: u64 = 4;
    let (first, count) = (word(32, 8), word(56, 2));
    let notes = (0..count).map(|i| first + i * 56).filter(|at| word(*at, 4) == PT_NOTE);
    // PT_NULL: ignored.
    let blind = notes.fold(Overlay::new(source.clone()), |o, at| o.set(at, &[0; 4]));
    Image::from_sources(vec![("blind".to_owned(), Arc::new(blind))]).unwrap()
}

#[test]
fn the_kernel_is_found_in_memory_of_which_nothing_is_known() {
    for name in ["k510-hung", "k61-null-nokaslr", "k612-cgoom", "k7x-hung"] {
        let dump = kmortem_lab::dump(name).unwrap();
        let image = without_notes(&dump.files[0]);
        assert!(image.vmcoreinfo().is_none() && image.cpus().is_empty());
        let kernel = Kernel::open(image).unwrap_or_else(|e| panic!("{name}: {e}"));
        let whole = Kernel::open_files(&dump.files).unwrap();
        assert_eq!(kernel.kaslr_offset(), whole.kaslr_offset(), "{name}");
        let (ours, theirs) = (kernel.tasks().unwrap(), whole.tasks().unwrap());
        assert_eq!(ours.list, theirs.list, "{name}");
        // Sleeping tasks need no registers.
        for task in ours.list.iter().filter(|t| !t.active) {
            let frames = |k: &Kernel| k.stack(task).frames.iter().map(|f| f.pc).collect::<Vec<_>>();
            assert_eq!(frames(&kernel), frames(&whole), "{name}: {}", task.comm);
        }
        assert_eq!(report(&kernel).cause.kind.word(), dump.expect.kind, "{name}");
    }
}
