//! Reading types: what a record says, and what follows from it.
//!
//! After the twelve bytes of a record comes, by kind (include/uapi/linux/btf.h):
//!
//! | kind          | what follows                                       | size_or_type |
//! |---------------|----------------------------------------------------|--------------|
//! | INT           | u32: encoding <<24, offset <<16, bits              | size |
//! | ARRAY         | u32 type, index_type, nelems                       | - |
//! | STRUCT, UNION | vlen x {u32 name, type, offset}                    | size |
//! | ENUM          | vlen x {u32 name, i32 value}                       | size |
//! | ENUM64 (v6.0) | vlen x {u32 name, low, high}                       | size |
//! | FUNC_PROTO    | vlen x {u32 name, type}                            | return type |
//! | VAR           | u32 linkage                                        | type |
//! | DATASEC       | vlen x {u32 type, offset, size}                    | size |
//! | DECL_TAG      | i32 component                                      | type |
//! | FWD           | - (kind_flag: union)                               | - |
//! | PTR, TYPEDEF, CONST, VOLATILE, RESTRICT, FUNC, TYPE_TAG | -        | type |
//!
//! A member's offset counts bits; with the struct's kind_flag its upper eight bits are the width
//! of a bitfield (0: none). Without it a bitfield is a member of an INT of odd width.

use std::fmt;

use super::Btf;
use super::parse::{RECORD, kind_number, read_u32, vlen};

/// Longer chains of typedefs, qualifiers and arrays than this are loops.
pub(super) const MAX_CHAIN: usize = 32;

/// More anonymous members than this in one struct are none that a compiler has seen.
const MAX_ANONYMOUS: usize = 4096;

/// `BTF_INT_SIGNED`
const INT_SIGNED: u32 = 1;

/// What a type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[allow(missing_docs)] // the format's own names
pub enum Kind {
    Void,
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
    /// Newer than this code; stepped over.
    Unknown,
}

impl Kind {
    pub(super) fn new(number: u32) -> Kind {
        const KINDS: [Kind; 20] = [
            Kind::Void,
            Kind::Int,
            Kind::Ptr,
            Kind::Array,
            Kind::Struct,
            Kind::Union,
            Kind::Enum,
            Kind::Fwd,
            Kind::Typedef,
            Kind::Volatile,
            Kind::Const,
            Kind::Restrict,
            Kind::Func,
            Kind::FuncProto,
            Kind::Var,
            Kind::Datasec,
            Kind::Float,
            Kind::DeclTag,
            Kind::TypeTag,
            Kind::Enum64,
        ];
        KINDS.get(number as usize).copied().unwrap_or(Kind::Unknown)
    }

    /// Whether `size_or_type` is a type.
    pub(super) fn has_target(self) -> bool {
        matches!(
            self,
            Kind::Ptr
                | Kind::Typedef
                | Kind::Volatile
                | Kind::Const
                | Kind::Restrict
                | Kind::Func
                | Kind::FuncProto
                | Kind::Var
                | Kind::DeclTag
                | Kind::TypeTag
        )
    }

    /// const, volatile, restrict, or a tag such as `__rcu`: same object, other manners.
    pub(super) fn is_qualifier(self) -> bool {
        matches!(self, Kind::Const | Kind::Volatile | Kind::Restrict | Kind::TypeTag)
    }
}

/// A type of a [`Btf`].
#[derive(Clone, Copy)]
pub struct Type<'a> {
    btf: &'a Btf,
    id: u32,
}

/// A member of a struct or union.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// "" if anonymous.
    pub name: &'a str,
    /// Its type.
    pub ty: Type<'a>,
    /// From the start of the struct.
    pub bit_offset: u64,
    /// Its width, of bitfields only.
    pub bit_size: Option<u32>,
}

/// Where a path through members ends.
#[derive(Clone, Copy, Debug)]
pub struct MemberRef<'a> {
    /// From the start of the outermost struct.
    pub bit_offset: u64,
    /// Its width, of bitfields only.
    pub bit_size: Option<u32>,
    /// What is there.
    pub ty: Type<'a>,
}

/// A parameter of a function.
#[derive(Clone, Copy, Debug)]
pub struct Parameter<'a> {
    /// "" if the prototype has no name for it.
    pub name: &'a str,
    /// Its type; `void` for the `...` at the end.
    pub ty: Type<'a>,
}

/// A constant of an enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enumerator<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value; of an unsigned 64-bit enum the same bits.
    pub value: i64,
}

impl<'a> Type<'a> {
    /// `id` must exist in `btf`.
    pub(super) fn new(btf: &'a Btf, id: u32) -> Type<'a> {
        Type { btf, id }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The types it was found among.
    pub fn btf(&self) -> &'a Btf {
        self.btf
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        Kind::new(kind_number(self.word(4)))
    }

    /// Its name, "" if it has none.
    pub fn name(&self) -> &'a str {
        self.btf.string(self.word(0))
    }

    /// Its size in bytes, through typedefs, qualifiers and arrays; `None` for what has no size.
    pub fn size(&self) -> Option<u64> {
        let mut ty = *self;
        let mut count = 1_u64;
        for _ in 0..MAX_CHAIN {
            let one = match ty.kind() {
                Kind::Int
                | Kind::Struct
                | Kind::Union
                | Kind::Enum
                | Kind::Enum64
                | Kind::Float
                | Kind::Datasec => u64::from(ty.word(8)),
                Kind::Ptr => 8,
                Kind::Array => {
                    count = count.checked_mul(ty.array_len()?)?;
                    ty = ty.target()?;
                    continue;
                }
                Kind::Typedef | Kind::Var => {
                    ty = ty.target()?;
                    continue;
                }
                kind if kind.is_qualifier() => {
                    ty = ty.target()?;
                    continue;
                }
                _ => return None,
            };
            return one.checked_mul(count);
        }
        None
    }

    /// The type behind typedefs, qualifiers and tags.
    pub fn strip(&self) -> Type<'a> {
        self.strip_while(|kind| kind == Kind::Typedef || kind.is_qualifier())
    }

    /// What a pointer points to, an array consists of, a typedef, qualifier, variable or tag is
    /// of, a function's prototype, a prototype's result.
    pub fn target(&self) -> Option<Type<'a>> {
        let id = match self.kind() {
            Kind::Array => self.word(RECORD),
            kind if kind.has_target() => self.word(8),
            _ => return None,
        };
        self.btf.ty(id)
    }

    /// The number of elements of an array.
    pub fn array_len(&self) -> Option<u64> {
        (self.kind() == Kind::Array).then(|| u64::from(self.word(RECORD + 8)))
    }

    /// Whether its values have a sign.
    pub fn is_signed(&self) -> bool {
        let ty = self.strip();
        match ty.kind() {
            Kind::Int => ty.word(RECORD) >> 24 & INT_SIGNED != 0,
            // Up to v5.19 (6089fb325cf7) nothing says which enums have negative constants. C takes
            // their constants for `int`.
            Kind::Enum | Kind::Enum64 => ty.flag() || !ty.btf.knows_signs_of_enums(),
            _ => false,
        }
    }

    /// The members of a struct or union, in order; of anything else none.
    pub fn members(&self) -> impl Iterator<Item = Member<'a>> + use<'a> {
        let ty = *self;
        let count = if self.is_composite() { self.vlen() } else { 0 };
        (0..count).map(move |index| ty.member_at(index))
    }

    /// The parameters of a function or prototype.
    pub fn parameters(&self) -> impl Iterator<Item = Parameter<'a>> + use<'a> {
        let proto = if self.kind() == Kind::Func { self.target() } else { Some(*self) };
        let proto = proto.filter(|proto| proto.kind() == Kind::FuncProto).unwrap_or(*self);
        let count = if proto.kind() == Kind::FuncProto { proto.vlen() } else { 0 };
        (0..count).map(move |index| {
            let at = RECORD + index * 8;
            Parameter {
                name: proto.btf.string(proto.word(at)),
                ty: proto.other(proto.word(at + 4)),
            }
        })
    }

    /// The constants of an enum.
    pub fn enumerators(&self) -> impl Iterator<Item = Enumerator<'a>> + use<'a> {
        let ty = *self;
        let kind = ty.kind();
        let count = if matches!(kind, Kind::Enum | Kind::Enum64) { ty.vlen() } else { 0 };
        (0..count).map(move |index| {
            let size = if kind == Kind::Enum { 8 } else { 12 };
            let at = RECORD + index * size;
            let low = ty.word(at + 4);
            let value = match kind {
                Kind::Enum64 => (u64::from(ty.word(at + 8)) << 32 | u64::from(low)) as i64,
                _ if ty.is_signed() => i64::from(low as i32),
                _ => i64::from(low),
            };
            Enumerator { name: ty.btf.string(ty.word(at)), value }
        })
    }

    /// The member at a path such as `a.b`, `a[3].b`; anonymous structs and unions are looked
    /// into, pointers are not followed.
    pub fn member(&self, path: &str) -> Option<MemberRef<'a>> {
        let mut place = MemberRef { bit_offset: 0, bit_size: None, ty: *self };
        for step in path.split('.') {
            let (name, indices) = step.split_at(step.find('[').unwrap_or(step.len()));
            let found = place.ty.strip().find_member(name, 0, &mut { MAX_ANONYMOUS })?;
            place.bit_offset = place.bit_offset.checked_add(found.bit_offset)?;
            place.bit_size = found.bit_size;
            place.ty = found.ty;
            for index in indices.split_terminator(']') {
                let index: u64 = index.strip_prefix('[')?.trim().parse().ok()?;
                let array = place.ty.strip();
                // 0 elements: a flexible array.
                if array.array_len().is_none_or(|len| len != 0 && index >= len) {
                    return None;
                }
                place.ty = array.target()?;
                let bits = place.ty.size()?.checked_mul(8)?.checked_mul(index)?;
                place.bit_offset = place.bit_offset.checked_add(bits)?;
            }
        }
        Some(place)
    }

    pub(super) fn name_offset(&self) -> u32 {
        self.word(0)
    }

    pub(super) fn is_composite(&self) -> bool {
        matches!(self.kind(), Kind::Struct | Kind::Union)
    }

    /// `kind_flag`: what it means depends on the kind.
    pub(super) fn flag(&self) -> bool {
        self.word(4) >> 31 != 0
    }

    pub(super) fn vlen(&self) -> usize {
        vlen(self.word(4))
    }

    pub(super) fn strip_while(&self, strip: impl Fn(Kind) -> bool) -> Type<'a> {
        let mut ty = *self;
        for _ in 0..MAX_CHAIN {
            match ty.target().filter(|_| strip(ty.kind())) {
                Some(target) => ty = target,
                None => break,
            }
        }
        ty
    }

    /// The variables of a section: (number, offset in it).
    pub(super) fn section_variables(&self) -> impl Iterator<Item = (u32, u32)> + use<'a> {
        let ty = *self;
        let count = if ty.kind() == Kind::Datasec { ty.vlen() } else { 0 };
        (0..count)
            .map(move |index| (ty.word(RECORD + index * 12), ty.word(RECORD + index * 12 + 4)))
    }

    fn member_at(&self, index: usize) -> Member<'a> {
        let at = RECORD + index * 12;
        let offset = self.word(at + 8);
        let mut member = Member {
            name: self.btf.string(self.word(at)),
            ty: self.other(self.word(at + 4)),
            bit_offset: u64::from(offset),
            bit_size: None,
        };
        if self.flag() {
            member.bit_offset = u64::from(offset & 0xff_ffff);
            member.bit_size = Some(offset >> 24).filter(|&bits| bits != 0);
        } else {
            let int = member.ty.strip();
            if int.kind() == Kind::Int {
                let encoded = int.word(RECORD);
                let (shift, bits) = (encoded >> 16 & 0xff, encoded & 0xff);
                if shift != 0 || bits != int.word(8).wrapping_mul(8) {
                    member.bit_offset += u64::from(shift);
                    member.bit_size = Some(bits);
                }
            }
        }
        member
    }

    /// `left`: how many more anonymous members may be looked into. Nested in each other they could
    /// otherwise take time without end.
    fn find_member(&self, name: &str, depth: usize, left: &mut usize) -> Option<Member<'a>> {
        if name.is_empty() || depth > MAX_CHAIN {
            return None;
        }
        let mut found = None;
        for member in self.members() {
            if member.name == name {
                return Some(member);
            }
            if member.name.is_empty() && found.is_none() {
                *left = left.checked_sub(1)?;
                let inner = member.ty.strip().find_member(name, depth + 1, left);
                found = inner.map(|inner| Member {
                    bit_offset: member.bit_offset + inner.bit_offset,
                    ..inner
                });
            }
        }
        found
    }

    /// Another type by its number, which the parser has checked.
    fn other(&self, id: u32) -> Type<'a> {
        Type { btf: self.btf, id }
    }

    /// A word of the record; the parser has checked that it is there.
    fn word(&self, at: usize) -> u32 {
        let mut btf = self.btf;
        while let Some(base) = btf.base.as_deref().filter(|_| self.id < btf.first_id) {
            btf = base;
        }
        let index = self.id.checked_sub(btf.first_id);
        let offset = index.and_then(|index| btf.offsets.get(index as usize));
        // `void` has no record: all zero.
        offset.and_then(|&offset| read_u32(&btf.data, offset as usize + at)).unwrap_or_default()
    }
}

impl PartialEq for Type<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.btf, other.btf) && self.id == other.id
    }
}

impl Eq for Type<'_> {}

impl fmt::Debug for Type<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {:?} {:?}", self.id, self.kind(), self.name())
    }
}

/// Integer types: as C writes them, and as GCC does in debuginfo.
const SPELLINGS: &[(&str, &str)] = &[
    ("short", "short int"),
    ("unsigned short", "short unsigned int"),
    ("unsigned", "unsigned int"),
    ("long", "long int"),
    ("unsigned long", "long unsigned int"),
    ("long long", "long long int"),
    ("unsigned long long", "long long unsigned int"),
    ("unsigned __int128", "__int128 unsigned"),
    ("bool", "_Bool"),
];

/// What GCC calls an integer type that C writes shorter.
pub(super) fn dwarf_spelling(name: &str) -> Option<&'static str> {
    SPELLINGS.iter().find(|(c, _)| *c == name).map(|(_, dwarf)| *dwarf)
}

/// What C calls an integer type that GCC writes longer.
pub(super) fn c_spelling(name: &str) -> Option<&'static str> {
    let found =
        SPELLINGS.iter().find(|(c, dwarf)| *dwarf == name && !matches!(*c, "unsigned" | "bool"));
    found.map(|(c, _)| *c)
}
