//! Memory of tasks.

use super::{Accepted, words_differ};

pub(super) const ROWS: &[Accepted] = &[
    Accepted {
        commands: &["ps*", "foreach*ps*"],
        explain: |hunk| hunk.take_pairs(less_memory),
        documented: "RSS leaves out what the process counts below zero",
    },
    Accepted {
        commands: &["foreach set"],
        explain: |hunk| hunk.take_pairs(first_of_several),
        documented: "(1 of 2) for each of several tasks with PID 0",
    },
];

/// `   TASK: ff2e...  (1 of 2)  [THREAD_INFO: ...]`, which is another one.
fn first_of_several(crash: &str, kmortem: &str) -> bool {
    let parts = |line: &str| -> Option<(String, String, String)> {
        let (before, rest) = line.split_once("  (")?;
        let (which, behind) = rest.split_once(" of ")?;
        Some((before.to_owned(), which.to_owned(), behind.to_owned()))
    };
    let (Some(theirs), Some(ours)) = (parts(crash), parts(kmortem)) else { return false };
    crash.starts_with("   TASK: ") && theirs.1 == "1" && (theirs.0, theirs.2) == (ours.0, ours.2)
}

/// Both lines of `ps` alike, but for numbers at whose column and difference
/// (crash's less kmortem's) `differ` holds.
fn columns_differ(crash: &str, kmortem: &str, differ: impl Fn(usize, f64) -> bool) -> bool {
    // The mark of a running task is a word of its own.
    let marked = usize::from(crash.starts_with('>'));
    words_differ(crash, kmortem, |i, theirs, ours| {
        let (Ok(theirs), Ok(ours)) = (theirs.parse::<f64>(), ours.parse::<f64>()) else {
            return false;
        };
        differ(i.wrapping_sub(marked), theirs - ours)
    })
}

const PERCENT: usize = 5;

const RSS: usize = 7;

fn less_memory(crash: &str, kmortem: &str) -> bool {
    let rss =
        |line: &str| line.trim_start_matches('>').split_whitespace().nth(RSS).map(str::to_owned);
    let differs = rss(crash) != rss(kmortem);
    differs
        && columns_differ(crash, kmortem, |column, more| match column {
            PERCENT => more.abs() < 0.2,
            RSS => (0.0..=64.0 * 4.0).contains(&more),
            _ => false,
        })
}
