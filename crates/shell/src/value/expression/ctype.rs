//! Types of expressions: those of the dump, and what C makes of them.

use kmortem_debuginfo::btf::{Kind, Type};

/// A type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum CType<'k> {
    /// One of the dump's.
    Known(Type<'k>),
    /// An integer of C: a literal's, or a result's.
    Integer {
        size: u64,
        signed: bool,
    },
    /// A floating-point number of 8 bytes.
    Double,
    Void,
    /// A symbol's whose type is not in the dump.
    Unknown(String),
    Pointer(Box<CType<'k>>),
    Array(Box<CType<'k>>, u64),
    /// With `const ` or `volatile ` before it.
    Qualified(String, Box<CType<'k>>),
}

/// What a type comes down to.
pub(crate) enum Shape<'k> {
    Integer {
        size: u64,
        signed: bool,
    },
    Float {
        size: u64,
    },
    Pointer(CType<'k>),
    Array(CType<'k>),
    Record(Type<'k>),
    Function,
    Void,
    /// Declared only, or nothing that has values.
    Other,
}

impl<'k> CType<'k> {
    /// Its name: `struct task_struct *`, `char (*)[16]`.
    pub(crate) fn name(&self) -> String {
        self.declare(String::new())
    }

    /// A declaration around `declarator`.
    pub(crate) fn declare(&self, declarator: String) -> String {
        let named = |name: &str, declarator: String| match declarator.as_str() {
            "" => name.to_owned(),
            _ => format!("{name} {declarator}"),
        };
        match self {
            CType::Known(ty) => ty.member_declaration(&declarator).to_string(),
            CType::Integer { size, signed } => named(integer_name(*size, *signed), declarator),
            CType::Double => named("double", declarator),
            CType::Void => named("void", declarator),
            CType::Unknown(_) => named("<no type in the dump>", declarator),
            CType::Pointer(to) if to.is_derived() => to.declare(format!("(*{declarator})")),
            CType::Pointer(to) => to.declare(format!("*{declarator}")),
            CType::Array(of, 0) => of.declare(format!("{declarator}[]")),
            CType::Array(of, len) => of.declare(format!("{declarator}[{len}]")),
            CType::Qualified(words, of) => format!("{words}{}", of.declare(declarator)),
        }
    }

    /// Whether a `*` before the declarator needs parentheses.
    fn is_derived(&self) -> bool {
        match self {
            CType::Known(ty) => {
                matches!(ty.kind(), Kind::Array | Kind::FuncProto | Kind::Func)
            }
            CType::Array(..) => true,
            CType::Qualified(_, of) => of.is_derived(),
            _ => false,
        }
    }

    /// Its size in bytes, if it has one.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            CType::Known(ty) => ty.size(),
            CType::Integer { size, .. } => Some(*size),
            CType::Double | CType::Pointer(_) => Some(8),
            CType::Void | CType::Unknown(_) => None,
            CType::Array(of, len) => of.size()?.checked_mul(*len),
            CType::Qualified(_, of) => of.size(),
        }
    }

    pub(crate) fn shape(&self) -> Shape<'k> {
        match self {
            CType::Integer { size, signed } => Shape::Integer { size: *size, signed: *signed },
            CType::Double => Shape::Float { size: 8 },
            CType::Void => Shape::Void,
            CType::Unknown(_) => Shape::Other,
            CType::Pointer(to) => Shape::Pointer((**to).clone()),
            CType::Array(of, _) => Shape::Array((**of).clone()),
            CType::Qualified(_, of) => of.shape(),
            CType::Known(ty) => {
                let ty = ty.strip();
                let size = ty.size().unwrap_or(0);
                let target = || ty.target().map_or(CType::Void, CType::of);
                match ty.kind() {
                    Kind::Int | Kind::Enum | Kind::Enum64 => {
                        Shape::Integer { size, signed: ty.is_signed() }
                    }
                    Kind::Float => Shape::Float { size },
                    Kind::Ptr => Shape::Pointer(target()),
                    Kind::Array => Shape::Array(target()),
                    Kind::Struct | Kind::Union => Shape::Record(ty),
                    Kind::Func | Kind::FuncProto => Shape::Function,
                    Kind::Void => Shape::Void,
                    _ => Shape::Other,
                }
            }
        }
    }

    /// A type of the dump; `void` has no record there.
    pub(crate) fn of(ty: Type<'k>) -> CType<'k> {
        if ty.kind() == Kind::Void { CType::Void } else { CType::Known(ty) }
    }

    pub(crate) fn pointer(self) -> CType<'k> {
        CType::Pointer(Box::new(self))
    }

    pub(crate) fn is_record(&self) -> bool {
        matches!(self.shape(), Shape::Record(_))
    }

    /// Whether gdb leaves the type out where it shows a pointer to it: `char`, const or not.
    pub(crate) fn is_plain_char(&self) -> bool {
        match self {
            CType::Known(ty) => match ty.kind() {
                Kind::Const | Kind::Volatile => ty.strip().name() == "char",
                _ => ty.name() == "char",
            },
            CType::Qualified(_, of) => of.is_plain_char(),
            _ => false,
        }
    }
}

fn integer_name(size: u64, signed: bool) -> &'static str {
    match (size, signed) {
        (1, true) => "signed char",
        (1, false) => "unsigned char",
        (2, true) => "short",
        (2, false) => "unsigned short",
        (4, true) => "int",
        (4, false) => "unsigned int",
        (_, true) => "long",
        (_, false) => "unsigned long",
    }
}
