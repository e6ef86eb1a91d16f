//! How a line that is being typed may go on: commands, options, symbols,
//! types, members, tasks. Nothing here knows a terminal.

use std::collections::BTreeSet;

use kmortem_debuginfo::btf::{Kind, Type};
use kmortem_kernel::Kernel;

use crate::commands::{help_topics, set_variable};
use crate::line;
use crate::registry::{self, COMMANDS};

/// More choices than these help nobody.
const MOST: usize = 500;

/// How deep anonymous structs are looked into for members.
const DEEPEST: usize = 8;

/// How a line may go on.
#[derive(Debug, PartialEq, Eq)]
pub enum Completion {
    /// One of `words` takes the place of what begins at byte `start`.
    Words {
        /// Where.
        start: usize,
        /// Sorted, without doubles.
        words: Vec<String>,
    },
    /// A file of the host.
    File,
}

/// What the words of a command are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operand {
    Symbols,
    Types,
    /// Symbols, types, members.
    Expressions,
    Tasks,
    Commands,
    Variables,
    Modules,
    Nothing,
}

fn operand(command: &str) -> Operand {
    match command {
        "sym" | "dis" | "rd" | "wr" | "list" | "tree" | "search" | "eval" | "vtop" | "kmem" => {
            Operand::Symbols
        }
        "struct" | "union" | "*" => Operand::Types,
        "p" | "gdb" | "whatis" => Operand::Expressions,
        "bt" | "ps" | "task" | "files" | "vm" | "sig" | "foreach" | "gcore" | "net" => {
            Operand::Tasks
        }
        "help" | "repeat" => Operand::Commands,
        "set" => Operand::Variables,
        "mod" => Operand::Modules,
        _ => Operand::Nothing,
    }
}

/// How `line`, which ends at the cursor, may go on. `aliases` are names with
/// what they stand for.
pub fn complete(kernel: &Kernel, aliases: &[(String, String)], line: &str) -> Completion {
    let last = line.rsplit(char::is_whitespace).next().unwrap_or_default();
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or_default();
    let before = line.strip_suffix(last).unwrap_or_default().trim_end();
    if line.trim_start().starts_with('!') || line::leaves_us(line) {
        return Completion::File;
    }
    if last.starts_with('<') || before.ends_with('<') {
        return Completion::File;
    }
    let start = line.len() - last.len();
    if before.is_empty() {
        let (at, mut found) = commands(aliases, last);
        if found.is_empty() && last.len() >= 3 {
            return expression(kernel, line, start);
        }
        found.retain(|word| !word.is_empty());
        return answer(start + at, found);
    }
    let stands_for = aliases.iter().find(|(name, _)| name == first).map(|(_, c)| c.as_str());
    let name = stands_for.and_then(|c| c.split_whitespace().next()).unwrap_or(first);
    let Ok(command) = registry::find(name) else { return expression(kernel, line, start) };
    if last.starts_with('-') {
        let here = command.options.iter().filter(|o| o.is_here());
        let usage = |o: &crate::args::Opt| o.usage().split(' ').next().map(str::to_owned);
        return answer(start, here.filter_map(usage).filter(|o| o.starts_with(last)).collect());
    }
    match operand(command.name) {
        Operand::Symbols => answer(start, symbols(kernel, last)),
        Operand::Types => types_and_members(kernel, line, start),
        Operand::Expressions => expression(kernel, line, start),
        Operand::Tasks => {
            let mut found = tasks(kernel, last);
            if command.name == "foreach" {
                let each = COMMANDS.iter().filter(|c| c.each.is_some() && c.name.starts_with(last));
                found.extend(each.map(|c| c.name.to_owned()));
            }
            answer(start, found)
        }
        Operand::Commands => {
            let (at, mut found) = commands(aliases, last);
            let topics = help_topics::TOPICS.iter().map(|(name, _)| *name);
            found.extend(topics.filter(|name| name.starts_with(last)).map(str::to_owned));
            answer(start + at, found)
        }
        Operand::Variables => {
            answer(start, set_variable::names().filter(|n| n.starts_with(last)).collect())
        }
        Operand::Modules => {
            let modules = kernel.modules().map(|m| m.iter().map(|m| m.name.clone()).collect());
            let all: Vec<String> = modules.unwrap_or_default();
            answer(start, all.into_iter().filter(|n| n.starts_with(last)).collect())
        }
        Operand::Nothing => answer(start, BTreeSet::new()),
    }
}

fn answer(start: usize, words: BTreeSet<String>) -> Completion {
    Completion::Words { start, words: words.into_iter().take(MOST).collect() }
}

/// Commands that begin with `prefix`, and how much of it stays.
fn commands(aliases: &[(String, String)], prefix: &str) -> (usize, BTreeSet<String>) {
    let names = COMMANDS.iter().map(|c| c.name);
    let names = names.chain(aliases.iter().map(|(name, _)| name.as_str()));
    (0, names.filter(|n| n.starts_with(prefix)).map(str::to_owned).collect())
}

fn symbols(kernel: &Kernel, prefix: &str) -> BTreeSet<String> {
    let (name, sign) = match prefix.strip_prefix('&') {
        Some(name) => (name, "&"),
        None => (prefix, ""),
    };
    // All of them would take long and help nobody.
    if name.is_empty() {
        return BTreeSet::new();
    }
    let mut found = BTreeSet::new();
    if let Ok(kallsyms) = kernel.kallsyms() {
        let matching = kallsyms.iter().map(|s| s.name).filter(|n| n.starts_with(name));
        found.extend(matching.take(MOST).map(|n| format!("{sign}{n}")));
    }
    found
}

fn types(kernel: &Kernel, prefix: &str) -> BTreeSet<String> {
    let Ok(btf) = kernel.btf() else { return BTreeSet::new() };
    let wanted = |ty: &Type<'_>| {
        let kind = matches!(ty.kind(), Kind::Struct | Kind::Union | Kind::Enum | Kind::Typedef);
        kind && !ty.name().is_empty() && ty.name().starts_with(prefix)
    };
    btf.types().filter(wanted).take(MOST).map(|ty| ty.name().to_owned()).collect()
}

fn tasks(kernel: &Kernel, prefix: &str) -> BTreeSet<String> {
    let Ok(tasks) = kernel.tasks() else { return BTreeSet::new() };
    let words = tasks.list.iter().flat_map(|t| [t.pid.to_string(), t.comm.clone()]);
    words.filter(|w| w.starts_with(prefix) && !w.contains(char::is_whitespace)).collect()
}

/// `struct TYPE`, `TYPE.member`, also several members (`TYPE.a,b`).
fn types_and_members(kernel: &Kernel, line: &str, start: usize) -> Completion {
    let word = &line[start..];
    if !word.contains('.') {
        return answer(start, types(kernel, word));
    }
    let (base, list) = word.split_once('.').unwrap_or((word, ""));
    let path = list.rsplit(',').next().unwrap_or(list);
    let Ok(ty) = kernel.ty(base) else { return answer(start, BTreeSet::new()) };
    members_along(ty, path, line.len() - path.len())
}

/// A word of an expression: a member behind `.` or `->`, else a symbol or type.
fn expression(kernel: &Kernel, line: &str, start: usize) -> Completion {
    let is_part = |c: char| c.is_alphanumeric() || "_.->".contains(c);
    let operand = line
        .rfind(|c: char| !is_part(c))
        .map_or(0, |at| at + line[at..].chars().next().map_or(1, char::len_utf8));
    let operand = operand.max(start);
    let chain = line[operand..].replace("->", ".");
    let Some((base, path)) = chain.split_once('.') else {
        let mut found = symbols(kernel, &chain);
        found.extend(if chain.is_empty() { BTreeSet::new() } else { types(kernel, &chain) });
        return answer(operand, found);
    };
    let ty = match base {
        // `((struct task_struct *) ADDRESS)->`: the last type that is named.
        "" => cast(kernel, &line[..operand]),
        base => {
            let variable = kernel.btf().ok().and_then(|btf| btf.variable(base));
            variable.or_else(|| kernel.ty(base).ok())
        }
    };
    let last = path.rsplit('.').next().unwrap_or(path);
    match ty {
        Some(ty) => members_along(ty, path, line.len() - last.len()),
        None => answer(line.len(), BTreeSet::new()),
    }
}

/// The type of the cast that an expression ends with.
fn cast<'k>(kernel: &'k Kernel, text: &str) -> Option<Type<'k>> {
    // The word itself, not the end of a name (`task_struct `).
    let is_word = |at: &usize| !text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let last = |word: &&str| text.rmatch_indices(*word).map(|(at, _)| at).find(is_word);
    let at = ["struct ", "union "].iter().filter_map(last).max()?;
    let name = text[at..].split_whitespace().nth(1)?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    kernel.ty(&name[..end]).ok()
}

/// Members of what `path` leads to from `ty`; its last part is not complete.
fn members_along(ty: Type<'_>, path: &str, start: usize) -> Completion {
    let (way, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut ty = pointee(ty);
    for step in way.split('.').filter(|step| !step.is_empty()) {
        let name = step.split('[').next().unwrap_or(step);
        match ty.member(name) {
            Some(member) => ty = pointee(member.ty),
            None => return answer(start, BTreeSet::new()),
        }
    }
    let mut found = BTreeSet::new();
    collect(ty, last, DEEPEST, &mut found);
    answer(start, found)
}

/// What pointers and arrays lead to.
fn pointee(ty: Type<'_>) -> Type<'_> {
    let mut ty = ty.strip();
    for _ in 0..DEEPEST {
        match (ty.kind(), ty.target()) {
            (Kind::Ptr | Kind::Array, Some(target)) => ty = target.strip(),
            _ => break,
        }
    }
    ty
}

fn collect(ty: Type<'_>, prefix: &str, depth: usize, found: &mut BTreeSet<String>) {
    for member in ty.members() {
        if member.name.is_empty() && depth > 0 {
            collect(member.ty.strip(), prefix, depth - 1, found);
        } else if member.name.starts_with(prefix) {
            found.insert(member.name.to_owned());
        }
    }
}
