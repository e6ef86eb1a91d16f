//! What ends a statement, as one sentence with the next step.

use std::io;

use kmortem_kernel::Error;
use kmortem_shell::registry::distance;

use crate::tables::TABLES;

/// Why SQL was not answered.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The statement is wrong.
    #[error("{0}")]
    Statement(String),
    /// It wanted more than to read.
    #[error("statements can only read (SELECT, VALUES, WITH, EXPLAIN), not {0}")]
    Denied(String),
    /// A dot command that is none.
    #[error("{0}")]
    Dot(String),
    /// The dump does not have a table.
    #[error("table {table} can't be read: {error}")]
    Unread {
        /// Which.
        table: &'static str,
        /// Why.
        error: Error,
    },
    /// SQLite could not go on.
    #[error("SQLite: {0}")]
    Database(#[from] rusqlite::Error),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The output can't be written.
    #[error(transparent)]
    Output(#[from] io::Error),
}

impl SqlError {
    /// What SQLite says of a statement, with the names that may be meant.
    pub(crate) fn of_statement(error: rusqlite::Error, sql: &str) -> SqlError {
        use rusqlite::Error as Sqlite;
        let message = match error {
            Sqlite::SqlInputError { msg, .. } => msg,
            Sqlite::SqliteFailure(code, message) => match message {
                Some(message) => message,
                None => return SqlError::Database(Sqlite::SqliteFailure(code, None)),
            },
            other => return SqlError::Database(other),
        };
        SqlError::Statement(explain(&message, sql))
    }

    /// What happened while a statement ran.
    pub(crate) fn of_run(error: rusqlite::Error) -> SqlError {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => SqlError::Interrupted,
            _ => SqlError::Database(error),
        }
    }

    /// Whether the statement itself was wrong, as opposed to the dump having
    /// no answer.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, SqlError::Statement(_) | SqlError::Denied(_) | SqlError::Dot(_))
    }
}

/// SQLite's message; of an unknown name also what there is.
fn explain(message: &str, sql: &str) -> String {
    if let Some(table) = message.strip_prefix("no such table: ") {
        let tables = TABLES.iter().map(|t| t.name());
        return match nearest(table, tables) {
            Some(name) => format!("{message}; did you mean {name}? (.tables lists them)"),
            None => format!("{message}; .tables lists them"),
        };
    }
    let Some(column) = message.strip_prefix("no such column: ") else {
        return message.to_owned();
    };
    let (prefix, column) = column.rsplit_once('.').map_or(("", column), |(p, c)| (p, c));
    // The tables that the statement speaks of, by their names in its text.
    let words: Vec<String> =
        sql.split(|c: char| !(c.is_alphanumeric() || c == '_')).map(str::to_lowercase).collect();
    let mut tables: Vec<_> =
        TABLES.iter().filter(|t| words.iter().any(|word| word == t.name())).collect();
    if tables.iter().any(|t| t.name() == prefix) {
        tables.retain(|t| t.name() == prefix);
    }
    let columns: Vec<&str> =
        tables.iter().flat_map(|t| t.columns()).map(|about| about.name).collect();
    if let Some(name) = nearest(column, columns.iter().copied()) {
        return format!("{message}; did you mean {name}? (.schema lists them)");
    }
    match tables.as_slice() {
        [table] => {
            let name = table.name();
            format!("{message}; {name} has {}", columns.join(", "))
        }
        _ => format!("{message}; .schema TABLE lists them"),
    }
}

/// The candidate that is so near to `name` that it may be meant.
pub(crate) fn nearest<'c>(
    name: &str,
    candidates: impl Iterator<Item = &'c str>,
) -> Option<&'c str> {
    let name = name.to_lowercase();
    let alike = |candidate: &&str| {
        let starts =
            name.len() >= 2 && (candidate.starts_with(&name) || name.starts_with(*candidate));
        starts || distance(&name, candidate) <= if name.len() > 5 { 2 } else { 1 }
    };
    candidates.filter(alike).min_by_key(|candidate| distance(&name, candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_lead_to_known_ones() {
        let of = |message: &str, sql: &str| explain(message, sql);
        assert_eq!(
            of("no such table: taks", "select * from taks"),
            "no such table: taks; did you mean tasks? (.tables lists them)"
        );
        assert_eq!(
            of("no such table: unicorns", "select * from unicorns"),
            "no such table: unicorns; .tables lists them"
        );
        assert_eq!(
            of("no such column: t.stat", "select t.stat from tasks t"),
            "no such column: t.stat; did you mean state? (.schema lists them)"
        );
        let all = of("no such column: colour", "select colour from taints");
        assert!(all.starts_with("no such column: colour; taints has "), "{all}");
        assert_eq!(of("near \"form\": syntax error", ""), "near \"form\": syntax error");
    }
}
