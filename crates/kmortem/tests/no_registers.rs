//! A dump whose notes are gone: nobody has the registers of its CPUs. The
//! stacks of what was running start at a call that never returned, say so, and
//! lead on to where they lead with registers.

// A failed check of a test is a panic.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/hung-mutex-6.12.vmcore");
/// The sub header of a compressed dump is its second block.
const SUB_HEADER: usize = 4096;
/// `offset_note` and `size_note` of the sub header.
const NOTES: std::ops::Range<usize> = SUB_HEADER + 48..SUB_HEADER + 64;

fn frames(dump: &str) -> Vec<String> {
    let done = common::kmortem(["run", dump, "-c", "bt -p"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    done.stdout.lines().filter(|line| line.contains("] ")).map(str::to_owned).collect()
}

/// `function at address` of a frame.
fn function(line: &str) -> &str {
    let (_, name) = line.split_once("] ").unwrap();
    name.split(" (guess").next().unwrap()
}

#[test]
fn a_call_that_never_returned_starts_the_stack() {
    let mut bytes = fs::read(SAMPLE).unwrap();
    bytes[NOTES].fill(0);
    let folder = tempfile::tempdir().unwrap();
    let stripped = folder.path().join("vmcore");
    fs::write(&stripped, bytes).unwrap();

    let guessed = frames(stripped.to_str().unwrap());
    let first = guessed.first().unwrap();
    assert!(first.contains("panic at "), "{first}");
    assert!(first.contains("(guess: no registers of CPU "), "{first}");
    assert!(!guessed.iter().skip(1).any(|line| line.contains("guess")), "{guessed:#?}");

    let whole = frames(SAMPLE);
    let from_panic = whole.iter().map(|line| function(line)).skip_while(|f| *f != function(first));
    let guessed: Vec<&str> = guessed.iter().map(|line| function(line)).collect();
    assert_eq!(guessed, from_panic.collect::<Vec<_>>());
}
