//! Lines that were typed before: crash's `h` and `r`, and the file that keeps
//! them from one session to the next.

use std::env;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// What a line means for the history.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Recall {
    /// Nothing.
    No,
    /// It is to be shown.
    Show,
    /// A line of it is to run again.
    Again(String),
    /// A line that it does not have is to run again.
    Unknown,
}

/// Understands `h`, `r`, `!!`, `r N`, `!N` and `r TEXT`.
pub(crate) fn recall(line: &str, history: &[String]) -> Recall {
    let line = line.trim();
    let wanted = match line {
        "h" | "history" => return Recall::Show,
        "r" | "!!" => return again(history.last()),
        _ => match line.strip_prefix("r ") {
            Some(wanted) => wanted.trim(),
            None => match line.strip_prefix(['!', 'r']).filter(|n| n.parse::<usize>().is_ok()) {
                Some(number) => number,
                None => return Recall::No,
            },
        },
    };
    match wanted.parse::<usize>() {
        Ok(number) => again(number.checked_sub(1).and_then(|i| history.get(i))),
        Err(_) => again(history.iter().rev().find(|line| line.starts_with(wanted))),
    }
}

fn again(line: Option<&String>) -> Recall {
    line.map_or(Recall::Unknown, |line| Recall::Again(line.clone()))
}

/// The history's file (XDG Base Directory Specification), in a directory that
/// is made if need be. `None` where there is no place for it.
pub(crate) fn file() -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state =
        absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let dir = state.join("kmortem");
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).ok()?;
    Some(dir.join("history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_by_number_and_by_beginning() {
        let history = ["ps", "bt -a", "ps -m"].map(str::to_owned);
        let again = |line: &str| Recall::Again(line.to_owned());
        assert_eq!(recall("r", &history), again("ps -m"));
        assert_eq!(recall("!!", &history), again("ps -m"));
        assert_eq!(recall("r 2", &history), again("bt -a"));
        assert_eq!(recall("!1", &history), again("ps"));
        assert_eq!(recall("r2", &history), again("bt -a"));
        assert_eq!(recall("r b", &history), again("bt -a"));
        assert_eq!(recall("h", &history), Recall::Show);
        assert_eq!(recall("r 9", &history), Recall::Unknown);
        assert_eq!(recall("r", &[]), Recall::Unknown);
        for line in ["rd 1", "!ls", "runq", "ps"] {
            assert_eq!(recall(line, &history), Recall::No, "{line}");
        }
    }
}
