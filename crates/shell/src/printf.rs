//! Formats of C's `printf`: those of gdb's command of that name, and of the
//! kernel's trace events.
//!
//! `%[-+ #0][WIDTH][.PRECISION][h|hh|l|ll|L|q|j|z|t]` and one of
//! `d i u o x X c s p f g e %`. The kernel's `%p` has letters behind it that say
//! what is at the address (Documentation/core-api/printk-formats.rst).

use crate::value::float;

/// More room than this is asked for by mistake.
const WIDEST: usize = 4096;

/// A piece of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Value(Conversion),
}

/// How a value is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Conversion {
    left: bool,
    plus: bool,
    blank: bool,
    alternate: bool,
    zeros: bool,
    width: usize,
    precision: Option<usize>,
    /// Bytes of an integer.
    size: u32,
    pub(crate) letter: char,
    /// What stands behind the `p` of a pointer: `s` and `S` name a function.
    pub(crate) suffix: String,
}

/// What is written.
pub(crate) enum Argument {
    Integer(u64),
    Float(f64),
    Text(String),
}

impl Conversion {
    pub(crate) fn write(&self, value: &Argument) -> String {
        let text = match value {
            Argument::Text(text) => match self.precision {
                Some(most) => text.chars().take(most).collect(),
                None => text.clone(),
            },
            Argument::Float(number) => self.float(*number),
            Argument::Integer(bits) => self.integer(*bits),
        };
        let missing = self.width.saturating_sub(text.chars().count());
        if self.left {
            return format!("{text}{:missing$}", "");
        }
        let number = !matches!(value, Argument::Text(_)) && !matches!(self.letter, 'c' | 'p');
        if self.zeros && number && (self.precision.is_none() || matches!(value, Argument::Float(_)))
        {
            let digits = text.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
            let digits = if text[digits..].starts_with("0x") { digits + 2 } else { digits };
            let (before, rest) = text.split_at(digits);
            return format!("{before}{}{rest}", "0".repeat(missing));
        }
        format!("{:missing$}{text}", "")
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.plus, self.blank) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (.., true) => " ",
            _ => "",
        }
    }

    fn integer(&self, bits: u64) -> String {
        let unused = 64 - self.size.clamp(1, 8) * 8;
        let unsigned = bits << unused >> unused;
        let least = |digits: String| {
            let missing = self.precision.unwrap_or(0).saturating_sub(digits.len());
            format!("{}{digits}", "0".repeat(missing))
        };
        match self.letter {
            'd' | 'i' => {
                let number = (bits << unused) as i64 >> unused;
                let digits = least(number.unsigned_abs().to_string());
                format!("{}{digits}", self.sign(number < 0))
            }
            'c' => char::from(bits as u8).to_string(),
            'p' if bits == 0 => "(nil)".to_owned(),
            'p' => format!("{bits:#x}"),
            'o' => least(match self.alternate && unsigned != 0 {
                true => format!("0{unsigned:o}"),
                false => format!("{unsigned:o}"),
            }),
            'x' | 'X' => {
                let digits = match self.letter {
                    'x' => least(format!("{unsigned:x}")),
                    _ => least(format!("{unsigned:X}")),
                };
                let prefix = if self.alternate && unsigned != 0 { "0x" } else { "" };
                format!("{prefix}{digits}")
            }
            _ => least(unsigned.to_string()),
        }
    }

    fn float(&self, number: f64) -> String {
        let sign = self.sign(number.is_sign_negative());
        let (number, precision) = (number.abs(), self.precision.unwrap_or(6));
        let text = match self.letter {
            'f' => format!("{number:.precision$}"),
            'e' => {
                let text = format!("{number:.precision$e}");
                let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                let exponent: i32 = exponent.parse().unwrap_or(0);
                let sign = if exponent < 0 { '-' } else { '+' };
                format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
            }
            _ => float(number, precision.max(1) as i32),
        };
        format!("{sign}{text}")
    }
}

/// A format in pieces.
pub(crate) fn parse(format: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = format;
    while let Some((before, from)) = rest.split_once('%') {
        text.push_str(&unescaped(before));
        if let Some(behind) = from.strip_prefix('%') {
            text.push('%');
            rest = behind;
            continue;
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
        }
        let (conversion, behind) = conversion(from)?;
        pieces.push(Piece::Value(conversion));
        rest = behind;
    }
    text.push_str(&unescaped(rest));
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

/// What stands behind a `%`, and what follows.
fn conversion(text: &str) -> Result<(Conversion, &str), String> {
    let bad = || format!("%{text} is no conversion that printf knows");
    let mut conversion = Conversion { size: 4, ..Conversion::default() };
    let body = text.trim_start_matches(['-', '+', ' ', '#', '0']);
    for flag in text[..text.len() - body.len()].chars() {
        match flag {
            '-' => conversion.left = true,
            '+' => conversion.plus = true,
            ' ' => conversion.blank = true,
            '#' => conversion.alternate = true,
            _ => conversion.zeros = true,
        }
    }
    let (width, body) = digits(body).ok_or_else(bad)?;
    conversion.width = width.unwrap_or(0);
    let mut body = body;
    if let Some(behind) = body.strip_prefix('.') {
        let (precision, behind) = digits(behind).ok_or_else(bad)?;
        (conversion.precision, body) = (Some(precision.unwrap_or(0)), behind);
    }
    let sizes = [
        ("hh", 1),
        ("h", 2),
        ("ll", 8),
        ("l", 8),
        ("L", 8),
        ("q", 8),
        ("j", 8),
        ("z", 8),
        ("t", 8),
    ];
    if let Some((name, size)) = sizes.iter().find(|(name, _)| body.starts_with(name)) {
        (conversion.size, body) = (*size, &body[name.len()..]);
    }
    let letter = body.chars().next().filter(|c| "diuoxXcspfge".contains(*c)).ok_or_else(bad)?;
    conversion.letter = letter;
    let rest = &body[1..];
    let behind = match letter {
        'p' => rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric()),
        _ => rest,
    };
    conversion.suffix = rest[..rest.len() - behind.len()].to_owned();
    Ok((conversion, behind))
}

/// A number at the start of `text`, if there is one. `None`: too large.
fn digits(text: &str) -> Option<(Option<usize>, &str)> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    match &text[..text.len() - rest.len()] {
        "" => Some((None, rest)),
        number => Some((Some(number.parse().ok().filter(|n| *n <= WIDEST)?), rest)),
    }
}

/// Text with C's escapes replaced: `\n`, `\t`, `\\`, `\033`.
pub(crate) fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('a') => out.push('\u{7}'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('v') => out.push('\u{b}'),
            Some('e') => out.push('\u{1b}'),
            Some(digit @ '0'..='7') => {
                let mut code = digit as u32 - '0' as u32;
                for _ in 0..2 {
                    let Some(digit) = chars.peek().and_then(|c| c.to_digit(8)) else { break };
                    code = code * 8 + digit;
                    chars.next();
                }
                out.push(char::from(code as u8));
            }
            Some(other) => out.push(other),
            // At the end of a line it joins the next one, of which there is none.
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: &str, value: Argument) -> String {
        let pieces = parse(format).unwrap();
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Value(conversion) => conversion.write(&value),
        };
        pieces.iter().map(text).collect()
    }

    #[test]
    fn formats_are_those_of_c() {
        let int = |format, bits| written(format, Argument::Integer(bits));
        assert_eq!(int("%5d|", 42), "   42|");
        assert_eq!(int("%-5d|", 42), "42   |");
        assert_eq!(int("%05d %%", -42_i64 as u64), "-0042 %");
        assert_eq!((int("%#x", 255), int("%#06x", 255)), ("0xff".into(), "0x00ff".into()));
        assert_eq!(
            (int("%d", 0xffff_ffff), int("%ld", 0xffff_ffff)),
            ("-1".into(), "4294967295".into())
        );
        assert_eq!((int("%hhu", 0x1ff), int("%.3d", 7)), ("255".into(), "007".into()));
        assert_eq!((int("%c", 65), int("%p", 0)), ("A".into(), "(nil)".into()));
        let text = |format| written(format, Argument::Text("swapper".into()));
        assert_eq!((text("%-9s|"), text("%.3s")), ("swapper  |".into(), "swa".into()));
        let float = |format| written(format, Argument::Float(2.5));
        assert_eq!(
            (float("%.1f"), float("%g"), float("%e")),
            ("2.5".into(), "2.5".into(), "2.500000e+00".into())
        );
    }

    #[test]
    fn what_is_no_conversion_is_told() {
        assert!(parse("%q").is_err() && parse("%").is_err() && parse("%99999999d").is_err());
        assert_eq!(unescaped(r"a\tb\\\101\n"), "a\tb\\A\n");
    }
}
