//! Answers on the screen: as they are where they fit, through a pager where
//! they are longer.
//!
//! Up to a screenful is held back, then the pager is started and the rest
//! streams into it; when it ends early, so does the command. Whoever flushes
//! in between (a remark, a command of the host) wants to see what there is:
//! from then on there is no pager.

use std::env;
use std::io::{self, BufWriter, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use kmortem_shell::settings::Pager;

/// The screen, for one answer.
pub(crate) struct Screen {
    rows: usize,
    columns: usize,
    pager: Pager,
    state: State,
}

enum State {
    /// Text that still fits, and where it ends.
    Held {
        text: Vec<u8>,
        row: usize,
        column: usize,
    },
    /// To the terminal as it comes.
    Direct,
    Paged {
        child: Child,
        stdin: BufWriter<ChildStdin>,
    },
}

impl Screen {
    pub(crate) fn new(pager: Pager) -> Screen {
        // Some terminals say that they have no size.
        let (columns, rows) = match terminal_size::terminal_size() {
            Some((terminal_size::Width(columns), terminal_size::Height(rows)))
                if columns > 0 && rows > 1 =>
            {
                (columns, rows)
            }
            _ => (80, 24),
        };
        let state = State::Held { text: Vec::new(), row: 0, column: 0 };
        Screen { rows: usize::from(rows), columns: usize::from(columns), pager, state }
    }

    /// Shows what is held back and waits for the pager.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.state, State::Direct) {
            State::Held { text, .. } => print(&text),
            State::Direct => io::stdout().flush(),
            State::Paged { mut child, mut stdin } => {
                let shown = stdin.flush();
                // Dropped without another try to write.
                drop(stdin.into_parts());
                child.wait()?;
                shown
            }
        }
    }

    /// Takes what is held back to where it shows.
    fn release(&mut self, paged: bool) -> io::Result<()> {
        let State::Held { text, .. } = &mut self.state else { return Ok(()) };
        let text = std::mem::take(text);
        self.state = match if paged { start(self.pager) } else { None } {
            Some((child, stdin)) => State::Paged { child, stdin: BufWriter::new(stdin) },
            None => State::Direct,
        };
        self.write_all(&text)
    }
}

impl Write for Screen {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.state {
            State::Direct => return io::stdout().write(buf),
            State::Paged { stdin, .. } => return stdin.write(buf),
            State::Held { text, row, column } => {
                text.extend_from_slice(buf);
                (*row, *column) = advance(buf, *row, *column, self.columns);
            }
        }
        // The prompt needs a row, too.
        if matches!(&self.state, State::Held { row, .. } if *row + 1 >= self.rows) {
            self.release(true)?;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.state {
            State::Held { text, .. } if text.is_empty() => Ok(()),
            State::Held { .. } => {
                self.release(false)?;
                io::stdout().flush()
            }
            State::Direct => io::stdout().flush(),
            State::Paged { stdin, .. } => stdin.flush(),
        }
    }
}

/// Where the cursor stands behind `text`. A byte counts as a column: too many
/// for letters beyond ASCII, which does no harm.
fn advance(text: &[u8], mut row: usize, mut column: usize, columns: usize) -> (usize, usize) {
    for byte in text {
        if *byte == b'\n' {
            (row, column) = (row + 1, 0);
        } else if column == columns {
            (row, column) = (row + 1, 1);
        } else {
            column += 1;
        }
    }
    (row, column)
}

fn print(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(text)?;
    out.flush()
}

/// Starts the pager; `None` where there is none, and the terminal has to do.
fn start(pager: Pager) -> Option<(Child, ChildStdin)> {
    commands(pager).iter().find_map(|command| {
        let program = command.split_whitespace().next()?;
        // The shell would be there, and say only later that the pager is not.
        find_program(program)?;
        let mut child = Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("exec {command}"))
            .stdin(Stdio::piped())
            .spawn()
            .ok()?;
        let stdin = child.stdin.take()?;
        Some((child, stdin))
    })
}

/// Command lines to try.
fn commands(pager: Pager) -> Vec<String> {
    const LESS: &str = "less -E -X -R";
    let named = |names: &[&str]| {
        let values = names.iter().filter_map(|name| env::var(name).ok());
        values.filter(|value| !value.trim().is_empty()).collect::<Vec<_>>()
    };
    let mut commands = match pager {
        Pager::Less => named(&["KMORTEM_PAGER", "CRASHPAGER", "PAGER"]),
        Pager::Environment => named(&["CRASHPAGER", "KMORTEM_PAGER", "PAGER"]),
        Pager::More => vec!["more".to_owned()],
    };
    commands.extend([LESS.to_owned(), "more".to_owned()]);
    commands
}

fn find_program(name: &str) -> Option<()> {
    if name.contains('/') {
        return std::path::Path::new(name).is_file().then_some(());
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).any(|dir| dir.join(name).is_file()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_take_several_rows() {
        assert_eq!(advance(b"abc\n", 0, 0, 80), (1, 0));
        assert_eq!(advance(&[b'x'; 80], 0, 0, 80), (0, 80));
        assert_eq!(advance(&[b'x'; 81], 0, 0, 80), (1, 1));
        assert_eq!(advance(b"\n\n", 3, 7, 80), (5, 0));
    }

    #[test]
    fn more_is_asked_for_by_name() {
        assert_eq!(commands(Pager::More)[0], "more");
        assert!(commands(Pager::Less).iter().any(|c| c.starts_with("less ")));
        assert_eq!(find_program("no-such-program-here"), None);
        assert_eq!(find_program("/bin/sh"), Some(()));
    }
}
