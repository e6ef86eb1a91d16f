//! Files of commands, and of words for a command.
//!
//! `< FILE` runs the lines of a file. `CMD WORDS < FILE` runs CMD once for each
//! line of the file, with the line's words in the place of `< FILE`.

use super::Word;
use crate::error::CommandError;

/// Where a command's input comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// It has none.
    None,
    /// The file holds the commands themselves.
    Commands(String),
    /// The file holds words for the command, to stand before the one at `at`.
    Words { path: String, at: usize },
}

/// Takes `< FILE` out of `words`. In a command that takes expressions a `<`
/// counts only where `is_file` says that the next word is one.
pub(crate) fn take_input(
    words: &mut Vec<Word>,
    expressions: bool,
    is_file: impl Fn(&str) -> bool,
) -> Result<Input, CommandError> {
    let begins = |w: &Word| w.quote.is_none() && w.text.starts_with('<');
    let begins = |w: &Word| begins(w) && !w.text.starts_with("<<") && !w.text.starts_with("<=");
    let Some(at) = words.iter().position(begins) else { return Ok(Input::None) };
    let (path, used) = match words.get(at).map(|w| &w.text[1..]) {
        Some("") | None => (words.get(at + 1).map(|w| w.text.clone()), 2),
        Some(path) => (Some(path.to_owned()), 1),
    };
    if expressions && !path.as_deref().is_some_and(is_file) {
        return Ok(Input::None);
    }
    let Some(path) = path else {
        return Err(CommandError::Line("no file is named behind the `<`".into()));
    };
    words.drain(at..at + used);
    if words.iter().any(begins) {
        return Err(CommandError::Line("a command has one input file".into()));
    }
    match (at, words.is_empty()) {
        (0, true) => Ok(Input::Commands(path)),
        (0, false) => Err(CommandError::Line("more than a file's name stands behind `<`".into())),
        (at, _) => Ok(Input::Words { path, at }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::split;
    use super::*;

    fn take(line: &str, expressions: bool) -> (Result<Input, CommandError>, String) {
        let mut words = split(line).unwrap();
        let input = take_input(&mut words, expressions, |path| path == "file");
        (input, words.iter().map(|w| w.text.as_str()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_file_alone_holds_commands() {
        assert_eq!(take("< cmds", false).0.unwrap(), Input::Commands("cmds".into()));
        assert_eq!(take("<cmds", false).0.unwrap(), Input::Commands("cmds".into()));
        assert!(take("< cmds x", false).0.is_err());
        assert!(take("<", false).0.is_err());
        assert!(take("ps < a < b", false).0.is_err());
    }

    #[test]
    fn a_file_behind_a_command_holds_words() {
        let (input, rest) = take("ps -p < pids -x", false);
        assert_eq!(input.unwrap(), Input::Words { path: "pids".into(), at: 2 });
        assert_eq!(rest, "ps -p -x");
    }

    #[test]
    fn expressions_keep_what_is_no_file() {
        let (input, rest) = take("p a < b", true);
        assert_eq!((input.unwrap(), rest.as_str()), (Input::None, "p a < b"));
        assert_eq!(take("p a << b", true).0.unwrap(), Input::None);
        assert_eq!(take("p a <= b", false).0.unwrap(), Input::None);
        let (input, rest) = take("p < file", true);
        assert_eq!(
            (input.unwrap(), rest.as_str()),
            (Input::Words { path: "file".into(), at: 1 }, "p")
        );
        assert_eq!(take("eval '<' 2", false).0.unwrap(), Input::None);
    }
}
