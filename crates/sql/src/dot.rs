//! The commands that are no SQL: `.tables`, `.schema`, `.help`, and `.quit`
//! at the prompt. They begin with a dot, as in SQLite's own shell.

use std::fmt::Write;

use crate::error::{SqlError, nearest};
use crate::schema::Relation;
use crate::tables::TABLES;

const NAMES: &[&str] = &[".tables", ".schema", ".help", ".quit", ".exit"];

const HELP: &str = "\
.tables           the tables, and what a row of each is
.schema [TABLE]   the columns of a table, or of all: type, unit, meaning
.help             this
.quit             ends (so does Ctrl-D); Ctrl-C ends a statement that runs

Anything else is SQL, of SQLite's kind (https://sqlite.org/lang.html). A
statement ends with `;` and may go over several lines. Addresses are text
('0xffff888003a40000'), so that they compare with each other and with what
other commands print; a null pointer, and what could not be read, is NULL.
";

/// Whether `word` is a dot command.
pub fn is_command(word: &str) -> bool {
    NAMES.contains(&word)
}

/// What to do after a command.
pub(crate) enum Done {
    /// Show this.
    Text(String),
    /// End.
    Quit,
}

/// Runs the command on `line`.
pub(crate) fn run(line: &str) -> Result<Done, SqlError> {
    let mut words = line.trim().trim_end_matches(';').split_whitespace();
    let command = words.next().unwrap_or_default();
    let argument = words.next();
    if !is_command(command) {
        return Err(SqlError::Dot(format!("{command}: no such command; .help lists them")));
    }
    if argument.is_some() && command != ".schema" || words.next().is_some() {
        return Err(SqlError::Dot(format!("{command}: too many words; .help explains it")));
    }
    match (command, argument) {
        (".tables", _) => Ok(Done::Text(tables())),
        (".help", _) => Ok(Done::Text(HELP.to_owned())),
        (".schema", None) => {
            let all: Vec<String> = TABLES.iter().map(|table| schema(*table)).collect();
            Ok(Done::Text(all.join("\n")))
        }
        (".schema", Some(name)) => match TABLES.iter().find(|t| t.name() == name) {
            Some(table) => Ok(Done::Text(schema(*table))),
            None => {
                let meant = match nearest(name, TABLES.iter().map(|t| t.name())) {
                    Some(name) => format!("did you mean {name}? (.tables lists them)"),
                    None => ".tables lists them".to_owned(),
                };
                Err(SqlError::Dot(format!("no such table: {name}; {meant}")))
            }
        },
        _ => Ok(Done::Quit),
    }
}

fn tables() -> String {
    let width = TABLES.iter().map(|t| t.name().len()).max().unwrap_or(0);
    TABLES.iter().map(|t| format!("{:<width$}  {}\n", t.name(), t.doc())).collect()
}

fn schema(table: &dyn Relation) -> String {
    let columns = table.columns();
    let name = columns.iter().map(|c| c.name.len()).max().unwrap_or(0);
    let mut out = format!("{}: {}\n", table.name(), table.doc());
    for column in columns {
        let unit = if column.unit.is_empty() { "" } else { &format!(" [{}]", column.unit) };
        // Writing to a String can't fail.
        let _ = writeln!(
            out,
            "  {:<name$}  {:<7}  {}{unit}",
            column.name,
            column.kind.word(),
            column.doc
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &str) -> String {
        match run(line).unwrap() {
            Done::Text(text) => text,
            Done::Quit => String::new(),
        }
    }

    #[test]
    fn tables_and_columns_are_explained() {
        assert_eq!(text(".tables").lines().count(), TABLES.len());
        let tasks = text(".schema tasks");
        assert!(tasks.contains("\n  rss_bytes "), "{tasks}");
        assert!(tasks.contains("resident memory [bytes]"), "{tasks}");
        assert!(text(".schema").len() > 20 * tasks.len() / 10);
        assert!(matches!(run(".quit").unwrap(), Done::Quit));
    }

    #[test]
    fn wrong_words_are_told() {
        let error = |line: &str| match run(line) {
            Err(error) => error.to_string(),
            Ok(_) => String::new(),
        };
        assert_eq!(
            error(".schema frame"),
            "no such table: frame; did you mean frames? (.tables lists them)"
        );
        assert_eq!(error(".dump"), ".dump: no such command; .help lists them");
        assert_eq!(error(".tables x"), ".tables: too many words; .help explains it");
    }

    /// docs/sql.md is made from the declarations. To write it anew:
    /// `UPDATE_DOCS=1 cargo test -p kmortem docs_are_those_of_the_tables`.
    #[test]
    fn docs_are_those_of_the_tables() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/sql.md");
        let there = std::fs::read_to_string(path).unwrap();
        let (intro, _) = there.split_once(MARK).expect("docs/sql.md has lost its mark");
        let fresh = format!("{intro}{MARK}{}", markdown());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &fresh).unwrap();
        } else {
            assert!(there == fresh, "docs/sql.md is stale: UPDATE_DOCS=1 cargo test -p kmortem");
        }
    }

    const MARK: &str = "<!-- From here on written by a test from the declarations. -->\n";

    fn markdown() -> String {
        let mut out = String::new();
        for table in TABLES {
            writeln!(out, "\n## {}\n\nA row: {}.\n", table.name(), table.doc()).unwrap();
            writeln!(out, "| column | type | what it is |\n|---|---|---|").unwrap();
            for column in table.columns() {
                let unit = match column.unit {
                    "" => String::new(),
                    unit => format!(", {unit}"),
                };
                let kind = column.kind.word();
                writeln!(out, "| `{}` | {kind}{unit} | {} |", column.name, column.doc).unwrap();
            }
        }
        out
    }
}
