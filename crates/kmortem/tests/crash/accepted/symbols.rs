//! Symbols, and code.

use super::{Accepted, hex};

pub(super) const ROWS: &[Accepted] = &[
    Accepted {
        commands: &["sym*"],
        explain: |hunk| hunk.take_pairs(other_letter),
        documented: "`(?)` for data of modules, per-CPU symbols `(D)`",
    },
    Accepted {
        commands: &["dis*", "sym*"],
        explain: |hunk| hunk.take_pairs(|crash, kmortem| uncut(kmortem) == uncut(crash)),
        documented: "`.isra.0`, `.part.0` cut off names",
    },
    Accepted {
        commands: &["dis*"],
        explain: |hunk| hunk.take_pairs(|crash, kmortem| nameless(crash) == nameless(kmortem)),
        documented: "of names that share an address, another one now and then",
    },
    Accepted {
        commands: &["dis entry_SYSCALL_64"],
        explain: |hunk| {
            if hunk.kmortem.is_empty() {
                const LABELS: [&str; 3] =
                    [" <entry_SYSCALL_64_", " <entry_SYSRETQ_", " <syscall_return_via_sysret"];
                hunk.crash.retain(|line| !LABELS.iter().any(|label| line.contains(label)));
            }
        },
        documented: "assembler code that has labels of its own ends at the first of them",
    },
    Accepted {
        commands: &["sym -M"],
        explain: |hunk| {
            if hunk.before.contains(" MODULE INIT_") && hunk.crash.is_empty() {
                hunk.kmortem.retain(|line| !line.contains(" (t) ") && !line.contains(" (d) "));
            }
        },
        documented: "functions of a module that is still starting",
    },
    Accepted {
        commands: &["search *"],
        explain: |hunk| {
            let begins = |line: &str, start: &str| line.starts_with(start);
            // The 2 GB that the kernel's image is mapped in, which crash reads through.
            hunk.crash.retain(|line| !begins(line, "ffffffff"));
        },
        documented: "at addresses of the kernel's image that map nothing",
    },
    Accepted {
        commands: &["search -h -k dead"],
        explain: |hunk| {
            if hunk.crash.is_empty() {
                hunk.kmortem.retain(|line| !line.ends_with(": dead"));
            }
        },
        documented: "memory of a dump beside RAM",
    },
    Accepted {
        commands: &["sym*"],
        explain: |hunk| hunk.take_pairs(without_source),
        documented: "`dis`, `sym`: source lines",
    },
    Accepted {
        commands: &["sym*"],
        explain: |hunk| hunk.crash.retain(|line| !is_left_out(line)),
        documented: "symbols of the file only",
    },
];

/// `line` without `.isra.0` and its like behind names.
fn uncut(line: &str) -> String {
    const ENDS: [&str; 4] = [".isra", ".part", ".constprop", ".cold"];
    let mut rest = line;
    let mut cut = String::new();
    while let Some(at) = ENDS.iter().filter_map(|end| rest.find(end)).min() {
        cut.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let word = behind.trim_start_matches(|c: char| c.is_ascii_lowercase());
        let number = word.strip_prefix('.').unwrap_or(word);
        rest = number.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    cut + rest
}

/// A line of code without the names in it: `<__memcpy+2>` is `<+2>`. The names'
/// addresses, and the offsets from them, have to be the same.
fn nameless(line: &str) -> String {
    let mut parts = line.split('<');
    let mut without = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        without.push('<');
        without.push_str(part.trim_start_matches(|c| !matches!(c, '+' | '>')));
    }
    without
}

/// `ffff... (T) schedule .../kernel/sched/core.c: 6833`
fn without_source(crash: &str, kmortem: &str) -> bool {
    let source = crash.strip_prefix(kmortem).and_then(|rest| rest.strip_prefix(' '));
    source.and_then(|source| source.split_once(": ")).is_some_and(|(file, line)| {
        (file.ends_with(".c") || file.ends_with(".h") || file.ends_with(".S"))
            && line.bytes().all(|b| b.is_ascii_digit())
    })
}

/// `ffff... (?) name`, but for what stands in the parentheses.
fn other_letter(crash: &str, kmortem: &str) -> bool {
    let parts = |line: &str| -> Option<(u64, char, String)> {
        let (address, rest) = line.split_once(" (")?;
        let (letter, name) = rest.split_once(") ")?;
        Some((hex(address)?, letter.parse().ok()?, name.to_owned()))
    };
    let (Some(theirs), Some(ours)) = (parts(crash), parts(kmortem)) else { return false };
    let same = theirs.0 == ours.0 && (theirs.2 == ours.2 || uncut(&theirs.2) == uncut(&ours.2));
    same && match (theirs.1, ours.1) {
        // Data of modules has no letter in crash, absolute symbols have that of data.
        ('?', _) | ('D' | 'd', 'A') => true,
        // What modules export.
        (theirs, ours) => theirs.eq_ignore_ascii_case(&ours),
    }
}

/// What the file of a kernel or module names, and the kernel does not keep
/// (scripts/mksysmap, scripts/kallsyms.c): local labels, tables of symbols.
fn is_left_out(line: &str) -> bool {
    let Some((_, name)) = line.split_once(") ") else { return false };
    name.starts_with('.')
        || ["kallsyms_", "__ksymtab", "__kcrctab", "__kstrtab", "__crc_"]
            .iter()
            .any(|start| name.starts_with(start))
}
