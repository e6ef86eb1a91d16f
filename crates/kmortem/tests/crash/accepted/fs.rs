//! Files and devices.

use super::{Accepted, hex};
use crate::normal::NOTHING;

pub(super) const ROWS: &[Accepted] = &[
    Accepted {
        commands: &["mount *"],
        explain: |hunk| {
            hunk.take_pairs(first_mount);
            // The word names none.
            if hunk.kmortem == [NOTHING] && hunk.crash.iter().all(|line| is_root_mount(line)) {
                hunk.crash.clear();
                hunk.kmortem.clear();
            }
        },
        documented: "`mount WORD`: the first mount, whatever the word",
    },
    Accepted {
        commands: &["mount {dentry}", "mount {inode}"],
        explain: |hunk| {
            if hunk.crash == [NOTHING] && hunk.kmortem.iter().all(|line| is_mount(line)) {
                hunk.crash.clear();
                hunk.kmortem.clear();
            }
        },
        documented: "of an inode or dentry those of its file system",
    },
    Accepted {
        commands: &["files -p {dentry}"],
        explain: |hunk| {
            const OWN: &str = "files: do_xarray: callback operation failed";
            if hunk.kmortem.is_empty() {
                hunk.crash.retain(|line| !line.is_empty() && !line.starts_with(OWN));
            }
        },
        documented: "`files -p` of an address that is no inode",
    },
    Accepted {
        commands: &["mount -f*"],
        explain: |hunk| {
            // crash refuses: whatever stands in its place.
            if hunk.crash == [NOTHING] {
                hunk.crash.clear();
                hunk.kmortem.retain(|line| !is_listed_file(line));
            }
        },
        documented: "`mount -f`, `mount -i`: not on kernels from 3.13 and 2.6.32 on",
    },
    Accepted {
        commands: &["fuser /"],
        explain: |hunk| {
            hunk.take_pairs(|crash, kmortem| crash.strip_suffix(" fd") == Some(kmortem));
        },
        documented: "`fuser /`: a pidfd counts as `/`",
    },
    Accepted {
        commands: &["net -s*", "foreach net -s*"],
        explain: |hunk| hunk.take_pairs(blanks_behind_ipv6),
        documented: "`net -s`: one or two blanks behind IPv6 addresses",
    },
    Accepted {
        commands: &["dev -d", "dev -D"],
        explain: |hunk| hunk.take_pairs(read_and_write),
        documented: "`dev -d`: ASYNC and SYNC on 5.10",
    },
    Accepted {
        commands: &["dev -p"],
        explain: |hunk| hunk.take_pairs(conventional),
        documented: "`dev -p`: conventional devices have TYPE ENDPOINT",
    },
];

/// `ff2e... ff2e... REG  /init` below its titles, of a mount's line.
fn is_listed_file(line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap_or_default();
    matches!(first, "" | "MOUNT" | "DENTRY" | "OPEN" | "(none)") || hex(first).is_some()
}

/// A mount, or the title above it.
fn is_mount(line: &str) -> bool {
    line.split_whitespace().count() == 5
}

fn is_root_mount(line: &str) -> bool {
    is_mount(line) && (line.ends_with(" /") || line.ends_with(" DIRNAME"))
}

/// The root in place of the mount that was asked for.
fn first_mount(crash: &str, kmortem: &str) -> bool {
    crash.ends_with(" /") && is_root_mount(crash) && is_mount(kmortem)
}

fn blanks_behind_ipv6(crash: &str, kmortem: &str) -> bool {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    crash.contains("INET6:") && words(crash) == words(kmortem)
}

fn read_and_write(crash: &str, kmortem: &str) -> bool {
    crash.starts_with("MAJOR ") && crash.replace("ASYNC  SYNC", " READ WRITE") == kmortem
}

/// `ff2e... 0000:00:00.0  0600  8086:1237  ENDPOINT`
fn conventional(crash: &str, kmortem: &str) -> bool {
    crash.strip_suffix("ENDPOINT").is_some_and(|line| {
        kmortem.strip_suffix("PCI").is_some_and(|ours| ours.trim_end() == line.trim_end())
    })
}
