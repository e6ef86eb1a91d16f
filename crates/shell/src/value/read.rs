//! From a type and its bytes to a value: looks up symbols, follows `char *`, nothing else.

use kmortem_debuginfo::btf::{Kind, Type};
use kmortem_kernel::Kernel;

use super::bytes::Bytes;
use super::data::{Member, Text, Value};
use super::declare;
use super::expression::lookup::type_of_symbol;
use super::linker_mark;
use crate::session::Session;
use crate::settings::Settings;

/// Characters of a string that are shown, whatever is set.
const LONGEST_TEXT: u64 = 4096;
/// Elements of an array that JSON holds.
pub(crate) const MOST_IN_JSON: u64 = 1 << 16;
/// Structs and arrays in each other: more is a loop among damaged types.
const MAX_DEPTH: usize = 64;
/// Scalars of one value: more can only come from types that contain each other over and over.
const MOST_PARTS: usize = 1 << 21;

/// Makes values.
pub(crate) struct Reader<'k> {
    kernel: &'k Kernel,
    most: u64,
    addresses: bool,
    parts: usize,
}

impl<'k> Reader<'k> {
    /// With as much of arrays as the session's settings show.
    pub(crate) fn with(kernel: &'k Kernel, settings: &Settings) -> Reader<'k> {
        // As in gdb, 0 is no limit.
        let most = match settings.print_max {
            0 => MOST_IN_JSON,
            most => most.min(MOST_IN_JSON),
        };
        Reader { kernel, most, addresses: false, parts: MOST_PARTS }
    }

    /// With as much of arrays as JSON holds.
    pub(crate) fn for_json(kernel: &'k Kernel) -> Reader<'k> {
        Reader { kernel, most: MOST_IN_JSON, addresses: false, parts: MOST_PARTS }
    }

    /// For an answer of `session`, in text or in JSON.
    pub(crate) fn of(session: &'k Session, json: bool) -> Reader<'k> {
        match json {
            true => Reader::for_json(session.kernel()),
            false => Reader::with(session.kernel(), session.settings()),
        }
    }

    /// Whose memory it reads besides.
    pub(crate) fn kernel(&self) -> &'k Kernel {
        self.kernel
    }

    /// How many elements of an array are shown.
    pub(crate) fn most(&self) -> u64 {
        self.most
    }

    /// Takes integers for addresses (`p/a`).
    pub(crate) fn addresses(self) -> Reader<'k> {
        Reader { addresses: true, ..self }
    }

    /// The value of type `ty` in `bytes`, at a bit offset; `width` of bitfields only.
    pub(crate) fn value(
        &mut self,
        ty: Type<'_>,
        bytes: &Bytes,
        bit_offset: u64,
        width: Option<u32>,
    ) -> Value {
        self.inner(ty, bytes, bit_offset, width, 0).unwrap_or_else(Value::Unreadable)
    }

    fn inner(
        &mut self,
        ty: Type<'_>,
        bytes: &Bytes,
        bit_offset: u64,
        width: Option<u32>,
        depth: usize,
    ) -> Result<Value, String> {
        self.parts = self.parts.checked_sub(1).ok_or("too many members to show")?;
        if depth > MAX_DEPTH {
            return Err("structs nested too deeply to show".to_owned());
        }
        let declared = ty;
        let ty = ty.strip();
        let size = ty.size().unwrap_or(0);
        let offset = bit_offset / 8;
        let integer = || match width {
            Some(width) => bytes.bits(bit_offset, width),
            None => bytes.integer(offset, size),
        };
        Ok(match ty.kind() {
            Kind::Int if is_bool(ty) => Value::Bool(integer()? as u64),
            Kind::Int => {
                let bits = extend(integer()?, width, size, ty.is_signed());
                self.integer(bits, size, ty.is_signed())
            }
            Kind::Enum | Kind::Enum64 => {
                let bits = extend(integer()?, width, size, ty.is_signed()) as u64;
                // As gdb has it, whose enums are `unsigned` otherwise.
                let signed = ty.enumerators().any(|constant| constant.value < 0);
                Value::Enum { bits, size, signed, text: constant(ty, bits, size) }
            }
            Kind::Float => match bytes.integer(offset, size)? {
                bits if size == 4 => Value::Float(f64::from(f32::from_bits(bits as u32))),
                bits if size == 8 => Value::Float(f64::from_bits(bits as u64)),
                _ => return Err(format!("a number of {size} bytes")),
            },
            Kind::Ptr => self.pointer(bytes.integer(offset, 8)? as u64, ty.target()),
            Kind::Array => return self.array(ty, bytes, offset, depth),
            Kind::Struct | Kind::Union => {
                let mut members = Vec::new();
                for member in ty.members() {
                    let at = bit_offset.saturating_add(member.bit_offset);
                    let value = self.inner(member.ty, bytes, at, member.bit_size, depth + 1);
                    let value = value.unwrap_or_else(Value::Unreadable);
                    members.push(Member { name: member.name.to_owned(), value });
                }
                Value::Record(members)
            }
            Kind::Func | Kind::FuncProto => {
                let addr = bytes.address(offset).unwrap_or(0);
                let ty = declare::name(declared);
                Value::Function { addr, ty, symbol: symbol(self.kernel, addr) }
            }
            Kind::Fwd => return Err("the type is declared only".to_owned()),
            _ => return Err(format!("a {} has no value", declare::name(declared))),
        })
    }

    /// An integer of `size` bytes.
    pub(crate) fn integer(&self, bits: u128, size: u64, signed: bool) -> Value {
        match size {
            _ if self.addresses => {
                let addr = super::data::signed_value(bits, if signed { size } else { 16 }) as u64;
                Value::Pointer { addr, symbol: symbol(self.kernel, addr), text: None }
            }
            1 => Value::Character { bits: bits as u8, signed },
            _ => Value::Integer { bits, size, signed },
        }
    }

    /// A pointer to `target` (`None`: to void).
    pub(crate) fn pointer(&self, addr: u64, target: Option<Type<'_>>) -> Value {
        let is_text = addr != 0 && target.is_some_and(is_character);
        let text = is_text.then(|| {
            let plain = target.is_some_and(is_plain_char);
            self.text_at(addr, plain)
        });
        let mut name = symbol(self.kernel, addr);
        // Literals have no names: what stands before them is something else.
        if matches!(text, Some(Ok(_)))
            && is_inside_read_only_data(self.kernel, addr)
            && !is_inside_variable(self.kernel, addr)
        {
            name = None;
        }
        Value::Pointer { addr, symbol: name, text }
    }

    fn array(
        &mut self,
        ty: Type<'_>,
        bytes: &Bytes,
        offset: u64,
        depth: usize,
    ) -> Result<Value, String> {
        let (Some(element), Some(len)) = (ty.target(), ty.array_len()) else {
            return Err("an array of nothing".to_owned());
        };
        let size = element.size().unwrap_or(0);
        if len == 0 || size == 0 {
            // A flexible array: where it begins is all that the type tells.
            return Ok(match bytes.address(offset) {
                Some(addr) => self.pointer(addr, Some(element)),
                None => Value::Array { elements: Vec::new(), len: 0 },
            });
        }
        let shown = len.min(self.most);
        if is_character(element) {
            let bytes = bytes.get(offset, shown)?.to_vec();
            return Ok(Value::Text(Text { bytes, len, plain: is_plain_char(element) }));
        }
        let mut elements = Vec::new();
        for index in 0..shown {
            let at = offset.saturating_add(index.saturating_mul(size)).saturating_mul(8);
            let value = self.inner(element, bytes, at, None, depth + 1);
            let whole = value.is_ok();
            elements.push(value.unwrap_or_else(Value::Unreadable));
            if !whole && self.parts == 0 {
                break;
            }
        }
        Ok(Value::Array { elements, len })
    }

    /// The text that a `char *` points to.
    pub(crate) fn text_at(&self, addr: u64, plain: bool) -> Result<Text, String> {
        let most = self.most.min(LONGEST_TEXT) as usize;
        let mut bytes = Vec::new();
        while bytes.len() < most {
            let at = addr.wrapping_add(bytes.len() as u64);
            let room = (64 - (at % 64) as usize).min(most - bytes.len());
            let mut piece = vec![0; room];
            match self.kernel.read(at, &mut piece) {
                Ok(()) => {}
                Err(e) if bytes.is_empty() => return Err(e.to_string()),
                Err(_) => break,
            }
            if let Some(end) = piece.iter().position(|byte| *byte == 0) {
                bytes.extend_from_slice(&piece[..end]);
                let len = bytes.len() as u64;
                return Ok(Text { bytes, len, plain });
            }
            bytes.extend_from_slice(&piece);
        }
        // It goes on, where can't be told.
        let len = bytes.len() as u64 + 1;
        Ok(Text { bytes, len, plain })
    }
}

/// Pointers into the kernel's constants are taken to be inside of a named one up
/// to this offset, in bytes: kallsyms does not tell sizes.
const NAMED_CONSTANT: u64 = 1024;

/// `init_task+8`: what gdb writes behind a pointer.
pub(crate) fn symbol(kernel: &Kernel, addr: u64) -> Option<String> {
    let found = kernel.symbol_at(addr)?;
    // Nothing points into the kernel's own symbol table; behind it are strings without a name.
    if found.offset != 0 && found.name.starts_with("kallsyms_") {
        return None;
    }
    // Literals have no names: what begins far before them is something else.
    let far = found.offset > NAMED_CONSTANT || found.name.starts_with('.');
    if far && is_inside_read_only_data(kernel, addr) {
        return None;
    }
    // gdb names no address by a symbol that has no size.
    if linker_mark::is_mark(&found.name) {
        return None;
    }
    Some(match found.offset {
        0 => found.name,
        offset => format!("{}+{offset}", found.name),
    })
}

/// Whether `addr` lies in the kernel's constants, where no symbol begins.
fn is_inside_read_only_data(kernel: &Kernel, addr: u64) -> bool {
    match (kernel.symbol("__start_rodata"), kernel.symbol("__end_rodata")) {
        (Ok(start), Ok(end)) if (start..end).contains(&addr) => {
            kernel.symbol_at(addr).is_some_and(|found| found.offset != 0)
        }
        _ => false,
    }
}

fn is_bool(ty: Type<'_>) -> bool {
    matches!(ty.name(), "_Bool" | "bool")
}

/// A type whose arrays are text: an integer of one byte.
pub(crate) fn is_character(ty: Type<'_>) -> bool {
    let ty = ty.strip();
    ty.kind() == Kind::Int && ty.size() == Some(1) && !is_bool(ty)
}

fn is_plain_char(ty: Type<'_>) -> bool {
    ty.strip().name() == "char"
}

/// A bitfield's bits as those of the integer that it is declared as.
fn extend(bits: u128, width: Option<u32>, size: u64, signed: bool) -> u128 {
    let Some(width) = width.filter(|width| signed && (1..128).contains(width)) else {
        return bits;
    };
    if bits >> (width - 1) & 1 == 0 {
        return bits;
    }
    let whole = 1_u128.checked_shl(size as u32 * 8).map_or(u128::MAX, |bit| bit - 1);
    (bits | u128::MAX << width) & whole
}

/// Whether `addr` lies in the variable that begins before it, as far as that one's type is known.
fn is_inside_variable(kernel: &Kernel, addr: u64) -> bool {
    kernel.symbol_at(addr).is_some_and(|found| {
        let size = type_of_symbol(kernel, &found.name).size();
        size.is_some_and(|size| found.offset < size)
    })
}

/// What gdb calls the value of an enum: its constant; where all constants are sets of bits, those
/// that are set. `None`: a number.
pub(crate) fn constant(ty: Type<'_>, bits: u64, size: u64) -> Option<String> {
    let mask = if size >= 8 { u64::MAX } else { (1 << (size * 8)) - 1 };
    let constants = || ty.enumerators().map(|c| (c.name, c.value as u64 & mask, c.value));
    if let Some((name, ..)) = constants().find(|(_, value, _)| *value == bits) {
        return Some(name.to_owned());
    }
    let contiguous = |value: u64| {
        let shifted = value >> value.trailing_zeros().min(63);
        shifted & shifted.wrapping_add(1) == 0
    };
    let signed = ty.is_signed();
    // Sets of bits that overlap are numbers that happen to fit.
    let mut taken = 0;
    let flags = constants().all(|(_, value, number)| {
        let again = value.is_power_of_two() && constants().filter(|c| c.1 == value).count() > 1;
        let apart = taken & value == 0 || again;
        taken |= value;
        (!signed || number >= 0) && contiguous(value) && apart
    });
    if !flags {
        return None;
    }
    let mut rest = bits;
    let mut names = Vec::new();
    for (name, value, _) in constants() {
        if rest & value != 0 {
            names.push(name.to_owned());
            rest &= !value;
        }
    }
    if rest != 0 {
        names.push(format!("unknown: {rest:#x}"));
    }
    if names.is_empty() {
        return Some("0".to_owned());
    }
    Some(format!("({})", names.join(" | ")))
}
