//! gdb's `x`: memory from an address on.

use std::io::Write;

use serde::Serialize;

use super::gdb;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;
use crate::value::expression::{Env, evaluate};
use crate::value::{Bytes, Format, Reader, Style, Value, render, symbol};

/// More values than this are asked for by mistake.
const MOST: u64 = 1 << 16;

/// What a format such as `8gx` asks for.
struct Wanted {
    count: u64,
    size: u64,
    format: Format,
}

/// A row of JSON.
#[derive(Serialize)]
struct Row {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    symbol: Option<String>,
    value: Value,
}

/// `x/FORMAT EXPRESSION`.
pub(super) fn run(
    session: &Session,
    format: &str,
    text: &str,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let command = gdb::COMMAND.name;
    let fail = |what: String| CommandError::Failed { command, what };
    let usage = |what: String| CommandError::Usage { command, what };
    let wanted = wanted(format).map_err(usage)?;
    if text.is_empty() {
        return Err(usage("x needs an address".to_owned()));
    }
    let env = Env { kernel: session.kernel(), history: session.history(), user: None };
    let value = evaluate(env, text).map_err(|error| fail(error.to_string()))?;
    let start = match value.address().filter(|_| value.ty.is_record()) {
        Some(addr) => addr,
        None => value.integer(&env).map_err(fail)?,
    };
    match wanted.format {
        Format::Text => strings(&env, start, wanted.count, out),
        _ => words(&env, start, &wanted, out),
    }
}

fn wanted(format: &str) -> Result<Wanted, String> {
    let letters = format.trim_start_matches(|c: char| c.is_ascii_digit());
    let count = match format.strip_suffix(letters).unwrap_or_default() {
        "" => Some(1),
        digits => digits.parse().ok().filter(|n| (1..=MOST).contains(n)),
    };
    let count = count.ok_or_else(|| format!("x takes up to {MOST} values"))?;
    let (mut size, mut chosen) = (None, None);
    for letter in letters.chars() {
        match letter {
            'b' => size = Some(1),
            'h' => size = Some(2),
            'w' => size = Some(4),
            'g' => size = Some(8),
            'i' => return Err("x/i: `dis` shows instructions".to_owned()),
            letter => {
                let known = Format::new(letter);
                chosen = Some(known.ok_or_else(|| format!("/{letter} is no format of x"))?);
            }
        }
    }
    let format = chosen.unwrap_or(Format::Hex);
    let usual = match format {
        Format::Address => 8,
        Format::Character => 1,
        _ => 4,
    };
    Ok(Wanted { count, size: size.unwrap_or(usual), format })
}

/// Values in lines as gdb has them: 16 bytes, 8 of single bytes.
fn words(
    env: &Env<'_>,
    start: u64,
    wanted: &Wanted,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let fail = |what: String| CommandError::Failed { command: gdb::COMMAND.name, what };
    let Wanted { count, size, format } = *wanted;
    let bytes = Bytes::read(env.kernel, start, count * size);
    if let Some(why) = bytes.nothing() {
        return Err(fail(why.to_owned()));
    }
    let mut reader = Reader::new(env.kernel);
    if format == Format::Address {
        reader = reader.addresses();
    }
    let format = if format == Format::Hex { Format::Padded } else { format };
    let style = Style { format: Some(format), ..Style::default() };
    let per_line = match (format, size) {
        (_, 1) => 8,
        (_, size) => 16 / size,
    };
    for index in 0..count {
        let addr = start.wrapping_add(index * size);
        let value = match bytes.integer(index * size, size) {
            Ok(bits) => match format {
                Format::Character => Value::Character { bits: bits as u8, signed: true },
                Format::Address => reader.integer(bits, 8, false),
                _ => Value::Integer { bits, size, signed: true },
            },
            Err(why) => Value::Unreadable(why),
        };
        let name = symbol(env.kernel, addr);
        if out.is_json() {
            out.row(&Row { address: format!("{addr:#x}"), symbol: name, value })?;
            continue;
        }
        if index % per_line == 0 {
            if index > 0 {
                writeln!(out)?;
            }
            heading(addr, name, out)?;
        }
        write!(out, "\t")?;
        render(out, &value, 0, style)?;
    }
    if !out.is_json() {
        writeln!(out)?;
    }
    Ok(())
}

fn heading(addr: u64, name: Option<String>, out: &mut Output<'_>) -> std::io::Result<()> {
    match name {
        Some(name) => write!(out, "{addr:#x} <{name}>:"),
        None => write!(out, "{addr:#x}:"),
    }
}

fn strings(
    env: &Env<'_>,
    start: u64,
    count: u64,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let mut addr = start;
    for _ in 0..count {
        let text = Reader::new(env.kernel)
            .text_at(addr, true)
            .map_err(|what| CommandError::Failed { command: gdb::COMMAND.name, what })?;
        let len = text.bytes.len() as u64;
        // Cut where too long; what follows is the next one's.
        let next = addr.wrapping_add(len + u64::from(len == text.len));
        let name = symbol(env.kernel, addr);
        let value = Value::Text(text);
        if out.is_json() {
            out.row(&Row { address: format!("{addr:#x}"), symbol: name, value })?;
        } else {
            heading(addr, name, out)?;
            write!(out, "\t")?;
            render(out, &value, 0, Style::default())?;
            writeln!(out)?;
        }
        addr = next;
    }
    Ok(())
}
