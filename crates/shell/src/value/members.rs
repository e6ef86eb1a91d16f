//! An object as `struct` shows it: whole, or some of its members.

use std::io::{self, Write};

use kmortem_debuginfo::btf::{Kind, Type};
use kmortem_kernel::{Error, Kernel, Object};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::bytes::Bytes;
use super::data::{Member, Value, signed_value};
use super::read::Reader;
use super::render::{render, render_member, scalar_text};
use super::style::Style;
use super::text;
use crate::settings::Radix;

/// What is shown of one object.
pub(crate) enum Shown {
    /// `struct list_head {...}`
    Whole { heading: String, value: Value },
    /// Some of its members.
    Members(Vec<Line>),
}

/// A member where it stands in the whole object.
pub(crate) struct Line {
    member: Member,
    /// In how many anonymous structs and unions it is.
    depth: usize,
    /// Whether others follow it there.
    last: bool,
    /// Whether scalars and text show as their bits are, without names (`list -S`).
    bare: bool,
}

impl Shown {
    /// All of `object`.
    pub(crate) fn whole(reader: &mut Reader<'_>, object: &Object<'_>) -> Shown {
        let bytes = object_bytes(reader.kernel(), object);
        Shown::whole_of(reader, object.ty(), &bytes)
    }

    /// The members of `object` at `paths` ("a.b[2].c").
    pub(crate) fn members(
        reader: &mut Reader<'_>,
        object: &Object<'_>,
        paths: &[&str],
    ) -> Result<Shown, Error> {
        let bytes = object_bytes(reader.kernel(), object);
        Shown::members_of(reader, object.ty(), &bytes, paths)
    }

    /// All of what is in `bytes`.
    pub(crate) fn whole_of(reader: &mut Reader<'_>, ty: Type<'_>, bytes: &Bytes) -> Shown {
        let tag = if ty.strip().kind() == Kind::Union { "union" } else { "struct" };
        let name = if ty.name().is_empty() { ty.strip().name() } else { ty.name() };
        Shown::Whole { heading: format!("{tag} {name}"), value: reader.value(ty, bytes, 0, None) }
    }

    /// Members of what is in `bytes`.
    pub(crate) fn members_of(
        reader: &mut Reader<'_>,
        ty: Type<'_>,
        bytes: &Bytes,
        paths: &[&str],
    ) -> Result<Shown, Error> {
        let mut lines = Vec::new();
        for path in paths {
            let missing =
                || Error::NoMember { ty: super::declare::name(ty), names: (*path).to_owned() };
            let found = ty.strip().member(path).ok_or_else(missing)?;
            let value = reader.value(found.ty, bytes, found.bit_offset, found.bit_size);
            let (depth, last) = position(ty, path);
            let member = Member { name: (*path).to_owned(), value };
            lines.push(Line { member, depth, last, bare: false });
        }
        Ok(Shown::Members(lines))
    }

    /// Members as their bits are: enums and booleans as numbers, text up to its end.
    pub(crate) fn bare(mut self) -> Shown {
        if let Shown::Members(lines) = &mut self {
            lines.iter_mut().for_each(|line| line.bare = true);
        }
        self
    }

    /// Writes it, with the end of its last line.
    pub(crate) fn render(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        match self {
            Shown::Whole { heading, value } => {
                write!(out, "{heading} ")?;
                render(out, value, 0, style)?;
                writeln!(out)
            }
            Shown::Members(lines) => lines.iter().try_for_each(|line| {
                if let Some(value) = bare(&line.member.value, style).filter(|_| line.bare) {
                    return writeln!(out, "  {} = {value}", line.member.name);
                }
                render_member(out, &line.member, line.depth, style)?;
                writeln!(out, "{}", if line.last { "" } else { "," })
            }),
        }
    }
}

/// The whole object or the map of its members.
impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Shown::Whole { value, .. } => value.serialize(serializer),
            Shown::Members(lines) => {
                let mut map = serializer.serialize_map(Some(lines.len()))?;
                for line in lines {
                    map.serialize_entry(&line.member.name, &line.member.value)?;
                }
                map.end()
            }
        }
    }
}

/// A scalar or text as its bits are.
fn bare(value: &Value, style: Style) -> Option<String> {
    Some(match value {
        Value::Integer { bits, size, signed: true } if style.radix == Radix::Decimal => {
            signed_value(*bits, *size).to_string()
        }
        Value::Integer { bits, .. } => style.number(u64::try_from(*bits).ok()?),
        Value::Character { bits, .. } => style.number(u64::from(*bits)),
        Value::Bool(bits) | Value::Enum { bits, .. } => style.number(*bits),
        Value::Pointer { addr, text: Some(Ok(text)), .. } => {
            format!("{addr:#x}  {}", text::string(text))
        }
        Value::Text(text) if text.plain => format!("\"{}\"", text::escaped(text.until_nul())),
        Value::Pointer { text: None, .. } => scalar_text(value, style),
        _ => return None,
    })
}

/// The first of `paths` that `ty` does not have, as an error.
pub(crate) fn members_exist(ty: Type<'_>, paths: &[&str]) -> Result<(), Error> {
    let missing = |path: &&&str| ty.strip().member(path).is_none();
    match paths.iter().find(missing) {
        Some(path) => {
            Err(Error::NoMember { ty: super::declare::name(ty), names: (*path).to_owned() })
        }
        None => Ok(()),
    }
}

fn object_bytes(kernel: &Kernel, object: &Object<'_>) -> Bytes {
    Bytes::read(kernel, object.addr(), object.ty().size().unwrap_or(0))
}

/// In how many anonymous structs the first member of `path` stands, and whether the member at the
/// end of `path` is the last one where it is.
fn position(ty: Type<'_>, path: &str) -> (usize, bool) {
    let bare = |step: &str| step.split('[').next().unwrap_or(step).to_owned();
    let mut ty = ty;
    let mut place = (0, false);
    for (i, step) in path.split('.').enumerate() {
        let name = bare(step);
        let Some((depth, last)) = find(ty, &name, 0) else { return place };
        // A path shows at the outer indentation of all paths.
        place = (if i == 0 && !path.contains(['.', '[']) { depth } else { 0 }, last);
        let member = ty.strip().member(&name).map(|found| found.ty);
        let Some(mut next) = member else { return place };
        for _ in 0..step.matches('[').count() {
            next = next.strip().target().unwrap_or(next);
        }
        ty = next;
    }
    place
}

/// (anonymous structs around the member, whether it is the last in its own)
fn find(ty: Type<'_>, name: &str, depth: usize) -> Option<(usize, bool)> {
    if depth > 16 {
        return None;
    }
    let mut members = ty.strip().members().peekable();
    while let Some(member) = members.next() {
        if member.name == name {
            return Some((depth, members.peek().is_none()));
        }
        if member.name.is_empty()
            && let Some(found) = find(member.ty, name, depth + 1)
        {
            return Some(found);
        }
    }
    None
}
