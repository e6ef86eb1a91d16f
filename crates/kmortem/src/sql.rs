//! `kmortem sql`: questions to a dump in SQL (see `kmortem-sql`).

use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::Args;
use kmortem_shell::Outcome;
use kmortem_sql::{Engine, Format, Session};

use crate::Dump;
use crate::error::CliError;
use crate::interrupt;

/// Answers questions in SQL
#[derive(Args)]
#[command(
    override_usage = "kmortem sql [OPTIONS] <VMCORE>... [SQL]",
    after_help = EXAMPLES
)]
pub(crate) struct SqlArgs {
    /// The dump (of a split dump all its parts), then the statements; without
    /// them, or with `-`, they are read from standard input
    #[arg(required = true, value_name = "VMCORE... [SQL]")]
    words: Vec<String>,
    /// Statements, as one argument; may be given several times
    #[arg(short, long = "command", value_name = "SQL", action = clap::ArgAction::Append)]
    command: Vec<String>,
    /// Answers as CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Answers as JSON, one object per row
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  kmortem sql vmcore 'select state, count(*) from tasks group by state'
  kmortem sql vmcore \"select pid, comm, function from tasks t join frames f on f.task = t.addr
                      where t.state = 'UN' and f.depth = 2\"
  kmortem sql vmcore --csv 'select name, bytes from slab_caches order by bytes desc limit 10'
  kmortem sql vmcore .tables              the tables; '.schema tasks' shows the columns of one
  kmortem sql vmcore < questions.sql      several statements, each ends with `;`
  kmortem sql vmcore                      on a terminal: asks for them

Statements can only read. What could not be read is NULL, and standard error says why.
Exit codes: 0 all answered, 1 something could not be, 2 SQL was not understood,
130 Ctrl-C ended it.";

pub(crate) fn run(args: &SqlArgs) -> Result<ExitCode, CliError> {
    let (files, query) = split(&args.words, !args.command.is_empty());
    let kernel = Dump { files }.open()?;
    let mut notes = io::stderr().lock();
    if let Some(why) = kernel.image().completeness().incomplete {
        writeln!(notes, "kmortem: the dump is incomplete: {why}")?;
    }
    let format = match (args.csv, args.json) {
        (true, _) => Format::Csv,
        (_, true) => Format::Json,
        _ => Format::Table,
    };
    let engine = Engine::new(&kernel).map_err(|error| CliError::Sql(error.to_string()))?;
    let mut data = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut session = Session::new(&engine, format, &mut data, &mut notes);
    let interrupted = kernel.interrupt();
    if query != Query::Prompt {
        let running = engine.interrupt_handle();
        interrupt::catch(&interrupted, move || running.interrupt());
    }
    let query = match query {
        Query::None => None,
        Query::Words(sql) => Some(sql),
        Query::Input => {
            let mut sql = String::new();
            io::stdin().lock().read_to_string(&mut sql)?;
            Some(sql)
        }
        Query::Prompt => {
            catch_interrupts(&kernel, &engine)?;
            session
                .prompt(&mut io::stdin().lock(), &|| interrupted.store(false, Ordering::Relaxed))?;
            None
        }
    };
    let mut outcome = Outcome::Answered;
    for sql in args.command.iter().chain(&query) {
        outcome = outcome.max(session.run(sql)?);
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
    }
    data.flush()?;
    let code = match outcome {
        Outcome::Answered => ExitCode::SUCCESS,
        Outcome::Failed => ExitCode::from(1),
        Outcome::Misused => ExitCode::from(2),
    };
    Ok(interrupt::exit_code(&interrupted, code))
}

/// Where statements come from, beside `-c`.
#[derive(Debug, PartialEq, Eq)]
enum Query {
    None,
    Words(String),
    Input,
    Prompt,
}

/// The dump's files and the statements among the words of the command line.
fn split(words: &[String], has_command: bool) -> (Vec<PathBuf>, Query) {
    let files = |words: &[String]| words.iter().map(PathBuf::from).collect();
    match words {
        [first @ .., last] if !first.is_empty() && is_query(last) => {
            let query = if last == "-" { Query::Input } else { Query::Words(last.clone()) };
            (files(first), query)
        }
        words if has_command => (files(words), Query::None),
        words if io::stdin().is_terminal() => (files(words), Query::Prompt),
        words => (files(words), Query::Input),
    }
}

/// Whether a word is SQL and no file: no statement is one word but a dot
/// command's.
fn is_query(word: &str) -> bool {
    let looks = word == "-" || word.contains(char::is_whitespace) || kmortem_sql::is_command(word);
    looks && !Path::new(word).exists()
}

/// At the prompt Ctrl-C ends a statement, not the program.
fn catch_interrupts(kernel: &kmortem_kernel::Kernel, engine: &Engine<'_>) -> Result<(), CliError> {
    let (reading, running) = (kernel.interrupt(), engine.interrupt_handle());
    ctrlc::set_handler(move || {
        reading.store(true, Ordering::Relaxed);
        running.interrupt();
    })
    .map_err(|error| CliError::Sql(format!("Ctrl-C can't be caught: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query_of(words: &[&str]) -> (usize, Query) {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        let (files, query) = split(&words, true);
        (files.len(), query)
    }

    #[test]
    fn statements_come_after_the_files() {
        let sql = |sql: &str| Query::Words(sql.to_owned());
        assert_eq!(query_of(&["vmcore", "select 1"]), (1, sql("select 1")));
        assert_eq!(query_of(&["vmcore.1", "vmcore.2", ".tables"]), (2, sql(".tables")));
        assert_eq!(query_of(&["vmcore", "-"]), (1, Query::Input));
        assert_eq!(query_of(&["vmcore", "vmcore.2"]), (2, Query::None));
        assert_eq!(query_of(&["vmcore"]), (1, Query::None));
        // The only word is the dump, whatever it looks like.
        assert_eq!(query_of(&["my dump"]), (1, Query::None));
    }
}
