//! What a word means that is no command's name: as in crash(8), a symbol is
//! printed, a type is shown, and gdb's words go to `gdb`.

use kmortem_kernel::Kernel;

use crate::commands::gdb;
use crate::value;

/// The command that takes the whole line.
pub(crate) fn meaning(kernel: &Kernel, word: &str) -> Option<&'static str> {
    // gdb's words with a format: `p/x`, `x/8gx`.
    if gdb::understands(word) {
        return Some("gdb");
    }
    let name = word.split(['.', '-', '[', '+']).next().unwrap_or(word);
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return None;
    }
    if kernel.symbol_anywhere(name).is_ok() {
        return Some("p");
    }
    // `task_struct.pid` and `list_head`: one command for all kinds of types.
    if value::is_type(kernel, name) {
        return Some("*");
    }
    // Other types: `pid_t`, `enum pid_type`.
    (word == "enum" || kernel.ty(name).is_ok()).then_some("whatis")
}
