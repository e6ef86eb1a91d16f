//! Files and devices.

use super::Accepted;

pub(super) const ROWS: &[Accepted] = &[
    Accepted {
        commands: &["files", "files 1", "foreach files"],
        explain: |hunk| hunk.take_pairs(pipe_name),
        documented: "`files`: a pipe has no name",
    },
    Accepted {
        commands: &["dev -d"],
        explain: |hunk| hunk.take_pairs(read_and_write),
        documented: "`dev -d`: ASYNC and SYNC on 5.10",
    },
];

fn pipe_name(crash: &str, kmortem: &str) -> bool {
    crash.ends_with(" FIFO")
        && kmortem.strip_prefix(crash).is_some_and(|name| {
            name.strip_prefix(" pipe:[").and_then(|n| n.strip_suffix(']')).is_some_and(|number| {
                !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
            })
        })
}

fn read_and_write(crash: &str, kmortem: &str) -> bool {
    crash.starts_with("MAJOR ") && crash.replace("ASYNC  SYNC", " READ WRITE") == kmortem
}
