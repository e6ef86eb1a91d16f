//! Values in gdb's shape, as crash shows them: members on lines of their own, numbers of an array
//! on one line, or a line for each (`set print_array on`).

use std::io::{self, Write};

use super::data::{Member, Value, signed_value};
use super::style::{Format, Style};
use super::text;
use crate::settings::Radix;

/// Writes `value`. `depth` is how many structs and arrays it stands in; the line it starts on has
/// been indented already.
pub(crate) fn render(
    out: &mut dyn Write,
    value: &Value,
    depth: usize,
    style: Style,
) -> io::Result<()> {
    match value {
        Value::Record(members) if members.is_empty() => write!(out, "{{<No data fields>}}"),
        Value::Record(members) => {
            writeln!(out, "{{")?;
            for (i, member) in members.iter().enumerate() {
                render_member(out, member, depth, style)?;
                writeln!(out, "{}", if i + 1 < members.len() { "," } else { "" })?;
            }
            write!(out, "{:1$}}}", "", 2 * depth)
        }
        Value::Array { elements, len } => {
            let more = if (elements.len() as u64) < *len { "..." } else { "" };
            write!(out, "{{")?;
            for (i, element) in elements.iter().enumerate() {
                let comma = if i > 0 { "," } else { "" };
                match style.array_lines {
                    true => write!(out, "{comma}\n{:1$}", "", 2 * depth + 2)?,
                    false if i > 0 => write!(out, ", ")?,
                    false => {}
                }
                render(out, element, depth + 1, style)?;
            }
            match style.array_lines {
                true => write!(out, "{more}\n{:1$}}}", "", 2 * depth),
                false => write!(out, "{more}}}"),
            }
        }
        Value::Text(characters) => match style.format {
            None | Some(Format::Text) if style.null_stop => {
                write!(out, "{}", text::string_to_nul(characters))
            }
            None | Some(Format::Text) => write!(out, "{}", text::string(characters)),
            Some(_) => {
                let element = |byte: &u8| Value::Character { bits: *byte, signed: false };
                let elements = characters.bytes.iter().map(element).collect();
                let array = Value::Array { elements, len: characters.len };
                render(out, &array, depth, style)
            }
        },
        scalar => write!(out, "{}", scalar_text(scalar, style)),
    }
}

/// `name = value` at the indentation of a struct's member.
pub(crate) fn render_member(
    out: &mut dyn Write,
    member: &Member,
    depth: usize,
    style: Style,
) -> io::Result<()> {
    write!(out, "{:1$}", "", 2 * depth + 2)?;
    if !member.name.is_empty() {
        write!(out, "{} = ", member.name)?;
    }
    render(out, &member.value, depth + 1, style)
}

/// A value that is no array, text or record.
pub(super) fn scalar_text(value: &Value, style: Style) -> String {
    // `p/s` means text for bytes and nothing for what is no text.
    let format = style.format.filter(|format| *format != Format::Text);
    // With /a integers came as pointers.
    let format = format.filter(|format| *format != Format::Address);
    let hex = style.radix == Radix::Hex;
    match value {
        Value::Integer { bits, size, signed } => match (format, hex) {
            (Some(format), _) => formatted(*bits, *size, *signed, format),
            (None, true) => format!("{bits:#x}"),
            (None, false) if *signed => signed_value(*bits, *size).to_string(),
            (None, false) => bits.to_string(),
        },
        Value::Character { bits, signed } => match (format, hex) {
            (Some(format), _) => formatted(u128::from(*bits), 1, *signed, format),
            (None, true) => format!("{bits:#x}"),
            (None, false) => with_character(*bits, *signed),
        },
        Value::Bool(bits) => match (format, hex, bits) {
            (Some(format), ..) => formatted(u128::from(*bits), 1, false, format),
            (None, true, _) => format!("{bits:#x}"),
            (None, false, 0) => "false".to_owned(),
            (None, false, 1) => "true".to_owned(),
            (None, false, bits) => bits.to_string(),
        },
        Value::Enum { bits, size, signed, text } => match (format, text) {
            (Some(format), _) => formatted(u128::from(*bits), *size, false, format),
            (None, Some(text)) => text.clone(),
            (None, None) if *signed => signed_value(u128::from(*bits), *size).to_string(),
            (None, None) => bits.to_string(),
        },
        Value::Pointer { addr, symbol, text } => match format {
            Some(format) => formatted(u128::from(*addr), 8, false, format),
            None => {
                let mut out = format!("{addr:#x}");
                if let Some(symbol) = symbol {
                    out.push_str(&format!(" <{symbol}>"));
                }
                match text {
                    Some(Ok(text)) => out.push_str(&format!(" {}", text::string(text))),
                    Some(Err(why)) => out.push_str(&format!(" <unreadable: {why}>")),
                    None => {}
                }
                out
            }
        },
        Value::Function { addr, ty, symbol } => match symbol {
            Some(symbol) => format!("{{{ty}}} {addr:#x} <{symbol}>"),
            None => format!("{{{ty}}} {addr:#x}"),
        },
        Value::Float(number) => float(*number, 17),
        Value::Unreadable(why) => format!("<unreadable: {why}>"),
        Value::Record(_) | Value::Array { .. } | Value::Text(_) => String::new(),
    }
}

fn with_character(bits: u8, signed: bool) -> String {
    let character = text::character(bits);
    match signed {
        true => format!("{} {character}", bits as i8),
        false => format!("{bits} {character}"),
    }
}

fn formatted(bits: u128, size: u64, signed: bool, format: Format) -> String {
    match format {
        Format::Hex => format!("{bits:#x}"),
        Format::Decimal => signed_value(bits, size).to_string(),
        Format::Unsigned => bits.to_string(),
        Format::Octal if bits == 0 => "0".to_owned(),
        Format::Octal => format!("0{bits:o}"),
        Format::Binary => format!("{bits:b}"),
        Format::Padded => format!("0x{bits:0width$x}", width = size as usize * 2),
        Format::Character => with_character(bits as u8, signed),
        Format::Address => format!("{bits:#x}"),
        Format::Text => bits.to_string(),
        Format::Float if size == 4 => float(f64::from(f32::from_bits(bits as u32)), 9),
        Format::Float if size == 8 => float(f64::from_bits(bits as u64), 17),
        // No number of this size is one.
        Format::Float if signed => signed_value(bits, size).to_string(),
        Format::Float => bits.to_string(),
    }
}

/// As C's `%.*g`: `digits` tell all numbers of the type apart (17 of a double, 9 of a float).
pub(crate) fn float(number: f64, digits: i32) -> String {
    if number.is_nan() || number.is_infinite() {
        return format!("{number}").to_lowercase();
    }
    let text = format!("{number:.*e}", (digits - 1).max(0) as usize);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..digits).contains(&exponent) {
        let text = format!("{number:.*}", (digits - 1 - exponent).max(0) as usize);
        return without_zeros(&text).to_owned();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", without_zeros(mantissa), exponent.unsigned_abs())
}

fn without_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::data::Text;
    use super::*;

    fn int(bits: u128) -> Value {
        Value::Integer { bits, size: 4, signed: true }
    }

    fn member(name: &str, value: Value) -> Member {
        Member { name: name.into(), value }
    }

    fn rendered(value: &Value, style: Style) -> String {
        let mut out = Vec::new();
        render(&mut out, value, 0, style).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn sample() -> Value {
        let inner = || Value::Record(vec![member("x", int(1)), member("y", int(0xffff_ffff))]);
        let mac = Text { bytes: vec![0x52, 0x54, 0, 1, 0, 0], len: 6, plain: false };
        Value::Record(vec![
            member("count", int(3)),
            member("", Value::Record(vec![member("first", inner()), member("none", int(0))])),
            member("pairs", Value::Array { elements: vec![inner(), inner()], len: 2 }),
            member("numbers", Value::Array { elements: vec![int(1), int(2)], len: 300 }),
            member("mac", Value::Text(mac)),
            member("next", Value::Pointer { addr: 16, symbol: Some("a+8".into()), text: None }),
            member("on", Value::Bool(1)),
            member("byte", Value::Character { bits: 0x41, signed: false }),
            member(
                "state",
                Value::Enum { bits: 1, size: 4, signed: false, text: Some("RUN".into()) },
            ),
            member("empty", Value::Record(Vec::new())),
            member("gone", Value::Unreadable("filtered".into())),
        ])
    }

    #[test]
    fn structs_are_written_as_gdb_writes_them() {
        insta::assert_snapshot!(rendered(&sample(), Style::default()));
    }

    #[test]
    fn in_hexadecimal_only_names_stay() {
        insta::assert_snapshot!(rendered(
            &sample(),
            Style { radix: Radix::Hex, ..Style::default() }
        ));
    }

    #[test]
    fn letters_choose_the_format() {
        let with = |letter, bits| {
            let style = Style { format: Format::new(letter), ..Style::default() };
            rendered(&int(bits), style)
        };
        let all = [('x', 255), ('t', 10), ('o', 8), ('c', 65), ('z', 5), ('d', 0xffff_ffff)];
        let all = all.map(|(letter, bits)| with(letter, bits));
        assert_eq!(all, ["0xff", "1010", "010", "65 'A'", "0x00000005", "-1"]);
        assert_eq!(with('u', 0xffff_ffff), "4294967295");
    }

    #[test]
    fn unknown_constants_are_numbers_with_a_sign_if_one_of_the_enum_has_it() {
        let shown = |signed, text: Option<&str>| {
            let text = text.map(str::to_owned);
            let value = Value::Enum { bits: 0xc051_ea88, size: 4, signed, text };
            (rendered(&value, Style::default()), serde_json::to_string(&value).unwrap())
        };
        let both = |text: &str| (text.to_owned(), text.to_owned());
        assert_eq!(shown(false, None), both("3226593928"));
        assert_eq!(shown(true, None), both("-1068373368"));
        assert_eq!(shown(true, Some("A")), ("A".to_owned(), "\"A\"".to_owned()));
    }

    #[test]
    fn floats_have_17_digits() {
        let all = [1.5, 3.0, 1e20, 1.0 / 3.0, -0.25, 0.5e-10].map(|number| float(number, 17));
        let wanted =
            ["1.5", "3", "1e+20", "0.33333333333333331", "-0.25", "5.0000000000000002e-11"];
        assert_eq!(all, wanted);
    }

    #[test]
    fn floats_of_four_bytes_have_nine_digits() {
        let style = Style { format: Some(Format::Float), ..Style::default() };
        assert_eq!(rendered(&int(0x0420_0002), style), "1.88079132e-36");
        let two = Value::Integer { bits: 7, size: 2, signed: true };
        assert_eq!(rendered(&two, style), "7");
    }

    #[test]
    fn elements_may_have_lines_of_their_own() {
        let style = Style { array_lines: true, ..Style::default() };
        let inner = |n| Value::Array { elements: vec![int(n), int(n + 1)], len: 3 };
        let outer = Value::Array { elements: vec![inner(1), inner(3)], len: 2 };
        let expected = "{\n  {\n    1,\n    2...\n  },\n  {\n    3,\n    4...\n  }\n}";
        assert_eq!(rendered(&outer, style), expected);
    }

    #[test]
    fn texts_may_end_at_their_first_nul() {
        let style = Style { null_stop: true, ..Style::default() };
        let text = |bytes: &[u8], len| {
            rendered(&Value::Text(Text { bytes: bytes.to_vec(), len, plain: true }), style)
        };
        assert_eq!(text(b"sh\0\0\0", 16), r#""sh""#);
        assert_eq!(text(b"swa", 16), r#""swa"..."#);
    }
}
