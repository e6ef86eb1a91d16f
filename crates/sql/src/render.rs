//! Rows of an answer as a table, as CSV (RFC 4180) or as JSON lines.

use std::io::{self, Write};

use rusqlite::types::ValueRef;
use rusqlite::{Row, Statement};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::error::SqlError;

/// How rows are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns under a heading; `-` stands for NULL.
    Table,
    /// Commas; NULL is an empty field.
    Csv,
    /// One object per line.
    Json,
}

/// Rows that decide the widths of a table's columns. Later ones may be wider:
/// an answer of any length is shown as it comes.
const MEASURED: usize = 1000;

/// Runs `statement` and shows its rows.
pub(crate) fn show(
    statement: &mut Statement<'_>,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), SqlError> {
    let names = distinct(&statement.column_names().collect::<Vec<_>>());
    let mut rows = statement.query([]).map_err(SqlError::of_run)?;
    let mut next = |show: &mut dyn FnMut(&Row<'_>) -> io::Result<()>| -> Result<bool, SqlError> {
        match rows.next().map_err(SqlError::of_run)? {
            Some(row) => show(row).map(|()| true).map_err(SqlError::Output),
            None => Ok(false),
        }
    };
    match format {
        Format::Json => while next(&mut |row| json_row(out, &names, row))? {},
        Format::Csv => {
            csv_row(out, names.iter().map(String::as_str))?;
            while next(&mut |row| {
                let fields: Vec<String> = cells(row, names.len()).map(|c| text(c, "")).collect();
                csv_row(out, fields.iter().map(String::as_str))
            })? {}
        }
        Format::Table => {
            let mut first: Vec<Vec<Shown>> = Vec::new();
            let mut more = true;
            while more && first.len() < MEASURED {
                more = next(&mut |row| {
                    first.push(cells(row, names.len()).map(shown).collect());
                    Ok(())
                })?;
            }
            let columns = measure(&names, &first);
            table_row(out, &columns, names.iter().map(|name| (name.as_str(), false)))?;
            let rules: Vec<String> = columns.iter().map(|c| "-".repeat(c.width)).collect();
            table_row(out, &columns, rules.iter().map(|rule| (rule.as_str(), false)))?;
            for row in &first {
                table_row(out, &columns, row.iter().map(|c| (c.text.as_str(), c.number)))?;
            }
            while more
                && next(&mut |row| {
                    let row: Vec<Shown> = cells(row, names.len()).map(shown).collect();
                    table_row(out, &columns, row.iter().map(|c| (c.text.as_str(), c.number)))
                })?
            {}
        }
    }
    Ok(())
}

/// Names of columns, so that no two are alike: an object has each once.
fn distinct(names: &[&str]) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        let mut unique = (*name).to_owned();
        let mut n = 2;
        while out.contains(&unique) {
            unique = format!("{name}:{n}");
            n += 1;
        }
        out.push(unique);
    }
    out
}

fn cells<'r>(row: &'r Row<'_>, count: usize) -> impl Iterator<Item = ValueRef<'r>> {
    (0..count).map(|i| row.get_ref(i).unwrap_or(ValueRef::Null))
}

fn text(cell: ValueRef<'_>, null: &str) -> String {
    match cell {
        ValueRef::Null => null.to_owned(),
        ValueRef::Integer(value) => value.to_string(),
        ValueRef::Real(value) => value.to_string(),
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        ValueRef::Blob(bytes) => bytes.iter().map(|b| format!("{b:02x}")).collect(),
    }
}

/// A cell of a table.
struct Shown {
    text: String,
    number: bool,
}

fn shown(cell: ValueRef<'_>) -> Shown {
    let number = matches!(cell, ValueRef::Integer(_) | ValueRef::Real(_));
    // A cell is one line of a table, whatever is in it.
    let text = text(cell, "-").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Shown { text, number }
}

struct Width {
    width: usize,
    /// Whether its values stand at its right edge.
    right: bool,
}

fn measure(names: &[String], rows: &[Vec<Shown>]) -> Vec<Width> {
    let of = |(i, name): (usize, &String)| {
        let cells = || rows.iter().filter_map(|row| row.get(i));
        let widest = cells().map(|c| c.text.chars().count()).max().unwrap_or(0);
        let right = cells().any(|c| c.number);
        Width { width: widest.max(name.chars().count()), right }
    };
    names.iter().enumerate().map(of).collect()
}

fn table_row<'c>(
    out: &mut dyn Write,
    columns: &[Width],
    cells: impl Iterator<Item = (&'c str, bool)>,
) -> io::Result<()> {
    let mut line = String::new();
    for (i, (column, (cell, _))) in columns.iter().zip(cells).enumerate() {
        if i > 0 {
            line.push_str("  ");
        }
        let gap = " ".repeat(column.width.saturating_sub(cell.chars().count()));
        match column.right {
            true => line.extend([&gap, cell]),
            false => line.extend([cell, &gap]),
        }
    }
    writeln!(out, "{}", line.trim_end())
}

fn csv_row<'c>(out: &mut dyn Write, fields: impl Iterator<Item = &'c str>) -> io::Result<()> {
    for (i, field) in fields.enumerate() {
        if i > 0 {
            out.write_all(b",")?;
        }
        if field.contains([',', '"', '\n', '\r']) {
            write!(out, "\"{}\"", field.replace('"', "\"\""))?;
        } else {
            out.write_all(field.as_bytes())?;
        }
    }
    out.write_all(b"\r\n")
}

/// A row of JSON, its members in the order of the columns.
struct Object<'r>(Vec<(&'r String, ValueRef<'r>)>);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, cell)| (name, json(*cell))))
    }
}

fn json_row(out: &mut dyn Write, names: &[String], row: &Row<'_>) -> io::Result<()> {
    let object = Object(names.iter().zip(cells(row, names.len())).collect());
    serde_json::to_writer(&mut *out, &object).map_err(io::Error::from)?;
    out.write_all(b"\n")
}

fn json(cell: ValueRef<'_>) -> Value {
    match cell {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => value.into(),
        // JSON has no word for infinity.
        ValueRef::Real(value) => value.into(),
        other => text(other, "").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    const SQL: &str = "select 'a,b' as name, 1 as n, 2.5 as n, null as empty
        union all select 'say \"hi\"', 1234, -0.5, 'x'";

    fn shown_as(sql: &str, format: Format) -> String {
        let database = Connection::open_in_memory().unwrap();
        let mut out = Vec::new();
        show(&mut database.prepare(sql).unwrap(), format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_is_aligned() {
        assert_eq!(
            shown_as(SQL, Format::Table),
            "\
name         n   n:2  empty
--------  ----  ----  -----
a,b          1   2.5  -
say \"hi\"  1234  -0.5  x
"
        );
    }

    #[test]
    fn csv_quotes_what_it_must() {
        assert_eq!(
            shown_as(SQL, Format::Csv),
            "name,n,n:2,empty\r\n\"a,b\",1,2.5,\r\n\"say \"\"hi\"\"\",1234,-0.5,x\r\n"
        );
    }

    #[test]
    fn json_has_an_object_per_row_in_the_order_of_the_columns() {
        assert_eq!(
            shown_as(SQL, Format::Json),
            "{\"name\":\"a,b\",\"n\":1,\"n:2\":2.5,\"empty\":null}\n\
             {\"name\":\"say \\\"hi\\\"\",\"n\":1234,\"n:2\":-0.5,\"empty\":\"x\"}\n"
        );
    }

    #[test]
    fn an_answer_is_shown_to_its_end() {
        let sql = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 2500)
            select i from n";
        let text = shown_as(sql, Format::Table);
        assert_eq!(text.lines().count(), 2502);
        assert!(text.ends_with("2500\n"));
    }

    #[test]
    fn text_of_several_lines_stays_on_one() {
        assert_eq!(shown_as("select 'a\nb' as t", Format::Table), "t\n---\na b\n");
    }
}
