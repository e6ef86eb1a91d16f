//! Definitions in C, as gdb's `ptype` prints them: a struct with a line for each member.

use std::fmt::Write;

use super::types::{Kind, MAX_CHAIN, Member, Type};

/// Anonymous structs in anonymous structs: deeper is a loop.
const MAX_DEPTH: usize = 16;
/// Lines of one definition: more can only come from types that contain each other over and over.
const MAX_LINES: usize = 1 << 14;

/// A line of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionLine {
    /// In how many braces it stands.
    pub depth: usize,
    /// `int pid;`, `union {`, `} u[2];`
    pub text: String,
    /// What the line is.
    pub part: Part,
    /// The member's name, of a member and of the end of one; "" if it has none.
    pub name: String,
    /// In bits from the start of the outermost struct.
    pub bit_offset: u64,
    /// The member's width, of bitfields only.
    pub bit_size: Option<u32>,
    /// The member's size in bytes, the bitfield's integer's.
    pub size: u64,
    /// Whether it stands in a union.
    pub in_union: bool,
    /// Whether it belongs to a member that has a name, as opposed to the outermost struct and the
    /// anonymous ones in it.
    pub in_member: bool,
}

/// What a line of a definition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `struct name {`
    Open,
    /// A member.
    Member,
    /// `}`
    Close,
    /// A remark: `<no data fields>`.
    Remark,
}

impl Type<'_> {
    /// The definition behind the name, as gdb's ptype prints it: typedefs are seen through,
    /// members stand on lines of their own.
    pub fn definition(&self) -> String {
        let mut text = String::new();
        for (i, line) in self.definition_lines(false).iter().enumerate() {
            let end = if i == 0 { "" } else { "\n" };
            _ = write!(text, "{end}{:1$}{2}", "", line.depth * 4, line.text);
        }
        text
    }

    /// The lines of the definition. `expand` shows the members of structs that have names, too
    /// (ptype/o).
    pub fn definition_lines(&self, expand: bool) -> Vec<DefinitionLine> {
        let mut lines = Lines { expand, list: Vec::new() };
        match self.kind() {
            Kind::Func => {
                let name = self.target().map_or_else(String::new, |proto| proto.c_name());
                lines.remark(0, name);
            }
            Kind::Var => {
                let target = self.target();
                lines.remark(0, target.map_or_else(String::new, |ty| ty.declaration(self.name())));
            }
            _ => {
                // Behind a typedef stands what it is for; a qualified or derived type is expanded
                // at its base, through the typedefs there.
                let mut declaration = behind_typedefs(*self).member_declaration("");
                let mut before = declaration.before.clone();
                for _ in 0..MAX_CHAIN {
                    if declaration.base.kind() != Kind::Typedef {
                        break;
                    }
                    let base = behind_typedefs(declaration.base);
                    let inner = base.member_declaration("");
                    if !inner.after.is_empty() {
                        // A pointer behind a typedef, in an array for example.
                        break;
                    }
                    before.push_str(&inner.before);
                    declaration.base = inner.base;
                }
                let (base, after) = (declaration.base, declaration.after);
                match base.kind() {
                    Kind::Struct | Kind::Union => {
                        let place = Place { bit_offset: 0, in_union: false, in_member: false };
                        lines.composite(base, (&before, &after), None, place, (0, 1));
                    }
                    _ => {
                        let base = constants(base).unwrap_or_else(|| base.c_name());
                        lines.remark(0, format!("{before}{base}{after}"));
                    }
                }
            }
        }
        lines.list
    }
}

fn behind_typedefs(ty: Type<'_>) -> Type<'_> {
    ty.strip_while(|kind| kind == Kind::Typedef)
}

/// `enum state {IDLE, BUSY = 5}`
fn constants(ty: Type<'_>) -> Option<String> {
    if !matches!(ty.kind(), Kind::Enum | Kind::Enum64) {
        return None;
    }
    let mut text = match ty.name() {
        "" => "enum {".to_owned(),
        name => format!("enum {name} {{"),
    };
    let mut next = Some(0);
    for (index, constant) in ty.enumerators().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        if index >= MAX_LINES {
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
    Some(text)
}

#[derive(Clone, Copy)]
struct Place {
    bit_offset: u64,
    in_union: bool,
    in_member: bool,
}

struct Lines {
    expand: bool,
    list: Vec<DefinitionLine>,
}

impl Lines {
    fn remark(&mut self, depth: usize, text: String) {
        self.list.push(DefinitionLine {
            depth,
            text,
            part: Part::Remark,
            name: String::new(),
            bit_offset: 0,
            bit_size: None,
            size: 0,
            in_union: false,
            in_member: false,
        });
    }

    /// A struct with its members. `show`: gdb's measure of how far anonymous types are expanded.
    fn composite(
        &mut self,
        ty: Type<'_>,
        (before, after): (&str, &str),
        member: Option<(Member<'_>, Place)>,
        place: Place,
        (depth, show): (usize, i32),
    ) {
        let tag = if ty.kind() == Kind::Union { "union" } else { "struct" };
        let name = match ty.name() {
            "" => String::new(),
            name => format!("{name} "),
        };
        let size = member.and_then(|(member, _)| member.ty.size()).or(ty.size()).unwrap_or(0);
        let outer = member.map_or(Place { in_union: false, ..place }, |(_, outer)| outer);
        let line = |text, part| DefinitionLine {
            depth,
            text,
            part,
            name: member.map_or("", |(member, _)| member.name).to_owned(),
            bit_offset: place.bit_offset,
            bit_size: None,
            size,
            in_union: outer.in_union,
            in_member: outer.in_member,
        };
        self.list.push(line(format!("{before}{tag} {name}{{"), Part::Open));
        let mut members = ty.members().peekable();
        if members.peek().is_none() {
            self.remark(depth + 1, "<no data fields>".to_owned());
        }
        while let Some(member) = members.next() {
            if self.list.len() >= MAX_LINES {
                self.remark(depth + 1, "...".to_owned());
                break;
            }
            let inner = Place { in_union: ty.kind() == Kind::Union, ..place };
            self.member(member, members.peek().is_none(), inner, (depth + 1, show));
        }
        let end = if member.is_some() { ";" } else { "" };
        self.list.push(line(format!("}}{after}{end}"), Part::Close));
    }

    fn member(
        &mut self,
        member: Member<'_>,
        last: bool,
        outer: Place,
        (depth, show): (usize, i32),
    ) {
        let mut declaration = member.ty.member_declaration(member.name);
        if last && member.ty.strip_while(Kind::is_qualifier).array_len() == Some(0) {
            // BTF has the same for `[]` and `[0]`; at the end of a struct it is mostly the former.
            declaration.after = declaration.after.replace("[0]", "[]");
        }
        let place =
            Place { bit_offset: outer.bit_offset.saturating_add(member.bit_offset), ..outer };
        let base = declaration.base;
        let composite = matches!(base.kind(), Kind::Struct | Kind::Union);
        let show = if member.name.is_empty() && composite { show } else { show - 1 };
        // What a pointer leads to is no part of the struct.
        let part = !declaration.after.contains('*');
        let expand = base.name().is_empty() && show >= 0 || self.expand && part;
        if composite && expand && depth < MAX_DEPTH {
            let around = (declaration.before.as_str(), declaration.after.as_str());
            let inner = Place { in_member: outer.in_member || !member.name.is_empty(), ..place };
            self.composite(base, around, Some((member, outer)), inner, (depth, show));
            return;
        }
        let anonymous_enum = base.name().is_empty() && show >= 0;
        let mut text = match constants(base).filter(|_| anonymous_enum) {
            Some(body) => format!("{}{body}{}", declaration.before, declaration.after),
            None => declaration.to_string(),
        };
        if let Some(bits) = member.bit_size {
            _ = write!(text, " : {bits}");
        }
        text.push(';');
        self.list.push(DefinitionLine {
            depth,
            text,
            part: Part::Member,
            name: member.name.to_owned(),
            bit_offset: place.bit_offset,
            bit_size: member.bit_size,
            size: member.ty.size().unwrap_or(0),
            in_union: outer.in_union,
            in_member: outer.in_member,
        });
    }
}
