//! `eval`: a number in four bases.

use std::io::{self, Write};

use kmortem_kernel::stack::hex;
use serde::Serialize;

use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::{address, arithmetic};

pub(crate) const COMMAND: Command = Command {
    name: "eval",
    summary: "shows the value of an expression",
    arguments: "EXPRESSION",
    options: &[
        Opt::flag('b', "which bits are set, too"),
        Opt::flag('l', "64 bits (always so here)"),
    ],
    details: "\
Operators, the loosest first: |  ^  &  << >>  + -  * / %, then ~ and - in front
of an operand; parentheses as in C. Numbers are decimal, or hexadecimal (0x in
front, or where a letter says so), and may end in k, m or g. Names are symbols.",
    examples: &[
        ("128 * 1m", "a size"),
        ("-b (init_task & fff)", "an address within its page, and its bits"),
    ],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "the value (one row)",
        members: "`value` `unsigned` `signed` (decimal, as strings) `bits` (numbers of those set)",
    }],
    each: None,
    run,
};

/// A row of JSON.
#[derive(Serialize)]
struct Row {
    #[serde(serialize_with = "hex")]
    value: u64,
    unsigned: String,
    signed: String,
    bits: Vec<u32>,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let usage = |what: String| CommandError::Usage { command: COMMAND.name, what };
    if args.words.is_empty() {
        return Err(usage("say what to evaluate".to_owned()));
    }
    let text = args.words.join(" ");
    let kernel = session.kernel();
    let symbol = |name: &str| address::symbol(kernel, name);
    let value = arithmetic::evaluate(&text, &symbol)
        .map_err(|why| usage(format!("{text} has no value: {why}")))?;
    if out.is_json() {
        let bits = bits(value).collect();
        let (unsigned, signed) = (value.to_string(), (value as i64).to_string());
        return Ok(out.row(&Row { value, unsigned, signed, bits })?);
    }
    Ok(render(out, value, args.has('b'))?)
}

/// Bits that are set, highest first.
fn bits(value: u64) -> impl Iterator<Item = u32> {
    (0..64).rev().filter(move |bit| value >> bit & 1 == 1)
}

fn render(out: &mut dyn Write, value: u64, with_bits: bool) -> io::Result<()> {
    let unit = [(30, "GB"), (20, "MB"), (10, "KB")]
        .into_iter()
        .find(|(shift, _)| value != 0 && value.trailing_zeros() >= *shift);
    let size = unit.map_or(String::new(), |(shift, name)| format!("({}{name})", value >> shift));
    let signed = value as i64;
    let negative = if signed < 0 { format!("({signed})") } else { String::new() };
    writeln!(out, "hexadecimal: {value:x}  {size}")?;
    writeln!(out, "    decimal: {value}  {negative}")?;
    writeln!(out, "      octal: {value:o}")?;
    writeln!(out, "     binary: {value:064b}")?;
    if with_bits {
        write!(out, "   bits set: ")?;
        for bit in bits(value) {
            write!(out, "{bit} ")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_four_bases_and_a_size() {
        let mut out = Vec::new();
        render(&mut out, 64 << 30, true).unwrap();
        render(&mut out, -2i64 as u64, false).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}
