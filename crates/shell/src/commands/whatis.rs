//! `whatis`: what a name or an expression is; types by size, and by what they hold.

use std::collections::BTreeSet;
use std::io::Write;

use kmortem_debuginfo::btf::{Kind, Type};
use kmortem_kernel::Kernel;
use rayon::prelude::*;
use serde::Serialize;

use super::failed;
use crate::address;
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::value::Style;
use crate::value::definition::{self, Definition, Offsets};
use crate::value::expression::{CType, Env, Meaning, lookup, meaning};

pub(crate) const COMMAND: Command = Command {
    name: "whatis",
    summary: "tells the type of a symbol or expression, or finds types",
    arguments: "[struct | union | enum] NAME | EXPRESSION",
    options: &[
        Opt::flag('o', "offsets of members"),
        Opt::value('r', "SIZE", "types of this size, or of a range of sizes (16-32)"),
        Opt::value('m', "TYPE", "types that hold, or point to, one whose name has this in it"),
    ],
    details: "\
The definition of a type, the declaration of a symbol, the value of an enum's constant, the type
of an expression. -r and -m may be combined.",
    examples: &[
        ("list_head", "a type"),
        ("init_task", "a symbol"),
        ("init_task.mm->pgd", "an expression"),
        ("HRTIMER_RESTART", "a constant"),
        ("-r 192", "types of 192 bytes"),
        ("-m mm_struct -r 1-100", "small types that lead to an mm_struct"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "of a type",
            row: "a definition",
            members: "`type` `size` `target` `members` (`name` `declaration` `offset` `size` `bits`) `constants` (`name` `value`)",
        },
        Rows {
            options: "of a symbol, constant or expression",
            row: "what it is",
            members: "`name` `type` `declaration` `value` (of a constant)",
        },
        Rows { options: "-r, -m", row: "a type", members: "`name` `size`" },
    ],
    each: None,
    run,
};

/// A symbol, constant or expression as a row of JSON.
#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    ty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    declaration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<i64>,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let command = COMMAND.name;
    let usage = |what: String| CommandError::Usage { command, what };
    if args.has('r') || args.has('m') {
        return find(session, args, out);
    }
    let words = match args.words.split_first() {
        Some((tag, rest)) if matches!(tag.as_str(), "struct" | "union" | "enum") => {
            return show_type(session, &args.words.join(" "), rest.join(" "), args, out);
        }
        Some(_) => args.words.join(" "),
        None => return Err(usage("no name was given".to_owned())),
    };
    let kernel = session.kernel();
    if kernel.symbol_anywhere(&words).is_ok() {
        return symbol(kernel, &words, out);
    }
    if let Some((ty, value)) = lookup::constant(kernel, &words) {
        if out.is_json() {
            let row =
                Named { name: &words, ty: ty.c_name(), declaration: None, value: Some(value) };
            return Ok(out.row(&row)?);
        }
        writeln!(out, "{} = {value}", ty.c_name().replace(" {...}", ""))?;
        return Ok(());
    }
    if kernel.ty(&words).is_ok() {
        return show_type(session, &words, words.clone(), args, out);
    }
    let env = Env { kernel, history: session.history(), user: None };
    let found = meaning(env, &words).map_err(|error| {
        let what = format!("{words} is no symbol and no type, and as an expression: {error}");
        CommandError::Failed { command, what }
    })?;
    let ty = match found {
        Meaning::Type(ty) => ty,
        Meaning::Value(value) => known(value.ty)?,
    };
    if out.is_json() {
        let row = Named { name: &words, ty: ty.name(), declaration: None, value: None };
        return Ok(out.row(&row)?);
    }
    writeln!(out, "{}", ty.name())?;
    Ok(())
}

/// A type that the dump has.
fn known(ty: CType<'_>) -> Result<CType<'_>, CommandError> {
    match ty {
        CType::Unknown(name) => {
            let what = format!(
                "the dump has no type for {name} (BTF describes per-CPU variables and functions)"
            );
            Err(CommandError::Failed { command: COMMAND.name, what })
        }
        ty => Ok(ty),
    }
}

/// `int kernel_init(void *);`
fn symbol(kernel: &Kernel, name: &str, out: &mut Output<'_>) -> Result<(), CommandError> {
    let ty = known(lookup::type_of_symbol(kernel, name))?;
    let declaration = ty.declare(name.to_owned());
    if out.is_json() {
        let declaration = Some(declaration);
        return Ok(out.row(&Named { name, ty: ty.name(), declaration, value: None })?);
    }
    writeln!(out, "{declaration};")?;
    Ok(())
}

fn show_type(
    session: &Session,
    full: &str,
    bare: String,
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let ty = kernel.ty(full).or_else(|e| kernel.ty(&bare).map_err(|_| e));
    let ty = ty.map_err(failed(COMMAND.name))?;
    if out.is_json() {
        return Ok(out.row(&Definition::of(ty, &[]))?);
    }
    render(out, ty, args.has('o'), Style::of(session.settings(), &Args::default()))?;
    Ok(())
}

/// A definition in crash's shape.
pub(super) fn render(
    out: &mut dyn Write,
    ty: Type<'_>,
    offsets: bool,
    style: Style,
) -> std::io::Result<()> {
    let offsets = if offsets { Offsets::Relative } else { Offsets::No };
    let is = ty.strip();
    match is.kind() {
        Kind::Struct | Kind::Union => definition::render(out, ty, offsets, style),
        Kind::Enum | Kind::Enum64 => {
            let typedef = if ty.kind() == Kind::Typedef { "typedef " } else { "" };
            let name = match is.name() {
                "" => String::new(),
                name => format!(" {name}"),
            };
            writeln!(out, "{typedef}enum{name} {{")?;
            for constant in is.enumerators() {
                writeln!(out, "  {} = {}", constant.name, constant.value)?;
            }
            writeln!(out, "}};")
        }
        _ if ty.kind() == Kind::Typedef => {
            // gdb sees through all typedefs; an array or pointer may be of a struct.
            let lines = ty.definition_lines(false);
            match lines.as_slice() {
                [_] => {
                    let target = ty.target().unwrap_or(ty);
                    let plain = is.member_declaration(ty.name());
                    let shown = if plain.after.trim() == ty.name() {
                        plain
                    } else {
                        target.member_declaration(ty.name())
                    };
                    writeln!(out, "typedef {shown};")?;
                    size(out, ty, style)
                }
                _ => definition::render(out, ty, offsets, style),
            }
        }
        _ => {
            writeln!(out, "{}", ty.c_name())?;
            size(out, ty, style)
        }
    }
}

fn size(out: &mut dyn Write, ty: Type<'_>, style: Style) -> std::io::Result<()> {
    match ty.size() {
        Some(size) => writeln!(out, "SIZE: {}", style.number(size)),
        None => Ok(()),
    }
}

/// A type that was found.
#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    size: u64,
    name: String,
}

fn find(session: &Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let command = COMMAND.name;
    let kernel = session.kernel();
    let btf = kernel.btf().map_err(failed(command))?;
    let range = match args.value('r') {
        Some(word) => {
            let (low, high) = word.split_once('-').unwrap_or((word, word));
            match (address::number(low), address::number(high)) {
                (Some(low), Some(high)) => low..=high,
                _ => {
                    let what = format!("-r takes a size or a range of sizes, not `{word}`");
                    return Err(CommandError::Usage { command, what });
                }
            }
        }
        None => 0..=u64::MAX,
    };
    let wanted = args.value('m');
    let count = btf.len() as u32;
    let found: BTreeSet<Found> = (1..count)
        .into_par_iter()
        .filter_map(|id| btf.ty(id))
        .filter(|ty| !ty.name().is_empty() && has_size_of_its_own(*ty))
        .filter_map(|ty| Some((ty, ty.size().filter(|size| range.contains(size))?)))
        .filter(|(ty, _)| wanted.is_none_or(|wanted| holds(ty.strip(), wanted, 0)))
        .map(|(ty, size)| Found { size, name: ty.name().to_owned() })
        .collect();
    if out.is_json() {
        return Ok(out.rows(&found)?);
    }
    if found.is_empty() {
        writeln!(out, "(none found)")?;
        return Ok(());
    }
    let width = found.last().map_or(4, |last| last.size.to_string().len()).max(4);
    writeln!(out, "{:>width$}  TYPE", "SIZE")?;
    for Found { size, name } in &found {
        writeln!(out, "{size:>width$}  {name}")?;
    }
    Ok(())
}

fn has_size_of_its_own(ty: Type<'_>) -> bool {
    match ty.kind() {
        Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Int | Kind::Float => true,
        // A struct that the typedef gives its name, or another one.
        Kind::Typedef => {
            let is = ty.strip();
            matches!(is.kind(), Kind::Struct | Kind::Union) && is.name() != ty.name()
        }
        _ => false,
    }
}

/// Structs in structs are looked into so deep.
const DEEPEST: usize = 16;

/// Whether a member is, or leads to, a type whose name has `wanted` in it.
fn holds(ty: Type<'_>, wanted: &str, depth: usize) -> bool {
    depth < DEEPEST
        && ty.members().any(|member| {
            let mut inner = member.ty;
            for _ in 0..DEEPEST {
                if inner.name().contains(wanted) {
                    return true;
                }
                match inner.target() {
                    Some(target) if inner.kind() != Kind::FuncProto => inner = target,
                    _ => break,
                }
            }
            // What a pointer leads to is not looked into.
            let embedded = member.ty.strip();
            let embedded = match embedded.kind() {
                Kind::Array => embedded.target().unwrap_or(embedded).strip(),
                _ => embedded,
            };
            holds(embedded, wanted, depth + 1)
        })
}
