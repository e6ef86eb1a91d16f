//! `gdb`.

use crate::registry::Command;

pub(crate) const COMMAND: Command = Command::later("gdb");

/// gdb's commands that answer here, with the abbreviations that people type.
const UNDERSTOOD: &[&str] =
    &["print", "p", "inspect", "output", "ptype", "whatis", "x", "info", "list", "l", "printf"];

/// Whether `word` is a command of gdb that `gdb` answers; with a format, too (`p/x`, `x/8gx`).
#[allow(dead_code)]
pub(crate) fn understands(word: &str) -> bool {
    let name = word.split('/').next().unwrap_or(word);
    UNDERSTOOD.contains(&name)
}
