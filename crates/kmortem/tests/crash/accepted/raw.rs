//! rd, ascii, tree.

use super::{Accepted, hex, words_differ};

pub(super) const ROWS: &[Accepted] = &[
    Accepted {
        commands: &["ascii"],
        explain: |hunk| {
            hunk.take_pairs(|crash, ours| words_differ(crash, ours, |_, a, b| is_mixed_up(a, b)));
        },
        documented: "`ascii`: the table has grave accent and apostrophe",
    },
    Accepted {
        commands: &["tree -t xarray *_ida*"],
        explain: |hunk| {
            hunk.take_pairs(|crash, ours| {
                hex(ours).is_some_and(|entry| entry & 1 == 1 && hex(crash) == Some(entry & !3))
            });
        },
        documented: "`tree -t xarray`: numbers that are stored lose their last two bits",
    },
];

fn is_mixed_up(crash: &str, kmortem: &str) -> bool {
    matches!((crash, kmortem), ("'", "`") | ("`", "'") | ("-", "_") | ("_", "-"))
}
