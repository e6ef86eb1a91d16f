//! `rustfilt`: names of Rust functions as their source has them.

use std::borrow::Cow;
use std::io::Write;

use serde::Serialize;

use crate::args::Args;
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "rustfilt",
    summary: "turns symbols of Rust code into readable names",
    arguments: "SYMBOL...",
    options: &[],
    details: "Both manglings, the legacy one (_ZN...E) and v0 (_R...), without their hashes.",
    examples: &[("_RNvNtCshc5sK6KjdJJ_6kernel5print11call_printk", "kernel::print::call_printk")],
    takes_all: false,
    rows: &[Rows { options: "", row: "a symbol", members: "`symbol` `name`" }],
    each: None,
    run,
};

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a> {
    symbol: &'a str,
    name: String,
}

fn run(_: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let command = COMMAND.name;
    if args.words.is_empty() {
        return Err(CommandError::Usage { command, what: "say which symbol".to_owned() });
    }
    for symbol in &args.words {
        let name = readable(symbol).ok_or_else(|| CommandError::Failed {
            command,
            what: format!("{symbol} is not a mangled Rust symbol"),
        })?;
        match out.is_json() {
            true => out.row(&Row { symbol, name })?,
            false => writeln!(out, "{name}")?,
        }
    }
    Ok(())
}

fn readable(symbol: &str) -> Option<String> {
    // The alternate form leaves the hash out.
    Some(format!("{:#}", rustc_demangle::try_demangle(symbol).ok()?))
}

/// `text` with every mangled name in it made readable.
pub(super) fn demangle_all(text: &str) -> Cow<'_, str> {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$');
    let mut found = Cow::Borrowed(text);
    for word in text.split(|c| !part(c)).filter(|w| w.starts_with("_R") || w.starts_with("_ZN")) {
        if let Some(name) = readable(word) {
            found = Cow::Owned(found.replacen(word, &name, 1));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{demangle_all, readable};

    #[test]
    fn names_are_found_within_text() {
        let line = " ? _RNvNtCshc5sK6KjdJJ_6kernel5print11call_printk+0x12/0x40 [rust_x]";
        assert_eq!(demangle_all(line), " ? kernel::print::call_printk+0x12/0x40 [rust_x]");
        assert_eq!(demangle_all("_Really? schedule+0x1"), "_Really? schedule+0x1");
    }

    #[test]
    fn both_manglings_are_read() {
        let new = readable("_RNvNtCshc5sK6KjdJJ_6kernel5print11call_printk");
        assert_eq!(new.as_deref(), Some("kernel::print::call_printk"));
        let old = readable("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE");
        assert_eq!(old.as_deref(), Some("core::fmt::Write::write_fmt"));
        assert_eq!(readable("schedule"), None);
    }
}
