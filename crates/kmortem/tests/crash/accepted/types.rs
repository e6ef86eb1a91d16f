//! struct, p, whatis.

use std::sync::Arc;

use super::Accepted;
use crate::diff::About;

pub(super) const ROWS: &[Accepted] = &[
    Accepted {
        commands: &["struct module {module}"],
        explain: |hunk| {
            hunk.take_pairs(|crash, ours| {
                crash.contains(" <.LC") && without_mark(crash) == without_mark(ours)
            });
        },
        documented: "symbols of the file only",
    },
    Accepted {
        commands: &["struct module *"],
        explain: |hunk| {
            hunk.take_pairs(|crash, ours| {
                crash.split_once(" <_MODULE_").is_some_and(|(start, _)| ours.starts_with(start))
            });
        },
        documented: "an area of a module is `_MODULE_DATA_START_name`",
    },
    Accepted {
        commands: &["whatis -r *", "whatis -m *"],
        explain: |hunk| {
            if hunk.crash.is_empty() {
                let about = Arc::clone(&hunk.about);
                hunk.kmortem.retain(|line| !is_type(&about, line));
            }
        },
        documented: "leaves out some types that only a typedef names, and members inside of unions",
    },
    Accepted {
        commands: &["whatis -r *"],
        // A number of 16 bytes.
        explain: |hunk| hunk.crash.retain(|line| line.trim_start() != "16  freelist_full_t"),
        documented: "lists a typedef of a number now and then",
    },
];

/// `  16  guid_t`, as the kernel's own types have it.
fn is_type(about: &About, line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [size, name] = words[..] else { return false };
    size.parse().is_ok_and(|size| about.is_type(name, size))
}

/// `member = 0x... <name+1>,` up to the name of something that has none but in
/// the file.
fn without_mark(line: &str) -> &str {
    line.split_once(" <").map_or(line, |(start, _)| start)
}
