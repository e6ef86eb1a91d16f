//! An object as `struct` shows it: whole, or some of its members.

use std::io::{self, Write};

use kmortem_debuginfo::btf::{Kind, Type};
use kmortem_kernel::{Error, Kernel, Object};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::bytes::Bytes;
use super::data::{Member, Value};
use super::read::Reader;
use super::render::{render, render_member};
use super::style::Style;

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
}

impl Shown {
    /// All of `object`.
    pub(crate) fn whole(kernel: &Kernel, object: &Object<'_>) -> Shown {
        let bytes = object_bytes(kernel, object);
        Shown::whole_of(&mut Reader::new(kernel), object.ty(), &bytes)
    }

    /// The members of `object` at `paths` ("a.b[2].c").
    pub(crate) fn members(
        kernel: &Kernel,
        object: &Object<'_>,
        paths: &[&str],
    ) -> Result<Shown, Error> {
        let bytes = object_bytes(kernel, object);
        Shown::members_of(&mut Reader::new(kernel), object.ty(), &bytes, paths)
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
            lines.push(Line { member, depth, last });
        }
        Ok(Shown::Members(lines))
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
