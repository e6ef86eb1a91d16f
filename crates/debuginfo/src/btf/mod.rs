//! BPF Type Format: the types of a kernel or module, as it carries them itself.
//!
//! vmlinux has it between `__start_BTF` and `__stop_BTF` (since v5.2, on by default in today's
//! distributions), a module in `btf_module.data`. Source: include/uapi/linux/btf.h,
//! Documentation/bpf/btf.rst.
//!
//! `parse` checks every record once, so that reading a type later can't fail;
//! `types` reads them, `print` and `definition` write them in C, and
//! `split` fits a module's types to a vmlinux that it was not built with.

mod definition;
mod parse;
mod print;
mod split;
mod types;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use crate::name_index::{self, NameIndex};
pub use definition::{DefinitionLine, Part};
pub use parse::BtfError;
pub use print::Declaration;
pub use types::{Enumerator, Kind, Member, MemberRef, Parameter, Type};

/// Types of a vmlinux, or of a module on top of its vmlinux's.
pub struct Btf {
    /// The whole blob as it came.
    data: Vec<u8>,
    /// Where in `data` each own type's record is; the first one has number `first_id`.
    offsets: Vec<u32>,
    first_id: u32,
    /// Own strings in `data`; the first one has offset `first_string`.
    strings: Range<usize>,
    first_string: u32,
    base: Option<Arc<Btf>>,
    names: OnceLock<NameIndex>,
    percpu: OnceLock<HashMap<u32, u32>>,
    enum_signs: OnceLock<bool>,
}

impl Btf {
    /// Parses the BTF of a vmlinux.
    pub fn parse(data: Vec<u8>) -> Result<Btf, BtfError> {
        parse::parse(data, None)
    }

    /// Parses the BTF of a module: its types and strings continue those of `base`. What lies in
    /// memory has been fitted to the running vmlinux when the module was loaded.
    pub fn parse_split(data: Vec<u8>, base: &Arc<Btf>) -> Result<Btf, BtfError> {
        parse::parse(data, Some(Arc::clone(base)))
    }

    /// Parses the BTF of a module file that was built against another vmlinux and has, in its
    /// section `.BTF.base`, a digest of what it used of that (since v6.11). See
    /// `split`.
    pub fn parse_split_distilled(
        data: Vec<u8>,
        distilled_base: Vec<u8>,
        base: &Arc<Btf>,
    ) -> Result<Btf, BtfError> {
        split::parse(data, distilled_base, base)
    }

    /// A type by name. "struct foo", "union foo", "enum foo" mean what they say; a bare name is
    /// looked for as a struct, then union, typedef, enum and base type. C's spelling of an integer
    /// ("unsigned long") serves as well as DWARF's ("long unsigned int").
    pub fn find(&self, name: &str) -> Option<Type<'_>> {
        let (kinds, name): (&[&[Kind]], &str) = match name.trim().split_once(' ') {
            Some(("struct", name)) => (&[&[Kind::Struct]], name.trim()),
            Some(("union", name)) => (&[&[Kind::Union]], name.trim()),
            Some(("enum", name)) => (&[&[Kind::Enum, Kind::Enum64]], name.trim()),
            _ => (
                &[
                    &[Kind::Struct],
                    &[Kind::Union],
                    &[Kind::Typedef],
                    &[Kind::Enum, Kind::Enum64],
                    &[Kind::Int, Kind::Float],
                ],
                name.trim(),
            ),
        };
        let find = |name| kinds.iter().find_map(|kinds| self.find_kind(name, kinds));
        find(name).or_else(|| find(types::dwarf_spelling(name)?))
    }

    /// The type with this number; 0 is `void`.
    pub fn ty(&self, id: u32) -> Option<Type<'_>> {
        (id < self.end_id()).then(|| Type::new(self, id))
    }

    /// The type of a variable. BTF has per-CPU variables, and others only where pahole was told to
    /// write them.
    pub fn variable(&self, name: &str) -> Option<Type<'_>> {
        self.find_kind(name, &[Kind::Var])?.target()
    }

    /// The prototype of a function.
    pub fn function(&self, name: &str) -> Option<Type<'_>> {
        self.find_kind(name, &[Kind::Func])?.target()
    }

    /// Whether there is a per-CPU variable of this name.
    pub fn is_percpu_variable(&self, name: &str) -> bool {
        self.find_kind(name, &[Kind::Var]).is_some_and(|var| self.is_percpu(var.id()))
    }

    /// Where a per-CPU variable of this name is in the section of such variables.
    pub fn percpu_offset(&self, name: &str) -> Option<u64> {
        let id = self.find_kind(name, &[Kind::Var])?.id();
        if let Some(base) = self.base.as_ref().filter(|_| id < self.first_id) {
            return base.percpu_offset(name);
        }
        self.percpu().get(&id).map(|offset| u64::from(*offset))
    }

    /// All types by number, those of the base first, `void` left out.
    pub fn types(&self) -> impl Iterator<Item = Type<'_>> {
        (1..self.end_id()).map(|id| Type::new(self, id))
    }

    /// How many types there are, `void` included: one more than the highest number.
    pub fn len(&self) -> usize {
        self.end_id() as usize
    }

    /// Whether there is no type but `void`.
    pub fn is_empty(&self) -> bool {
        self.end_id() <= 1
    }

    /// What this module's types are based on.
    pub fn base(&self) -> Option<&Arc<Btf>> {
        self.base.as_ref()
    }

    fn end_id(&self) -> u32 {
        self.first_id + self.offsets.len() as u32
    }

    fn end_string(&self) -> u32 {
        self.first_string + self.strings.len() as u32
    }

    /// The string at an offset of the string space, "" if there is none.
    fn string(&self, offset: u32) -> &str {
        let Some(own) = offset.checked_sub(self.first_string) else {
            return self.base.as_ref().map_or("", |base| base.string(offset));
        };
        let strings = &self.data[self.strings.clone()];
        let rest = strings.get(own as usize..).unwrap_or_default();
        let len = memchr::memchr(0, rest).unwrap_or(rest.len());
        std::str::from_utf8(&rest[..len]).unwrap_or_default()
    }

    fn find_kind(&self, name: &str, kinds: &[Kind]) -> Option<Type<'_>> {
        let own = self.names().candidates(name_index::hash(name.as_bytes())).iter();
        let found = own
            .map(|&index| Type::new(self, self.first_id + index))
            .find(|ty| kinds.contains(&ty.kind()) && ty.name() == name);
        // A type of the base is looked at through this Btf: its number is the same here.
        found.or_else(|| {
            let id = self.base.as_ref()?.find_kind(name, kinds)?.id();
            Some(Type::new(self, id))
        })
    }

    fn names(&self) -> &NameIndex {
        self.names.get_or_init(|| {
            let hashes: Vec<Option<u32>> = (0..self.offsets.len() as u32)
                .into_par_iter()
                .with_min_len(4096)
                .map(|index| {
                    let name = Type::new(self, self.first_id + index).name();
                    (!name.is_empty()).then(|| name_index::hash(name.as_bytes()))
                })
                .collect();
            NameIndex::new(&hashes)
        })
    }

    /// Whether who wrote this set the flag of enums with negative constants: some have them.
    fn knows_signs_of_enums(&self) -> bool {
        if let Some(base) = &self.base {
            return base.knows_signs_of_enums();
        }
        *self.enum_signs.get_or_init(|| {
            let signed =
                |ty: &Type<'_>| matches!(ty.kind(), Kind::Enum | Kind::Enum64) && ty.flag();
            self.types().any(|ty| ty.kind() == Kind::Enum64 || signed(&ty))
        })
    }

    fn is_percpu(&self, id: u32) -> bool {
        if let Some(base) = self.base.as_ref().filter(|_| id < self.first_id) {
            return base.is_percpu(id);
        }
        self.percpu().contains_key(&id)
    }

    /// Per-CPU variables of this BTF alone, with their offsets in the section.
    fn percpu(&self) -> &HashMap<u32, u32> {
        self.percpu.get_or_init(|| {
            (self.first_id..self.end_id())
                .map(|id| Type::new(self, id))
                .filter(|ty| ty.kind() == Kind::Datasec && ty.name().starts_with(".data..percpu"))
                .flat_map(|section| section.section_variables())
                .collect()
        })
    }
}

impl std::fmt::Debug for Btf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Btf")
            .field("types", &(self.first_id..self.end_id()))
            .field("strings", &(self.first_string..self.end_string()))
            .finish_non_exhaustive()
    }
}
