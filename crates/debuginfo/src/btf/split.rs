//! Fitting a module's types to a vmlinux that it was not built with.
//!
//! A module file built out of tree has, besides `.BTF` (split BTF), a section `.BTF.base`: BTF that
//! holds of vmlinux only what the module uses, by name: base types and enums with their size,
//! structs and unions with their size but no members, forward declarations (v6.11, 58e185a0dc35;
//! tools/lib/bpf/btf_relocate.c reads it, as does the kernel when it loads the module). The
//! module's numbers and string offsets continue those of `.BTF.base`; here each is replaced by the
//! one that the real vmlinux has, and the rest moved behind the real base.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::parse::{Elements, RECORD, kind_number, read_u32};
use super::types::{Kind, Type};
use super::{Btf, BtfError};
use crate::name_index;

pub(super) fn parse(
    data: Vec<u8>,
    distilled_base: Vec<u8>,
    base: &Arc<Btf>,
) -> Result<Btf, BtfError> {
    let distilled = Arc::new(Btf::parse(distilled_base)?);
    let split = Btf::parse_split(data, &distilled)?;
    let relocation = Relocation::new(&split, &distilled, base)?;
    let data = relocation.apply(&split)?;
    Btf::parse_split(data, base)
}

/// From numbers and strings of the module as built to those on top of the real vmlinux.
struct Relocation {
    /// Per distilled type, its counterpart.
    types: Vec<u32>,
    /// From the offset of a distilled type's name to the counterpart's.
    strings: HashMap<u32, u32>,
    distilled_end: (u32, u32),
    base_end: (u32, u32),
}

impl Relocation {
    fn new(split: &Btf, distilled: &Btf, base: &Btf) -> Result<Relocation, BtfError> {
        let embedded = embedded(split, distilled.end_id());
        let mut types = vec![0];
        let mut strings = HashMap::new();
        for ty in distilled.types() {
            let found = counterpart(ty, base, embedded.contains(&ty.id()))?;
            strings.insert(ty.name_offset(), found.name_offset());
            types.push(found.id());
        }
        Ok(Relocation {
            types,
            strings,
            distilled_end: (distilled.end_id(), distilled.end_string()),
            base_end: (base.end_id(), base.end_string()),
        })
    }

    fn apply(&self, split: &Btf) -> Result<Vec<u8>, BtfError> {
        let mut data = split.data.clone();
        let mut rewrite = |at: usize, moved: Option<u32>, id: u32, reason: &'static str| {
            let moved = moved.ok_or(BtfError::Type { id, reason })?;
            if let Some(word) = data.get_mut(at..at + 4) {
                word.copy_from_slice(&moved.to_le_bytes());
            }
            Ok(())
        };
        let no_type = "its target has no place behind vmlinux's types";
        let no_name = "its name is not in vmlinux";
        for (&offset, id) in split.offsets.iter().zip(split.first_id..) {
            let at = offset as usize;
            let word = |at| read_u32(&split.data, at).unwrap_or_default();
            let info = word(at + 4);
            let kind = Kind::new(kind_number(info));
            if kind == Kind::Unknown {
                let reason = "its kind is unknown, so that it can't be fitted to vmlinux";
                return Err(BtfError::Type { id, reason });
            }
            rewrite(at, self.string(word(at)), id, no_name)?;
            if kind.has_target() {
                rewrite(at + 8, self.ty(word(at + 8)), id, no_type)?;
            }
            let elements = Elements::of(kind, info);
            for index in 0..elements.count {
                let element = at + RECORD + index * elements.size;
                for place in elements.types {
                    rewrite(element + place, self.ty(word(element + place)), id, no_type)?;
                }
                for place in elements.names {
                    rewrite(element + place, self.string(word(element + place)), id, no_name)?;
                }
            }
        }
        Ok(data)
    }

    fn ty(&self, id: u32) -> Option<u32> {
        match id.checked_sub(self.distilled_end.0) {
            Some(own) => self.base_end.0.checked_add(own),
            None => self.types.get(id as usize).copied(),
        }
    }

    fn string(&self, offset: u32) -> Option<u32> {
        match offset.checked_sub(self.distilled_end.1) {
            _ if offset == 0 => Some(0),
            Some(own) => self.base_end.1.checked_add(own),
            None => self.strings.get(&offset).copied(),
        }
    }
}

/// Structs of vmlinux that a struct of the module contains: of these the size has to be right.
fn embedded(split: &Btf, end_of_base: u32) -> HashSet<u32> {
    let inside = |kind: Kind| kind.is_qualifier() || matches!(kind, Kind::Typedef | Kind::Array);
    (split.first_id..split.end_id())
        .flat_map(|id| Type::new(split, id).members())
        .map(|member| member.ty.strip_while(inside))
        .filter(|ty| ty.is_composite() && ty.id() < end_of_base)
        .map(|ty| ty.id())
        .collect()
}

/// The only type of `base` that `wanted` can mean.
fn counterpart<'a>(wanted: Type<'_>, base: &'a Btf, embedded: bool) -> Result<Type<'a>, BtfError> {
    let name = wanted.name();
    let fail = |reason| BtfError::Base { name: name.to_owned(), reason };
    if name.is_empty() {
        return Err(fail("it has no name"));
    }
    let candidates: Vec<Type<'_>> = base
        .names()
        .candidates(name_index::hash(name.as_bytes()))
        .iter()
        .map(|&index| Type::new(base, base.first_id + index))
        .filter(|ty| ty.name() == name && could_be(*ty, wanted))
        .collect();
    let same_size = |ty: &&Type<'_>| ty.size() == wanted.size();
    let sized: Vec<&Type<'_>> = candidates.iter().filter(same_size).collect();
    match (candidates.as_slice(), sized.as_slice()) {
        ([], _) => Err(fail("vmlinux has no such type")),
        // What is only pointed to may have grown; where names are shared the size decides.
        ([one], []) if !embedded && one.is_composite() => Ok(*one),
        ([one], _) if wanted.kind() == Kind::Fwd => Ok(*one),
        (_, [one]) => Ok(**one),
        (_, []) => Err(fail("vmlinux has it with another size")),
        _ => Err(fail("vmlinux has several of this name")),
    }
}

fn could_be(ty: Type<'_>, wanted: Type<'_>) -> bool {
    match (wanted.kind(), ty.kind()) {
        (Kind::Int, Kind::Int) => ty.is_signed() == wanted.is_signed(),
        // In `.BTF.base` all enums are of the one kind.
        (Kind::Enum, Kind::Enum | Kind::Enum64) => true,
        (Kind::Fwd, Kind::Fwd) => ty.flag() == wanted.flag(),
        (Kind::Fwd, Kind::Struct) => !wanted.flag(),
        (Kind::Fwd, Kind::Union) => wanted.flag(),
        (wanted, found) => {
            wanted == found && matches!(found, Kind::Float | Kind::Struct | Kind::Union)
        }
    }
}
