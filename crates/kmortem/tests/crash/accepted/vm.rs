//! Mappings of processes.

use super::Accepted;

pub(super) const ROWS: &[Accepted] = &[
    Accepted {
        commands: &["vm*", "foreach*vm*"],
        explain: |hunk| hunk.take_pairs(shared_memory),
        documented: "System V memory: `SYSV00006b6d`",
    },
    Accepted {
        commands: &["vm -f *"],
        explain: |hunk| hunk.take_pairs(renamed_bits),
        documented: "`vm -f`: names of 2.6 kernels",
    },
];

/// A file of the kernel's own, without and with the slash: a segment, or shared
/// huge pages.
fn shared_memory(crash: &str, kmortem: &str) -> bool {
    ["SYSV", "anon_hugepage"].iter().any(|name| {
        crash.split_once(name).is_some_and(|(before, rest)| {
            before.ends_with(' ') && format!("{before}/{name}{rest}") == kmortem
        })
    })
}

/// `8001875: (READ|EXEC|...)`: the same value, other names of bits that got
/// new meanings.
fn renamed_bits(crash: &str, kmortem: &str) -> bool {
    const RENAMED: [(&str, &str); 2] = [("EXECUTABLE", "UFFD_WP"), ("CAN_NONLINEAR", "SOFTDIRTY")];
    let names =
        |line: &str| -> Vec<String> { line.split(['|', '(', ')']).map(str::to_owned).collect() };
    let (theirs, ours) = (names(crash), names(kmortem));
    theirs.len() == ours.len()
        && theirs
            .iter()
            .zip(&ours)
            .all(|(a, b)| a == b || RENAMED.contains(&(a.as_str(), b.as_str())))
}
