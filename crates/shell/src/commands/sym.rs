//! `sym`: symbols and their addresses.

use std::io::{self, Write};
use std::ops::Range;

use kmortem_kernel::Kernel;
use kmortem_kernel::module::Module;
use kmortem_kernel::stack::hex;
use serde::Serialize;

use super::failed;
use crate::address::{self, with_expressions};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "sym",
    summary: "turns symbols into addresses, and addresses into symbols",
    arguments: "[SYMBOL | ADDRESS]...",
    options: &[
        Opt::flag('l', "all symbols"),
        Opt::flag('M', "those of all modules"),
        Opt::value('m', "MODULE", "those of a module"),
        Opt::flag('p', "with the symbol before"),
        Opt::flag('n', "with the symbol behind"),
        Opt::value('q', "TEXT", "those that have TEXT in their names"),
    ],
    details: "\
The letter is nm(1)'s: T text, D data, B zeroed data, R read-only; lower case where
the symbol is local. Source lines would need debuginfo and are left out.",
    examples: &[
        ("init_task", "the address of a symbol"),
        ("-np schedule", "with its neighbours"),
        ("-q vfs_read", "all that have the text in their names"),
    ],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "a symbol",
        members: "`address` `kind` (nm's letter) `name` `offset` `module`",
    }],
    each: None,
    run,
};

/// A symbol.
#[derive(Debug, Clone, Serialize)]
struct Row {
    #[serde(serialize_with = "hex")]
    address: u64,
    kind: char,
    name: String,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<String>,
}

fn is_zero(offset: &u64) -> bool {
    *offset == 0
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let command = COMMAND.name;
    let missing = |what: String| CommandError::Failed { command, what };
    if args.has('l') || args.has('M') || args.has('m') {
        if args.has('l') {
            for row in of_kernel(kernel)? {
                show(out, &row)?;
            }
        }
        let modules = kernel.modules().map_err(failed(command))?;
        let named = args.value('m');
        let mut chosen: Vec<&Module> =
            modules.iter().filter(|m| named.is_none_or(|name| m.name == name)).collect();
        chosen.sort_by_key(|module| module.base());
        if let (Some(name), []) = (named, chosen.as_slice()) {
            return Err(missing(format!("there is no module {name}; `mod` lists them")));
        }
        return chosen.iter().try_for_each(|module| show_module(kernel, module, out));
    }
    if let Some(text) = args.value('q') {
        let all = of_kernel(kernel)?.chain(of_modules(kernel));
        let mut found = false;
        for row in all.filter(|row| row.name.contains(text)) {
            found = true;
            show(out, &row)?;
        }
        return match found {
            true => Ok(()),
            false => Err(missing(format!("no symbol has {text} in its name"))),
        };
    }
    let words = with_expressions(&args.words);
    if words.is_empty() {
        let what = "say which symbol or address".to_owned();
        return Err(CommandError::Usage { command, what });
    }
    for word in &words {
        let found = find(kernel, word)?;
        let neighbours = neighbours(kernel, &found, args)?;
        for row in neighbours {
            show(out, &row)?;
        }
    }
    Ok(())
}

/// The kernel's own symbols, by address.
fn of_kernel(kernel: &Kernel) -> Result<impl Iterator<Item = Row> + '_, CommandError> {
    let kallsyms = kernel.kallsyms().map_err(failed(COMMAND.name))?;
    let marks = [kernel.symbol("__per_cpu_start"), kernel.symbol("__per_cpu_end")];
    // The linker places these at their offset in each CPU's area, which makes
    // them absolute (A): data they are nevertheless.
    let per_cpu = match marks {
        [Ok(start), Ok(end)] => Some(start..=end),
        _ => None,
    };
    Ok(kallsyms.iter().map(move |symbol| Row {
        address: symbol.addr,
        kind: match char::from(symbol.kind) {
            'A' if per_cpu.as_ref().is_some_and(|area| area.contains(&symbol.addr)) => 'D',
            kind => kind,
        },
        name: symbol.name,
        offset: 0,
        module: None,
    }))
}

fn of_modules(kernel: &Kernel) -> impl Iterator<Item = Row> + '_ {
    let mut modules: Vec<&Module> = kernel.modules().unwrap_or_default().iter().collect();
    modules.sort_by_key(|module| module.base());
    modules.into_iter().flat_map(|module| of_module(kernel, module))
}

fn of_module<'k>(kernel: &'k Kernel, module: &'k Module) -> impl Iterator<Item = Row> + 'k {
    let symbols = module.symbols(kernel).ok();
    symbols.into_iter().flat_map(|symbols| symbols.iter()).map(|(address, kind, name)| Row {
        address,
        kind: char::from(kind),
        name: name.to_owned(),
        offset: 0,
        module: Some(module.name.clone()),
    })
}

/// The symbol that `word` is, or that the address lies in.
fn find(kernel: &Kernel, word: &str) -> Result<Row, CommandError> {
    let failed = |what: String| CommandError::Failed { command: COMMAND.name, what };
    // A name of hexadecimal digits is a name, if there is one.
    let named = address::symbol(kernel, word);
    let address = match named {
        Some(address) => address,
        None => address::address(COMMAND.name, kernel, word)?,
    };
    let at = kernel.symbol_at(address);
    let of = match &at {
        Some(symbol) => address.wrapping_sub(symbol.offset),
        None => address,
    };
    let module = at.as_ref().and_then(|symbol| symbol.module.clone());
    let mut same: Vec<Row> = match kernel.module_at(of).filter(|_| module.is_some()) {
        Some(module) => of_module(kernel, module).filter(|row| row.address == of).collect(),
        None => of_kernel(kernel)?.filter(|row| row.address == of).collect(),
    };
    // Of several at one address: the one that was named, or is usually meant.
    let name = match (&at, named) {
        (_, Some(_)) => word,
        (Some(symbol), None) => &symbol.name,
        (None, None) => return Err(failed(format!("{word} is no address of a symbol"))),
    };
    let which = same.iter().position(|row| row.name == name).unwrap_or(0);
    if same.is_empty() {
        return Err(failed(format!("{word} is no address of a symbol")));
    }
    let row = same.swap_remove(which);
    let offset = at.map_or(0, |symbol| symbol.offset);
    Ok(Row { address, offset, module, ..row })
}

/// `row` with the symbols before and behind it, as far as the options ask.
fn neighbours(kernel: &Kernel, row: &Row, args: &Args) -> Result<Vec<Row>, CommandError> {
    let start = row.address.wrapping_sub(row.offset);
    let (mut before, mut behind) = (None, None);
    if args.has('p') || args.has('n') {
        let all: Box<dyn Iterator<Item = Row>> = match kernel.module_at(start) {
            Some(module) => Box::new(of_module(kernel, module)),
            None => Box::new(of_kernel(kernel)?),
        };
        for other in all {
            if other.address < start {
                before = Some(other);
            } else if other.address > start {
                behind = Some(other);
                break;
            }
        }
    }
    let before = before.filter(|_| args.has('p'));
    let behind = behind.filter(|_| args.has('n'));
    Ok(before.into_iter().chain([row.clone()]).chain(behind).collect())
}

fn show(out: &mut Output<'_>, row: &Row) -> io::Result<()> {
    match out.is_json() {
        true => out.row(row),
        false => render(out, row),
    }
}

fn render(out: &mut dyn Write, row: &Row) -> io::Result<()> {
    write!(out, "{:x} ({}) {}", row.address, row.kind, row.name)?;
    if row.offset > 0 {
        write!(out, "+{}", row.offset)?;
    }
    match &row.module {
        Some(module) => writeln!(out, " [{module}]"),
        None => writeln!(out),
    }
}

/// The pieces of a module's memory, by address: what each is called, its range,
/// and the address that crash takes for its end. Up to 6.3 a module had one
/// block, and one for its init.
fn parts(module: &Module) -> Vec<(String, Range<u64>, u64)> {
    let mut parts: Vec<(String, Range<u64>, u64)> = Vec::new();
    for memory in &module.memory {
        let range = memory.range.clone();
        match (memory.kind, parts.last_mut()) {
            (Some(kind), _) => parts.push((format!("{kind} "), range.clone(), range.end - 1)),
            (None, Some((_, whole, last))) if whole.end == range.start => {
                (whole.end, *last) = (range.end, range.end);
            }
            (None, _) => {
                let part = if memory.init { "INIT " } else { "" };
                parts.push((part.to_owned(), range.clone(), range.end));
            }
        }
    }
    parts.sort_by_key(|(_, range, _)| range.start);
    parts
}

fn show_module(kernel: &Kernel, module: &Module, out: &mut Output<'_>) -> Result<(), CommandError> {
    let symbols = module.symbols(kernel).map_err(failed(COMMAND.name))?;
    if out.is_json() {
        return Ok(of_module(kernel, module).try_for_each(|row| out.row(&row))?);
    }
    for (part, range, last) in parts(module) {
        writeln!(out, "{:x} MODULE {part}START: {}", range.start, module.name)?;
        for (address, kind, name) in symbols.iter().filter(|s| range.contains(&s.0)) {
            writeln!(out, "{address:x} ({}) {name}", char::from(kind))?;
        }
        writeln!(out, "{last:x} MODULE {part}END: {}", module.name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_have_their_letter_offset_and_module() {
        let row = |offset, module: Option<&str>| {
            let mut out = Vec::new();
            let (kind, name, module) = ('T', "init".to_owned(), module.map(str::to_owned));
            render(&mut out, &Row { address: 0xc052_3e95, kind, name, offset, module }).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(row(5, Some("virtio_blk")), "c0523e95 (T) init+5 [virtio_blk]\n");
        assert_eq!(row(0, None), "c0523e95 (T) init\n");
    }
}
