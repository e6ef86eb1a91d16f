//! One value of one row.

use kmortem_kernel::Error;
use kmortem_kernel::symbol::SymbolAt;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use serde::Serialize;

/// A value on its way into the database.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// There is none.
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    /// There is one, and it could not be read, for this reason: NULL in the
    /// table, and a remark beside it.
    Unread(String),
}

/// An address as text; NULL for a null pointer.
pub(crate) fn hex(addr: u64) -> Cell {
    if addr == 0 { Cell::Null } else { Cell::Text(format!("{addr:#x}")) }
}

/// An address that may be unknown.
pub(crate) fn hex_option(addr: Option<u64>) -> Cell {
    addr.map_or(Cell::Null, hex)
}

/// The word that stands for a value in JSON, too.
pub(crate) fn word(value: &impl Serialize) -> Cell {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Cell::Text(word),
        Ok(serde_json::Value::Null) | Err(_) => Cell::Null,
        Ok(other) => Cell::Text(other.to_string()),
    }
}

/// Words in one text.
pub(crate) fn list<S: AsRef<str>>(words: &[S]) -> Cell {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    if words.is_empty() { Cell::Null } else { Cell::Text(words.join(",")) }
}

/// A function by its name, as `frames` and `symbols` have it; with an offset
/// where the address is not its beginning.
pub(crate) fn function(symbol: &SymbolAt) -> String {
    if symbol.offset == 0 { symbol.name.clone() } else { symbol.to_string() }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Cell::Null | Cell::Unread(_) => ValueRef::Null,
            Cell::Integer(value) => ValueRef::Integer(*value),
            Cell::Real(value) => ValueRef::Real(*value),
            Cell::Text(value) => ValueRef::Text(value.as_bytes()),
        }))
    }
}

macro_rules! from_integer {
    ($($ty:ty),*) => {$(
        impl From<$ty> for Cell {
            fn from(value: $ty) -> Cell {
                // SQLite's integers have a sign: a larger one keeps its size
                // and loses its last digits.
                i64::try_from(value).map_or(Cell::Real(value as f64), Cell::Integer)
            }
        }
    )*};
}
from_integer!(u8, u16, u32, u64, usize, i16, i32, i64);

impl From<bool> for Cell {
    fn from(value: bool) -> Cell {
        Cell::Integer(i64::from(value))
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Cell {
        Cell::Real(value)
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Cell {
        Cell::Text(value.to_owned())
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Cell {
        Cell::Text(value)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Cell {
        value.map_or(Cell::Null, Into::into)
    }
}

impl<T: Into<Cell>> From<Result<T, Error>> for Cell {
    fn from(value: Result<T, Error>) -> Cell {
        match value {
            Ok(value) => value.into(),
            Err(error) => Cell::Unread(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_meaning() {
        assert_eq!(Cell::from(u64::MAX), Cell::Real(u64::MAX as f64));
        assert_eq!(Cell::from(7u8), Cell::Integer(7));
        assert_eq!(Cell::from(None::<i32>), Cell::Null);
        assert_eq!(Cell::from(true), Cell::Integer(1));
        assert_eq!(hex(0), Cell::Null);
        assert_eq!(hex(0xffff_8880_0000_1000), Cell::Text("0xffff888000001000".into()));
        let unread: Result<u64, Error> = Err(Error::Null("a task".into()));
        assert_eq!(Cell::from(unread), Cell::Unread("a task is NULL".into()));
    }

    #[test]
    fn words_are_those_of_json() {
        use kmortem_kernel::task::TaskState;
        assert_eq!(word(&TaskState::Uninterruptible), Cell::Text("uninterruptible".into()));
        assert_eq!(word(&TaskState::Other(9)), Cell::Text("{\"other\":9}".into()));
        assert_eq!(word(&None::<u32>), Cell::Null);
        assert_eq!(list(&["a", "b"]), Cell::Text("a,b".into()));
        assert_eq!(list::<&str>(&[]), Cell::Null);
    }
}
