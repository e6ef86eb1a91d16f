//! `kmem -p`, `kmem -m`: the records of page frames.
//!
//! The records are read and written out in runs of some 32,000, each on its own
//! thread, and shown in order.

use std::io::{self, Write};

use kmortem_kernel::layout::{Place, place_of};
use kmortem_kernel::mem_map::{MemMap, Record, Records};
use kmortem_kernel::page::PageNames;
use kmortem_kernel::{Error, Kernel};
use rayon::prelude::*;
use serde::Serialize;

use super::kmem_address::Where;
use super::{failed, kmem_nodes};
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;

const NAME: &str = "kmem";

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a> {
    command: &'static str,
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    addr: u64,
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    phys: u64,
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    head: u64,
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    mapping: u64,
    index: u64,
    refcount: i32,
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    flags: u64,
    flag_names: Vec<&'a str>,
    usage: kmortem_kernel::page::PageUse,
}

/// How records are shown.
enum Style {
    Text { digits: usize },
    Members(Vec<Column>),
    Json,
}

/// A member that `-m` shows.
struct Column {
    name: String,
    place: Place,
    form: Form,
}

enum Form {
    /// Hexadecimal with all its digits.
    Hex,
    Signed,
    Unsigned,
    Bool,
    /// A structure, in words of so many bytes.
    Words(usize),
}

/// Shows the records of all frames, or those that `wanted` names.
pub(super) fn show(
    session: &Session,
    members: Option<&str>,
    wanted: &[Where],
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let map = kernel.mem_map().map_err(failed(NAME))?;
    let names = kernel.page_names().map_err(failed(NAME))?;
    let style = match members {
        _ if out.is_json() => Style::Json,
        Some(list) => Style::Members(columns(kernel, list)?),
        None => Style::Text { digits: digits(kernel)? },
    };
    if !out.is_json() {
        header(out, &style)?;
    }
    if wanted.is_empty() {
        return all(session, &map, &names, &style, out);
    }
    let mut found = false;
    for place in wanted {
        let page = kernel.page_size();
        let pfn = place.phys(kernel).map(|phys| phys / page).filter(|pfn| map.has(*pfn));
        let Some(pfn) = pfn else {
            out.note(format_args!("{place}: address not found in mem map"))?;
            continue;
        };
        found = true;
        let records = map.read(pfn..pfn + 1).map_err(failed(NAME))?;
        out.write_all(&lines(&records, &names, &style, page))?;
        if let Some(reason) = &records.reason {
            out.note(reason)?;
        }
    }
    match found {
        true => Ok(()),
        false => {
            let what = "none of these addresses has a page record".to_owned();
            Err(CommandError::Failed { command: NAME, what })
        }
    }
}

/// Width of physical addresses.
pub(super) fn digits(kernel: &Kernel) -> Result<usize, CommandError> {
    let nodes = kernel.nodes().map_err(failed(NAME))?;
    Ok(kmem_nodes::digits(&nodes, kernel.page_size()).max(8))
}

/// The header and one line, for a page of which something else is shown too.
pub(super) fn one(
    kernel: &Kernel,
    phys: u64,
    titled: &mut bool,
    out: &mut Output<'_>,
) -> Result<bool, CommandError> {
    let map = kernel.mem_map().map_err(failed(NAME))?;
    let page = kernel.page_size();
    let pfn = phys / page;
    if !map.has(pfn) {
        return Ok(false);
    }
    let style = Style::Text { digits: digits(kernel)? };
    let names = kernel.page_names().map_err(failed(NAME))?;
    if !std::mem::replace(titled, true) {
        header(out, &style)?;
    }
    let records = map.read(pfn..pfn + 1).map_err(failed(NAME))?;
    out.write_all(&lines(&records, &names, &style, page))?;
    Ok(true)
}

fn all(
    session: &Session,
    map: &MemMap<'_>,
    names: &PageNames,
    style: &Style,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let page = kernel.page_size();
    session.progress().expect(map.len());
    let chunks = map.chunks();
    let mut missing = 0;
    let mut reason: Option<Error> = None;
    // As many chunks at once as keep all threads busy: memory stays bounded.
    for batch in chunks.chunks(rayon::current_num_threads().max(1) * 2) {
        let made: Vec<_> = batch
            .par_iter()
            .map(|frames| {
                let records = map.read(frames.clone())?;
                let text = lines(&records, names, style, page);
                session.progress().add(frames.end - frames.start);
                Ok((text, records.missing(), records.reason))
            })
            .collect();
        for part in made {
            let (text, lost, why) = part.map_err(failed(NAME))?;
            out.write_all(&text)?;
            missing += lost;
            reason = reason.or(why);
        }
    }
    if let Some(reason) = reason {
        out.note(format_args!("{missing} page records can't be read; the first: {reason}"))?;
    }
    Ok(())
}

fn header(out: &mut dyn Write, style: &Style) -> io::Result<()> {
    match style {
        Style::Text { digits } => {
            let mapping = "     MAPPING    ";
            writeln!(out, "      PAGE       {:>digits$} {mapping}   INDEX CNT FLAGS", "PHYSICAL")
        }
        Style::Members(columns) => {
            write!(out, "      PAGE      ")?;
            for column in columns {
                write!(out, "  {}", column.name)?;
            }
            writeln!(out)
        }
        _ => Ok(()),
    }
}

/// The text of a run of records.
fn lines(records: &Records, names: &PageNames, style: &Style, page: u64) -> Vec<u8> {
    let mut text = Vec::with_capacity(1 << 16);
    for (pfn, record) in records.iter() {
        // Writing to memory does not fail.
        let _ = match (&record, style) {
            (None, Style::Json) => Ok(()),
            (None, Style::Text { digits }) => {
                let addr = records.address(pfn);
                writeln!(text, "{addr:016x} {:>digits$x} <unreadable>", pfn.wrapping_mul(page))
            }
            (None, _) => writeln!(text, "{:016x}  <unreadable>", records.address(pfn)),
            (Some(record), Style::Text { digits }) => {
                line(&mut text, record, names, *digits, page);
                Ok(())
            }
            (Some(record), Style::Members(columns)) => member_line(&mut text, record, columns),
            (Some(record), _) => json(&mut text, record, names, page),
        };
    }
    text
}

/// Appends a number in hexadecimal, at least `width` wide. A line per page:
/// this is where the time goes, and formatting machinery is slower.
fn push_hex(text: &mut Vec<u8>, value: u64, width: usize) {
    let digits = (64 - value.leading_zeros()).div_ceil(4).max(1) as usize;
    text.resize(text.len() + width.saturating_sub(digits), b' ');
    for i in (0..digits).rev() {
        text.push(b"0123456789abcdef"[(value >> (4 * i) & 0xf) as usize]);
    }
}

fn line(text: &mut Vec<u8>, record: &Record<'_>, names: &PageNames, digits: usize, page: u64) {
    push_hex(text, record.addr, 16);
    text.push(b' ');
    push_hex(text, record.pfn.wrapping_mul(page), digits);
    text.push(b' ');
    push_hex(text, record.mapping(), 16);
    text.push(b' ');
    push_hex(text, record.index(), 8);
    text.push(b' ');
    let refcount = record.refcount();
    let _ = write!(text, "{refcount:>2} ");
    let flags = record.flags();
    push_hex(text, flags, 1);
    let mut separator = b' ';
    for name in names.of(flags) {
        text.push(separator);
        text.extend_from_slice(name.as_bytes());
        separator = b',';
    }
    text.push(b'\n');
}

fn json(text: &mut Vec<u8>, record: &Record<'_>, names: &PageNames, page: u64) -> io::Result<()> {
    let row = Row {
        command: NAME,
        addr: record.addr,
        phys: record.pfn.wrapping_mul(page),
        head: record.head(),
        mapping: record.mapping(),
        index: record.index(),
        refcount: record.refcount(),
        flags: record.flags(),
        flag_names: names.of(record.flags()).collect(),
        usage: names.usage(record),
    };
    serde_json::to_writer(&mut *text, &row)?;
    text.write_all(b"\n")
}

/// The members of `struct page` that a list names.
fn columns(kernel: &Kernel, list: &str) -> Result<Vec<Column>, CommandError> {
    use kmortem_kernel::reexport::Kind;
    let page = kernel.ty("struct page").map_err(failed(NAME))?;
    let column = |name: &str| {
        let found = page.member(name).zip(place_of(page, name));
        let Some((member, place)) = found else {
            let what = format!("struct page has no member {name}; `struct page` shows them");
            return Err(CommandError::Failed { command: NAME, what });
        };
        let ty = member.ty.strip();
        let decimal = name.starts_with("_count") || name.starts_with("_mapcount");
        let form = match ty.kind() {
            Kind::Ptr => Form::Hex,
            _ if name == "flags" && place.size <= 8 => Form::Hex,
            _ if decimal => Form::Signed,
            Kind::Int if ty.name() == "_Bool" || ty.name() == "bool" => Form::Bool,
            Kind::Int | Kind::Enum | Kind::Enum64 if place.signed => Form::Signed,
            Kind::Int | Kind::Enum | Kind::Enum64 => Form::Unsigned,
            _ if place.size % 8 == 0 => Form::Words(8),
            _ if place.size % 4 == 0 => Form::Words(4),
            _ => Form::Words(1),
        };
        Ok(Column { name: name.to_owned(), place, form })
    };
    list.split(',').filter(|name| !name.is_empty()).map(column).collect()
}

fn member_line(text: &mut Vec<u8>, record: &Record<'_>, columns: &[Column]) -> io::Result<()> {
    write!(text, "{:x}  ", record.addr)?;
    for Column { place, form, .. } in columns {
        let mut value = record.number(*place);
        let mut width = place.size as u32 * 8;
        if let Some((first, bits)) = place.bits {
            value = value.checked_shr(first).unwrap_or(0);
            width = bits;
        }
        if width < 64 {
            value &= (1 << width) - 1;
        }
        match form {
            Form::Hex => write!(text, "{value:0width$x}  ", width = place.size as usize * 2)?,
            Form::Unsigned => write!(text, "{value}  ")?,
            Form::Signed => {
                let unused = 64 - width.clamp(1, 64);
                write!(text, "{}  ", (value << unused) as i64 >> unused)?;
            }
            Form::Bool => write!(text, "{}  ", value != 0)?,
            Form::Words(size) => {
                let from = place.offset as usize;
                let bytes = record.bytes().get(from..from + place.size as usize).unwrap_or(&[]);
                for (i, word) in bytes.chunks(*size).enumerate() {
                    let comma = if i > 0 { "," } else { "" };
                    let value = word.iter().rev().fold(0u64, |v, b| v << 8 | u64::from(*b));
                    write!(text, "{comma}{value:0width$x}", width = size * 2)?;
                }
                if *size == 8 {
                    write!(text, "  ")?;
                }
            }
        }
    }
    text.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_the_standard_library_writes_them() {
        for (value, width) in [(0, 1), (0, 8), (0xf, 1), (0x10, 2), (u64::MAX, 16), (0x1234, 8)] {
            let mut text = Vec::new();
            push_hex(&mut text, value, width);
            assert_eq!(String::from_utf8(text).unwrap(), format!("{value:>width$x}"));
        }
    }
}
