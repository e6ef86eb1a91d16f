//! Where a command's answer goes: text in crash's shape, or JSON, one object
//! per line. What is not the answer (what could not be read, and why) goes to
//! the second writer, so that a pipe gets data only.

use std::io::{self, Write};

use serde::Serialize;

use crate::error::CommandError;

/// The writers of one run.
pub struct Output<'w> {
    data: &'w mut dyn Write,
    notes: &'w mut dyn Write,
    json: bool,
    command: &'static str,
}

/// A JSON line: the row with the command that it answers.
#[derive(Serialize)]
struct Row<'a, T: Serialize> {
    command: &'a str,
    #[serde(flatten)]
    row: &'a T,
}

impl<'w> Output<'w> {
    /// Text to `data`, remarks to `notes`.
    pub fn text(data: &'w mut dyn Write, notes: &'w mut dyn Write) -> Output<'w> {
        Output { data, notes, json: false, command: "" }
    }

    /// JSON lines to `data`, remarks to `notes`.
    pub fn json(data: &'w mut dyn Write, notes: &'w mut dyn Write) -> Output<'w> {
        Output { data, notes, json: true, command: "" }
    }

    /// Whether JSON is wanted.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// An error of the command, where remarks go.
    pub(crate) fn error(&mut self, error: &CommandError) -> io::Result<()> {
        self.data.flush()?;
        writeln!(self.notes, "{error}")
    }

    /// The command that answers.
    pub(crate) fn command(&self) -> &'static str {
        self.command
    }

    pub(crate) fn begin(&mut self, command: &'static str) {
        self.command = command;
    }

    /// One JSON line. The row has to be a struct or a map.
    pub fn row<T: Serialize>(&mut self, row: &T) -> io::Result<()> {
        let row = Row { command: self.command, row };
        serde_json::to_writer(&mut self.data, &row).map_err(io::Error::from)?;
        self.data.write_all(b"\n")
    }

    /// One JSON line per row.
    pub fn rows<'a, T: Serialize + 'a>(
        &mut self,
        rows: impl IntoIterator<Item = &'a T>,
    ) -> io::Result<()> {
        rows.into_iter().try_for_each(|row| self.row(row))
    }

    /// A remark on the answer: what it lacks, and why.
    pub fn note(&mut self, remark: impl std::fmt::Display) -> io::Result<()> {
        // What was written so far shows before the remark on it.
        self.data.flush()?;
        writeln!(self.notes, "{}: {remark}", self.command)
    }
}

impl Write for Output<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.data.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.data.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Pid {
        pid: i32,
    }

    #[test]
    fn a_row_names_its_command() {
        let (mut data, mut notes) = (Vec::new(), Vec::new());
        let mut out = Output::json(&mut data, &mut notes);
        out.begin("ps");
        out.rows(&[Pid { pid: 1 }, Pid { pid: 2 }]).unwrap();
        out.note("one task is missing").unwrap();
        let data = String::from_utf8(data).unwrap();
        assert_eq!(data, "{\"command\":\"ps\",\"pid\":1}\n{\"command\":\"ps\",\"pid\":2}\n");
        assert_eq!(notes, b"ps: one task is missing\n");
    }
}
