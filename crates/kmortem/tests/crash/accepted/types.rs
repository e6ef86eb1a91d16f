//! struct, p, whatis.

use std::sync::Arc;

use super::Accepted;
use crate::diff::About;

pub(super) const ROWS: &[Accepted] = &[
    Accepted {
        commands: &["struct module *", "list *"],
        explain: |hunk| {
            hunk.take_pairs(|crash, ours| {
                // Its own name is the symbol's at the same address.
                let ours = ours.split_once(" <").map(|(start, _)| start);
                crash.strip_suffix(',').is_some_and(|crash| ours == Some(crash))
            });
        },
        documented: "an area of a module is `_MODULE_DATA_START_name`",
    },
    Accepted {
        commands: &["struct module *"],
        explain: |hunk| {
            hunk.take_pairs(|crash, ours| {
                let named = ours.split_once(" <").filter(|(_, name)| name.contains('+'));
                named.is_some_and(|(start, _)| crash.trim_end_matches(',') == start)
            });
        },
        documented: "behind the last symbol of a module's area: no name",
    },
    Accepted {
        commands: &["struct module *", "list *"],
        explain: |hunk| hunk.take_pairs(|crash, ours| nameless(crash) == nameless(ours)),
        documented: "an address behind an object of a module is named by that object, now and then",
    },
    Accepted {
        commands: &["list -s module -H modules"],
        explain: |hunk| {
            hunk.take_pairs(|crash, ours| {
                let before =
                    |line: &str, mark: &str| line.split_once(mark).map(|(s, _)| s.to_owned());
                let text = |line: &str| line.split(" \"").next().map(str::to_owned);
                let whole = before(crash, " <incomplete sequence ").or_else(|| text(crash));
                let bytes = crash.contains("<incomplete sequence ")
                    && whole.as_deref().and_then(text) == text(ours);
                let unread = before(crash, " <error: Cannot access memory");
                bytes || unread.is_some() && unread == before(ours, " <unreadable: ")
            });
        },
        documented: "bytes that are no characters: `<incomplete sequence",
    },
    Accepted {
        commands: &["struct task_struct.real_parent -p *"],
        explain: |hunk| {
            hunk.take_pairs(|crash, ours| {
                let digits = |line: &str| line.replace(' ', "");
                crash.len() > 1500 && digits(crash) == digits(ours)
            });
        },
        documented: "blanks in a line of more than 1,500 characters",
    },
    Accepted {
        commands: &["struct *"],
        explain: |hunk| {
            const ERROR: &str = "struct: read error: kernel virtual address: ffffffff";
            hunk.crash.retain(|line| !line.starts_with(ERROR));
        },
        documented: "`struct -l`: errors of reads that the answer does not need",
    },
    Accepted {
        commands: &["struct mem_cgroup"],
        explain: |hunk| hunk.take_pairs(|crash, ours| crash.replace("[0];", "[];") == ours),
        documented: "`[]` at the end of a struct, `[0]` before it",
    },
    Accepted {
        commands: &["whatis linux_banner"],
        explain: |hunk| {
            hunk.take_pairs(|crash, ours| {
                let ours = ours.rsplit_once('[').map(|(start, _)| start);
                crash.strip_suffix("[];").is_some_and(|crash| ours == Some(crash))
            });
        },
        documented: "lengths of arrays that are declared without one",
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

/// `  16  guid_t`, a type that the kernel has.
fn is_type(about: &About, line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [size, name] = words[..] else { return false };
    size.parse::<u64>().is_ok() && about.is_type(name)
}

/// A value without the name of what its address lies behind:
/// `orc_unwind = 0xffffffffc05e85b5 <__param_str_mode+173>`.
fn nameless(line: &str) -> String {
    let Some((start, rest)) = line.split_once(" <") else { return line.to_owned() };
    match rest.split_once('>') {
        Some((name, end)) if !name.contains(' ') => format!("{start}{end}"),
        _ => line.to_owned(),
    }
}
