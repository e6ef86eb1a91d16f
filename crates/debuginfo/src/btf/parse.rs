//! From a blob to an index of checked records.
//!
//! Little-endian throughout (x86_64 and arm64 kernels as distributions build them):
//!
//! ```text
//! header  u16 magic 0xeb9f, u8 version 1, u8 flags, u32 hdr_len,
//!         u32 type_off, type_len, str_off, str_len          offsets from the header's end
//!         u32 layout_off, layout_len                        where hdr_len >= 32 (v7.1)
//! types   records: u32 name_off, u32 info, u32 size_or_type, then what the kind says;
//!         numbered from 1, or from where the base ends
//! strings NUL-terminated; offset 0 is ""; a module's continue those of its base
//! layout  per kind: u8 info_sz, u8 elem_sz, u16 flags: record = 12 + info_sz + vlen * elem_sz
//!
//! info    bits 0..=23 vlen (0..=15 before v7.1, the others zero), 24..=30 kind, 31 kind_flag
//! ```
//!
//! Everything that a record refers to is checked here: records end inside the section, names are
//! in the string section, type numbers exist. Loops among types are left to the readers.

use std::sync::{Arc, OnceLock};

use super::Btf;
use super::types::Kind;

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
const HEADER_WITH_LAYOUT: usize = 32;
pub(super) const RECORD: usize = 12;

/// Why a blob is not BTF.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// The blob ends before the header does.
    #[error("BTF header is cut off: {len} bytes")]
    ShortHeader {
        /// Bytes there are.
        len: usize,
    },
    /// It is something else.
    #[error("not BTF: magic {magic:#x}, version {version}")]
    Magic {
        /// Where 0xeb9f should be.
        magic: u16,
        /// Where 1 should be.
        version: u8,
    },
    /// A section is not in the blob.
    #[error("BTF {section} section at {offset:#x}+{len:#x} is outside of its {blob:#x} bytes")]
    Section {
        /// "type", "string" or "layout".
        section: &'static str,
        /// From the end of the header.
        offset: u32,
        /// Its length.
        len: u32,
        /// The length of the blob.
        blob: usize,
    },
    /// The string section does not begin or end with NUL, or is no text.
    #[error("BTF strings are malformed: {0}")]
    Strings(&'static str),
    /// A type's record is not what the format allows.
    #[error("BTF type {id} is malformed: {reason}")]
    Type {
        /// Its number.
        id: u32,
        /// What is wrong.
        reason: &'static str,
    },
    /// A module uses a type that this vmlinux does not have.
    #[error("module BTF does not fit vmlinux: {name:?} ({reason})")]
    Base {
        /// The type in the module's `.BTF.base`.
        name: String,
        /// Why it has no counterpart.
        reason: &'static str,
    },
}

pub(super) fn parse(data: Vec<u8>, base: Option<Arc<Btf>>) -> Result<Btf, BtfError> {
    let header = Header::read(&data)?;
    let strings = header.section(&data, "string", header.strings)?;
    check_strings(&data[strings.clone()], base.is_some())?;
    let types = header.section(&data, "type", header.types)?;
    let layout = match header.layout {
        Some(layout) => header.section(&data, "layout", layout)?,
        None => 0..0,
    };
    let first_id = base.as_ref().map_or(1, |base| base.end_id());
    let first_string = base.as_ref().map_or(0, |base| base.end_string());
    if first_string.checked_add(strings.len() as u32).is_none() {
        return Err(BtfError::Strings("more than 4 GiB"));
    }
    let offsets = walk(&data, types, &data[layout], first_id)?;
    let btf = Btf {
        data,
        offsets,
        first_id,
        strings,
        first_string,
        base,
        names: OnceLock::new(),
        percpu: OnceLock::new(),
        enum_signs: OnceLock::new(),
    };
    btf.check_references()?;
    Ok(btf)
}

struct Header {
    len: usize,
    types: (u32, u32),
    strings: (u32, u32),
    layout: Option<(u32, u32)>,
}

impl Header {
    fn read(data: &[u8]) -> Result<Header, BtfError> {
        let short = BtfError::ShortHeader { len: data.len() };
        let Some(header) = data.get(..HEADER) else { return Err(short) };
        let (magic, version) = (u16::from_le_bytes([header[0], header[1]]), header[2]);
        if magic != MAGIC || version != 1 {
            return Err(BtfError::Magic { magic, version });
        }
        let word = |at| read_u32(data, at).unwrap_or_default();
        let len = word(4) as usize;
        if len < HEADER || len > data.len() {
            return Err(short);
        }
        Ok(Header {
            len,
            types: (word(8), word(12)),
            strings: (word(16), word(20)),
            layout: (len >= HEADER_WITH_LAYOUT).then(|| (word(24), word(28))),
        })
    }

    fn section(
        &self,
        data: &[u8],
        section: &'static str,
        (offset, len): (u32, u32),
    ) -> Result<std::ops::Range<usize>, BtfError> {
        let start = self.len + offset as usize;
        let end = start + len as usize;
        if end > data.len() {
            return Err(BtfError::Section { section, offset, len, blob: data.len() });
        }
        Ok(start..end)
    }
}

fn check_strings(strings: &[u8], split: bool) -> Result<(), BtfError> {
    match (strings.first(), strings.last()) {
        (None, None) if split => return Ok(()),
        (_, Some(0)) => {}
        _ => return Err(BtfError::Strings("the last one does not end")),
    }
    if !split && strings.first() != Some(&0) {
        return Err(BtfError::Strings("the first one is not empty"));
    }
    match std::str::from_utf8(strings) {
        Ok(_) => Ok(()),
        Err(_) => Err(BtfError::Strings("they are not UTF-8")),
    }
}

/// The offset of every record.
fn walk(
    data: &[u8],
    types: std::ops::Range<usize>,
    layout: &[u8],
    first_id: u32,
) -> Result<Vec<u32>, BtfError> {
    let section = &data[..types.end];
    // Most records are followed by something: an average above 24 bytes in real kernels.
    let mut offsets = Vec::with_capacity(types.len() / 24);
    let mut at = types.start;
    while at < types.end {
        let id = u32::try_from(offsets.len()).ok().and_then(|n| first_id.checked_add(n));
        let (Some(id), Ok(offset)) = (id, u32::try_from(at)) else {
            return Err(BtfError::Type { id: first_id, reason: "there are more than 2^32" });
        };
        let fail = |reason| BtfError::Type { id, reason };
        let info = read_u32(section, at + 4).filter(|_| at + RECORD <= types.end);
        let info = info.ok_or(fail("its record is cut off"))?;
        let extra = extra_len(info, layout).ok_or(fail("its kind is unknown"))?;
        at += RECORD + extra;
        if at > types.end {
            return Err(fail("its members are cut off"));
        }
        offsets.push(offset);
    }
    offsets.shrink_to_fit();
    Ok(offsets)
}

/// Bytes that follow the twelve of each record.
fn extra_len(info: u32, layout: &[u8]) -> Option<usize> {
    let vlen = vlen(info);
    Some(match Kind::new(kind_number(info)) {
        Kind::Int | Kind::Var | Kind::DeclTag => 4,
        Kind::Array => 12,
        Kind::Struct | Kind::Union | Kind::Datasec | Kind::Enum64 => vlen * 12,
        Kind::Enum | Kind::FuncProto => vlen * 8,
        Kind::Ptr
        | Kind::Fwd
        | Kind::Typedef
        | Kind::Volatile
        | Kind::Const
        | Kind::Restrict
        | Kind::Func
        | Kind::Float
        | Kind::TypeTag => 0,
        Kind::Void => return None,
        // A kind of the future can be stepped over if the blob says how.
        Kind::Unknown => {
            let entry = layout.get(kind_number(info) as usize * 4..)?.get(..4)?;
            usize::from(entry[0]) + vlen * usize::from(entry[1])
        }
    })
}

/// What follows a record and refers to something.
pub(super) struct Elements {
    pub(super) size: usize,
    pub(super) count: usize,
    /// Where in an element the numbers of types are,
    pub(super) types: &'static [usize],
    /// and where names.
    pub(super) names: &'static [usize],
}

impl Elements {
    pub(super) fn of(kind: Kind, info: u32) -> Elements {
        let count = vlen(info);
        match kind {
            Kind::Struct | Kind::Union => Elements { size: 12, count, types: &[4], names: &[0] },
            Kind::FuncProto => Elements { size: 8, count, types: &[4], names: &[0] },
            Kind::Datasec => Elements { size: 12, count, types: &[0], names: &[] },
            Kind::Array => Elements { size: 12, count: 1, types: &[0, 4], names: &[] },
            Kind::Enum => Elements { size: 8, count, types: &[], names: &[0] },
            Kind::Enum64 => Elements { size: 12, count, types: &[], names: &[0] },
            _ => Elements { size: 0, count: 0, types: &[], names: &[] },
        }
    }
}

pub(super) fn kind_number(info: u32) -> u32 {
    info >> 24 & 0x7f
}

pub(super) fn vlen(info: u32) -> usize {
    (info & 0xff_ffff) as usize
}

pub(super) fn read_u32(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

impl Btf {
    /// Names and numbers in every record exist.
    fn check_references(&self) -> Result<(), BtfError> {
        let (end_id, end_string) = (self.end_id(), self.end_string());
        for (&offset, id) in self.offsets.iter().zip(self.first_id..) {
            let at = offset as usize;
            let record = &self.data[at..][..RECORD];
            let word = |at| read_u32(record, at).unwrap_or(u32::MAX);
            let (name, info, target) = (word(0), word(4), word(8));
            let kind = Kind::new(kind_number(info));
            // Kinds that nobody here reads may use the words as they like.
            if kind == Kind::Unknown {
                continue;
            }
            if name >= end_string && name != 0 {
                return Err(BtfError::Type { id, reason: "its name is outside of the strings" });
            }
            let dangling =
                || BtfError::Type { id, reason: "it refers to a type that is not there" };
            if kind.has_target() && target >= end_id {
                return Err(dangling());
            }
            let elements = Elements::of(kind, info);
            let data = &self.data[at + RECORD..][..elements.size * elements.count];
            for element in data.chunks_exact(elements.size.max(1)) {
                let outside = |at: &usize, end| read_u32(element, *at).is_none_or(|it| it >= end);
                if elements.types.iter().any(|at| outside(at, end_id)) {
                    return Err(dangling());
                }
                if elements.names.iter().any(|at| outside(at, end_string)) {
                    let reason = "a member's name is outside of the strings";
                    return Err(BtfError::Type { id, reason });
                }
            }
        }
        Ok(())
    }
}
