//! Four dumps, asked the same questions as crash 9 with the debug vmlinux.
//!
//! crash is asked once per dump, for all commands: its start takes seconds. The
//! answers are compared line by line, after what [`answer`] does to both. A
//! difference must be one of those in [`accepted`], each of which the page for
//! users explains; every other one fails with dump, command and lines.
//!
//! `cargo test --features lab --test crash -- --nocapture` shows how much is
//! equal, and what is accepted where.

use std::collections::BTreeMap;
use std::sync::Mutex;

use kmortem_lab::{Lab, LabDump};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

mod accepted;
mod answer;
#[path = "../common/mod.rs"]
mod common;
mod diff;

use accepted::ACCEPTED;
use diff::Hunk;

const DUMPS: [&str; 4] = ["k510-hung", "k61-softlockup", "k612-null", "k61-sysrq"];

const COMMANDS: &[&str] = &[
    "ps",
    "ps -k",
    "ps -u",
    "ps -s",
    "ps -l",
    "ps -m",
    "ps -t",
    "ps -p 1",
    "ps -c 1",
    "ps -g 1",
    "ps -S",
    "log",
    "log -t",
    "log -m",
    "log -T",
    "mod",
    "runq",
    "runq -t",
    "runq -m",
    "mount",
    "net",
    "net -s 1",
    "kmem -s",
    "kmem -i",
    "dev -d",
    "files",
    "files 1",
    "foreach files",
    "foreach bt",
    "bt",
    "bt -a",
    "bt 1",
    "bt 2",
    "set",
    "sys",
    "sys -t",
];

/// Full of times that crash rounds, or gets wrong: compared like the others,
/// but left out of what is counted.
const TIMES: [&str; 2] = ["ps -t", "log -T"];

/// Of all lines counted, this part at least is equal as it stands.
const LEAST_EQUAL: f64 = 0.95;

/// What a comparison found.
#[derive(Default)]
struct Tally {
    answers: usize,
    equal_answers: usize,
    lines: usize,
    differing_lines: usize,
    /// Command, and the lines that each row of the table explains there.
    explained: BTreeMap<String, BTreeMap<&'static str, usize>>,
    wrong: Vec<String>,
}

#[test]
fn crash_agrees_but_for_what_is_documented() {
    let lab = Lab::open().unwrap();
    let peers = lab.peer_programs().unwrap();
    let crash = &peers.iter().find(|peer| peer.name == "crash-sid").unwrap().path;
    let total = Mutex::new(Tally::default());
    DUMPS.into_par_iter().for_each(|name| {
        let dump = lab.dump(name).unwrap();
        let vmlinux = lab.vmlinux(&dump.boot.kernel).unwrap().path;
        let answers = answer::of_crash(crash, &vmlinux, &dump, COMMANDS);
        let mut total = total.lock().unwrap();
        match answers {
            Ok(answers) => compare(&dump, &answers, &mut total),
            Err(why) => total.wrong.push(format!("{name}: {why}")),
        }
    });
    let total = total.into_inner().unwrap();
    assert!(total.wrong.is_empty(), "{}", total.wrong.join("\n"));
    let equal = 1.0 - total.differing_lines as f64 / total.lines as f64;
    println!(
        "{} of {} answers are equal as they stand, and {:.1} % of {} lines; accepted:",
        total.equal_answers,
        total.answers,
        equal * 100.0,
        total.lines
    );
    for (place, rows) in &total.explained {
        for (why, lines) in rows {
            println!("  {place}: {lines} lines: {why}");
        }
    }
    assert!(equal > LEAST_EQUAL, "only {:.1} % of the lines are equal", equal * 100.0);
}

fn compare(dump: &LabDump, crash: &[Vec<String>], total: &mut Tally) {
    for (command, theirs) in COMMANDS.iter().zip(crash) {
        let place = format!("{}: {command}", dump.name);
        let ours = match answer::of_kmortem(dump, command) {
            Ok(ours) => ours,
            Err(why) => {
                total.wrong.push(format!("{}: {why}", dump.name));
                continue;
            }
        };
        let mut hunks = diff::hunks(theirs, &ours);
        if !TIMES.contains(command) {
            total.answers += 1;
            total.equal_answers += usize::from(hunks.is_empty());
            total.lines += theirs.len().max(ours.len());
            total.differing_lines += hunks.iter().map(Hunk::lines).sum::<usize>();
        }
        for hunk in &mut hunks {
            for row in ACCEPTED.iter().filter(|row| row.commands.contains(command)) {
                let before = hunk.lines();
                (row.explain)(hunk);
                let explained = before - hunk.lines();
                if explained > 0 {
                    let rows = total.explained.entry(place.clone()).or_default();
                    *rows.entry(row.documented).or_default() += explained;
                }
            }
        }
        // One is enough to look into: the first.
        if let Some(hunk) = hunks.iter().find(|hunk| hunk.lines() > 0) {
            let side = |mark: &str, lines: &[String]| -> String {
                lines.iter().map(|line| format!("\n  {mark} {line}")).collect()
            };
            total.wrong.push(format!(
                "{place}: behind `{}`{}{}",
                hunk.before,
                side("crash  ", &hunk.crash),
                side("kmortem", &hunk.kmortem)
            ));
        }
    }
}

#[test]
fn every_accepted_difference_is_documented() {
    let page = include_str!("../../../../docs/crash-differences.md");
    for row in ACCEPTED {
        assert!(page.contains(row.documented), "not on the page: {}", row.documented);
        for command in row.commands {
            assert!(COMMANDS.contains(command), "{command} is never asked");
        }
    }
}
