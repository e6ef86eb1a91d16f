//! SQL over the dead kernel: SQLite, with the kernel's objects as tables.
//!
//! All tables exist from the start, empty, in a private database that SQLite
//! keeps in its cache and, beyond that, in a temporary file without a name.
//! Preparing a statement tells, through SQLite's authorizer
//! (<https://sqlite.org/c3ref/set_authorizer.html>), which columns of which
//! tables it reads: exactly those are filled from the dump before it runs.
//! (Virtual tables would do the same row by row, but can't be written without
//! `unsafe`.) A filled table stays for the statements that follow.
//!
//! Statements can only read: whatever else they ask for is denied while they
//! are prepared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use kmortem_kernel::Kernel;
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Batch, Connection, InterruptHandle, Statement, params_from_iter};

use crate::cell::Cell;
use crate::error::SqlError;
use crate::remarks::Remarks;
use crate::schema::{FillError, Relation, create_statement};
use crate::tables::TABLES;

/// What a connection does without: nobody else has the database, and nothing
/// of it is kept.
const SETTINGS: &str = "
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA cache_size = -16384;
    PRAGMA temp_store = FILE;
";

/// Columns read, by table. A table of which only the number of rows counts
/// (`count(*)`) has none.
type Reads = BTreeMap<String, BTreeSet<String>>;

/// The database over one dump.
pub struct Engine<'k> {
    kernel: &'k Kernel,
    database: Connection,
    /// What the statement that is being prepared reads.
    watch: Arc<Mutex<Watch>>,
    /// Columns (indices) that tables have been filled with.
    filled: Mutex<BTreeMap<&'static str, BTreeSet<usize>>>,
}

#[derive(Default)]
struct Watch {
    /// Whether a user's statement is being prepared (else one of our own).
    on: bool,
    reads: Reads,
    /// What a statement wanted beyond reading.
    denied: Option<String>,
}

impl<'k> Engine<'k> {
    /// A database with all tables, and nothing in them.
    pub fn new(kernel: &'k Kernel) -> Result<Engine<'k>, SqlError> {
        let mut database = Connection::open("")?;
        database.execute_batch(SETTINGS)?;
        for table in TABLES {
            database.execute_batch(&create_statement(*table))?;
        }
        let watch = Arc::new(Mutex::new(Watch::default()));
        let watcher = watch.clone();
        database.authorizer(Some(move |context: AuthContext<'_>| {
            watcher.lock().unwrap_or_else(PoisonError::into_inner).see(&context.action)
        }))?;
        Ok(Engine { kernel, database, watch, filled: Mutex::default() })
    }

    /// What ends a running statement from another thread.
    pub fn interrupt_handle(&self) -> InterruptHandle {
        self.database.get_interrupt_handle()
    }

    /// Runs the statements in `sql`, one after the other: fills what each one
    /// reads, and hands it to `show` with what could not be read. Ends at the
    /// first that can't be answered.
    pub(crate) fn run(
        &self,
        sql: &str,
        show: &mut dyn FnMut(&mut Statement<'_>, &Remarks) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let mut batch = Batch::new(&self.database, sql);
        loop {
            self.watch(|watch| *watch = Watch { on: true, ..Watch::default() });
            let prepared = batch.next();
            let seen = self.watch(std::mem::take);
            let mut statement = match (prepared, seen.denied) {
                (Ok(Some(statement)), _) => statement,
                (Ok(None), _) => return Ok(()),
                (Err(_), Some(what)) => return Err(SqlError::Denied(what)),
                (Err(error), None) => return Err(SqlError::of_statement(error, sql)),
            };
            // VACUUM asks nobody until it runs.
            if !statement.readonly() {
                return Err(SqlError::Denied("a change of the database".to_owned()));
            }
            let mut remarks = Remarks::default();
            self.fill(&seen.reads, &mut remarks)?;
            show(&mut statement, &remarks)?;
        }
    }

    /// Tables filled so far, with the names of the columns filled.
    #[cfg(test)]
    pub(crate) fn filled(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let filled = self.filled.lock().unwrap();
        let names = |table: &str, columns: &BTreeSet<usize>| {
            let about = TABLES.iter().find(|t| t.name() == table).unwrap().columns();
            columns.iter().map(|i| about[*i].name).collect()
        };
        filled.iter().map(|(table, columns)| (*table, names(table, columns))).collect()
    }

    fn watch<T>(&self, change: impl FnOnce(&mut Watch) -> T) -> T {
        change(&mut self.watch.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Fills what is read and not there yet.
    fn fill(&self, reads: &Reads, remarks: &mut Remarks) -> Result<(), SqlError> {
        for table in TABLES {
            let Some(names) = reads.get(table.name()) else { continue };
            let named = table.columns().into_iter().enumerate();
            let mut wanted: BTreeSet<usize> =
                named.filter(|(_, c)| names.contains(c.name)).map(|(i, _)| i).collect();
            let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(there) = filled.get(table.name()) {
                if there.is_superset(&wanted) {
                    continue;
                }
                wanted.extend(there);
            }
            let columns: Vec<usize> = wanted.iter().copied().collect();
            self.fill_table(*table, &columns, remarks).map_err(|error| match error {
                FillError::Kernel(error) => SqlError::Unread { table: table.name(), error },
                FillError::Database(error) => SqlError::Database(error),
            })?;
            filled.insert(table.name(), wanted);
        }
        Ok(())
    }

    fn fill_table(
        &self,
        table: &dyn Relation,
        columns: &[usize],
        remarks: &mut Remarks,
    ) -> Result<(), FillError> {
        let transaction = self.database.unchecked_transaction()?;
        transaction.execute(&format!("DELETE FROM \"{}\"", table.name()), [])?;
        let insert = insert_statement(table, columns);
        {
            let mut insert = transaction.prepare(&insert)?;
            let nothing = columns.is_empty();
            let mut one = |cells: &[Cell]| match nothing {
                true => insert.execute([]).map(drop),
                false => insert.execute(params_from_iter(cells)).map(drop),
            };
            table.fill(self.kernel, columns, &mut one, remarks)?;
        }
        transaction.commit()?;
        Ok(())
    }
}

fn insert_statement(table: &dyn Relation, columns: &[usize]) -> String {
    let about = table.columns();
    let names: Vec<String> =
        columns.iter().filter_map(|i| about.get(*i)).map(|c| format!("\"{}\"", c.name)).collect();
    if names.is_empty() {
        return format!("INSERT INTO \"{}\" DEFAULT VALUES", table.name());
    }
    let places = vec!["?"; names.len()].join(",");
    format!("INSERT INTO \"{}\" ({}) VALUES ({places})", table.name(), names.join(","))
}

impl Watch {
    /// Decides on one action of the statement that is being prepared.
    fn see(&mut self, action: &AuthAction<'_>) -> Authorization {
        if !self.on {
            return Authorization::Allow;
        }
        let what = match action {
            AuthAction::Read { table_name, column_name } => {
                let columns = self.reads.entry((*table_name).to_owned()).or_default();
                columns.insert((*column_name).to_owned());
                return Authorization::Allow;
            }
            AuthAction::Function { function_name } if *function_name != "load_extension" => {
                return Authorization::Allow;
            }
            AuthAction::Select | AuthAction::Recursive => return Authorization::Allow,
            AuthAction::Function { function_name } => format!("the function {function_name}"),
            AuthAction::Pragma { pragma_name, .. } => format!("PRAGMA {pragma_name}"),
            AuthAction::Attach { .. } => "ATTACH".to_owned(),
            AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => {
                "a transaction".to_owned()
            }
            _ => "a change of the database".to_owned(),
        };
        self.denied.get_or_insert(what);
        Authorization::Deny
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator;

    const SAMPLE: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/hung-mutex-6.12.vmcore");

    fn count(engine: &Engine<'_>, sql: &str) -> i64 {
        let mut rows = 0;
        engine
            .run(sql, &mut |statement, _| {
                rows = statement.query([])?.count()? as i64;
                Ok(())
            })
            .unwrap();
        rows
    }

    #[test]
    fn only_what_a_statement_reads_is_filled() {
        let kernel = Kernel::open_files(&[SAMPLE]).unwrap();
        let engine = Engine::new(&kernel).unwrap();
        assert_eq!(engine.filled(), []);
        // No table at all, and one whose rows are only counted.
        assert_eq!(count(&engine, "select 1"), 1);
        assert_eq!(engine.filled(), []);
        assert_eq!(count(&engine, "select count(*) from modules"), 1);
        assert_eq!(engine.filled(), [("modules", vec![])]);
        // Columns that only a condition names are read, too.
        let tasks = count(&engine, "select comm from tasks where pid > 0");
        assert!(tasks > 70, "{tasks}");
        assert_eq!(engine.filled(), [("modules", vec![]), ("tasks", vec!["pid", "comm"])]);
        // What is there stays, what is missing comes.
        assert_eq!(count(&engine, "select t.state, t.comm from tasks t where pid > 0"), tasks);
        assert_eq!(count(&engine, "select name from modules"), 16);
        assert_eq!(
            engine.filled(),
            [("modules", vec!["name"]), ("tasks", vec!["pid", "comm", "state"])]
        );
    }

    #[test]
    fn nothing_but_reading_is_let_through() {
        let kernel = Kernel::open_files(&[SAMPLE]).unwrap();
        let engine = Engine::new(&kernel).unwrap();
        for sql in [
            "delete from tasks",
            "insert into tasks (pid) values (1)",
            "update tasks set pid = 2",
            "drop table tasks",
            "create table mine (a)",
            "create temp view mine as select 1",
            "attach 'file' as other",
            "pragma journal_mode = wal",
            "vacuum into 'file'",
            "begin",
            "savepoint here",
            "select load_extension('x')",
            "analyze",
        ] {
            let error = engine.run(sql, &mut |_, _| Ok(())).unwrap_err();
            assert!(error.is_usage(), "{sql}: {error}");
        }
        assert_eq!(engine.filled(), []);
    }
}
