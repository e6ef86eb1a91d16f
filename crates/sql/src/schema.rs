//! What a table is: data. Its name, its columns (each with its type, its unit,
//! what it means, and how a row's value is taken from the kernel model), and
//! where its rows come from. The SQL schema, `.schema`, the filling and
//! docs/sql.md are all made from that.
//!
//! A column is worked out only where a statement reads it, so one that costs
//! something (the command line of a process, say) is free until it is named.

use kmortem_kernel::{Error, Kernel};
use rayon::prelude::*;

use crate::cell::Cell;
use crate::remarks::Remarks;

/// SQL type of a column, and what its values look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole number.
    Integer,
    /// Text.
    Text,
    /// Text: an address as `0x` and hexadecimal digits, as everywhere in
    /// kmortem's JSON. A null pointer is NULL.
    Address,
    /// 0 or 1.
    Flag,
}

impl Kind {
    /// The type in `CREATE TABLE`.
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Kind::Integer | Kind::Flag => "INTEGER",
            Kind::Text | Kind::Address => "TEXT",
        }
    }

    /// The type for people.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Integer => "integer",
            Kind::Text => "text",
            Kind::Address => "address",
            Kind::Flag => "0 or 1",
        }
    }
}

/// A column of a table whose rows are `R`s.
pub(crate) struct Column<R> {
    pub(crate) about: About,
    value: fn(&Kernel, &R) -> Cell,
}

/// What is known of a column without any row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Empty where a value is just a value.
    pub(crate) unit: &'static str,
    pub(crate) doc: &'static str,
}

impl<R> Column<R> {
    const fn new(
        name: &'static str,
        kind: Kind,
        doc: &'static str,
        value: fn(&Kernel, &R) -> Cell,
    ) -> Column<R> {
        Column { about: About { name, kind, unit: "", doc }, value }
    }

    /// A column of numbers.
    pub(crate) const fn integer(
        name: &'static str,
        doc: &'static str,
        value: fn(&Kernel, &R) -> Cell,
    ) -> Column<R> {
        Column::new(name, Kind::Integer, doc, value)
    }

    /// A column of text.
    pub(crate) const fn text(
        name: &'static str,
        doc: &'static str,
        value: fn(&Kernel, &R) -> Cell,
    ) -> Column<R> {
        Column::new(name, Kind::Text, doc, value)
    }

    /// A column of addresses.
    pub(crate) const fn address(
        name: &'static str,
        doc: &'static str,
        value: fn(&Kernel, &R) -> Cell,
    ) -> Column<R> {
        Column::new(name, Kind::Address, doc, value)
    }

    /// A column of 0 and 1.
    pub(crate) const fn flag(
        name: &'static str,
        doc: &'static str,
        value: fn(&Kernel, &R) -> Cell,
    ) -> Column<R> {
        Column::new(name, Kind::Flag, doc, value)
    }

    /// A column of numbers of some unit.
    pub(crate) const fn quantity(
        name: &'static str,
        unit: &'static str,
        doc: &'static str,
        value: fn(&Kernel, &R) -> Cell,
    ) -> Column<R> {
        Column { about: About { name, kind: Kind::Integer, unit, doc }, value }
    }
}

/// A table whose rows are `R`s.
pub(crate) struct Table<R: 'static> {
    pub(crate) name: &'static str,
    /// What a row is, in one sentence without its full stop.
    pub(crate) doc: &'static str,
    pub(crate) columns: &'static [Column<R>],
    /// Emits all rows.
    pub(crate) rows: fn(&Kernel, &mut Rows<'_, R>) -> Result<(), FillError>,
}

/// Why a table could not be filled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FillError {
    /// The dump does not have it.
    #[error(transparent)]
    Kernel(#[from] Error),
    /// The database did not take it.
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
}

/// Takes one row's cells, in the order of the wanted columns.
pub(crate) type Insert<'a> = dyn FnMut(&[Cell]) -> rusqlite::Result<()> + 'a;

/// A table, whatever its rows are.
pub(crate) trait Relation: Sync {
    fn name(&self) -> &'static str;
    fn doc(&self) -> &'static str;
    fn columns(&self) -> Vec<About>;
    /// Passes each row's cells of the `wanted` columns (indices) to `insert`.
    fn fill(
        &self,
        kernel: &Kernel,
        wanted: &[usize],
        insert: &mut Insert<'_>,
        remarks: &mut Remarks,
    ) -> Result<(), FillError>;
}

impl<R: Send + Sync> Relation for Table<R> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn doc(&self) -> &'static str {
        self.doc
    }

    fn columns(&self) -> Vec<About> {
        self.columns.iter().map(|column| column.about).collect()
    }

    fn fill(
        &self,
        kernel: &Kernel,
        wanted: &[usize],
        insert: &mut Insert<'_>,
        remarks: &mut Remarks,
    ) -> Result<(), FillError> {
        let columns = wanted.iter().filter_map(|i| self.columns.get(*i)).collect();
        let mut rows = Rows { table: self.name, kernel, columns, insert, remarks };
        (self.rows)(kernel, &mut rows)
    }
}

/// Where a table's rows go.
pub(crate) struct Rows<'a, R: 'static> {
    table: &'static str,
    kernel: &'a Kernel,
    columns: Vec<&'static Column<R>>,
    insert: &'a mut Insert<'a>,
    remarks: &'a mut Remarks,
}

impl<R> Rows<'_, R> {
    /// One row.
    pub(crate) fn push(&mut self, row: &R) -> Result<(), FillError> {
        let cells = cells(self.kernel, &self.columns, row);
        self.take(cells)
    }

    /// Some rows, worked out on all cores and inserted in their order.
    pub(crate) fn push_all(&mut self, rows: &[R]) -> Result<(), FillError>
    where
        R: Sync,
    {
        // In batches: what is worked out and not inserted yet stays little.
        for batch in rows.chunks(BATCH) {
            let (kernel, columns) = (self.kernel, &self.columns);
            let batch: Vec<_> = batch.par_iter().map(|row| cells(kernel, columns, row)).collect();
            batch.into_iter().try_for_each(|cells| self.take(cells))?;
        }
        Ok(())
    }

    fn take(&mut self, cells: Vec<Cell>) -> Result<(), FillError> {
        for (cell, column) in cells.iter().zip(&self.columns) {
            if let Cell::Unread(reason) = cell {
                self.remarks.add(self.table, &format!("{}: {reason}", column.about.name));
            }
        }
        Ok((self.insert)(&cells)?)
    }

    /// What the rows lack, and why.
    pub(crate) fn remark(&mut self, remark: impl std::fmt::Display) {
        self.remarks.add(self.table, &remark.to_string());
    }

    /// What rows lack, and why.
    pub(crate) fn gaps(&mut self, gaps: &kmortem_kernel::gaps::Gaps) {
        gaps.reasons().iter().for_each(|reason| self.remarks.add(self.table, reason));
    }
}

/// Rows worked out at a time.
pub(crate) const BATCH: usize = 1024;

fn cells<R>(kernel: &Kernel, columns: &[&'static Column<R>], row: &R) -> Vec<Cell> {
    columns.iter().map(|column| (column.value)(kernel, row)).collect()
}

/// The table in SQL.
pub(crate) fn create_statement(table: &dyn Relation) -> String {
    let columns: Vec<String> =
        table.columns().iter().map(|c| format!("\"{}\" {}", c.name, c.kind.sql())).collect();
    format!("CREATE TABLE \"{}\" ({})", table.name(), columns.join(", "))
}
