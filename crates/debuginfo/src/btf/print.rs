//! Types in C.

use std::cell::Cell;
use std::fmt::Write;

use super::types::{Kind, MAX_CHAIN, Member, Type};

/// Anonymous structs in anonymous structs, and functions that take functions: deeper is a loop.
const MAX_DEPTH: usize = 16;
/// Members and parameters of one definition: more can only come from types that contain each
/// other over and over.
const MAX_PARTS: usize = 1 << 14;

impl Type<'_> {
    /// The type as C names it: `struct task_struct *`, `int (*)(void)`.
    pub fn c_name(&self) -> String {
        self.declaration("")
    }

    /// A declaration of `name` with this type: `char comm[16]`.
    pub fn declaration(&self, name: &str) -> String {
        let printer = Printer::new(false);
        printer.declare(*self, name, 0, &base_name)
    }

    /// The definition behind the name, as gdb's ptype prints it: typedefs are seen through,
    /// members stand on lines of their own.
    pub fn definition(&self) -> String {
        Printer::new(false).definition(*self)
    }

    /// The same with the offset in bytes before each member.
    pub fn definition_with_offsets(&self) -> String {
        Printer::new(true).definition(*self)
    }
}

fn base_name(ty: Type<'_>) -> String {
    let tag = match ty.kind() {
        Kind::Void => return "void".to_owned(),
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
        declarator.insert_str(0, &format!("{word}{space}"));
    } else {
        qualifiers.push_str(word);
        qualifiers.push(' ');
    }
}

struct Printer {
    offsets: bool,
    parts: Cell<usize>,
}

impl Printer {
    fn new(offsets: bool) -> Printer {
        Printer { offsets, parts: Cell::new(MAX_PARTS) }
    }

    fn take_part(&self) -> bool {
        let left = self.parts.get();
        self.parts.set(left.saturating_sub(1));
        left > 0
    }

    /// Writes a declarator from the name outwards, as C reads it.
    fn declare(
        &self,
        ty: Type<'_>,
        name: &str,
        depth: usize,
        base: &dyn Fn(Type<'_>) -> String,
    ) -> String {
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
        let base = base(ty);
        match declarator.as_str() {
            "" => format!("{qualifiers}{base}"),
            _ => format!("{qualifiers}{base} {declarator}"),
        }
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
                _ => self.declare(parameter.ty, parameter.name, depth + 1, &base_name),
            })
            .collect();
        match parameters.as_slice() {
            [] => "(void)".to_owned(),
            _ => format!("({})", parameters.join(", ")),
        }
    }

    fn definition(&self, ty: Type<'_>) -> String {
        match ty.kind() {
            Kind::Func => ty
                .target()
                .map_or_else(String::new, |proto| self.declare(proto, ty.name(), 0, &base_name)),
            Kind::Var => {
                ty.target().map_or_else(String::new, |target| target.declaration(ty.name()))
            }
            _ => {
                // Behind a typedef stands what it is for; a qualified or derived type is expanded
                // at its base.
                let ty = ty.strip_while(|kind| kind == Kind::Typedef);
                self.declare(ty, "", 0, &|base| {
                    let base = base.strip_while(|kind| kind == Kind::Typedef);
                    self.body(base, 0, 0).unwrap_or_else(|| base.c_name())
                })
            }
        }
    }

    /// The part in braces of a struct, union or enum.
    fn body(&self, ty: Type<'_>, bit_offset: u64, depth: usize) -> Option<String> {
        let name = match ty.name() {
            "" => String::new(),
            name => format!("{name} "),
        };
        let mut text = String::new();
        match ty.kind() {
            Kind::Struct | Kind::Union => {
                let tag = if ty.kind() == Kind::Struct { "struct" } else { "union" };
                _ = writeln!(text, "{tag} {name}{{");
                for member in ty.members() {
                    if !self.take_part() {
                        text.push_str("...\n");
                        break;
                    }
                    self.member(&mut text, member, bit_offset, depth + 1);
                }
                _ = write!(text, "{:1$}}}", "", self.indent(depth));
            }
            Kind::Enum | Kind::Enum64 => {
                _ = write!(text, "enum {name}{{");
                let mut next = Some(0);
                for (index, constant) in ty.enumerators().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    if !self.take_part() {
                        _ = write!(text, "{comma}...");
                        break;
                    }
                    _ = write!(text, "{comma}{}", constant.name);
                    if next != Some(constant.value) {
                        _ = match ty.is_signed() {
                            true => write!(text, " = {}", constant.value),
                            false => write!(text, " = {}", constant.value as u64),
                        };
                    }
                    next = constant.value.checked_add(1);
                }
                text.push('}');
            }
            _ => return None,
        }
        Some(text)
    }

    fn member(&self, text: &mut String, member: Member<'_>, bit_offset: u64, depth: usize) {
        let bit_offset = bit_offset + member.bit_offset;
        if self.offsets {
            let offset = format!("[{}]", bit_offset / 8);
            _ = write!(text, "{offset:>8}");
        }
        let indent = self.indent(depth) - if self.offsets { 8 } else { 0 };
        let declaration = self.declare(member.ty, member.name, 0, &|base| {
            let anonymous = base.name().is_empty() && depth < MAX_DEPTH;
            let body = anonymous.then(|| self.body(base, bit_offset, depth)).flatten();
            body.unwrap_or_else(|| base_name(base))
        });
        _ = write!(text, "{:indent$}{declaration}", "");
        if let Some(bits) = member.bit_size {
            _ = write!(text, " : {bits}");
        }
        text.push_str(";\n");
    }

    fn indent(&self, depth: usize) -> usize {
        4 * depth + if self.offsets && depth > 0 { 8 } else { 0 }
    }
}
