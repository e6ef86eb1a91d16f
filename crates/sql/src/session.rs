//! Statements and dot commands, one after the other: from the command line,
//! from a file, or from a person at a terminal.

use std::io::{self, BufRead, Write};

use kmortem_shell::Outcome;

use crate::dot::{self, Done};
use crate::engine::Engine;
use crate::error::SqlError;
use crate::render::{self, Format};

/// What answers statements, and where the answers go.
pub struct Session<'s> {
    engine: &'s Engine<'s>,
    format: Format,
    data: &'s mut dyn Write,
    notes: &'s mut dyn Write,
    answered: bool,
}

impl<'s> Session<'s> {
    /// Answers to `data`, remarks to `notes`.
    pub fn new(
        engine: &'s Engine<'s>,
        format: Format,
        data: &'s mut dyn Write,
        notes: &'s mut dyn Write,
    ) -> Session<'s> {
        Session { engine, format, data, notes, answered: false }
    }

    /// Answers `text`: statements, and dot commands on lines of their own. Ends
    /// at the first that can't be answered; only the output's errors are
    /// returned, all others go to the notes.
    pub fn run(&mut self, text: &str) -> io::Result<Outcome> {
        for piece in pieces(text) {
            let done = match piece {
                Piece::Sql(sql) => self.statements(sql),
                Piece::Dot(line) => match dot::run(line) {
                    Ok(Done::Text(text)) => {
                        self.data.write_all(text.as_bytes()).map_err(Into::into)
                    }
                    Ok(Done::Quit) => return Ok(Outcome::Answered),
                    Err(error) => Err(error),
                },
            };
            match done {
                Ok(()) => {}
                Err(SqlError::Output(error)) => return Err(error),
                Err(error) => {
                    self.data.flush()?;
                    writeln!(self.notes, "sql: {error}")?;
                    return Ok(if error.is_usage() { Outcome::Misused } else { Outcome::Failed });
                }
            }
        }
        Ok(Outcome::Answered)
    }

    fn statements(&mut self, sql: &str) -> Result<(), SqlError> {
        let (engine, format) = (self.engine, self.format);
        engine.run(sql, &mut |statement, remarks| {
            // Rows of JSON stand for themselves; tables need a gap.
            if std::mem::replace(&mut self.answered, true) && format != Format::Json {
                writeln!(self.data)?;
            }
            for line in remarks.lines() {
                writeln!(self.notes, "sql: {line}")?;
            }
            render::show(statement, format, self.data)
        })
    }

    /// Asks for statements until the input ends. `begin` is called before each
    /// answer.
    pub fn prompt(&mut self, input: &mut dyn BufRead, begin: &dyn Fn()) -> io::Result<()> {
        writeln!(self.notes, "SQL over the dump: .tables, .schema TABLE, .help, .quit")?;
        let mut pending = String::new();
        loop {
            self.data.flush()?;
            write!(self.notes, "{}", if pending.is_empty() { "sql> " } else { "  -> " })?;
            self.notes.flush()?;
            let mut line = String::new();
            if input.read_line(&mut line)? == 0 {
                writeln!(self.notes)?;
                return Ok(());
            }
            let trimmed = line.trim();
            if pending.is_empty() && matches!(trimmed, ".quit" | ".exit") {
                return Ok(());
            }
            let is_dot = pending.is_empty() && trimmed.starts_with('.');
            pending.push_str(&line);
            if is_dot || trimmed.ends_with(';') {
                begin();
                self.answered = false;
                let text = std::mem::take(&mut pending);
                self.run(&text)?;
            }
            if pending.trim().is_empty() {
                pending.clear();
            }
        }
    }
}

/// A part of a text of statements.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'t> {
    Sql(&'t str),
    Dot(&'t str),
}

/// Takes a text apart: a line that begins with a dot is a command, as long as
/// no statement has begun before it (`.5` may begin a line of one).
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut begin, mut at) = (0, 0);
    let mut in_statement = false;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if !in_statement && trimmed.starts_with('.') {
            pieces.push(Piece::Sql(&text[begin..at]));
            pieces.push(Piece::Dot(trimmed));
            begin = at + line.len();
        } else if !trimmed.is_empty() && !trimmed.starts_with("--") {
            in_statement = !trimmed.ends_with(';');
        }
        at += line.len();
    }
    pieces.push(Piece::Sql(&text[begin..]));
    pieces.retain(|piece| !matches!(piece, Piece::Sql(sql) if sql.trim().is_empty()));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_commands_stand_between_statements() {
        let text = "select 1;\n.tables\n-- a remark\nselect\n.5;\n.schema x";
        assert_eq!(
            pieces(text),
            [
                Piece::Sql("select 1;\n"),
                Piece::Dot(".tables"),
                Piece::Sql("-- a remark\nselect\n.5;\n"),
                Piece::Dot(".schema x"),
            ]
        );
        assert_eq!(pieces("  \n"), []);
        assert_eq!(pieces(".help"), [Piece::Dot(".help")]);
    }
}
