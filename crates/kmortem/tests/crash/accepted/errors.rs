//! What is no answer.

use super::Accepted;

pub(super) const ROWS: &[Accepted] = &[
    Accepted {
        commands: &["*"],
        explain: |hunk| {
            // Both say no, in their own words.
            if hunk.crash.iter().all(|line| refuses(line))
                && hunk.kmortem.iter().all(|line| is_remark(line))
                && !hunk.crash.is_empty()
            {
                hunk.crash.clear();
                hunk.kmortem.clear();
            }
        },
        documented: "an error is one sentence that says what to do next",
    },
    Accepted {
        commands: &["*"],
        explain: |hunk| {
            if hunk.crash.is_empty() {
                hunk.kmortem.retain(|line| !is_remark(line));
            }
        },
        documented: "remarks on what an answer lacks",
    },
];

/// A line of crash that refuses to answer.
fn refuses(line: &str) -> bool {
    const STARTS: [&str; 8] = [
        "symbol not found: ",
        "possible alternatives:",
        "  (none found)",
        "Usage:",
        "Enter \"help ",
        "No symbol \"",
        "No struct type named ",
        "gdb: ",
    ];
    let usage = line.starts_with("  ") && line.contains('[') && line.contains(']');
    usage || STARTS.iter().any(|start| line.starts_with(start)) || is_remark(line)
}

/// `vtop: invalid input`: a command's word on itself.
pub(super) fn is_remark(line: &str) -> bool {
    line.split_once(": ").is_some_and(|(name, rest)| {
        !rest.is_empty()
            && !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'*')
    })
}
