//! Dumps of several kernels, asked the same questions as crash 9 with the
//! debug vmlinux: every command with its options (`cases/`), line by line,
//! after what [`normal`] does to both. A difference must be one of those in
//! [`accepted`], each of which the page for users explains; every other one
//! fails with dump, command and lines.
//!
//! `cargo test --features lab --test crash -- --nocapture` shows how much is
//! equal, and what is accepted where. `KMORTEM_CASES='kmem -s*'` asks only
//! what fits, `KMORTEM_DUMPS=k61-live` only that dump, and `KMORTEM_HUNKS=20`
//! shows what is accepted, up to 20 lines of each.

// A helper of tests: its panic is the failure.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kmortem_kernel::Kernel;
use kmortem_lab::Lab;
use rayon::prelude::*;

mod accepted;
mod answer;
mod cases;
#[path = "../common/mod.rs"]
mod common;
mod diff;
mod names;
mod normal;

use answer::Crash;
use cases::Variables;
use diff::{About, Hunk};
use names::Names;

/// Kernels that crash 9.0.2 can open, in different deaths.
const DUMPS: [&str; 3] = ["k510-hung", "k61-pileup", "k612-null"];

/// Of all cases, this part at least is equal as it stands.
const LEAST_EQUAL_CASES: f64 = 0.95;

/// Of all lines, this part at least is equal as it stands.
const LEAST_EQUAL_LINES: f64 = 0.95;

/// What a comparison found.
#[derive(Default)]
struct Tally {
    cases: usize,
    equal_cases: usize,
    lines: usize,
    differing_lines: usize,
    /// Cases that kill crash.
    deadly: Vec<String>,
    /// Command, and the lines that each row of the table explains there.
    explained: BTreeMap<String, BTreeMap<&'static str, usize>>,
    wrong: Vec<String>,
}

#[test]
fn crash_agrees_but_for_what_is_documented() {
    let lab = Lab::open().unwrap();
    let peers = lab.peer_programs().unwrap();
    let crash = &peers.iter().find(|peer| peer.name == "crash-sid").unwrap().path;
    let only = std::env::var("KMORTEM_CASES").ok();
    let mut asked = cases::all();
    asked.retain(|case| only.as_ref().is_none_or(|only| accepted::matches(only, case)));
    let dumps: Vec<String> = match std::env::var("KMORTEM_DUMPS") {
        Ok(names) => names.split(',').map(str::to_owned).collect(),
        Err(_) => DUMPS.map(str::to_owned).to_vec(),
    };
    let total = Mutex::new(Tally::default());
    dumps.into_par_iter().for_each(|name| {
        let dump = lab.dump(&name).unwrap();
        let vmlinux = lab.vmlinux(&dump.boot.kernel).unwrap().path;
        let crash = Crash { program: crash, vmlinux: &vmlinux, dump: &dump };
        if let Err(why) = compare(&crash, &asked, &total) {
            total.lock().unwrap().wrong.push(format!("{name}: {why}"));
        }
    });
    let total = total.into_inner().unwrap();
    let equal_cases = total.equal_cases as f64 / total.cases as f64;
    let equal_lines = 1.0 - total.differing_lines as f64 / total.lines as f64;
    for (place, rows) in &total.explained {
        for (why, lines) in rows {
            println!("  {place}: {lines} lines: {why}");
        }
    }
    println!(
        "{} of {} cases ({:.1} %) and {:.2} % of {} lines are equal as they stand; {} kill crash {:?}",
        total.equal_cases,
        total.cases,
        equal_cases * 100.0,
        equal_lines * 100.0,
        total.lines,
        total.deadly.len(),
        total.deadly,
    );
    assert!(total.wrong.is_empty(), "{}\n{} cases", total.wrong.join("\n"), total.wrong.len());
    if only.is_none() {
        assert!(equal_cases > LEAST_EQUAL_CASES && equal_lines > LEAST_EQUAL_LINES);
    }
}

/// Asks both about one dump.
fn compare(crash: &Crash<'_>, asked: &[String], total: &Mutex<Tally>) -> Result<(), String> {
    let questions = cases::QUESTIONS.map(str::to_owned);
    let mut known = crash.answers(&questions)?;
    let symbols = known.pop().flatten().ok_or("no symbols")?;
    let variables = Variables::of(&known);
    let asked: Vec<(&String, String)> =
        asked.iter().filter_map(|case| Some((case, variables.fill(case)?))).collect();
    let commands: Vec<String> = asked.iter().map(|(_, command)| command.clone()).collect();
    let theirs = crash.answers(&commands)?;
    let kernel = Kernel::open_files(&crash.dump.files).map_err(|e| e.to_string())?;
    let names = Names::new(&symbols, &kernel)?;
    let about = Arc::new(About { ahead_s: ahead_s(&kernel)?, kernel: Some(kernel) });
    asked.par_iter().zip(theirs).for_each(|((case, command), theirs)| {
        let place = format!("{}: {case}", crash.dump.name);
        let Some(theirs) = theirs else {
            total.lock().unwrap().deadly.push(place);
            return;
        };
        let theirs = normal::of_crash(command, &theirs);
        let ours = normal::of_kmortem(command, &answer::of_kmortem(crash.dump, command));
        let mut hunks = match command.as_str() {
            "sym -l" => diff::hunks_by_address(&theirs, &ours),
            _ => diff::hunks(&theirs, &ours),
        };
        hunks.iter_mut().for_each(|hunk| {
            names.take_same(hunk);
            hunk.about = Arc::clone(&about);
        });
        hunks.retain(|hunk| hunk.lines() > 0);
        let mut total = total.lock().unwrap();
        total.lines += theirs.len().max(ours.len());
        judge(place, case, hunks, &mut total);
    });
    Ok(())
}

/// By how many seconds crash's uptime is ahead of the timekeeper's. It counts
/// ticks from `Clock::jiffies_uptime_ns`'s start: a guest on a busy host
/// loses some. Where the kernel has no configuration in it, it takes a tick for
/// 1 ms, and its start for 300,000 ticks before the boot.
fn ahead_s(kernel: &Kernel) -> Result<[i64; 2], String> {
    let clock = kernel.clock().map_err(|e| e.to_string())?;
    let ticks = clock.jiffies_uptime_ns().ok_or("no jiffies")? as i64;
    let jiffies = clock.jiffies.ok_or("no jiffies")?;
    let of_1_ms = jiffies.wrapping_sub(u64::from(300_000u32.wrapping_neg())) as i64 / 1000;
    let ours = clock.monotonic_ns / 1_000_000_000;
    Ok([ticks / 1_000_000_000 - ours, of_1_ms - ours])
}

/// Counts what is equal, and takes away what is accepted.
fn judge(place: String, case: &str, mut hunks: Vec<Hunk>, total: &mut Tally) {
    total.cases += 1;
    total.equal_cases += usize::from(hunks.is_empty());
    total.differing_lines += hunks.iter().map(Hunk::lines).sum::<usize>();
    if let Some(lines) = std::env::var("KMORTEM_HUNKS").ok().and_then(|n| n.parse().ok()) {
        hunks.iter().for_each(|hunk| println!("{place}: {}", hunk.shown(lines)));
    }
    for hunk in &mut hunks {
        for row in accepted::all().filter(|row| row.is_for(case)) {
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
    let left: Vec<&Hunk> = hunks.iter().filter(|hunk| hunk.lines() > 0).collect();
    if let Some(hunk) = left.first() {
        total.wrong.push(format!("{place}: {} hunks; {}", left.len(), hunk.shown(12)));
    }
}

#[test]
fn every_accepted_difference_is_documented() {
    let page = include_str!("../../../../docs/crash-differences.md");
    let cases = cases::all();
    for row in accepted::all() {
        assert!(page.contains(row.documented), "not on the page: {}", row.documented);
        for pattern in row.commands {
            let asked = cases.iter().any(|case| accepted::matches(pattern, case));
            assert!(asked, "{pattern} is never asked");
        }
    }
}
