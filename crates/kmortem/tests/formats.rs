//! One memory in many containers gives one answer.

use kmortem_diagnose::report;
use kmortem_kernel::Kernel;
use kmortem_kernel::stack::StackEnd;
use kmortem_lab::Lab;

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
    lab::for_each_standard_dump(|dump| {
        let Some((base, format)) = dump.name.split_once('.') else { return Ok(()) };
        // These two lack memory on purpose: see below.
        if matches!(format, "truncated" | "overfiltered") {
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
