//! `struct`, `union` and `*`: definitions of types, and objects of them.

use std::io::Write;

use kmortem_debuginfo::btf::{Kind, Type};
use kmortem_kernel::stack::hex;
use serde::Serialize;

use super::rd_text::{self, Base, Format, Names, Piece};
use super::{failed, struct_pointers};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::memory::Memory;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::value::definition::{self, Definition, Offsets};
use crate::value::{Bytes, Reader, Shown, Style, members_exist};
use crate::{address, target};

pub(crate) const COMMAND: Command = Command {
    name: "struct",
    summary: "shows the definition of a struct, or one in memory",
    arguments: ARGUMENTS,
    options: OPTIONS,
    details: DETAILS,
    examples: &[
        ("list_head", "the definition"),
        ("-o page", "with the offset of each member"),
        ("task_struct.comm,pid,se.load init_task", "some members of an object"),
        ("-x list_head modules", "an object, in hexadecimal"),
        ("rq.cpu,nr_running runqueues:a", "of each CPU's copy of a per-CPU variable"),
        ("task_struct.sched_class -p init_task", "with what a member points to"),
        ("module.name -l module.list modules.next", "the module whose `list` is at an address"),
        ("-r list_head modules", "the memory as it is"),
        ("list_head modules -c -2", "the two list_heads that end there"),
    ],
    takes_all: false,
    rows: ROWS,
    each: None,
    run: |session, args, out| run(session, args, out, Some(Kind::Struct)),
};

pub(super) const ARGUMENTS: &str = "NAME[.MEMBER[,MEMBER]...] [ADDRESS | SYMBOL][:CPUS] [COUNT]";

pub(super) const OPTIONS: &[Opt] = &[
    Opt::flag('o', "offsets of members; with an address, their addresses"),
    Opt::value('l', "OFFSET", "the address is that of this member (STRUCT.MEMBER or bytes)"),
    Opt::flag('r', "the memory as it is"),
    Opt::flag('u', "the address is one of the current task's user memory"),
    Opt::flag('p', "with what pointers point to"),
    Opt::value('c', "COUNT", "so many, one behind the other; negative: those that end there"),
    Opt::flag('x', "numbers in hexadecimal"),
    Opt::flag('d', "numbers in decimal"),
    Opt::flag('f', "the address is an offset in the dump's file"),
];

pub(super) const DETAILS: &str = "\
MEMBER may go into others: se.load, mem[1].base. ADDRESS is hexadecimal; a symbol or an expression
(init_task.mm, modules.next) will do as well. CPUS: 0, 1-3,5, a for all, nothing for the current
task's CPU. What can't be read shows as <unreadable: reason>.";

pub(super) const ROWS: &[Rows] = &[
    Rows {
        options: "with an address",
        row: "an object",
        members: "`type` `address` `cpu`, and `value`: its members, or those that were named. A pointer has `address` and, where known, `symbol` and `text`; what can't be read has `unreadable`. With -r `words`, with -p `pointers`",
    },
    Rows {
        options: "without an address",
        row: "a definition",
        members: "`type` `size` `target` `members` (`name` `declaration` `offset` `size` `bits`) `constants` (`name` `value`)",
    },
];

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(rename = "type")]
    ty: &'a str,
    #[serde(serialize_with = "hex")]
    address: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointers: Option<Vec<struct_pointers::Target>>,
}

/// What is asked for.
struct Request<'a> {
    command: &'static str,
    ty: Type<'a>,
    name: &'a str,
    paths: Vec<&'a str>,
    style: Style,
}

/// Answers `struct` (`kind` Struct), `union` or `*`.
pub(super) fn run(
    session: &mut Session,
    args: &Args,
    out: &mut Output<'_>,
    kind: Option<Kind>,
) -> Result<(), CommandError> {
    let session = &*session;
    let command = out.command();
    let usage = |what: String| CommandError::Usage { command, what };
    let Some((what, rest)) = args.words.split_first() else {
        return Err(usage("no type was named".to_owned()));
    };
    let (name, members) = what.split_once('.').unwrap_or((what, ""));
    let paths: Vec<&str> = match members {
        "" => Vec::new(),
        members => members.split(',').collect(),
    };
    if what.ends_with(['.', ',']) || paths.contains(&"") {
        return Err(usage(format!("{what} ends before a member is named")));
    }
    let ty = composite(session, command, name, kind)?;
    members_exist(ty, &paths).map_err(failed(command))?;
    let style = Style::of(session.settings(), args);
    let request = Request { command, ty, name, paths, style };
    let Some((place, rest)) = rest.split_first() else {
        if args.has('p') || args.has('c') || args.has('r') {
            return Err(usage("-p, -r and -c need an address".to_owned()));
        }
        return define(&request, args, out);
    };
    let count = match (args.value('c'), rest) {
        (Some(count), []) => signed(count),
        (None, [count]) => signed(count),
        (None, []) => Some(1),
        _ => return Err(usage(format!("{} is more than one count", rest.join(" ")))),
    };
    let count = count.filter(|n| (1..=MOST).contains(&n.unsigned_abs()));
    let count = count.ok_or_else(|| usage(format!("a count is a number of up to {MOST}")))?;
    let back = list_offset(session, command, args)?;
    let hidden = session.hidden_cpus();
    for (cpu, addr) in places(session, command, place, args.has('u') || args.has('f'))? {
        if let Some(cpu) = cpu.filter(|cpu| hidden.contains(cpu)) {
            if !out.is_json() {
                writeln!(out, "[{cpu}]: [OFFLINE]")?;
            }
            continue;
        }
        let addr = addr.wrapping_sub(back);
        if let Some(cpu) = cpu.filter(|_| !out.is_json()) {
            writeln!(out, "[{cpu}]: {addr:x}")?;
        }
        show_array(session, &request, (cpu, addr), count, args, out)?;
    }
    Ok(())
}

/// More objects than this are asked for by mistake.
const MOST: u64 = 1 << 20;

fn signed(word: &str) -> Option<i64> {
    let number = |word| address::number(word).and_then(|n| i64::try_from(n).ok());
    match word.strip_prefix('-') {
        Some(word) => number(word).map(|n| -n),
        None => number(word),
    }
}

/// The struct or union `name`.
fn composite<'s>(
    session: &'s Session,
    command: &'static str,
    name: &str,
    kind: Option<Kind>,
) -> Result<Type<'s>, CommandError> {
    let fail = |what: String| CommandError::Failed { command, what };
    let tag = match kind {
        Some(Kind::Union) => "union ",
        Some(_) => "struct ",
        None => "",
    };
    let kernel = session.kernel();
    let found = kernel.ty(&format!("{tag}{name}")).or_else(|_| kernel.ty(name));
    let ty = found.map_err(failed(command))?;
    let is = ty.strip().kind();
    match (kind, is) {
        (None, Kind::Struct | Kind::Union) => Ok(ty),
        (Some(kind), is) if kind == is => Ok(ty),
        (_, Kind::Struct) => Err(fail(format!("{name} is a struct: `struct {name}`"))),
        (_, Kind::Union) => Err(fail(format!("{name} is a union: `union {name}`"))),
        _ => Err(fail(format!("{name} is neither a struct nor a union: `whatis {name}`"))),
    }
}

fn define(request: &Request<'_>, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let Request { ty, style, paths, .. } = request;
    if out.is_json() {
        return Ok(out.row(&Definition::of(*ty, paths))?);
    }
    if paths.is_empty() {
        let offsets = if args.has('o') { Offsets::Relative } else { Offsets::No };
        return Ok(definition::render(out, *ty, offsets, *style)?);
    }
    members_in_braces(request, Offsets::Relative, out)
}

fn members_in_braces(
    request: &Request<'_>,
    offsets: Offsets,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let tag = if request.ty.strip().kind() == Kind::Union { "union" } else { "struct" };
    writeln!(out, "{tag} {} {{", request.name)?;
    for path in &request.paths {
        definition::render_member(out, request.ty, path, offsets, request.style)?;
    }
    writeln!(out, "}}")?;
    Ok(())
}

/// Bytes from the start of a struct to the member that the address is of.
fn list_offset(session: &Session, command: &'static str, args: &Args) -> Result<u64, CommandError> {
    let Some(word) = args.value('l') else { return Ok(0) };
    if let Some(number) = address::number(word) {
        return Ok(number);
    }
    let what = || format!("-l takes a number or STRUCT.MEMBER, not `{word}`");
    let usage = || CommandError::Usage { command, what: what() };
    let (name, path) = word.split_once('.').ok_or_else(usage)?;
    let ty = session.kernel().ty(name).map_err(failed(command))?;
    members_exist(ty, &[path]).map_err(failed(command))?;
    Ok(ty.strip().member(path).map_or(0, |found| found.bit_offset / 8))
}

/// The addresses that `word` means: one, or one for each CPU.
pub(super) fn places(
    session: &Session,
    command: &'static str,
    word: &str,
    user: bool,
) -> Result<Vec<(Option<u32>, u64)>, CommandError> {
    let fail = |what: String| CommandError::Failed { command, what };
    let kernel = session.kernel();
    let (base, cpus) = match word.split_once(':') {
        Some((base, cpus)) => (base, Some(cpus)),
        None => (word, None),
    };
    let start = match address::address(command, kernel, base) {
        Ok(start) => start,
        Err(error) => crate::value::expression::address(session, base).map_err(|_| error)?,
    };
    let Some(cpus) = cpus else {
        if !user && start >> 63 == 0 {
            let percpu = kernel.kallsyms().ok().and_then(|k| k.lookup_percpu(start)).is_some()
                && address::hex(base).is_none();
            let hint = match percpu {
                true => format!("{base} is per-CPU: {base}:0 is that of CPU 0, {base}:a are all"),
                false => format!(
                    "{start:x} is no kernel virtual address (-u: of the current task's user memory)"
                ),
            };
            return Err(fail(hint));
        }
        return Ok(vec![(None, start)]);
    };
    let possible = kernel.possible_cpus().map_err(failed(command))?;
    let chosen = match cpus {
        "" => vec![session.current_task(command)?.cpu],
        cpus => target::cpus(command, cpus, &possible)?,
    };
    let copy = |cpu| Ok((Some(cpu), kernel.per_cpu_ptr(start, cpu)?));
    let copies: Result<Vec<_>, kmortem_kernel::Error> = chosen.into_iter().map(copy).collect();
    copies.map_err(failed(command))
}

/// Shows `count` objects that lie one behind the other.
fn show_array(
    session: &Session,
    request: &Request<'_>,
    (cpu, start): (Option<u32>, u64),
    count: i64,
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let size = request.ty.size().unwrap_or(0);
    let first = if count < 0 {
        start.wrapping_sub(size.wrapping_mul(count.unsigned_abs() - 1))
    } else {
        start
    };
    for index in 0..count.unsigned_abs() {
        let addr = first.wrapping_add(size.wrapping_mul(index));
        if index > 0 && !out.is_json() {
            writeln!(out)?;
        }
        if args.has('o') && !out.is_json() {
            match request.paths.is_empty() {
                true => definition::render(out, request.ty, Offsets::At(addr), request.style)?,
                false => members_in_braces(request, Offsets::At(addr), out)?,
            }
        } else {
            show(session, request, (cpu, addr), args, out)?;
        }
    }
    Ok(())
}

fn show(
    session: &Session,
    request: &Request<'_>,
    (cpu, addr): (Option<u32>, u64),
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let Request { command, ty, paths, style, .. } = request;
    let size = ty.size().unwrap_or(0);
    let memory = match (args.has('f'), args.has('u')) {
        (true, _) => Memory::file(command, session)?,
        (_, true) => Memory::user(command, session, addr)?,
        _ => Memory::Kernel(kernel),
    };
    let read = |at: u64, buf: &mut [u8]| memory.read(at, buf).map_err(|e| e.to_string());
    let bytes = Bytes::read_with(addr, size, &read);
    if let Some(why) = bytes.nothing() {
        // An object of which nothing is there is no answer.
        return Err(CommandError::Failed { command, what: why.to_owned() });
    }
    let name = ty.c_name();
    let mut row = Row { ty: &name, address: addr, cpu, value: None, words: None, pointers: None };
    if args.has('r') {
        let (at, len) = raw_range(*ty, paths, addr);
        let part = bytes.get(at - addr, len).map(<[u8]>::to_vec);
        let part = part.map_err(|what| CommandError::Failed { command, what })?;
        let format = raw_format(part.len() as u64);
        if out.is_json() {
            let size = format.size as usize;
            let word = |word: &[u8]| word.iter().rev().map(|b| format!("{b:02x}")).collect();
            row.words = Some(part.chunks(size).map(word).collect());
            return Ok(out.row(&row)?);
        }
        for (index, line) in part.chunks(16).enumerate() {
            let piece = Piece::Words { addr: at + index as u64 * 16, bytes: line.to_vec() };
            rd_text::render(out, &piece, &format, &|_, _| None)?;
        }
        return Ok(());
    }
    if args.has('p') {
        let targets =
            struct_pointers::targets(&mut Reader::of(session, out.is_json()), *ty, paths, &bytes);
        if out.is_json() {
            row.value = Some(shown(&mut Reader::for_json(kernel), request, &bytes)?);
            row.pointers = Some(targets);
            return Ok(out.row(&row)?);
        }
        return Ok(struct_pointers::render(
            out,
            &mut Reader::of(session, false),
            *ty,
            paths,
            &bytes,
            &targets,
            *style,
        )?);
    }
    if out.is_json() {
        row.value = Some(shown(&mut Reader::for_json(kernel), request, &bytes)?);
        return Ok(out.row(&row)?);
    }
    Ok(shown(&mut Reader::of(session, false), request, &bytes)?.render(out, *style)?)
}

fn shown(
    reader: &mut Reader<'_>,
    request: &Request<'_>,
    bytes: &Bytes,
) -> Result<Shown, CommandError> {
    if request.paths.is_empty() {
        return Ok(Shown::whole_of(reader, request.ty, bytes));
    }
    Shown::members_of(reader, request.ty, bytes, &request.paths).map_err(failed(request.command))
}

/// Words as long as divides the object's size.
fn raw_format(len: u64) -> Format {
    let size = *[8, 4, 2].iter().find(|size| len.is_multiple_of(**size)).unwrap_or(&1) as u32;
    Format {
        size,
        base: Base::Hex,
        names: Names::None,
        text: false,
        characters: true,
        network_order: false,
    }
}

/// Where the memory to show lies: the object's, or that of its one member.
fn raw_range(ty: Type<'_>, paths: &[&str], addr: u64) -> (u64, u64) {
    let found = paths.first().and_then(|path| ty.strip().member(path));
    match found {
        Some(member) => (addr.wrapping_add(member.bit_offset / 8), member.ty.size().unwrap_or(0)),
        None => (addr, ty.size().unwrap_or(0)),
    }
}
