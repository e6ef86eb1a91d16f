//! Mappings of processes.

use super::Accepted;

pub(super) const ROWS: &[Accepted] = &[Accepted {
    commands: &["vm -f *"],
    explain: |hunk| hunk.take_pairs(renamed_bits),
    documented: "`vm -f`: names of 2.6 kernels",
}];

/// `8001875: (READ|EXEC|...)`: the same value, other names of bits that got
/// new meanings.
fn renamed_bits(crash: &str, kmortem: &str) -> bool {
    const RENAMED: [(&str, &str); 3] =
        [("EXECUTABLE", "UFFD_WP"), ("CAN_NONLINEAR", "SOFTDIRTY"), ("PFN_AT_MMAP", "NOHUGEPAGE")];
    let names =
        |line: &str| -> Vec<String> { line.split(['|', '(', ')']).map(str::to_owned).collect() };
    let (theirs, ours) = (names(crash), names(kmortem));
    theirs.len() == ours.len()
        && theirs
            .iter()
            .zip(&ours)
            .all(|(a, b)| a == b || RENAMED.contains(&(a.as_str(), b.as_str())))
}
