//! What a command line says, before anything is done.
//!
//! The syntax is crash(8)'s (its `help input` and `help output`): a command
//! with its words, `| COMMAND` or `! COMMAND` for the host's shell to read the
//! answer, `> FILE` and `>> FILE` for a file to keep it, `!COMMAND` for the
//! host alone, `#` and `//` for comments. In quotes, in parentheses and behind
//! a backslash all of these are plain characters, and so is the `>` of `->`.

mod input;
mod words;

pub(crate) use input::{Input, take_input};
pub(crate) use words::{Word, split};

use crate::error::CommandError;

/// A command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// Nothing, or a comment.
    Nothing,
    /// A command of the host; empty: an interactive shell.
    Host(String),
    /// A command of ours.
    Command {
        /// Its name and words, as typed.
        text: String,
        /// Where its answer goes.
        output: Destination,
    },
}

/// Where the answer of a command goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Where the session's answers go.
    Here,
    /// To a command line of the host's shell.
    Pipe(String),
    /// Into a file.
    File { path: String, append: bool },
}

/// Takes `line` apart.
pub(crate) fn parse(line: &str) -> Result<Line, CommandError> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') || line.starts_with("//") {
        return Ok(Line::Nothing);
    }
    if let Some(host) = line.strip_prefix(['!', '|']) {
        return Ok(Line::Host(host.trim().to_owned()));
    }
    let command = |text: &str, output| Line::Command { text: text.trim().to_owned(), output };
    let error = |what: &str| CommandError::Line(format!("{line}: {what}"));
    let Some((at, mark)) = find_mark(line) else { return Ok(command(line, Destination::Here)) };
    let (text, rest) = line.split_at(at);
    match mark {
        Mark::Comment => Ok(command(text, Destination::Here)),
        Mark::Pipe => {
            let host = rest[1..].trim();
            if host.is_empty() {
                return Err(error("no command of the host behind the pipe"));
            }
            if host.starts_with('|') || host.ends_with('|') {
                return Err(error(
                    "a pipe leads nowhere; `|` of an expression stands in parentheses or quotes",
                ));
            }
            Ok(command(text, Destination::Pipe(host.to_owned())))
        }
        Mark::File => {
            let (append, rest) = match rest.strip_prefix(">>") {
                Some(rest) => (true, rest),
                None => (false, &rest[1..]),
            };
            let words = split(rest)?;
            match words.as_slice() {
                [path] if path.quote.is_some() || !path.text.contains(['>', '<', '|']) => {
                    let path = path.text.clone();
                    Ok(command(text, Destination::File { path, append }))
                }
                [] => Err(error("no file is named behind the `>`")),
                _ => Err(error("more than a file's name stands behind the `>`")),
            }
        }
    }
}

/// Whether what `line` ends with is for the host: behind a pipe, or a file.
pub(crate) fn leaves_us(line: &str) -> bool {
    matches!(find_mark(line), Some((_, Mark::Pipe | Mark::File)))
}

/// What a character outside of quotes begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Pipe,
    File,
    Comment,
}

/// The first character that is more than a part of a word.
fn find_mark(line: &str) -> Option<(usize, Mark)> {
    let mut quote: Option<char> = None;
    let mut depth = 0usize;
    let mut before = ' ';
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('\''), _) => {}
            (_, '\\') => {
                chars.next();
            }
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            (None, _) if depth > 0 => {}
            (None, '|') => return Some((at, Mark::Pipe)),
            // As crash has it, but for the `!=` of an expression.
            (None, '!') if chars.peek().is_none_or(|(_, next)| *next != '=') => {
                return Some((at, Mark::Pipe));
            }
            (None, '>') if before != '-' => return Some((at, Mark::File)),
            (None, '#') if before.is_whitespace() => return Some((at, Mark::Comment)),
            _ => {}
        }
        before = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str, output: Destination) -> Line {
        Line::Command { text: text.to_owned(), output }
    }

    fn pipe(to: &str) -> Destination {
        Destination::Pipe(to.to_owned())
    }

    fn file(path: &str, append: bool) -> Destination {
        Destination::File { path: path.to_owned(), append }
    }

    #[test]
    fn comments_say_nothing() {
        for line in ["", "  ", "# ps", "  #ps", "// ps"] {
            assert_eq!(parse(line).unwrap(), Line::Nothing, "{line}");
        }
        assert_eq!(parse("ps # | wc").unwrap(), command("ps", Destination::Here));
        assert_eq!(parse("ps a#b").unwrap(), command("ps a#b", Destination::Here));
    }

    #[test]
    fn pipes_need_no_blanks() {
        assert_eq!(parse("ps|wc -l").unwrap(), command("ps", pipe("wc -l")));
        assert_eq!(
            parse("log -t | grep 'a|b' | sort > x").unwrap(),
            command("log -t", pipe("grep 'a|b' | sort > x"))
        );
        assert_eq!(parse("ps ! wc").unwrap(), command("ps", pipe("wc")));
    }

    #[test]
    fn files_take_or_keep_what_they_have() {
        assert_eq!(parse("ps>out").unwrap(), command("ps", file("out", false)));
        assert_eq!(parse("ps -u >> 'my out'").unwrap(), command("ps -u", file("my out", true)));
        assert_eq!(parse("< in > out").unwrap(), command("< in", file("out", false)));
    }

    #[test]
    fn quotes_parentheses_and_arrows_protect() {
        for line in [
            r#"alias up "ps | grep up""#,
            "foreach 'a|b' bt",
            "eval (1 | 2)",
            "p ((a > b) | c)",
            "p init_task.mm->pgd",
            r"ps \>x",
            "p a != b",
        ] {
            assert_eq!(parse(line).unwrap(), command(line, Destination::Here));
        }
    }

    #[test]
    fn the_host_gets_its_line_as_it_is() {
        assert_eq!(parse("!ls | wc > x # y").unwrap(), Line::Host("ls | wc > x # y".into()));
        assert_eq!(parse(" ! ").unwrap(), Line::Host(String::new()));
    }

    #[test]
    fn what_leads_nowhere_is_an_error() {
        for line in
            ["ps |", "ps | ", "ps || wc", "ps | wc |", "ps >", "ps >>", "ps > a b", "ps > >"]
        {
            assert!(parse(line).unwrap_err().is_usage(), "{line}");
        }
    }
}
