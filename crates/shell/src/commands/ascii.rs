//! `ascii`: the characters in a number, as they lie in memory.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

use kmortem_kernel::stack::hex;

use super::btop::number;
use crate::args::Args;
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "ascii",
    summary: "shows the characters of numbers, or the table of all",
    arguments: "[NUMBER]...",
    options: &[],
    details: "Numbers are hexadecimal, of up to 64 bits; their lowest byte comes first.",
    examples: &[("62696c2f7273752f", "what these 8 bytes spell"), ("", "the table")],
    takes_all: false,
    rows: &[Rows { options: "", row: "a number, or a character", members: "`value` `text`" }],
    each: None,
    run,
};

/// Names of the characters that have no picture (RFC 20).
const NAMES: [&str; 33] = [
    "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "HT", "LF", "VT", "FF", "CR",
    "SO", "SI", "DLE", "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC",
    "FS", "GS", "RS", "US", "SP",
];

/// A row of JSON.
#[derive(Serialize)]
struct Row {
    #[serde(serialize_with = "hex")]
    value: u64,
    text: String,
}

fn run(_: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    if args.words.is_empty() {
        if !out.is_json() {
            return Ok(render_table(out)?);
        }
        for byte in 0..128 {
            out.row(&Row { value: byte.into(), text: name(byte) })?;
        }
        return Ok(());
    }
    for word in &args.words {
        let value = number(COMMAND.name, word)?;
        let text = text(value);
        match out.is_json() {
            true => out.row(&Row { value, text })?,
            false => writeln!(out, "{value:016x}: {text}")?,
        }
    }
    Ok(())
}

fn text(value: u64) -> String {
    value.to_le_bytes().iter().fold(String::new(), |mut text, byte| {
        match byte {
            b' '..=b'~' => text.push(char::from(*byte)),
            0..=0x7f => drop(write!(text, "<{}>", name(*byte))),
            _ => drop(write!(text, "<{byte:x}>")),
        }
        text
    })
}

fn name(byte: u8) -> String {
    match NAMES.get(usize::from(byte)) {
        Some(name) => (*name).to_owned(),
        None if byte == 0x7f => "DEL".to_owned(),
        None => char::from(byte).to_string(),
    }
}

fn render_table(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n      0    1   2   3   4   5   6   7")?;
    writeln!(out, "    +-------------------------------")?;
    for low in 0..16u8 {
        write!(out, "  {low:X} |")?;
        for high in 0..8u8 {
            let name = name(high << 4 | low);
            let width = if high < 2 || name.len() > 1 { 3 } else { 2 };
            write!(out, " {name:>width$}{}", if width == 2 && high < 7 { " " } else { "" })?;
        }
        writeln!(out)?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_byte_comes_first() {
        assert_eq!(text(0x6269_6c2f_7273_752f), "/usr/lib");
        assert_eq!(text(0x7f80_ff1b), "<ESC><ff><80><DEL><NUL><NUL><NUL><NUL>");
        assert_eq!(text(0x2041), "A <NUL><NUL><NUL><NUL><NUL><NUL>");
    }

    #[test]
    fn the_table_has_all_characters() {
        let mut out = Vec::new();
        render_table(&mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}
