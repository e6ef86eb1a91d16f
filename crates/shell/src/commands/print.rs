//! `p`: the value of an expression, in gdb's shape.

use std::io::Write;

use kmortem_kernel::stack::hex;
use serde::Serialize;

use super::failed;
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::target;
use crate::value::expression::{Env, Operand, evaluate, lookup};
use crate::value::{Format, Reader, Style, Value, render};

pub(crate) const COMMAND: Command = Command {
    name: "p",
    summary: "prints the value of an expression of C",
    arguments: "EXPRESSION | SYMBOL[:CPUS]",
    options: &[
        Opt::flag('x', "numbers in hexadecimal"),
        Opt::flag('d', "numbers in decimal"),
        Opt::flag('u', "addresses are those of the current task's user memory"),
    ],
    details: "\
An expression has symbols, constants of enums, numbers, casts, members, indices, C's operators,
sizeof, array@count, {type}address, copies of per-CPU variables (runqueues:1) and results of
earlier ones ($1, $). CPUS: 0, 1-3,5, a for all, nothing for the current task's CPU. p/x, p/d,
p/u, p/o, p/t, p/c, p/a, p/s and p/z choose a format, as in gdb. Types of variables come from the
dump itself, which describes per-CPU variables, and from a list of well-known ones: for others
cast, as in `p *(int *)&NAME`.",
    examples: &[
        ("jiffies", "a variable"),
        ("-x init_task.se", "a member, in hexadecimal"),
        ("init_task.cred->usage.counter + 1", "an expression"),
        ("*(struct list_head *)modules.next", "what lies at an address"),
        ("init_task.comm[0]@4", "the first four elements"),
        ("runqueues", "the type and addresses of a per-CPU variable"),
        ("runqueues:0", "the copy of CPU 0"),
        ("sizeof(struct page) * 8", "arithmetic"),
    ],
    takes_all: true,
    rows: &[
        Rows {
            options: "",
            row: "a value",
            members: "`expression` `type`, `value` (as in `struct`), `address` of what lies in memory, `cpu`",
        },
        Rows {
            options: "of a per-CPU variable without CPUS",
            row: "a copy",
            members: "`expression` `type` `cpu` `address`",
        },
    ],
    each: None,
    run,
};

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a> {
    expression: &'a str,
    #[serde(rename = "type")]
    ty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_hex")]
    address: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
}

fn optional_hex<S: serde::Serializer>(
    addr: &Option<u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match addr {
        Some(addr) => hex(addr, serializer),
        None => serializer.serialize_none(),
    }
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let command = out.command();
    let raw = args.raw().trim();
    let (options, text) = options(command, raw)?;
    let mut style = Style::of(session.settings(), &Args::default());
    for letter in options.chars() {
        match letter {
            'x' | 'h' => style.radix = crate::settings::Radix::Hex,
            'd' => style.radix = crate::settings::Radix::Decimal,
            _ => {}
        }
    }
    let user = options.contains('u');
    if let Some(done) = per_cpu(session, command, text, style, out)? {
        return Ok(done);
    }
    let name = session.kernel().symbol_anywhere(text).is_ok().then(|| text.to_owned());
    show(session, text, name.as_deref(), user, None, style, out)
}

/// Options stand before the expression, which may have dashes of its own.
fn options<'t>(command: &'static str, raw: &'t str) -> Result<(String, &'t str), CommandError> {
    let usage = |what: String| CommandError::Usage { command, what };
    let mut letters = String::new();
    let mut rest = raw;
    while let Some(word) = rest.split_whitespace().next() {
        let option = word.strip_prefix('-').filter(|group| {
            !group.is_empty() && group.chars().all(|c| matches!(c, 'x' | 'd' | 'u' | 'h'))
        });
        let Some(group) = option else { break };
        letters.push_str(group);
        rest = rest.trim_start().get(word.len()..).unwrap_or_default().trim_start();
    }
    if rest.is_empty() {
        return Err(usage("no expression was given".to_owned()));
    }
    if letters.contains('x') && letters.contains('d') {
        return Err(usage("-x and -d exclude each other".to_owned()));
    }
    Ok((letters, rest))
}

/// `p runqueues` and `p runqueues:0-1`: a per-CPU variable's copies.
fn per_cpu(
    session: &mut Session,
    command: &'static str,
    text: &str,
    style: Style,
    out: &mut Output<'_>,
) -> Result<Option<()>, CommandError> {
    let (name, cpus) = match text.split_once(':') {
        Some((name, cpus)) => (name, Some(cpus)),
        None => (text, None),
    };
    let kernel = session.kernel();
    let Ok(start) = kernel.symbol_anywhere(name) else { return Ok(None) };
    if !lookup::is_percpu(kernel, name, start) {
        if cpus.is_some() {
            out.note(format_args!("{name} is not per-CPU: its one copy is shown"))?;
            show(session, name, Some(name), false, None, style, out)?;
            return Ok(Some(()));
        }
        return Ok(None);
    }
    let possible = kernel.possible_cpus().map_err(failed(command))?;
    let ty = lookup::type_of_symbol(kernel, name);
    let Some(cpus) = cpus else {
        if !out.is_json() {
            writeln!(out, "PER-CPU DATA TYPE:\n  {};", ty.declare(name.to_owned()))?;
            writeln!(out, "PER-CPU ADDRESSES:")?;
        }
        let hidden = session.hidden_cpus();
        for cpu in possible {
            if hidden.contains(&cpu) {
                if !out.is_json() {
                    writeln!(out, "cpu {cpu} is OFFLINE")?;
                }
                continue;
            }
            let address = kernel.per_cpu_ptr(start, cpu).map_err(failed(command))?;
            if out.is_json() {
                let (ty, address) = (ty.name(), Some(address));
                out.row(&Row { expression: name, ty, cpu: Some(cpu), address, value: None })?;
            } else {
                writeln!(out, "  [{cpu}]: {address:x}")?;
            }
        }
        return Ok(Some(()));
    };
    let chosen = match cpus {
        "" => vec![session.current_task(command)?.cpu],
        cpus => target::cpus(command, cpus, &possible)?,
    };
    let hidden = session.hidden_cpus();
    for cpu in chosen {
        if hidden.contains(&cpu) {
            if !out.is_json() {
                writeln!(out, "cpu {cpu} is OFFLINE")?;
            }
            continue;
        }
        let copy = format!("{name}:{cpu}");
        let heading = format!("per_cpu({name}, {cpu})");
        show(session, &copy, Some(&heading), false, Some(cpu), style, out)?;
    }
    Ok(Some(()))
}

/// Shows the value of `text`, with `name` before it.
pub(super) fn show(
    session: &mut Session,
    text: &str,
    name: Option<&str>,
    user: bool,
    cpu: Option<u32>,
    style: Style,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let command = out.command();
    let fail = |what: String| CommandError::Failed { command, what };
    let user = match user {
        true => Some(session.current_task(command)?.mm),
        false => None,
    };
    let env = Env { kernel: session.kernel(), history: session.history(), user };
    let value = evaluate(env, text).map_err(|error| fail(error.to_string()))?;
    let mut reader = match out.is_json() {
        true => Reader::for_json(env.kernel),
        false => Reader::with(env.kernel, session.settings()),
    };
    if style.format == Some(Format::Address) {
        reader = reader.addresses();
    }
    let shown = value.value(&env, &mut reader).map_err(fail)?;
    if out.is_json() {
        let (ty, address) = (value.ty.name(), value.address());
        out.row(&Row { expression: text, ty, cpu, address, value: Some(shown) })?;
    } else {
        let number = session.history().len() + 1;
        let mut written = Vec::new();
        write!(written, "${number} = ")?;
        write_value(&mut written, &value, &shown, style)?;
        // crash puts what does not begin with members on a line of its own below a name.
        let mut written = String::from_utf8_lossy(&written).into_owned();
        if let Some(name) = name {
            let first = written.lines().next().unwrap_or_default();
            if let Some(at) = first.find('{').filter(|at| at + 1 < first.len()) {
                written.insert_str(at, "\n ");
            }
            write!(out, "{name} = ")?;
        }
        writeln!(out, "{written}")?;
    }
    session.remember(text.to_owned());
    Ok(())
}

/// The value as gdb's `print` writes it: a pointer with its type.
pub(super) fn write_value(
    out: &mut dyn Write,
    value: &Operand<'_>,
    shown: &Value,
    style: Style,
) -> std::io::Result<()> {
    if let Some(heading) = value.heading().filter(|_| style.format.is_none()) {
        write!(out, "{heading}")?;
    }
    render(out, shown, 0, style)
}
