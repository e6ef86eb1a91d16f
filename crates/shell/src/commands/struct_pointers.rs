//! `struct -p`: members that are pointers, with what they point to.

use std::io::{self, Write};

use kmortem_debuginfo::btf::{Kind, Type};
use kmortem_kernel::stack::hex;
use serde::Serialize;

use crate::value::{Bytes, Reader, Shown, Style, Value, render as render_value};

/// What a member points to.
#[derive(Serialize)]
pub(super) struct Target {
    member: String,
    #[serde(skip)]
    declaration: String,
    #[serde(serialize_with = "hex")]
    address: u64,
    /// The symbol that begins there.
    #[serde(skip_serializing_if = "Option::is_none")]
    symbol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    /// Why there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<String>,
}

/// What the pointers among the members at `paths` point to; without paths, those among all members
/// that stand in the struct itself.
pub(super) fn targets(
    reader: &mut Reader<'_>,
    ty: Type<'_>,
    paths: &[&str],
    bytes: &Bytes,
) -> Vec<Target> {
    let all: Vec<&str> = match paths {
        [] => ty.strip().members().map(|m| m.name).filter(|name| !name.is_empty()).collect(),
        paths => paths.to_vec(),
    };
    all.into_iter().filter_map(|path| target(reader, ty, path, bytes)).collect()
}

fn target(reader: &mut Reader<'_>, ty: Type<'_>, path: &str, bytes: &Bytes) -> Option<Target> {
    let kernel = reader.kernel();
    let member = ty.strip().member(path)?;
    let pointer = member.ty.strip();
    if pointer.kind() != Kind::Ptr {
        return None;
    }
    let address = bytes.integer(member.bit_offset / 8, 8).ok()? as u64;
    let found = kernel.symbol_at(address).filter(|found| found.offset == 0);
    let mut target = Target {
        member: path.to_owned(),
        declaration: member.ty.declaration(path),
        address,
        symbol: found.map(|found| found.name),
        value: None,
        remark: None,
    };
    let what = pointer.target()?;
    let is = what.strip();
    let none = address == 0;
    match is.kind() {
        _ if none => target.remark = Some("NULL".to_owned()),
        Kind::FuncProto | Kind::Void if target.symbol.is_some() => {}
        Kind::FuncProto => target.remark = Some("(unknown)".to_owned()),
        Kind::Void => target.remark = Some("(unknown target type)".to_owned()),
        Kind::Fwd => {
            target.remark = Some(format!("({}: not in the types of this dump)", what.c_name()))
        }
        // As text, where it is one.
        Kind::Int if is.size() == Some(1) => match reader.pointer(address, Some(what)) {
            Value::Pointer { text: Some(Ok(text)), .. } => target.value = Some(Value::Text(text)),
            Value::Pointer { text: Some(Err(why)), .. } => target.remark = Some(not_there(&why)),
            _ => {}
        },
        _ => {
            let there = Bytes::read(kernel, address, what.size().unwrap_or(0));
            match there.nothing() {
                Some(why) => target.remark = Some(not_there(why)),
                None => target.value = Some(reader.value(what, &there, 0, None)),
            }
        }
    }
    Some(target)
}

fn not_there(why: &str) -> String {
    format!("(not accessible: {why})")
}

/// Writes the object, or its members at `paths`, with `targets` in place of the pointers.
pub(super) fn render(
    out: &mut dyn Write,
    reader: &mut Reader<'_>,
    ty: Type<'_>,
    paths: &[&str],
    bytes: &Bytes,
    targets: &[Target],
    style: Style,
) -> io::Result<()> {
    let of = |name: &str| targets.iter().find(|target| target.member == name);
    if !paths.is_empty() {
        for path in paths {
            match of(path) {
                Some(target) => render_target(out, target, style)?,
                None => {
                    if let Ok(shown) = Shown::members_of(reader, ty, bytes, &[path]) {
                        shown.render(out, style)?;
                    }
                }
            }
        }
        return Ok(());
    }
    let Shown::Whole { heading, value } = Shown::whole_of(reader, ty, bytes) else {
        return Ok(());
    };
    let Value::Record(members) = &value else { return Ok(()) };
    writeln!(out, "{heading} {{")?;
    for (i, member) in members.iter().enumerate() {
        match of(&member.name) {
            Some(target) => render_target(out, target, style)?,
            None => {
                crate::value::render_member(out, member, 0, style)?;
                writeln!(out, "{}", if i + 1 < members.len() { "," } else { "" })?;
            }
        }
    }
    writeln!(out, "}}")
}

fn render_target(out: &mut dyn Write, target: &Target, style: Style) -> io::Result<()> {
    let Target { declaration, address, symbol, value, remark, .. } = target;
    writeln!(out, "  {declaration} = {address:#x}")?;
    write!(out, "  ->")?;
    if let Some(symbol) = symbol {
        write!(out, " <{symbol}>")?;
    }
    if let Some(remark) = remark {
        write!(out, " {remark}")?;
    }
    if let Some(value) = value {
        let mut text = Vec::new();
        render_value(&mut text, value, 0, style)?;
        // Below the arrow.
        let text = String::from_utf8_lossy(&text).replace('\n', "\n     ");
        write!(out, " {text}")?;
    }
    writeln!(out)
}
