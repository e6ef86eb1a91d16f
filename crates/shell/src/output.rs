//! Where a command's answer goes: text in crash's shape, or JSON, one object
//! per line. What is not the answer (what could not be read, and why) goes to
//! the second writer, so that a pipe gets data only.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::error::CommandError;
use crate::progress::Progress;

/// The writers of one run.
pub struct Output<'w> {
    data: &'w mut dyn Write,
    /// None: remarks go where the data goes.
    notes: Option<&'w mut dyn Write>,
    json: bool,
    command: &'static str,
    /// Whether `data` ends in this process's standard output, so that commands
    /// of the host may write there themselves.
    shared: bool,
    /// Set while somebody wants the command to end.
    interrupt: Option<Arc<AtomicBool>>,
    /// What shows on the terminal until something is written.
    progress: Option<Progress>,
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
        Output {
            data,
            notes: Some(notes),
            json: false,
            command: "",
            shared: false,
            interrupt: None,
            progress: None,
        }
    }

    /// JSON lines to `data`, remarks to `notes`.
    pub fn json(data: &'w mut dyn Write, notes: &'w mut dyn Write) -> Output<'w> {
        Output { json: true, ..Output::text(data, notes) }
    }

    /// The same, where the data ends in this process's standard output:
    /// commands of the host write there too.
    pub fn on_stdout(self) -> Output<'w> {
        Output { shared: true, ..self }
    }

    /// The same with data, and remarks if they are given, going elsewhere.
    pub(crate) fn redirected<'s>(
        &'s mut self,
        data: &'s mut dyn Write,
        notes: Notes,
    ) -> Output<'s> {
        let notes = match notes {
            Notes::Here => self.notes.as_mut().map(|notes| &mut **notes as &mut dyn Write),
            Notes::WithData => None,
        };
        Output {
            data,
            notes,
            json: self.json,
            command: self.command,
            shared: false,
            interrupt: self.interrupt.clone(),
            progress: self.progress.clone(),
        }
    }

    /// Writing fails from now on while `interrupt` is set, and takes
    /// `progress` off the terminal.
    pub(crate) fn watch(&mut self, interrupt: &Arc<AtomicBool>, progress: &Progress) {
        self.interrupt = Some(interrupt.clone());
        self.progress = Some(progress.clone());
    }

    /// The answer goes where no progress shows.
    pub(crate) fn unseen(self) -> Output<'w> {
        Output { progress: None, ..self }
    }

    /// Whether commands of the host may write to standard output themselves.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    fn begin_answer(&self) {
        if let Some(progress) = &self.progress {
            progress.answer();
        }
    }

    fn check(&self) -> io::Result<()> {
        let is_set = |flag: &Arc<AtomicBool>| flag.load(Ordering::Relaxed);
        match self.interrupt.as_ref().is_some_and(is_set) {
            true => Err(io::Error::other("interrupted")),
            false => Ok(()),
        }
    }

    /// Whether JSON is wanted.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// An error of the command, where remarks go.
    pub(crate) fn error(&mut self, error: &CommandError) -> io::Result<()> {
        self.remark(format_args!("{error}"))
    }

    /// A remark that is about no command.
    pub fn plain_note(&mut self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        self.remark(text)
    }

    fn remark(&mut self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        if let Some(progress) = &self.progress {
            progress.hide();
        }
        // What was written so far shows before the remark on it.
        self.data.flush()?;
        match &mut self.notes {
            Some(notes) => writeln!(notes, "{text}"),
            None => writeln!(self.data, "{text}"),
        }
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
        self.check()?;
        self.begin_answer();
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
        // Whatever broke off because of it is no news.
        self.check()?;
        let command = self.command;
        self.remark(format_args!("{command}: {remark}"))
    }
}

/// Where remarks go when the data goes elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notes {
    /// Where they went before.
    Here,
    /// Where the data goes.
    WithData,
}

impl Write for Output<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.check()?;
        self.begin_answer();
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

    #[test]
    fn nothing_is_written_while_it_is_interrupted() {
        let (mut data, mut notes) = (Vec::new(), Vec::new());
        let mut out = Output::text(&mut data, &mut notes);
        let interrupt = Arc::new(AtomicBool::new(true));
        out.watch(&interrupt, &Progress::default());
        assert!(writeln!(out, "a").is_err());
        assert!(out.row(&Pid { pid: 1 }).is_err());
        assert!(out.note("b").is_err());
        interrupt.store(false, Ordering::Relaxed);
        writeln!(out, "c").unwrap();
        assert_eq!((data.as_slice(), notes.as_slice()), (b"c\n".as_slice(), b"".as_slice()));
    }

    #[test]
    fn remarks_go_with_the_data_where_that_is_wanted() {
        let (mut data, mut notes, mut file) = (Vec::new(), Vec::new(), Vec::new());
        let mut out = Output::text(&mut data, &mut notes);
        out.redirected(&mut file, Notes::WithData).note("a").unwrap();
        out.redirected(&mut Vec::new(), Notes::Here).note("b").unwrap();
        assert_eq!((file.as_slice(), notes.as_slice()), (b": a\n".as_slice(), b": b\n".as_slice()));
    }
}
