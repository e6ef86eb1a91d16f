//! gdb's `printf` and `echo`: values and text in a form of one's own.
//!
//! The format is C's ([`crate::printf`]). `%s` takes an array of characters or what a
//! pointer points to (gdb's manual, "Commands for Controlled Output").

use std::io::Write;

use serde::Serialize;

use super::gdb;
use crate::error::CommandError;
use crate::output::Output;
use crate::printf::{Argument, Piece, parse, unescaped};
use crate::session::Session;
use crate::value::expression::{Env, evaluate};
use crate::value::{Reader, Value};

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a> {
    written: &'a str,
}

/// `printf "FORMAT", EXPRESSION, ...`.
pub(super) fn printf(
    session: &Session,
    text: &str,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let fail = |what: String| CommandError::Failed { command: gdb::COMMAND.name, what };
    let usage = |what: String| CommandError::Usage { command: gdb::COMMAND.name, what };
    let (format, arguments) = split(text).map_err(usage)?;
    let pieces = parse(&format).map_err(usage)?;
    let wanted = pieces.iter().filter(|piece| matches!(piece, Piece::Value(_))).count();
    if wanted != arguments.len() {
        let given = arguments.len();
        return Err(usage(format!("the format takes {wanted} values, and {given} are given")));
    }
    let env = Env { kernel: session.kernel(), history: session.history(), user: None };
    let mut arguments = arguments.into_iter();
    let mut written = String::new();
    for piece in &pieces {
        match piece {
            Piece::Text(text) => written.push_str(text),
            Piece::Value(conversion) => {
                let text = arguments.next().unwrap_or_default();
                let value = argument(session, &env, conversion.letter, text).map_err(fail)?;
                written.push_str(&conversion.write(&value));
            }
        }
    }
    write_out(&written, out)
}

/// `echo TEXT`.
pub(super) fn echo(text: &str, out: &mut Output<'_>) -> Result<(), CommandError> {
    write_out(&unescaped(text), out)
}

fn write_out(written: &str, out: &mut Output<'_>) -> Result<(), CommandError> {
    match out.is_json() {
        true => Ok(out.row(&Row { written })?),
        false => Ok(write!(out, "{written}")?),
    }
}

fn argument(
    session: &Session,
    env: &Env<'_>,
    letter: char,
    text: &str,
) -> Result<Argument, String> {
    let value = evaluate(*env, text).map_err(|error| error.to_string())?;
    if letter != 's' {
        return Ok(match letter {
            'f' | 'g' | 'e' => Argument::Float(value.number(env)?.float()),
            _ => Argument::Integer(value.integer(env)?),
        });
    }
    let mut reader = Reader::of(session, false);
    match value.value(env, &mut reader)? {
        Value::Text(text) => Ok(Argument::Text(text.lossy())),
        Value::Pointer { addr: 0, .. } => Ok(Argument::Text("(null)".to_owned())),
        Value::Pointer { text: Some(text), .. } => Ok(Argument::Text(text?.lossy())),
        _ => {
            let addr = value.integer(env)?;
            Ok(Argument::Text(reader.text_at(addr, true)?.lossy()))
        }
    }
}

/// The format, without its quotes, and the expressions behind it.
fn split(text: &str) -> Result<(String, Vec<&str>), String> {
    let no_format = || "printf needs a format in quotes".to_owned();
    let rest = text.strip_prefix('"').ok_or_else(no_format)?;
    let mut escaped = false;
    let end = rest.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    let end = end.ok_or_else(|| "the format does not end".to_owned())?;
    let (format, rest) = (rest[..end].to_owned(), rest[end + 1..].trim());
    if rest.is_empty() {
        return Ok((format, Vec::new()));
    }
    let rest = rest.strip_prefix(',').ok_or_else(|| "a comma is missing".to_owned())?;
    // Commas in parentheses are the expression's own.
    let (mut depth, mut quote, mut from) = (0, None, 0);
    let mut expressions = Vec::new();
    for (at, c) in rest.char_indices() {
        match c {
            '"' | '\'' if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            _ if quote.is_some() => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                expressions.push(rest[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    expressions.push(rest[from..].trim());
    match expressions.contains(&"") {
        true => Err("a value is missing between two commas".to_owned()),
        false => Ok((format, expressions)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_divided_by_commas_outside_of_brackets() {
        let (format, values) = split(r#""%d \"%d\"\n", f(a, b), c[1,2] "#).unwrap();
        assert_eq!((format.as_str(), values), (r#"%d \"%d\"\n"#, vec!["f(a, b)", "c[1,2]"]));
        assert!(split("%d").is_err() && split("\"%d").is_err() && split("\"%d\", ").is_err());
    }
}
