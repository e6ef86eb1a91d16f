//! What names mean: symbols, constants of enums, types.

use kmortem_debuginfo::btf::{Kind, Type};
use kmortem_kernel::{Error, Kernel};

use super::ctype::CType;
use super::operand::{Operand, Place};

/// Whether `name` is a type, and no symbol: symbols come first, as in gdb.
pub(super) fn is_type_name(kernel: &Kernel, name: &str) -> bool {
    kernel.ty(name).is_ok_and(|ty| ty.kind() != Kind::Void) && kernel.symbol_anywhere(name).is_err()
}

/// The variable, function or constant `name`.
pub(super) fn name<'k>(kernel: &'k Kernel, name: &str) -> Result<Operand<'k>, String> {
    let symbol = kernel.symbol_anywhere(name);
    if let Ok(addr) = symbol {
        let place = match is_percpu(kernel, name, addr) {
            true => Place::PerCpu(addr, name.to_owned()),
            false => Place::Memory(addr),
        };
        return Ok(Operand { ty: type_of_symbol(kernel, name), place });
    }
    match constant(kernel, name) {
        Some((ty, value)) => {
            let size = ty.size().unwrap_or(4);
            Ok(Operand::computed(CType::Known(ty), value as u64, size))
        }
        None => Err(match kernel.btf() {
            Err(why) => format!("there is no symbol `{name}`, and {why}"),
            Ok(_) => format!("there is no symbol, constant or type `{name}`"),
        }),
    }
}

/// Whether a symbol has a copy for each CPU. Its value is an offset, from v6.15 on an address.
pub(crate) fn is_percpu(kernel: &Kernel, name: &str, addr: u64) -> bool {
    let typed = kernel.btf().is_ok_and(|btf| btf.is_percpu_variable(name));
    typed || addr >> 63 == 0 && kernel.kallsyms().is_ok_and(|k| k.lookup_percpu(addr).is_some())
}

/// The type of a symbol: what the dump says, else what is known of well-known ones.
pub(crate) fn type_of_symbol<'k>(kernel: &'k Kernel, name: &str) -> CType<'k> {
    if let Some(ty) = kernel.type_of_symbol(name) {
        return CType::of(ty);
    }
    let declared = kmortem_kernel::global::global_type(name);
    match declared.and_then(|text| super::type_of_declaration(kernel, text).ok()) {
        Some(CType::Array(of, 0)) => {
            let len = array_len(kernel, name, &of).unwrap_or(0);
            CType::Array(of, len)
        }
        Some(ty) => ty,
        None => CType::Unknown(name.to_owned()),
    }
}

/// Elements of an array that is declared without a length: text goes up to its end, all else up to
/// the next symbol.
fn array_len(kernel: &Kernel, name: &str, of: &CType<'_>) -> Option<u64> {
    let start = kernel.symbol_anywhere(name).ok()?;
    let range = kernel.function_at(start).ok().filter(|range| range.start == start)?;
    let room = range.end - start;
    if !of.is_character() {
        return room.checked_div(of.size()?);
    }
    let mut text = vec![0; usize::try_from(room.min(LONGEST_TEXT)).ok()?];
    kernel.read(start, &mut text).ok()?;
    let end = text.iter().position(|byte| *byte == 0)?;
    Some(end as u64 + 1)
}

/// No text that is declared as an array is longer.
const LONGEST_TEXT: u64 = 4096;

/// The enum that has the constant `name`, and its value.
pub(crate) fn constant<'k>(kernel: &'k Kernel, name: &str) -> Option<(Type<'k>, i64)> {
    let enums = kernel.btf().ok()?.types();
    let mut enums = enums.filter(|ty| matches!(ty.kind(), Kind::Enum | Kind::Enum64));
    enums.find_map(|ty| {
        let found = ty.enumerators().find(|constant| constant.name == name)?;
        Some((ty, found.value))
    })
}

/// A type by its name as it was typed.
pub(super) fn base_type<'k>(kernel: &'k Kernel, name: &str) -> Result<CType<'k>, String> {
    if name == "void" {
        return Ok(CType::Void);
    }
    match kernel.ty(name) {
        Ok(ty) => Ok(CType::Known(ty)),
        Err(error) => builtin(name).ok_or_else(|| match error {
            Error::NoType(_) => format!("the dump has no type `{name}`"),
            error => error.to_string(),
        }),
    }
}

/// Integers that C has, whether the dump names them or not.
fn builtin(name: &str) -> Option<CType<'static>> {
    let (unsigned, bare) = match name.strip_prefix("unsigned ") {
        Some(bare) => (true, bare),
        None => (false, name),
    };
    let size = match bare {
        "char" | "signed char" => 1,
        "short" => 2,
        "int" => 4,
        "long" | "long long" => 8,
        "double" => return Some(CType::Double),
        _ => return None,
    };
    Some(CType::Integer { size, signed: !unsigned })
}
