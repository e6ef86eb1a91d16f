//! Timers.

use super::Accepted;
use crate::diff::Hunk;

pub(super) const ROWS: &[Accepted] = &[
    Accepted {
        commands: &["timer", "timer -C*"],
        explain: |hunk| hunk.take_pairs(name_of_base),
        documented: "the bases of a CPU are BASE_STD and BASE_DEF",
    },
    Accepted {
        commands: &["timer", "timer -C*"],
        explain: third_base,
        documented: "crash misses all deferrable timers there",
    },
    Accepted {
        commands: &["timer -r*"],
        explain: |hunk| {
            let ahead = hunk.about.ahead_s;
            hunk.take_pairs(|crash, kmortem| now(crash, kmortem, ahead));
        },
        documented: "`timer -r`: CURRENT, and TTE from it, from jiffies",
    },
    Accepted {
        commands: &["timer -r*"],
        explain: |hunk| hunk.take_pairs(same_titles),
        documented: "`timer -r`: widths of columns from the last timer's numbers",
    },
];

/// `TIMER_BASES[0][BASE_STD]: ff2e...`: the names of two bases of three.
fn name_of_base(crash: &str, kmortem: &str) -> bool {
    kmortem == crash.replace("[BASE_STD]", "[BASE_LOCAL]").replace("[BASE_DEF]", "[BASE_GLOBAL]")
}

/// The third base of a CPU, up to the next one's first.
fn third_base(hunk: &mut Hunk) {
    if hunk.crash.is_empty() && hunk.kmortem.iter().any(|line| line.contains("][BASE_DEF]: ")) {
        hunk.kmortem.clear();
    }
}

/// Lines alike, but for the time in ns that is now, or that is left from now:
/// by as much as crash's count of ticks is off, both to a second.
fn now(crash: &str, kmortem: &str, ahead_s: [i64; 2]) -> bool {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (theirs, ours) = (words(crash), words(kmortem));
    let at = match theirs.len() {
        1 => 0,
        _ => 2,
    };
    let others_differ = theirs.iter().zip(&ours).enumerate().any(|(i, (a, b))| i != at && a != b);
    let number = |words: &[String]| words.get(at).and_then(|word| word.parse::<i64>().ok());
    let (Some(then), Some(now)) = (number(&theirs), number(&ours)) else { return false };
    // What is left is less by what the present is ahead.
    let ahead = if at == 0 { then - now } else { now - then };
    theirs.len() == ours.len()
        && !others_differ
        && ahead_s.iter().any(|s| (ahead - s * 1_000_000_000).abs() < 2_000_000_000)
}

fn same_titles(crash: &str, kmortem: &str) -> bool {
    crash.trim_start().starts_with("SOFTEXPIRES ")
        && crash.split_whitespace().eq(kmortem.split_whitespace())
}
