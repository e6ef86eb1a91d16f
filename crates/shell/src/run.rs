//! From a command line to its answer.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use crate::args::{self, Args};
use crate::error::{CommandError, Outcome};
use crate::line::{self, Destination, Input, Line, Word};
use crate::output::{Notes, Output};
use crate::script::{Echo, Script};
use crate::session::Session;
use crate::settings::ErrorsTo;
use crate::{fallback, host, registry};

/// Commands whose words may hold a `<` that is no file's.
const EXPRESSIONS: &[&str] = &["eval", "gdb", "p"];

/// How deep input files may name each other.
const DEEPEST: usize = 8;

impl Session {
    /// Runs one command line. The error, if any, was not written anywhere.
    pub fn run(&mut self, line: &str, out: &mut Output<'_>) -> Result<(), CommandError> {
        out.watch(&self.kernel().interrupt(), self.progress());
        let line = self.in_gdb_mode(line);
        let line = self.aliases.expand(&line);
        let done = match line::parse(&line)? {
            Line::Nothing => Ok(()),
            Line::Host(command) => host::run(&command, out),
            Line::Command { text, output } => self.run_to(&text, output, out),
        };
        // Whatever failed because of it is no news.
        if self.kernel().is_interrupted() { Err(CommandError::Interrupted) } else { done }
    }

    /// Runs command lines one after the other, an error of one does not keep
    /// the next from running. Errors go where remarks go; the worst outcome
    /// comes back. Only `exit` and a failure to write end it early.
    pub fn run_all<S: AsRef<str>>(
        &mut self,
        lines: &[S],
        out: &mut Output<'_>,
    ) -> io::Result<Outcome> {
        let mut worst = Outcome::Answered;
        for line in lines {
            worst = worst.max(self.run_told(line.as_ref(), out)?);
            if self.has_ended() || self.kernel().is_interrupted() {
                break;
            }
        }
        Ok(worst)
    }

    /// Runs the lines of a file or pipe as [`Session::run_all`] does, each one
    /// before the next is read, so that they may come while it runs.
    pub fn run_script(
        &mut self,
        script: &mut Script<'_>,
        out: &mut Output<'_>,
    ) -> io::Result<Outcome> {
        let mut worst = Outcome::Answered;
        while let Some(line) = script.next_line(out)? {
            worst = worst.max(self.run_told(&line, out)?);
            if self.has_ended() || self.kernel().is_interrupted() {
                break;
            }
        }
        Ok(worst)
    }

    /// Runs one command line and writes its error where remarks go.
    pub fn run_told(&mut self, line: &str, out: &mut Output<'_>) -> io::Result<Outcome> {
        match self.run(line, out) {
            Ok(()) => Ok(Outcome::Answered),
            Err(CommandError::Io(error)) => Err(error),
            Err(error) => {
                if !matches!(error, CommandError::Told(_)) {
                    self.tell(&error, out)?;
                }
                Ok(Outcome::from(&error))
            }
        }
    }

    fn tell(&self, error: &CommandError, out: &mut Output<'_>) -> io::Result<()> {
        if let ErrorsTo::File(path) = &self.settings().error {
            let mut file = OpenOptions::new().append(true).create(true).open(path)?;
            return writeln!(file, "{error}");
        }
        out.error(error)
    }

    /// `set gdb on`: what is not marked as one of ours is gdb's.
    fn in_gdb_mode<'l>(&self, line: &'l str) -> Cow<'l, str> {
        let trimmed = line.trim_start();
        if !self.settings().gdb || trimmed.is_empty() || trimmed.starts_with(['#', '!']) {
            return Cow::Borrowed(line);
        }
        match trimmed.strip_prefix("crash").filter(|rest| rest.starts_with([' ', '\t'])) {
            Some(ours) => Cow::Borrowed(ours),
            None => Cow::Owned(format!("gdb {trimmed}")),
        }
    }

    /// Runs a command with its answer going to `output`.
    fn run_to(
        &mut self,
        text: &str,
        output: Destination,
        out: &mut Output<'_>,
    ) -> Result<(), CommandError> {
        let with_errors = self.settings().error == ErrorsTo::Answer;
        match output {
            Destination::Here => self.run_text(text, out),
            Destination::Pipe(command) => {
                host::pipe(&command, out, with_errors, |out| self.run_inner(text, with_errors, out))
            }
            Destination::File { path, append } => {
                let failed =
                    |e: io::Error| CommandError::Host(format!("{path} can't be written: {e}"));
                let mut options = OpenOptions::new();
                options.create(true).write(true).append(append).truncate(!append);
                let file = options.open(&path).map_err(failed)?;
                let mut data = BufWriter::with_capacity(1 << 16, file);
                let notes = if with_errors { Notes::WithData } else { Notes::Here };
                let done = self.run_inner(
                    text,
                    with_errors,
                    &mut out.redirected(&mut data, notes).unseen(),
                );
                data.flush().map_err(failed)?;
                done
            }
        }
    }

    /// Runs a command; with `tell` its error goes where its answer goes.
    fn run_inner(
        &mut self,
        text: &str,
        tell: bool,
        out: &mut Output<'_>,
    ) -> Result<(), CommandError> {
        match self.run_text(text, out) {
            Err(CommandError::Io(error)) => Err(CommandError::Io(error)),
            Err(error) if tell => {
                out.error(&error)?;
                Err(CommandError::Told(Outcome::from(&error)))
            }
            done => done,
        }
    }

    /// Runs a command, or the commands of a file.
    fn run_text(&mut self, text: &str, out: &mut Output<'_>) -> Result<(), CommandError> {
        let mut words = line::split(text)?;
        let expressions = words.first().is_some_and(|w| EXPRESSIONS.contains(&w.text.as_str()));
        let is_file = |path: &str| Path::new(path).is_file();
        match line::take_input(&mut words, expressions, is_file)? {
            Input::None => self.run_words(&words, text, out),
            Input::Commands(path) => self.run_file(&path, out),
            Input::Words { path, at } => self.run_for_each_line(&words, &path, at, out),
        }
    }

    /// What shows of a file's commands.
    pub fn echo(&self) -> Echo {
        if self.settings().silent { Echo::Nothing } else { Echo::Commands }
    }

    /// Runs the commands of a file.
    fn run_file(&mut self, path: &str, out: &mut Output<'_>) -> Result<(), CommandError> {
        if self.depth >= DEEPEST {
            return Err(CommandError::Line(format!(
                "{path}: input files name each other too deep"
            )));
        }
        let mut reader = open(path)?;
        let echo = self.echo();
        self.depth += 1;
        let done = self.run_script(&mut Script::new(&mut reader, path, echo), out);
        self.depth -= 1;
        match done {
            Ok(Outcome::Answered) => Ok(()),
            Ok(worst) => Err(CommandError::Told(worst)),
            // The file's fault, not the answer's.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(CommandError::Line(error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Runs a command once for each line of a file, with the line's words at
    /// `at`.
    fn run_for_each_line(
        &mut self,
        words: &[Word],
        path: &str,
        at: usize,
        out: &mut Output<'_>,
    ) -> Result<(), CommandError> {
        let mut reader = open(path)?;
        let mut script = Script::new(&mut reader, path, Echo::Nothing);
        let mut worst = Outcome::Answered;
        while let Some(line) = script.next_line(out)? {
            let mut all = words.to_vec();
            let at = at.min(all.len());
            all.splice(at..at, line::split(&line)?);
            let text = all.iter().map(|w| w.text.as_str()).collect::<Vec<_>>().join(" ");
            match self.run_words(&all, &text, out) {
                Ok(()) => {}
                Err(CommandError::Io(error)) => return Err(error.into()),
                Err(error) => {
                    self.tell(&error, out)?;
                    worst = worst.max(Outcome::from(&error));
                }
            }
            if self.kernel().is_interrupted() {
                break;
            }
        }
        if worst == Outcome::Answered { Ok(()) } else { Err(CommandError::Told(worst)) }
    }

    /// Runs the command that `words` are; `text` is the same as typed.
    pub(crate) fn run_words(
        &mut self,
        words: &[Word],
        text: &str,
        out: &mut Output<'_>,
    ) -> Result<(), CommandError> {
        let Some((first, rest)) = words.split_first() else { return Ok(()) };
        let name = first.text.as_str();
        let raw = text.trim_start().split_once(char::is_whitespace).map_or("", |(_, rest)| rest);
        // The star may touch what it points to.
        if let Some(target) = name.strip_prefix('*').filter(|target| !target.is_empty()) {
            let mut all = vec![Word { text: target.to_owned(), quote: None }];
            all.extend_from_slice(rest);
            return self.dispatch(registry::find("*")?, &all, &format!("{target} {raw}"), out);
        }
        match registry::find(name) {
            Ok(command) => self.dispatch(command, rest, raw, out),
            Err(unknown) => match fallback::meaning(self.kernel(), name) {
                Some(command) => self.dispatch(registry::find(command)?, words, text, out),
                None => Err(unknown),
            },
        }
    }

    fn dispatch(
        &mut self,
        command: &'static registry::Command,
        words: &[Word],
        raw: &str,
        out: &mut Output<'_>,
    ) -> Result<(), CommandError> {
        out.begin(command.name);
        let args = if command.takes_all {
            Args::words_as_typed(words)
        } else {
            let words: Vec<String> = words.iter().map(|w| w.text.clone()).collect();
            args::parse(command.name, command.options, &words)?
        };
        self.progress().begin(command.name);
        let done = (command.run)(self, &args.with_raw(raw), out);
        self.progress().end();
        done
    }
}

fn open(path: &str) -> Result<BufReader<File>, CommandError> {
    let failed = |e: io::Error| CommandError::Host(format!("{path} can't be read: {e}"));
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(CommandError::Host(format!("{path} is a directory")));
    }
    Ok(BufReader::new(file))
}
