//! rd, ascii.

use super::{Accepted, words_differ};

pub(super) const ROWS: &[Accepted] = &[Accepted {
    commands: &["ascii"],
    explain: |hunk| {
        hunk.take_pairs(|crash, ours| words_differ(crash, ours, |_, a, b| is_mixed_up(a, b)));
    },
    documented: "`ascii`: the table has grave accent and apostrophe",
}];

fn is_mixed_up(crash: &str, kmortem: &str) -> bool {
    matches!((crash, kmortem), ("'", "`") | ("`", "'") | ("-", "_") | ("_", "-"))
}
