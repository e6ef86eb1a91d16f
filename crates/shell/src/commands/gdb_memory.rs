//! gdb's `x`: memory from an address on, as numbers, text or instructions.
//!
//! What a command does not say is that of the one before: its format, the size
//! of a value, and where it ended (gdb's manual, "Examining Memory").

use std::io::Write;

use kmortem_kernel::Error;
use kmortem_kernel::disassembly::Disassembler;
use serde::Serialize;

use super::{dis, gdb};
use crate::error::CommandError;
use crate::output::Output;
use crate::session::{Examined, Session};
use crate::value::expression::{Env, evaluate};
use crate::value::{Bytes, Format, Reader, Style, Value, render, symbol};

/// More values than this are asked for by mistake.
const MOST: u64 = 1 << 16;
/// The letter of instructions; those of values are [`Format`]'s.
const INSTRUCTIONS: char = 'i';

/// What a format such as `8gx` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    count: u64,
    size: u64,
    /// A letter of [`Format`], or [`INSTRUCTIONS`].
    letter: char,
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
    session: &mut Session,
    format: &str,
    text: &str,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let command = gdb::COMMAND.name;
    let fail = |what: String| CommandError::Failed { command, what };
    let usage = |what: String| CommandError::Usage { command, what };
    let wanted = wanted(format, session.examined).map_err(usage)?;
    let start = if text.is_empty() {
        session.examined.next.ok_or_else(|| usage("x needs an address".to_owned()))?
    } else {
        let env = Env { kernel: session.kernel(), history: session.history(), user: None };
        let value = evaluate(env, text).map_err(|error| fail(error.to_string()))?;
        match value.address().filter(|_| value.ty.is_record()) {
            Some(addr) => addr,
            None => value.integer(&env).map_err(fail)?,
        }
    };
    let next = match wanted.letter {
        INSTRUCTIONS => instructions(session, start, wanted.count, out)?,
        's' => strings(session, start, wanted.count, out)?,
        _ => words(session, start, &wanted, out)?,
    };
    let size = if wanted.letter == 's' { 1 } else { wanted.size };
    session.examined = Examined { format: wanted.letter, size, next: Some(next) };
    Ok(())
}

fn wanted(format: &str, before: Examined) -> Result<Wanted, String> {
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
            INSTRUCTIONS => chosen = Some(letter),
            letter if Format::new(letter).is_some() => chosen = Some(letter),
            letter => return Err(format!("/{letter} is no format of x")),
        }
    }
    let letter = chosen.unwrap_or(before.format);
    let usual = match letter {
        'a' => 8,
        'c' => 1,
        // No other size is a floating-point number.
        'f' if before.size != 4 => 8,
        _ => before.size,
    };
    Ok(Wanted { count, size: size.unwrap_or(usual), letter })
}

/// Values in lines as gdb has them: 16 bytes, 8 of single bytes.
fn words(
    session: &Session,
    start: u64,
    wanted: &Wanted,
    out: &mut Output<'_>,
) -> Result<u64, CommandError> {
    let kernel = session.kernel();
    let fail = |what: String| CommandError::Failed { command: gdb::COMMAND.name, what };
    let Wanted { count, size, letter } = *wanted;
    let bytes = Bytes::read(kernel, start, count * size);
    if let Some(why) = bytes.nothing() {
        return Err(fail(why.to_owned()));
    }
    let mut reader = Reader::of(session, out.is_json());
    let format = Format::new(letter).unwrap_or(Format::Hex);
    if format == Format::Address {
        reader = reader.addresses();
    }
    let format = if format == Format::Hex { Format::Padded } else { format };
    let style = Style { format: Some(format), ..Style::default() };
    let per_line = match size {
        1 => 8,
        size => 16 / size,
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
        let name = symbol(kernel, addr);
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
        match (&value, format) {
            // Words of bits have all of them, as opposed to `p/t`.
            (Value::Integer { bits, .. }, Format::Binary) => {
                write!(out, "{bits:0width$b}", width = size as usize * 8)?;
            }
            _ => render(out, &value, 0, style)?,
        }
    }
    if !out.is_json() {
        writeln!(out)?;
    }
    Ok(start.wrapping_add(count * size))
}

fn heading(addr: u64, name: Option<String>, out: &mut Output<'_>) -> std::io::Result<()> {
    match name {
        Some(name) => write!(out, "{addr:#x} <{name}>:"),
        None => write!(out, "{addr:#x}:"),
    }
}

fn strings(
    session: &Session,
    start: u64,
    count: u64,
    out: &mut Output<'_>,
) -> Result<u64, CommandError> {
    let kernel = session.kernel();
    let mut addr = start;
    for _ in 0..count {
        let text = Reader::of(session, out.is_json())
            .text_at(addr, true)
            .map_err(|what| CommandError::Failed { command: gdb::COMMAND.name, what })?;
        let len = text.bytes.len() as u64;
        // Cut where too long; what follows is the next one's.
        let next = addr.wrapping_add(len + u64::from(len == text.len));
        let name = symbol(kernel, addr);
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
    Ok(addr)
}

/// `x/i`: instructions, as `dis` shows them.
fn instructions(
    session: &Session,
    start: u64,
    count: u64,
    out: &mut Output<'_>,
) -> Result<u64, CommandError> {
    let kernel = session.kernel();
    let read = |addr: u64, buf: &mut [u8]| -> Result<(), Error> { kernel.read(addr, buf) };
    let mut code = Disassembler::new(kernel, &read, start);
    let mut next = start;
    for index in 0..count {
        let line = match code.next_line() {
            Ok(line) => line,
            Err(error) if index == 0 => {
                let what = error.to_string();
                return Err(CommandError::Failed { command: gdb::COMMAND.name, what });
            }
            Err(error) => {
                out.note(format_args!("no further: {error}"))?;
                break;
            }
        };
        next = line.address.wrapping_add(line.bytes.len() as u64 / 2);
        if out.is_json() {
            out.row(&line)?;
            continue;
        }
        let name = line.symbol.as_ref().map(|symbol| format!(" {}", dis::name(symbol, false)));
        write!(out, "   {:#x}{}:\t", line.address, name.unwrap_or_default())?;
        dis::render_text(out, &line, false)?;
        writeln!(out)?;
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_takes_what_it_does_not_say_from_the_one_before() {
        let first = Examined::default();
        let of = |format| wanted(format, first).map(|w| (w.count, w.size, w.letter));
        assert_eq!(of(""), Ok((1, 4, 'x')));
        assert_eq!(of("8gx"), Ok((8, 8, 'x')));
        assert_eq!(
            (of("a"), of("c"), of("3s")),
            (Ok((1, 8, 'a')), Ok((1, 1, 'c')), Ok((3, 4, 's')))
        );
        assert_eq!((of("f"), of("5i")), (Ok((1, 4, 'f')), Ok((5, 4, 'i'))));
        assert!(of("q").is_err() && of("99999999x").is_err());
        let after = Examined { format: 'd', size: 1, next: None };
        assert_eq!(wanted("2", after), Ok(Wanted { count: 2, size: 1, letter: 'd' }));
        assert_eq!(wanted("f", after), Ok(Wanted { count: 1, size: 8, letter: 'f' }));
    }
}
