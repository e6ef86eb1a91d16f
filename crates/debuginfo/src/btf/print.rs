//! Declarations in C: a name with its type.
//!
//! Integers are named as C writes them (`unsigned long`; DWARF, and BTF after it, say
//! `long unsigned int`), as gdb does.

use std::cell::Cell;
use std::fmt::Write;

use super::types::{Kind, MAX_CHAIN, Type, c_spelling};

/// Functions that take functions: deeper is a loop.
const MAX_DEPTH: usize = 16;
/// Parameters of one declaration: more can only come from types that contain each other over and
/// over.
const MAX_PARTS: usize = 1 << 14;

/// A declaration around the type that it is made of: `const struct file *files[2]` is "const ",
/// `struct file`, " *files[2]".
#[derive(Clone, Debug)]
pub struct Declaration<'a> {
    /// Qualifiers before the type's name.
    pub before: String,
    /// What has a name of its own, or a body: a struct, integer, typedef, ....
    pub base: Type<'a>,
    /// The declarator with a blank before it, or nothing.
    pub after: String,
}

impl std::fmt::Display for Declaration<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}{}", self.before, base_name(self.base), self.after)
    }
}

impl<'a> Type<'a> {
    /// The type as C names it: `struct task_struct *`, `int (*)(void)`. Parameters of functions
    /// have no names there.
    pub fn c_name(&self) -> String {
        self.parts("", false).to_string()
    }

    /// A declaration of `name` with this type: `char comm[16]`.
    pub fn declaration(&self, name: &str) -> String {
        self.parts(name, true).to_string()
    }

    /// A declaration of a struct's member in parts, to put a body in place of the type's name.
    pub fn member_declaration(&self, name: &str) -> Declaration<'a> {
        self.parts(name, false)
    }

    fn parts(&self, name: &str, parameter_names: bool) -> Declaration<'a> {
        let printer = Printer { parameter_names, parts: Cell::new(MAX_PARTS) };
        printer.declare(*self, name, 0)
    }
}

fn base_name(ty: Type<'_>) -> String {
    let tag = match ty.kind() {
        Kind::Void => return "void".to_owned(),
        Kind::Int => return c_spelling(ty.name()).unwrap_or(ty.name()).to_owned(),
        Kind::Struct => "struct ",
        Kind::Union => "union ",
        Kind::Enum | Kind::Enum64 => "enum ",
        Kind::Fwd if ty.flag() => "union ",
        Kind::Fwd => "struct ",
        _ => "",
    };
    match ty.name() {
        "" => format!("{tag}{{...}}"),
        name => format!("{tag}{name}"),
    }
}

/// A qualifier of a pointer stands behind its `*`, any other before everything.
fn qualify(word: &str, target: Type<'_>, declarator: &mut String, qualifiers: &mut String) {
    if target.strip_while(Kind::is_qualifier).kind() == Kind::Ptr {
        let space = if declarator.is_empty() { "" } else { " " };
        declarator.insert_str(0, &format!(" {word}{space}"));
    } else {
        qualifiers.push_str(word);
        qualifiers.push(' ');
    }
}

struct Printer {
    parameter_names: bool,
    parts: Cell<usize>,
}

impl Printer {
    fn take_part(&self) -> bool {
        let left = self.parts.get();
        self.parts.set(left.saturating_sub(1));
        left > 0
    }

    /// Writes a declarator from the name outwards, as C reads it.
    fn declare<'a>(&self, ty: Type<'a>, name: &str, depth: usize) -> Declaration<'a> {
        let mut declarator = name.to_owned();
        let mut qualifiers = String::new();
        let mut ty = ty;
        // `*` binds less tightly than what follows it.
        let mut behind_pointer = false;
        for _ in 0..MAX_CHAIN {
            let Some(target) = ty.target() else { break };
            match ty.kind() {
                Kind::Ptr => {
                    declarator.insert(0, '*');
                    behind_pointer = true;
                }
                Kind::Array | Kind::FuncProto => {
                    if std::mem::take(&mut behind_pointer) {
                        declarator = format!("({declarator})");
                    }
                    match ty.array_len() {
                        Some(len) => _ = write!(declarator, "[{len}]"),
                        None => declarator.push_str(&self.parameters(ty, depth)),
                    }
                }
                Kind::Const => qualify("const", target, &mut declarator, &mut qualifiers),
                Kind::Volatile => qualify("volatile", target, &mut declarator, &mut qualifiers),
                Kind::Restrict => qualify("restrict", target, &mut declarator, &mut qualifiers),
                Kind::TypeTag => {}
                _ => break,
            }
            ty = target;
        }
        let space = if declarator.is_empty() { "" } else { " " };
        Declaration { before: qualifiers, base: ty, after: format!("{space}{declarator}") }
    }

    fn parameters(&self, proto: Type<'_>, depth: usize) -> String {
        if depth >= MAX_DEPTH {
            return "(...)".to_owned();
        }
        let parameters: Vec<String> = proto
            .parameters()
            // One more than there is room for, as `...`.
            .scan(true, |room, parameter| {
                std::mem::replace(room, *room && self.take_part()).then_some((*room, parameter))
            })
            .map(|(room, parameter)| match parameter.ty.kind() {
                _ if !room => "...".to_owned(),
                Kind::Void if parameter.name.is_empty() => "...".to_owned(),
                _ => {
                    let name = if self.parameter_names { parameter.name } else { "" };
                    self.declare(parameter.ty, name, depth + 1).to_string()
                }
            })
            .collect();
        match parameters.as_slice() {
            [] => "(void)".to_owned(),
            _ => format!("({})", parameters.join(", ")),
        }
    }
}
