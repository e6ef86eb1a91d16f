//! The machine.

use super::Accepted;
use crate::diff::Hunk;

pub(super) const ROWS: &[Accepted] = &[
    Accepted {
        commands: &["sys"],
        explain: |hunk| hunk.take_pairs(debug_kernel),
        documented: "KERNEL names the debug kernel",
    },
    Accepted {
        commands: &["sys -t"],
        explain: taint_meanings,
        documented: "and a line for each letter that says what it means",
    },
];

fn debug_kernel(crash: &str, kmortem: &str) -> bool {
    let tainted = |line: &str| line.ends_with("  [TAINTED]");
    crash.starts_with("      KERNEL: /")
        && kmortem.starts_with("      KERNEL: (symbols and types of the dump)")
        && tainted(crash) == tainted(kmortem)
}

/// `           O: out-of-tree module was loaded`, for a letter of the mask.
fn taint_meanings(hunk: &mut Hunk) {
    let letters = hunk.before.split_whitespace().nth(2).unwrap_or("").to_owned();
    hunk.kmortem.retain(|line| {
        let letter = line.strip_prefix("           ").and_then(|l| l.split_once(": "));
        letter.is_none_or(|(letter, _)| letter.len() != 1 || !letters.contains(letter))
    });
}
