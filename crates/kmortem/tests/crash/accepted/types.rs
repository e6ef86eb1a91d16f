//! struct, p, whatis.

use super::Accepted;

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
        commands: &["struct *", "task_struct *", "p *", "list *"],
        explain: |hunk| hunk.take_pairs(|crash, ours| crash != ours && escaped(crash) == ours),
        documented: "bytes that happen to be UTF-8 show as its characters",
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
                hunk.kmortem.retain(|line| !is_type(line));
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

/// Characters beyond ASCII as gdb writes bytes that are no text.
fn escaped(line: &str) -> String {
    let mut out = String::new();
    for c in line.chars() {
        match c.is_ascii() {
            true => out.push(c),
            false => {
                let mut bytes = [0; 4];
                let bytes = c.encode_utf8(&mut bytes).bytes();
                bytes.for_each(|byte| out.push_str(&format!("\\{byte:03o}")));
            }
        }
    }
    out
}

/// `  16  guid_t`
fn is_type(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    matches!(words[..], [size, _] if size.bytes().all(|b| b.is_ascii_digit()))
}

/// `member = 0x... <name+1>,` up to the name of something that has none but in
/// the file.
fn without_mark(line: &str) -> &str {
    line.split_once(" <").map_or(line, |(start, _)| start)
}
