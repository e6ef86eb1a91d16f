//! A value of C as plain data: what the printer writes and `--json` holds.

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

/// A value. Arrays hold what is shown of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// An integer of `size` bytes, its bits in the lower end of `bits`.
    Integer { bits: u128, size: u64, signed: bool },
    /// An integer of one byte: C's characters.
    Character { bits: u8, signed: bool },
    /// `_Bool`.
    Bool(u64),
    /// A floating-point number.
    Float(f64),
    /// A constant of an enum. `text` is what its bits are called, if they have a name. `signed`: one
    /// of its constants is below zero.
    Enum { bits: u64, size: u64, signed: bool, text: Option<String> },
    /// A pointer, the symbol that it points into (`init_task+8`), and the text of a `char *`.
    Pointer { addr: u64, symbol: Option<String>, text: Option<Result<Text, String>> },
    /// An array of `len` elements, of which the first are here.
    Array { elements: Vec<Value>, len: u64 },
    /// An array of characters.
    Text(Text),
    /// A struct or union.
    Record(Vec<Member>),
    /// A function: its address, type and symbol.
    Function { addr: u64, ty: String, symbol: Option<String> },
    /// What could not be read, with the reason.
    Unreadable(String),
}

/// A member of a struct or union.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    /// "" if anonymous.
    pub(crate) name: String,
    pub(crate) value: Value,
}

/// Characters of an array of `len`, of which the first are here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) bytes: Vec<u8>,
    pub(crate) len: u64,
    /// Of `char`, as opposed to `u8` and `s8`, which are mostly small numbers.
    pub(crate) plain: bool,
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Integer { bits, size, signed } => match signed_value(*bits, *size) {
                value if *signed => match i64::try_from(value) {
                    Ok(value) => serializer.serialize_i64(value),
                    Err(_) => serializer.serialize_str(&value.to_string()),
                },
                _ => match u64::try_from(*bits) {
                    Ok(bits) => serializer.serialize_u64(bits),
                    Err(_) => serializer.serialize_str(&bits.to_string()),
                },
            },
            Value::Character { bits, signed: true } => serializer.serialize_i8(*bits as i8),
            Value::Character { bits, .. } => serializer.serialize_u8(*bits),
            Value::Bool(bits @ (0 | 1)) => serializer.serialize_bool(*bits == 1),
            Value::Bool(bits) => serializer.serialize_u64(*bits),
            Value::Float(number) => serializer.serialize_f64(*number),
            Value::Enum { text: Some(text), .. } => serializer.serialize_str(text),
            Value::Enum { bits, size, signed: true, .. } => {
                serializer.serialize_i64(signed_value(u128::from(*bits), *size) as i64)
            }
            Value::Enum { bits, .. } => serializer.serialize_u64(*bits),
            Value::Pointer { addr, symbol, text } => {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("address", &format!("{addr:#x}"))?;
                if let Some(symbol) = symbol {
                    map.serialize_entry("symbol", symbol)?;
                }
                match text {
                    Some(Ok(text)) => map.serialize_entry("text", &text.lossy())?,
                    Some(Err(why)) => map.serialize_entry("unreadable", why)?,
                    None => {}
                }
                map.end()
            }
            Value::Array { elements, .. } => elements.serialize(serializer),
            Value::Text(text) if text.plain => serializer.serialize_str(&text.lossy()),
            Value::Text(text) => {
                let mut list = serializer.serialize_seq(Some(text.bytes.len()))?;
                text.bytes.iter().try_for_each(|byte| list.serialize_element(byte))?;
                list.end()
            }
            Value::Record(members) => {
                let mut map = serializer.serialize_map(None)?;
                serialize_members(members, &mut map)?;
                map.end()
            }
            Value::Function { addr, ty, symbol } => {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("address", &format!("{addr:#x}"))?;
                map.serialize_entry("type", ty)?;
                if let Some(symbol) = symbol {
                    map.serialize_entry("symbol", symbol)?;
                }
                map.end()
            }
            Value::Unreadable(why) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("unreadable", why)?;
                map.end()
            }
        }
    }
}

/// Members of anonymous members stand among the others, as C has them.
fn serialize_members<M: SerializeMap>(members: &[Member], map: &mut M) -> Result<(), M::Error> {
    for member in members {
        match &member.value {
            Value::Record(inner) if member.name.is_empty() => serialize_members(inner, map)?,
            // A bitfield without a name is padding.
            _ if member.name.is_empty() => {}
            value => map.serialize_entry(&member.name, value)?,
        }
    }
    Ok(())
}

/// The number that `size` bytes mean with a sign.
pub(crate) fn signed_value(bits: u128, size: u64) -> i128 {
    let unused = 128 - (size.clamp(1, 16) * 8) as u32;
    ((bits << unused) as i128) >> unused
}

impl Text {
    /// Up to the first NUL.
    pub(crate) fn until_nul(&self) -> &[u8] {
        self.bytes.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// As text, up to the first NUL.
    pub(crate) fn lossy(&self) -> String {
        String::from_utf8_lossy(self.until_nul()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_members_of_anonymous_members_where_c_has_them() {
        let int = |bits| Value::Integer { bits, size: 4, signed: true };
        let member = |name: &str, value| Member { name: name.into(), value };
        let text = Text { bytes: b"sh\0\0".to_vec(), len: 4, plain: true };
        let value = Value::Record(vec![
            member("a", int(0xffff_ffff)),
            member("", Value::Record(vec![member("b", int(2)), member("", int(3))])),
            member("comm", Value::Text(text)),
            member("p", Value::Pointer { addr: 16, symbol: Some("x+8".into()), text: None }),
            member("q", Value::Unreadable("filtered".into())),
        ]);
        assert_eq!(
            serde_json::to_string(&value).unwrap(),
            r#"{"a":-1,"b":2,"comm":"sh","p":{"address":"0x10","symbol":"x+8"},"q":{"unreadable":"filtered"}}"#
        );
    }
}
