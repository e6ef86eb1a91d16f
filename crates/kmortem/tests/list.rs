//! `list` on the bundled dump: each way to name a list finds the same structures.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Done, kmortem};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/hung-mutex-6.12.vmcore");

fn run(command: &str) -> Done {
    kmortem(["run", SAMPLE, "-c", command])
}

/// The lines of an answer.
fn lines(command: &str) -> Vec<String> {
    let done = run(command);
    assert_eq!(done.code, 0, "{command}: {done:?}");
    assert_eq!(done.stderr, "", "{command}");
    done.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn a_ring_is_the_same_from_its_head_and_from_its_members() {
    let modules = lines("list -H modules -o module.list");
    let listed = lines("mod").len() - 1;
    assert!(listed > 1);
    assert_eq!(modules.len(), listed);
    assert_eq!(lines("list module.list -H modules"), modules);
    assert_eq!(lines("list 8 -H modules"), modules, "the offset in bytes");
    // From a member on, the head is taken for one of them.
    let from_first = lines(&format!("list -h {} -o module.list", modules[0]));
    assert_eq!(from_first[..modules.len()], modules);
    assert_eq!(from_first.len(), modules.len() + 1);
}

#[test]
fn backwards_is_the_other_way_round() {
    let mut modules = lines("list -H modules -o module.list");
    modules.reverse();
    assert_eq!(lines("list -r -H modules -o module.list"), modules);
}

#[test]
fn an_end_is_not_shown() {
    let modules = lines("list -H modules -o module.list");
    let end = u64::from_str_radix(&modules[2], 16).unwrap() + 8;
    assert_eq!(lines(&format!("list -H modules -o module.list -e {end:x}")), modules[..2]);
}

#[test]
fn structures_are_shown_below_their_addresses() {
    let shown = lines("list -H modules -o module.list -s module.name");
    let name = |line: &String| Some(line.split('"').nth(1)?.split('\\').next()?.to_owned());
    let names: Vec<String> = shown.iter().filter_map(name).collect();
    let mut listed: Vec<String> =
        lines("mod").iter().skip(1).map(|l| l.split_whitespace().nth(1).unwrap().into()).collect();
    let mut found = names.clone();
    listed.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, listed);
    assert_eq!(shown.len(), 2 * names.len());
}

#[test]
fn a_list_without_heads_ends_at_what_leads_to_itself() {
    // The first task is its own parent.
    let parents = lines("list task_struct.real_parent -s task_struct.pid init_task");
    assert_eq!(parents.len(), 2, "{parents:?}");
}

#[test]
fn what_leads_nowhere_is_told() {
    // Text is no list: its words are no addresses.
    let done = run("list -H linux_banner");
    assert_eq!(done.stdout.lines().count(), 1, "{done:?}");
    assert!(done.stderr.starts_with("list: address 0x"), "{done:?}");
    let done = run("list 0");
    assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{done:?}");
    for usage in ["list", "list -H", "list -o nosuch.member -H modules", "list 1 2 3"] {
        let done = run(usage);
        assert_ne!(done.code, 0, "{usage}: {done:?}");
        assert!(!done.stderr.is_empty(), "{usage}");
    }
}
