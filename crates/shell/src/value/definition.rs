//! Definitions of types, with the offsets of members where they are wanted.

use std::io::{self, Write};

use kmortem_debuginfo::btf::{DefinitionLine, Kind, Part, Type};
use serde::Serialize;

use super::style::Style;

/// Which offsets stand before members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offsets {
    /// None.
    No,
    /// From the start of the struct.
    Relative,
    /// Addresses in the object that begins here.
    At(u64),
}

/// Writes the definition of `ty`, whose size follows. A typedef shows as one.
pub(crate) fn render(
    out: &mut dyn Write,
    ty: Type<'_>,
    offsets: Offsets,
    style: Style,
) -> io::Result<()> {
    let lines = ty.definition_lines(false);
    let typedef = ty.kind() == Kind::Typedef;
    let size = ty.size().unwrap_or(0);
    for (i, line) in lines.iter().enumerate() {
        let start = if i == 0 && typedef { "typedef " } else { "" };
        let end = if i + 1 == lines.len() && typedef {
            format!(" {};", ty.name())
        } else {
            String::new()
        };
        match offsets {
            Offsets::No => {
                writeln!(out, "{start}{:1$}{2}{end}", "", line.depth * 4, line.text)?;
            }
            _ if line.depth == 0 => writeln!(out, "{start}{}{end}", line.text)?,
            _ => render_line(out, ty, line, offsets, style)?,
        }
    }
    writeln!(out, "SIZE: {}", style.number(size))
}

/// Writes the lines of the definition that declare the member at `path`.
pub(crate) fn render_member(
    out: &mut dyn Write,
    ty: Type<'_>,
    path: &str,
    offsets: Offsets,
    style: Style,
) -> io::Result<()> {
    let lines = ty.definition_lines(false);
    let named = |line: &&DefinitionLine| line.name == path && !line.in_member;
    if let Some(open) = lines.iter().position(|line| named(&line)) {
        let rest = lines.get(open..).unwrap_or_default();
        let close = match rest.first().map(|line| line.part) {
            Some(Part::Open) => {
                let depth = rest.first().map_or(0, |line| line.depth);
                rest.iter().position(|line| line.part == Part::Close && line.depth == depth)
            }
            _ => Some(0),
        };
        for line in rest.iter().take(close.unwrap_or(0) + 1) {
            render_line(out, ty, line, offsets, style)?;
        }
        return Ok(());
    }
    // A member of a member: as if it stood in the struct itself.
    let Some(found) = ty.strip().member(path) else { return Ok(()) };
    let mut text = found.ty.declaration(path);
    if let Some(bits) = found.bit_size {
        text.push_str(&format!(" : {bits}"));
    }
    let line = DefinitionLine {
        depth: 1,
        text: format!("{text};"),
        part: Part::Member,
        name: path.to_owned(),
        bit_offset: found.bit_offset,
        bit_size: found.bit_size,
        size: found.ty.size().unwrap_or(0),
        in_union: false,
        in_member: false,
    };
    render_line(out, ty, &line, offsets, style)
}

/// A line inside of the braces. What belongs to a member that has a name shows without offset: it
/// is not one of the outer struct, unless that has one of the same name at the same place.
fn render_line(
    out: &mut dyn Write,
    ty: Type<'_>,
    line: &DefinitionLine,
    offsets: Offsets,
    style: Style,
) -> io::Result<()> {
    let width = style.number(ty.size().unwrap_or(0)).len();
    let same = |line: &DefinitionLine| {
        let found = ty.strip().member(&line.name);
        found.is_some_and(|found| found.bit_offset == line.bit_offset)
    };
    let named = !line.name.is_empty() && line.part != Part::Open;
    let shown = named && (!line.in_member || same(line));
    let place = match offsets {
        Offsets::At(addr) => format!("  [{:x}]", addr.wrapping_add(line.bit_offset / 8)),
        _ => format!("  [{}]", style.number(line.bit_offset / 8)),
    };
    let indent = line.depth * 4;
    match shown {
        true => writeln!(out, "{place:>0$}{1:2$}{3}", width + 4, "", indent - 3, line.text),
        false => writeln!(out, "{:1$}{2}", "", width + 1 + indent, line.text),
    }
}

/// A definition as a row of JSON.
#[derive(Serialize)]
pub(crate) struct Definition {
    /// The type's name.
    #[serde(rename = "type")]
    name: String,
    size: Option<u64>,
    /// A typedef: what it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<DefinedMember>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    constants: Vec<Constant>,
}

#[derive(Serialize)]
struct DefinedMember {
    name: String,
    declaration: String,
    offset: u64,
    size: u64,
    /// Of a bitfield: its first bit from the start of the struct, and its width.
    #[serde(skip_serializing_if = "Option::is_none")]
    bits: Option<(u64, u32)>,
}

#[derive(Serialize)]
struct Constant {
    name: String,
    value: i64,
}

impl Definition {
    /// Of all members of `ty`, those of anonymous members among them; of `only` these, if any.
    pub(crate) fn of(ty: Type<'_>, only: &[&str]) -> Definition {
        let lines = ty.definition_lines(false);
        let mut members: Vec<DefinedMember> = Vec::new();
        for line in &lines {
            let declares = matches!(line.part, Part::Member | Part::Close);
            if line.depth == 0 || !declares || line.in_member || line.name.is_empty() {
                continue;
            }
            members.push(DefinedMember {
                name: line.name.clone(),
                declaration: line.text.trim_end_matches(';').to_owned(),
                offset: line.bit_offset / 8,
                size: line.size,
                bits: line.bit_size.map(|bits| (line.bit_offset, bits)),
            });
        }
        if !only.is_empty() {
            members = only.iter().filter_map(|path| DefinedMember::at(ty, path)).collect();
        }
        let constants = ty.strip().enumerators();
        let target = (ty.kind() == Kind::Typedef).then(|| ty.target());
        Definition {
            name: ty.c_name(),
            size: ty.size(),
            target: target.flatten().map(|target| target.c_name()),
            members,
            constants: constants
                .map(|c| Constant { name: c.name.into(), value: c.value })
                .collect(),
        }
    }
}

impl DefinedMember {
    fn at(ty: Type<'_>, path: &str) -> Option<DefinedMember> {
        let found = ty.strip().member(path)?;
        Some(DefinedMember {
            name: path.to_owned(),
            declaration: found.ty.declaration(path),
            offset: found.bit_offset / 8,
            size: found.ty.size().unwrap_or(0),
            bits: found.bit_size.map(|bits| (found.bit_offset, bits)),
        })
    }
}
