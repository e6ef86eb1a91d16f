//! drgn's `%crash` commands show what crash's commands show, in columns of its
//! own: lines are compared as words. Punctuation does not count, nor do lines
//! without a digit (titles), nor the order of lines (drgn lists some things as
//! it finds them). What else differs in a command is told in [`fold`].

use std::collections::BTreeMap;
use std::fmt::Write;

use kmortem_lab::LabDump;
use serde_json::Value;

use crate::common::{Done, kmortem};

/// Differing lines shown of a command on a dump.
const SHOWN: usize = 4;

/// Commands of which drgn shows a part: the ports, the neighbours of IPv4.
const PART: [&str; 2] = ["dev -i", "net -a"];

/// Where a guest may have nothing to show.
const MAY_BE_EMPTY: [&str; 6] = ["bpf", "ipcs", "net -a", "swap", "files 1", "vm 1"];

const NUMA_EVENTS: [&str; 6] =
    ["NUMA_HIT", "NUMA_MISS", "NUMA_FOREIGN", "NUMA_INTERLEAVE_HIT", "NUMA_LOCAL", "NUMA_OTHER"];

/// What drgn says of the interrupt descriptor table of another architecture.
const ONLY_X86: &str = "ValueError: -d is only supported on x86";

/// Lines that were compared, at least.
const LEAST: usize = 3000;

/// What is wrong on one dump.
pub(crate) fn compare(dump: &LabDump, drgn: &Value) -> Vec<String> {
    let Some(answers) = drgn.as_object() else { return vec![format!("%crash: {drgn}")] };
    let folder = tempfile::tempdir().unwrap();
    let mut args: Vec<String> = vec!["run".into()];
    args.extend(dump.files.iter().map(|file| file.to_string_lossy().into_owned()));
    let (refused, answers): (Vec<_>, Vec<_>) =
        answers.iter().partition(|(_, theirs)| theirs["error"] == ONLY_X86);
    let file = |i: usize| folder.path().join(i.to_string());
    let mut wrong = Vec::new();
    for (line, theirs) in refused {
        let Done { code, stdout, .. } = kmortem([&args[..], &["-c".into(), line.clone()]].concat());
        if code == 0 || !stdout.is_empty() {
            wrong.push(format!("%crash {line}: {theirs}, here {stdout}"));
        }
    }
    for (i, (line, _)) in answers.iter().enumerate() {
        args.extend(["-c".into(), format!("{line} > {}", file(i).display())]);
    }
    let Done { code, stdout, stderr } = kmortem(&args);
    if code != 0 || !stdout.is_empty() {
        wrong.push(format!("code {code}: {stdout}{stderr}"));
    }
    let mut compared = 0;
    for (i, (line, theirs)) in answers.iter().enumerate() {
        let Ok(ours) = std::fs::read(file(i)) else {
            wrong.push(format!("{line}: no answer here"));
            continue;
        };
        let Some(theirs) = theirs.as_str() else {
            wrong.push(format!("%crash {line}: {theirs}"));
            continue;
        };
        let ours = folded(line, &String::from_utf8_lossy(&ours));
        let theirs = folded(line, theirs);
        let lines: usize = theirs.values().sum();
        if lines == 0 && !MAY_BE_EMPTY.contains(&line.as_str()) {
            wrong.push(format!("%crash {line}: nothing to compare"));
        }
        compared += lines;
        wrong.extend(differ(line, &ours, &theirs));
    }
    if compared < LEAST {
        wrong.push(format!("%crash: only {compared} lines to compare"));
    }
    wrong
}

fn differ(line: &str, ours: &Lines, theirs: &Lines) -> Option<String> {
    let only = |of: &Lines, other: &Lines| -> Vec<String> {
        let more = |(text, n): (&String, &usize)| {
            (*n > other.get(text).copied().unwrap_or(0)).then(|| text.clone())
        };
        of.iter().filter_map(more).collect()
    };
    let drgn = only(theirs, ours);
    let here = if PART.contains(&line) { Vec::new() } else { only(ours, theirs) };
    if drgn.is_empty() && here.is_empty() {
        return None;
    }
    let mut text =
        format!("%crash {line}: {} lines only drgn, {} only here", drgn.len(), here.len());
    for (who, lines) in [("drgn", drgn), ("here", here)] {
        for line in lines.iter().take(SHOWN) {
            let _ = write!(text, "\n        {who}: {line}");
        }
    }
    Some(text)
}

/// Lines, and how often each is there.
type Lines = BTreeMap<String, usize>;

fn folded(command: &str, answer: &str) -> Lines {
    let mut lines = Lines::new();
    for line in answer.lines() {
        let line = line.replace(['[', ']', '"', ':', '<', '>', '(', ')', ','], " ");
        let mut words: Vec<String> =
            line.split_whitespace().map(|w| w.trim_start_matches("0x").to_owned()).collect();
        fold(command, &mut words);
        let line = words.join(" ");
        if line.contains(|c: char| c.is_ascii_digit()) {
            *lines.entry(line).or_default() += 1;
        }
    }
    lines
}

/// What drgn writes in another way than crash.
fn fold(command: &str, words: &mut Vec<String>) {
    match command {
        // crash has the flow of an interrupt behind its chip.
        "irq -s" => each(words, |word| {
            ["-edge", "-fasteoi", "-level"].iter().find_map(|flow| word.strip_suffix(flow))
        }),
        // drgn gives no name to a clock.
        "timer -r" => {
            words.retain(|w| !w.starts_with("HRTIMER_BASE_") && !w.starts_with("ktime_get"));
        }
        // drgn takes every device for an endpoint of PCI Express. crash writes
        // the numbers of vendor and device without zeros in front.
        "dev -p" => {
            words.truncate(5.max(words.len().saturating_sub(1)));
            each(words, |word| (word.len() == 4).then(|| word.trim_start_matches('0')));
        }
        // drgn makes a port as wide as the last one.
        "dev -i" => {
            if let Some(range) = words.get_mut(1) {
                let ports = range.split('-').map(|port| port.trim_start_matches('0'));
                *range = ports.collect::<Vec<_>>().join("-");
            }
        }
        "ipcs" => each(words, |word| match word {
            "SHM_LOCKED" => Some("locked"),
            "SHM_DEST" => Some("dest"),
            _ => None,
        }),
        "ps" | "ps -l" => {
            each(words, one_letter);
            // %MEM: crash cuts, drgn rounds.
            words.retain(|word| !(word.len() < 6 && word.contains('.')));
        }
        "runq -t" | "kmem -g" => each(words, |word| Some(word.trim_start_matches('0'))),
        // crash cuts, drgn rounds.
        "swap" => words.retain(|word| !word.ends_with('%')),
        // drgn counts the init part of a module that is being loaded.
        "mod" if words.get(1).is_some_and(|name| name == "crasher") => drop(words.remove(3)),
        // crash does not name the kinds of mobility. Its START_MAPNR counts
        // from the start of the node, drgn's START_PFN from 0.
        "kmem -f" => {
            if words.get(1).is_some_and(|word| word.starts_with(|c: char| c.is_alphabetic())) {
                words.pop();
            }
            words.retain(|word| word.len() < 3 || word.contains(|c: char| !c.is_ascii_uppercase()));
        }
        // A block of memory: crash has its end of kernels that note it in the block.
        "kmem -n" => {
            words.retain(|word| word != "----");
            if words.get(3).is_some_and(|word| word == "-") {
                words.drain(3..5);
            }
        }
        // Other names of the line behind; events of NUMA, which drgn shows without
        // those that CPUs have not handed in, and crash not at all.
        "kmem -V" | "kmem -z"
            if words.first().is_some_and(|name| {
                name.ends_with("_BASE") || NUMA_EVENTS.contains(&name.as_str())
            }) =>
        {
            words.clear();
        }
        // drgn shows no counter below zero.
        "kmem -V" | "kmem -z" => {
            each(words, |word| word.starts_with('-').then_some("0"));
        }
        // drgn names areas without a file.
        "vm 1" => words.retain(|word| {
            !["heap", "stack", "vdso", "vvar", "vvar_vclock", "vsyscall"].contains(&&**word)
        }),
        // In another order.
        "foreach sig" | "sig 1" => {
            for word in words.iter_mut().filter(|word| word.contains('|')) {
                let mut flags: Vec<&str> = word.split('|').collect();
                flags.sort_unstable();
                *word = flags.join("|");
            }
        }
        _ => {}
    }
}

fn each(words: &mut [String], change: impl Fn(&str) -> Option<&str>) {
    for word in words {
        if let Some(other) = change(word) {
            *word = other.to_owned();
        }
    }
}

/// crash has two letters for a state.
fn one_letter(state: &str) -> Option<&str> {
    Some(match state {
        "RU" => "R",
        "IN" => "S",
        "UN" => "D",
        "ID" => "I",
        "ST" => "T",
        "TR" => "t",
        "ZO" => "Z",
        "DE" => "X",
        "PA" => "P",
        "NE" => "N",
        _ => return None,
    })
}
