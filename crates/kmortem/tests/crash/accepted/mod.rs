//! The differences that are meant to be there. Each row names the commands, how
//! the lines look that it explains, and the words of the page that tells users
//! of it (docs/crash-differences.md). A line that no row explains is wrong.

mod bt;
mod fs;
mod kmem;
mod net;
mod ps;
mod raw;
mod symbols;
mod sys;
mod time;
mod timer;
mod types;
mod vm;

use crate::diff::Hunk;

/// One difference that is meant.
pub(crate) struct Accepted {
    /// Commands in which it may stand; `*` stands for any text.
    pub commands: &'static [&'static str],
    /// Takes the lines out of a hunk that it explains.
    pub explain: fn(&mut Hunk),
    /// Words that stand in docs/crash-differences.md.
    pub documented: &'static str,
}

impl Accepted {
    /// Whether it may stand in the answer to `command`.
    pub(crate) fn is_for(&self, command: &str) -> bool {
        self.commands.iter().any(|pattern| matches(pattern, command))
    }
}

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Accepted> {
    [
        bt::ROWS,
        fs::ROWS,
        kmem::ROWS,
        net::ROWS,
        ps::ROWS,
        raw::ROWS,
        symbols::ROWS,
        sys::ROWS,
        time::ROWS,
        timer::ROWS,
        types::ROWS,
        vm::ROWS,
    ]
    .into_iter()
    .flatten()
}

/// Whether `text` is `pattern`, in which `*` stands for any text.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or("")) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[test]
fn stars_stand_for_any_text() {
    assert!(
        matches("bt*", "bt -a")
            && matches("bt", "bt")
            && matches("foreach*bt*", "foreach UN bt -s")
    );
    assert!(!matches("bt", "bt -a") && !matches("bt *x", "bt -a") && !matches("kmem", "bt"));
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// Both lines alike, but for the words at which `differ` holds.
fn words_differ(crash: &str, kmortem: &str, differ: impl Fn(usize, &str, &str) -> bool) -> bool {
    let theirs: Vec<&str> = crash.split_whitespace().collect();
    let ours: Vec<&str> = kmortem.split_whitespace().collect();
    crash.len() == kmortem.len()
        && theirs.len() == ours.len()
        && theirs.iter().zip(&ours).enumerate().all(|(i, (a, b))| a == b || differ(i, a, b))
}
