//! Values of expressions: a type, and where its bytes are.

use kmortem_debuginfo::btf::Type;
use kmortem_kernel::Kernel;

use super::Env;
use super::arithmetic::Number;
use super::ctype::{CType, Shape};
use crate::value::bytes::{Bytes, LARGEST};
use crate::value::data::{Text, Value};
use crate::value::read::{Reader, symbol};

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Operand<'k> {
    pub(crate) ty: CType<'k>,
    pub(crate) place: Place,
}

/// Where a value's bytes are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Place {
    /// In memory.
    Memory(u64),
    /// A bitfield: where its struct is, its first bit from there, its width.
    Bits(u64, u64, u32),
    /// Nowhere: a result.
    Computed(Vec<u8>),
    /// A per-CPU variable without its CPU: an offset, and the variable's name.
    PerCpu(u64, String),
}

impl<'k> Operand<'k> {
    /// An integer.
    pub(crate) fn of_integer(bits: u64, size: u64, signed: bool) -> Operand<'k> {
        Operand::computed(CType::Integer { size, signed }, bits, size)
    }

    /// A scalar of type `ty` with these bits.
    pub(crate) fn computed(ty: CType<'k>, bits: u64, size: u64) -> Operand<'k> {
        let bytes = bits.to_le_bytes();
        let bytes = bytes.iter().copied().chain([0; 8]).take(size.min(16) as usize).collect();
        Operand { ty, place: Place::Computed(bytes) }
    }

    /// Where it lies in memory.
    pub(crate) fn address(&self) -> Option<u64> {
        match self.place {
            Place::Memory(addr) => Some(addr),
            _ => None,
        }
    }

    /// Its bytes.
    pub(crate) fn bytes(&self, env: &Env<'_>) -> Result<Bytes, String> {
        let size = self.ty.size().unwrap_or(0);
        if size > LARGEST {
            return Err(format!("{} has {size} bytes, more than is shown", self.ty.name()));
        }
        Ok(match &self.place {
            Place::Memory(addr) => read(env, *addr, size)?,
            Place::Bits(addr, first, width) => {
                let end = (first + u64::from(*width)).div_ceil(8);
                read(env, *addr, end)?
            }
            Place::Computed(bytes) => Bytes::computed(bytes.clone()),
            Place::PerCpu(_, name) => return Err(needs_cpu(env.kernel, name)),
        })
    }

    /// Its value as a number: an array's and a function's is where it is.
    pub(crate) fn number(&self, env: &Env<'_>) -> Result<Number, String> {
        let no_value = || format!("{} is no number", self.ty.name());
        let shape = self.ty.shape();
        if let Place::PerCpu(_, name) = &self.place {
            return Err(needs_cpu(env.kernel, name));
        }
        if let (Shape::Array(..) | Shape::Function, Place::Memory(addr)) = (&shape, &self.place) {
            return Ok(Number::Integer { bits: *addr, size: 8, signed: false });
        }
        if let CType::Unknown(name) = &self.ty {
            return Err(unknown_type(name));
        }
        let (size, signed) = match shape {
            Shape::Integer { size, signed } => (size, signed),
            Shape::Pointer(_) => (8, false),
            Shape::Float { size } => {
                let bits = self.bytes(env)?.integer(0, size)? as u64;
                return match size {
                    4 => Ok(Number::Float(f64::from(f32::from_bits(bits as u32)))),
                    8 => Ok(Number::Float(f64::from_bits(bits))),
                    _ => Err(no_value()),
                };
            }
            _ => return Err(no_value()),
        };
        if !(1..=8).contains(&size) {
            return Err(format!("{} has {size} bytes, too many to calculate with", self.ty.name()));
        }
        let bytes = self.bytes(env)?;
        let bits = match self.place {
            Place::Bits(_, first, width) => {
                let bits = bytes.bits(first, width)? as u64;
                let unused = 64 - width.clamp(1, 64);
                if signed { ((bits << unused) as i64 >> unused) as u64 } else { bits }
            }
            _ => bytes.integer(0, size)? as u64,
        };
        Ok(Number::Integer { bits, size, signed }.truncated())
    }

    /// Its value as an integer, extended by its sign.
    pub(crate) fn integer(&self, env: &Env<'_>) -> Result<u64, String> {
        match self.number(env)? {
            Number::Integer { bits, size, signed } => {
                Ok(super::arithmetic::extend(bits, size, signed))
            }
            Number::Float(number) => Ok(number as i64 as u64),
        }
    }

    /// The value to show.
    pub(crate) fn value(&self, env: &Env<'_>, reader: &mut Reader<'_>) -> Result<Value, String> {
        if let CType::Unknown(name) = &self.ty {
            return Err(unknown_type(name));
        }
        if matches!(self.ty.shape(), Shape::Void) {
            return Err("void has no value".to_owned());
        }
        if matches!(self.ty.shape(), Shape::Function) {
            let addr = self.address().unwrap_or(0);
            let symbol = symbol(env.kernel, addr);
            return Ok(Value::Function { addr, ty: self.ty.name(), symbol });
        }
        let bytes = self.bytes(env)?;
        if let Some(why) = bytes.nothing() {
            return Err(why.to_owned());
        }
        Ok(value_of(&self.ty, &self.place, &bytes, 0, reader))
    }

    /// What gdb writes before a pointer's value: its type in parentheses.
    pub(crate) fn heading(&self) -> Option<String> {
        match self.ty.shape() {
            Shape::Pointer(to) if !to.is_plain_char() || self.has_name() => {
                Some(format!("({}) ", self.ty.name()))
            }
            _ => None,
        }
    }

    fn has_name(&self) -> bool {
        matches!(&self.ty, CType::Known(ty) if !ty.name().is_empty())
    }
}

fn value_of(
    ty: &CType<'_>,
    place: &Place,
    bytes: &Bytes,
    offset: u64,
    reader: &mut Reader<'_>,
) -> Value {
    let scalar = |len| bytes.integer(offset, len);
    match ty {
        CType::Known(ty) => match place {
            Place::Bits(_, first, width) => reader.value(*ty, bytes, *first, Some(*width)),
            _ => reader.value(*ty, bytes, offset.saturating_mul(8), None),
        },
        CType::Integer { size, signed } => match scalar(*size) {
            Ok(bits) => reader.integer(bits, *size, *signed),
            Err(why) => Value::Unreadable(why),
        },
        CType::Double => match scalar(8) {
            Ok(bits) => Value::Float(f64::from_bits(bits as u64)),
            Err(why) => Value::Unreadable(why),
        },
        CType::Pointer(to) => match scalar(8) {
            Ok(bits) => reader.pointer(bits as u64, to.known()),
            Err(why) => Value::Unreadable(why),
        },
        CType::Qualified(_, of) => value_of(of, place, bytes, offset, reader),
        // Of a length that is not known: where it begins.
        CType::Array(of, 0) => match bytes.address(offset) {
            Some(addr) => reader.pointer(addr, of.known()),
            None => Value::Array { elements: Vec::new(), len: 0 },
        },
        CType::Array(of, len) => {
            let size = of.size().unwrap_or(0);
            if of.is_character() {
                let shown = (*len).min(reader.most());
                return match bytes.get(offset, shown) {
                    Ok(bytes) => {
                        let plain = of.is_plain_char();
                        Value::Text(Text { bytes: bytes.to_vec(), len: *len, plain })
                    }
                    Err(why) => Value::Unreadable(why),
                };
            }
            let shown = (*len).min(reader.most());
            let element = |index: u64| {
                let at = offset.saturating_add(index.saturating_mul(size));
                value_of(of, place, bytes, at, reader)
            };
            let elements = (0..shown).map(element).collect();
            Value::Array { elements, len: *len }
        }
        CType::Void | CType::Unknown(_) => Value::Unreadable("it has no value".to_owned()),
    }
}

impl<'k> CType<'k> {
    fn known(&self) -> Option<Type<'k>> {
        match self {
            CType::Known(ty) => Some(*ty),
            CType::Qualified(_, of) => of.known(),
            _ => None,
        }
    }

    pub(super) fn is_character(&self) -> bool {
        match self {
            CType::Known(ty) => crate::value::read::is_character(*ty),
            CType::Integer { size, .. } => *size == 1,
            CType::Qualified(_, of) => of.is_character(),
            _ => false,
        }
    }
}

fn read(env: &Env<'_>, addr: u64, size: u64) -> Result<Bytes, String> {
    let Some(mm) = env.user else { return Ok(Bytes::read(env.kernel, addr, size)) };
    let space = env.kernel.user_space_of(mm).map_err(|e| e.to_string())?;
    let read = |at: u64, buf: &mut [u8]| space.read(at, buf).map_err(|e| e.to_string());
    Ok(Bytes::read_with(addr, size, &read))
}

/// Why a symbol without a type has no value, and what to do.
fn unknown_type(name: &str) -> String {
    format!(
        "the dump has no type for `{name}` (BTF describes per-CPU variables): name one, as in \
         `p *(int *)&{name}`, or read its memory with `rd {name}`"
    )
}

/// A per-CPU symbol without a CPU.
pub(super) fn needs_cpu(kernel: &Kernel, name: &str) -> String {
    let cpu = kernel.possible_cpus().ok().and_then(|cpus| cpus.first().copied()).unwrap_or(0);
    format!("{name} is per-CPU: {name}:{cpu} is that of CPU {cpu}, `p {name}` lists all")
}
