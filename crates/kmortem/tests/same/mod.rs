//! Whether two dumps are the same memory, and say the same.

// A helper of tests: its panic is the failure.
#![allow(clippy::unwrap_used, dead_code)]

use std::path::PathBuf;

use kmortem_diagnose::report;
use kmortem_kernel::Kernel;
use kmortem_vmcore::{Absent, Image};

/// Compares page for page, with the reasons why pages are absent, then what is asked of the
/// kernels: the report and all stacks.
pub(crate) fn compare(ours: &[PathBuf], theirs: &[PathBuf]) -> Result<(), String> {
    let open = |files: &[PathBuf]| Kernel::open_files(files).map_err(|e| e.to_string());
    let (ours, theirs) = (open(ours)?, open(theirs)?);
    same_pages(ours.image(), theirs.image())?;
    let (a, b) = (answers(&ours)?, answers(&theirs)?);
    match a == b {
        true => Ok(()),
        false => Err(format!("other answers:\n{a}\nwhere they were\n{b}")),
    }
}

pub(crate) fn same_pages(ours: &Image, theirs: &Image) -> Result<(), String> {
    if ours.ram() != theirs.ram() {
        return Err(format!("other RAM: {:x?}, was {:x?}", ours.ram(), theirs.ram()));
    }
    let size = theirs.page_size();
    let mut pages = 0;
    for run in theirs.ram() {
        for addr in (run.start..run.end).step_by(size as usize) {
            let (ours, theirs) = (ours.page(addr), theirs.page(addr));
            let same = match (&ours, &theirs) {
                (Ok(ours), Ok(theirs)) => **ours == **theirs,
                // The level is not known of every container.
                (Err(Absent::Filtered { .. }), Err(Absent::Filtered { .. })) => true,
                (Err(ours), Err(theirs)) => ours == theirs,
                _ => false,
            };
            if !same {
                let (ours, theirs) = (ours.map(drop), theirs.map(drop));
                return Err(format!("page {addr:#x} is {ours:?}, was {theirs:?}"));
            }
            pages += u64::from(theirs.is_ok());
        }
    }
    if pages < 1000 { Err(format!("only {pages} pages to compare")) } else { Ok(()) }
}

/// What is asked of both, and the registers as they came.
fn answers(kernel: &Kernel) -> Result<String, String> {
    Ok(format!("{}\n{:?}", told(kernel)?, kernel.image().cpus()))
}

/// The report without what it says of the container, and every stack.
pub(crate) fn told(kernel: &Kernel) -> Result<String, String> {
    let mut report = serde_json::to_value(report(kernel)).map_err(|e| e.to_string())?;
    report
        .as_object_mut()
        .and_then(|report| report.remove("dump"))
        .ok_or("no dump in the report")?;
    let tasks = kernel.tasks().map_err(|e| e.to_string())?;
    let stacks = tasks.list.iter().map(|task| {
        let frames: Vec<u64> = kernel.stack(task).frames.iter().map(|frame| frame.pc).collect();
        format!("{} {} {frames:x?}", task.pid, task.comm)
    });
    let stacks: Vec<String> = stacks.collect();
    Ok(format!("{report:#}\n{}", stacks.join("\n")))
}
