//! rd, ascii.

use super::{Accepted, words_differ};

pub(super) const ROWS: &[Accepted] = &[
    Accepted {
        commands: &["rd -s *", "rd -S *", "rd -SS *"],
        // A column of 17, whatever the name's length.
        explain: |hunk| {
            hunk.take_pairs(|crash, ours| {
                words_differ(crash, ours, |i, theirs, _| i > 0 && is_mark(theirs))
                    || is_mark(crash.split_whitespace().last().unwrap_or_default())
                        && crash.rsplit_once(' ').map(|(start, _)| start)
                            == ours.rsplit_once(' ').map(|(start, _)| start)
            });
        },
        documented: "names of sections and of the linker's marks",
    },
    Accepted {
        commands: &["rd 0", "rd -u *"],
        explain: |hunk| {
            if matches!(&hunk.crash[..], [line] if line.starts_with("rd: invalid ")) {
                hunk.crash.clear();
                hunk.kmortem.retain(|line| {
                    !line.starts_with("rd: ")
                        && !line.contains(": ")
                        && line.contains(" <unreadable up to ")
                });
            }
        },
        documented: "a value that can't be read ends the command",
    },
    Accepted {
        commands: &["ascii"],
        explain: |hunk| {
            hunk.take_pairs(|crash, ours| words_differ(crash, ours, |_, a, b| is_mixed_up(a, b)));
        },
        documented: "`ascii`: the table has grave accent and apostrophe",
    },
];

/// What stands for a place in the image, and is no object.
fn is_mark(name: &str) -> bool {
    matches!(name, ".data" | "__begin_sched_classes")
}

fn is_mixed_up(crash: &str, kmortem: &str) -> bool {
    matches!((crash, kmortem), ("'", "`") | ("`", "'") | ("-", "_") | ("_", "-"))
}
