//! `gdb`: the commands of gdb that make sense over a dump without debuginfo.

use std::io::Write;

use serde::Serialize;

use super::{gdb_layout, gdb_memory, gdb_printf, print};
use crate::args::Args;
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::settings::Radix;
use crate::value::expression::{CType, Env, Meaning, evaluate, meaning};
use crate::value::{Format, Reader, Style};

pub(crate) const COMMAND: Command = Command {
    name: "gdb",
    summary: "answers a command of gdb",
    arguments: "COMMAND ...",
    options: &[],
    details: "\
Commands: print (p), output, printf, echo, ptype, whatis, x, info symbol, info address. With
formats: print/x (x, d, u, o, t, a, c, s, z, f), ptype/o (offsets and holes), x/4gx (besides
those: i for instructions; sizes b, h, w, g). x without a format or an address goes on with those
of the x before. `list` and `info line` need debuginfo, which kmortem does not
read yet; breakpoints and registers have no meaning here (registers are in `bt`).",
    examples: &[
        ("print/x init_task.flags", "a value in hexadecimal"),
        ("ptype struct list_head", "a definition"),
        ("ptype/o struct page", "with offsets, sizes and holes"),
        ("whatis init_task.mm", "a type"),
        ("x/4gx &modules", "memory: four words of 8 bytes"),
        ("x/s linux_banner", "memory as text"),
        ("x/5i schedule", "memory as instructions"),
        (r#"printf "%d %s\n", init_task.pid, init_task.comm"#, "values in a text"),
        ("info symbol schedule", "the symbol at an address"),
    ],
    takes_all: true,
    rows: &[
        Rows {
            options: "print, output",
            row: "a value",
            members: "`expression` `type` `value` `address`, as `p`",
        },
        Rows {
            options: "ptype, whatis",
            row: "a type",
            members: "`expression` `type` `definition`",
        },
        Rows { options: "x", row: "a value in memory", members: "`address` `symbol` `value`" },
        Rows {
            options: "x/i",
            row: "an instruction",
            members: "`address` `symbol` `bytes` `text` `target` `target_symbol`, as `dis`",
        },
        Rows { options: "printf, echo", row: "what was written", members: "`written`" },
        Rows { options: "info", row: "a symbol", members: "`address` `symbol` `offset` `name`" },
    ],
    each: None,
    run,
};

/// gdb's commands that answer here, with the abbreviations that people type.
const UNDERSTOOD: &[&str] =
    &["print", "inspect", "output", "printf", "echo", "ptype", "whatis", "x", "info"];

/// gdb's commands that need debuginfo.
const LATER: &[&str] = &["list", "l", "frame", "up", "down", "where", "backtrace", "disassemble"];

/// Whether `word` is a command of gdb that `gdb` answers; with a format, too (`p/x`, `x/8gx`).
pub(crate) fn understands(word: &str) -> bool {
    let (name, format) = split_format(word);
    UNDERSTOOD.contains(&name) || name == "p" && !format.is_empty()
}

/// `x/8gx`: the command and its format.
fn split_format(word: &str) -> (&str, &str) {
    word.split_once('/').unwrap_or((word, ""))
}

/// A row of JSON.
#[derive(Serialize)]
struct Typed<'a> {
    expression: &'a str,
    #[serde(rename = "type")]
    ty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<String>,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let raw = args.raw().trim();
    let end = raw.find(char::is_whitespace).unwrap_or(raw.len());
    // `p/x expr`, and `p /x expr`.
    let (first, mut rest) = raw.split_at(end);
    rest = rest.trim();
    let (name, mut format) = split_format(first);
    if let Some(apart) = rest.strip_prefix('/').filter(|_| format.is_empty()) {
        let end = apart.find(char::is_whitespace).unwrap_or(apart.len());
        (format, rest) = apart.split_at(end);
        rest = rest.trim();
    }
    let usage = |what: String| CommandError::Usage { command: COMMAND.name, what };
    match name {
        "" => Err(usage("no command of gdb was given".to_owned())),
        "p" | "print" | "inspect" => {
            let style = style(session, format)?;
            print::show(session, value_text(rest)?, None, false, None, style, out)
        }
        "output" => output(session, value_text(rest)?, format, out),
        "printf" => gdb_printf::printf(session, value_text(rest)?, out),
        "echo" => gdb_printf::echo(rest, out),
        "ptype" if format == "o" => layout(session, rest, out),
        "ptype" | "whatis" => types(session, name, value_text(rest)?, out),
        "x" => gdb_memory::run(session, format, rest, out),
        "info" => info(session, rest, out),
        name if LATER.contains(&name) => Err(CommandError::Failed {
            command: COMMAND.name,
            what: format!(
                "{name} needs debuginfo, which is not read yet; `bt` shows stacks, `dis` code"
            ),
        }),
        name => Err(usage(format!(
            "{name} is none of gdb's commands that answer here ({})",
            UNDERSTOOD.join(", ")
        ))),
    }
}

fn value_text(text: &str) -> Result<&str, CommandError> {
    let what = || "no expression was given".to_owned();
    let some = Some(text).filter(|text| !text.is_empty());
    some.ok_or_else(|| CommandError::Usage { command: COMMAND.name, what: what() })
}

/// The style that a format's letter asks for.
fn style(session: &Session, format: &str) -> Result<Style, CommandError> {
    let mut style = Style::of(session.settings(), &Args::default());
    for letter in format.chars() {
        let what = || format!("/{letter} is no format of print (x, d, u, o, t, a, c, s, z, f)");
        let usage = || CommandError::Usage { command: COMMAND.name, what: what() };
        // Raw, which all values are.
        if letter != 'r' {
            style.format = Some(Format::new(letter).ok_or_else(usage)?);
        }
    }
    if style.format.is_some() {
        style.radix = Radix::Decimal;
    }
    Ok(style)
}

fn output(
    session: &Session,
    text: &str,
    format: &str,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let fail = |what: String| CommandError::Failed { command: COMMAND.name, what };
    let style = style(session, format)?;
    let env = Env { kernel: session.kernel(), history: session.history(), user: None };
    let value = evaluate(env, text).map_err(|error| fail(error.to_string()))?;
    let mut reader = Reader::with(env.kernel, session.settings());
    let shown = value.value(&env, &mut reader).map_err(fail)?;
    if out.is_json() {
        #[derive(Serialize)]
        struct Row<'a, V: Serialize> {
            expression: &'a str,
            #[serde(rename = "type")]
            ty: String,
            value: V,
        }
        return Ok(out.row(&Row { expression: text, ty: value.ty.name(), value: shown })?);
    }
    Ok(print::write_value(out, &value, &shown, style)?)
}

fn type_of<'s>(session: &'s Session, text: &str) -> Result<CType<'s>, CommandError> {
    let fail = |what: String| CommandError::Failed { command: COMMAND.name, what };
    let env = Env { kernel: session.kernel(), history: session.history(), user: None };
    let ty = match meaning(env, text).map_err(|error| fail(error.to_string()))? {
        Meaning::Type(ty) => ty,
        Meaning::Value(value) => value.ty,
    };
    match ty {
        CType::Unknown(name) => Err(fail(format!("the dump has no type for {name}"))),
        ty => Ok(ty),
    }
}

/// `whatis` names a type, `ptype` defines it.
fn types(
    session: &Session,
    name: &str,
    text: &str,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let ty = type_of(session, text)?;
    let definition = match (name, &ty) {
        ("ptype", CType::Known(known)) => Some(known.definition()),
        ("ptype", CType::Pointer(to)) => match &**to {
            CType::Known(known) => Some(format!("{} *", known.definition())),
            _ => None,
        },
        _ => None,
    };
    if out.is_json() {
        return Ok(out.row(&Typed { expression: text, ty: ty.name(), definition })?);
    }
    writeln!(out, "type = {}", definition.unwrap_or_else(|| ty.name()))?;
    Ok(())
}

fn layout(session: &Session, text: &str, out: &mut Output<'_>) -> Result<(), CommandError> {
    let ty = type_of(session, value_text(text)?)?;
    let CType::Known(known) = &ty else { return types(session, "ptype", text, out) };
    let mut written = Vec::new();
    gdb_layout::render(&mut written, *known)?;
    if out.is_json() {
        let definition = Some(String::from_utf8_lossy(&written).into_owned());
        return Ok(out.row(&Typed { expression: text, ty: ty.name(), definition })?);
    }
    out.write_all(&written)?;
    Ok(())
}

/// `info symbol ADDRESS`, `info address SYMBOL`.
fn info(session: &Session, rest: &str, out: &mut Output<'_>) -> Result<(), CommandError> {
    let fail = |what: String| CommandError::Failed { command: COMMAND.name, what };
    let kernel = session.kernel();
    let (topic, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let rest = rest.trim();
    match topic {
        "symbol" => {
            let env = Env { kernel, history: session.history(), user: None };
            let value = evaluate(env, value_text(rest)?).map_err(|e| fail(e.to_string()))?;
            let addr = value.integer(&env).map_err(fail)?;
            let Some(found) = kernel.symbol_at(addr) else {
                return Err(fail(format!("No symbol matches {rest}.")));
            };
            if out.is_json() {
                #[derive(Serialize)]
                struct Row {
                    address: String,
                    symbol: String,
                    offset: u64,
                }
                let address = format!("{addr:#x}");
                return Ok(out.row(&Row { address, symbol: found.name, offset: found.offset })?);
            }
            // Of data the dump does not tell the section.
            let section = if kernel.is_text(addr) { " in section .text" } else { "" };
            match found.offset {
                0 => writeln!(out, "{}{section}", found.name)?,
                offset => writeln!(out, "{} + {offset}{section}", found.name)?,
            }
            Ok(())
        }
        "address" => {
            let addr = kernel.symbol_anywhere(value_text(rest)?);
            let addr = addr.map_err(|_| fail(format!("No symbol \"{rest}\" in the dump.")))?;
            if out.is_json() {
                #[derive(Serialize)]
                struct Row<'a> {
                    name: &'a str,
                    address: String,
                }
                return Ok(out.row(&Row { name: rest, address: format!("{addr:#x}") })?);
            }
            let what = if kernel.is_text(addr) {
                "a function at address"
            } else {
                "static storage at address"
            };
            writeln!(out, "Symbol \"{rest}\" is {what} {addr:#x}.")?;
            Ok(())
        }
        "line" | "source" | "scope" | "frame" | "locals" | "args" => {
            Err(fail(format!("info {topic} needs debuginfo, which is not read yet")))
        }
        "registers" => Err(fail("registers are in `bt` (`bt -a`: those of each CPU)".to_owned())),
        "types" | "functions" | "variables" => Err(fail(format!(
            "info {topic} goes by source files, which the dump does not have: `sym -q TEXT` finds symbols, `whatis -m TEXT` types"
        ))),
        topic => {
            Err(fail(format!("info {topic} is not answered; info symbol and info address are")))
        }
    }
}
