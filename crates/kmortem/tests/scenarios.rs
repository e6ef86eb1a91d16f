//! Every dump of the lab gets the cause that its scenario has: the answer is
//! in `lab/scenarios/`, written before the dump was made.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Mutex;

use kmortem_diagnose::{Report, report};
use kmortem_kernel::Kernel;
use serde_json::Value;

mod lab;

#[test]
fn the_report_names_the_true_cause() {
    let hashes: Mutex<BTreeMap<String, BTreeMap<String, Vec<String>>>> = Mutex::default();
    lab::for_each_dump(&[], |dump| {
        if dump.name.ends_with(".truncated") {
            return Ok(());
        }
        let kernel = Kernel::open_files(&dump.files).map_err(|e| e.to_string())?;
        let report = report(&kernel);
        let mut wrong = Vec::new();
        cause(&report, dump, &mut wrong);
        stacks(&kernel, dump, &mut wrong);
        let mut hashes = hashes.lock().unwrap();
        let of_scenario = hashes.entry(dump.boot.kernel.clone() + " " + &dump.boot.scenario);
        let names = of_scenario.or_default().entry(report.signature.hash.clone()).or_default();
        names.push(dump.name.clone());
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n    ")) }
    });
    // One kernel that dies of one thing twice has one signature, whatever the
    // container, the page tables and the addresses were.
    let hashes = hashes.into_inner().unwrap();
    let torn: Vec<_> = hashes.iter().filter(|(_, names)| names.len() > 1).collect();
    assert!(torn.is_empty(), "several signatures for one death: {torn:#?}");
}

fn cause(report: &Report, dump: &kmortem_lab::LabDump, wrong: &mut Vec<String>) {
    let expect = &dump.expect;
    if report.cause.kind.word() != expect.kind {
        let (found, meant) = (report.cause.kind.word(), &expect.kind);
        wrong.push(format!("{found} instead of {meant}: {}", report.cause.cause));
    }
    // Every name must stand in the finding itself: sentence, evidence, pictures.
    let finding = serde_json::to_value(&report.cause).unwrap_or(Value::Null).to_string();
    for name in &expect.names {
        if !finding.contains(name.as_str()) {
            wrong.push(format!("{name} is not named: {}", report.cause.cause));
        }
    }
    // The objects that a person must know stand in the first sentences.
    let sentence = [&expect.waiter, &expect.holder, &expect.lock, &expect.cgroup];
    for name in sentence.into_iter().flatten() {
        if !report.cause.cause.contains(name.as_str()) {
            wrong.push(format!("the cause does not name {name}: {}", report.cause.cause));
        }
    }
    if let Some(module) = &expect.module
        && report.cause.module.as_ref() != Some(module)
    {
        wrong.push(format!("module {:?} instead of {module}", report.cause.module));
    }
}

/// The functions that the scenario called are on the stack of the task that it
/// names, innermost first.
fn stacks(kernel: &Kernel, dump: &kmortem_lab::LabDump, wrong: &mut Vec<String>) {
    let expect = &dump.expect;
    let checks = [
        (expect.waiter.as_ref().or(expect.comm.as_ref()), &expect.stack),
        (expect.holder.as_ref(), &expect.holder_stack),
    ];
    let Ok(tasks) = kernel.tasks() else { return wrong.push("no tasks".into()) };
    for (comm, functions) in checks {
        let Some(comm) = comm.filter(|_| !functions.is_empty()) else { continue };
        let mut candidates = tasks.list.iter().filter(|t| t.comm == *comm).peekable();
        if candidates.peek().is_none() {
            wrong.push(format!("no task {comm}"));
        }
        let found = candidates.any(|task| {
            let stack = kernel.stack(task);
            let mut frames = stack.frames.iter().map(|f| f.function());
            functions.iter().all(|wanted| frames.any(|f| f == wanted))
        });
        if !found {
            wrong.push(format!("{functions:?} are not on the stack of {comm}"));
        }
    }
}
