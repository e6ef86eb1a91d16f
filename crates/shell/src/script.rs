//! Command lines out of a file or pipe.
//!
//! A line is read when the one before has been answered, so that a file may
//! grow while it is read: it ends where a read after the last answer finds
//! nothing more.

use std::io::{self, BufRead, Write};

use crate::output::Output;

/// The longest line that is taken for one.
const LONGEST: usize = 1 << 20;

/// What is shown of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// Nothing.
    Nothing,
    /// The prompt and each command, as crash does for files.
    Commands,
    /// The prompt before each line is read, then the line: as crash does for
    /// standard input.
    Prompts,
}

/// The prompt.
pub const PROMPT: &str = "crash> ";

/// A source of command lines.
pub struct Script<'r> {
    reader: &'r mut dyn BufRead,
    name: String,
    echo: Echo,
}

impl<'r> Script<'r> {
    /// Lines of `reader`, which errors call `name`.
    pub fn new(reader: &'r mut dyn BufRead, name: &str, echo: Echo) -> Script<'r> {
        Script { reader, name: name.to_owned(), echo }
    }

    /// The next line that says something. A line that ends with a backslash
    /// goes on in the next one.
    pub(crate) fn next_line(&mut self, out: &mut Output<'_>) -> io::Result<Option<String>> {
        loop {
            if self.echo == Echo::Prompts {
                write!(out, "{PROMPT}")?;
                out.flush()?;
            }
            let Some(mut line) = self.read()? else { return Ok(None) };
            while let Some(begun) = line.strip_suffix('\\').filter(|l| !l.ends_with('\\')) {
                let Some(rest) = self.read()? else { break };
                line = format!("{begun} {rest}");
            }
            let line = line.trim();
            if self.echo == Echo::Prompts {
                writeln!(out, "{line}")?;
            }
            if line.is_empty() || line.starts_with('#') || line.starts_with("//") {
                continue;
            }
            if self.echo == Echo::Commands {
                writeln!(out, "{PROMPT}{line}")?;
            }
            return Ok(Some(line.to_owned()));
        }
    }

    /// One line, without its end.
    fn read(&mut self) -> io::Result<Option<String>> {
        let bad = |what: &str| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", self.name))
        };
        let mut line = Vec::new();
        let mut limited = io::Read::take(&mut *self.reader, LONGEST as u64);
        if limited.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if line.len() >= LONGEST || line.contains(&0) {
            return Err(bad("no file of commands: it is not text"));
        }
        while line.last().is_some_and(|c| matches!(c, b'\n' | b'\r')) {
            line.pop();
        }
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8], echo: Echo) -> (io::Result<Vec<String>>, String) {
        let mut reader = text;
        let (mut data, mut notes) = (Vec::new(), Vec::new());
        let mut out = Output::text(&mut data, &mut notes);
        let mut script = Script::new(&mut reader, "cmds", echo);
        let all = std::iter::from_fn(|| script.next_line(&mut out).transpose()).collect();
        (all, String::from_utf8(data).unwrap())
    }

    #[test]
    fn comments_and_blanks_are_left_out_and_lines_may_go_on() {
        let text = b"# a\n\nps \\\n -u\r\n// b\n  bt\nsys";
        let (all, shown) = lines(text, Echo::Nothing);
        assert_eq!(all.unwrap(), ["ps   -u", "bt", "sys"]);
        assert_eq!(shown, "");
    }

    #[test]
    fn commands_are_shown_as_crash_shows_them() {
        assert_eq!(lines(b"# a\nps\n", Echo::Commands).1, "crash> ps\n");
        assert_eq!(lines(b"# a\nps\n", Echo::Prompts).1, "crash> # a\ncrash> ps\ncrash> ");
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let error = lines(b"\x7fELF\0\n", Echo::Nothing).0.unwrap_err().to_string();
        assert_eq!(error, "cmds: no file of commands: it is not text");
    }
}
