//! Tokens of an expression.

use super::ExprError;

/// Longer expressions than this are typed by nobody.
const LONGEST: usize = 16 << 10;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Integer {
        bits: u64,
        size: u64,
        signed: bool,
    },
    Float(f64),
    Character(u8),
    Text(Vec<u8>),
    Word(String),
    /// `runqueues:1`, without a blank.
    PerCpu(String, u32),
    Dollar(String),
    Mark(&'static str),
}

/// More tokens than this are typed by nobody; a tree is at most so deep.
const MOST: usize = 1000;

/// Longer ones first.
const MARKS: &[&str] = &[
    "->", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "+", "-", "*", "/", "%", "&", "|", "^",
    "~", "!", "<", ">", "(", ")", "[", "]", "{", "}", ".", ",", "?", ":", "@", "=",
];

/// Splits `text` into tokens with the column of each.
pub(super) fn lex(text: &str) -> Result<Vec<(Token, usize)>, ExprError> {
    let fail = |what: String, at: usize| ExprError { what, column: at + 1 };
    if text.len() > LONGEST {
        return Err(fail(format!("an expression of {} bytes is too long", text.len()), 0));
    }
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut question = false;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = text.get(at..).unwrap_or_default();
        let start = at;
        let token = if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        } else if c.is_ascii_digit()
            || c == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())
        {
            let len = number_len(rest);
            let (number, _) = rest.split_at(len);
            at += len;
            number_of(number).ok_or_else(|| fail(format!("`{number}` is no number"), start))?
        } else if is_word_start(c) {
            let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(len);
            at += len;
            match per_cpu(behind).filter(|_| !question) {
                Some((cpu, len)) => {
                    at += len;
                    Token::PerCpu(word.to_owned(), cpu)
                }
                None => Token::Word(word.to_owned()),
            }
        } else if c == '$' {
            let len = rest[1..].find(|c| !is_word(c) && c != '$').unwrap_or(rest.len() - 1);
            at += 1 + len;
            Token::Dollar(rest[1..=len].to_owned())
        } else if c == '\'' || c == '"' {
            let (bytes, len) = quoted(rest, c).ok_or_else(|| {
                fail(
                    format!("the text that begins with {c} does not end, or has a wrong escape"),
                    at,
                )
            })?;
            at += len;
            match (c, bytes.as_slice()) {
                ('"', _) => Token::Text(bytes),
                (_, [byte]) => Token::Character(*byte),
                _ => return Err(fail("a character in quotes is one byte".to_owned(), start)),
            }
        } else {
            let mark = MARKS.iter().find(|mark| rest.starts_with(**mark));
            let mark = mark.ok_or_else(|| fail(format!("`{c}` is not understood"), start))?;
            question |= *mark == "?";
            at += mark.len();
            Token::Mark(mark)
        };
        if tokens.len() >= MOST {
            return Err(fail("the expression is too long".to_owned(), start));
        }
        tokens.push((token, start + 1));
    }
    Ok(tokens)
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// `:3` right behind a name: the CPU, and how long that is.
fn per_cpu(behind: &str) -> Option<(u32, usize)> {
    let digits = behind.strip_prefix(':')?;
    let len = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    Some((digits.get(..len)?.parse().ok()?, len + 1))
}

fn number_len(text: &str) -> usize {
    let hex = text.starts_with("0x") || text.starts_with("0X");
    let mut before = ' ';
    let part = |c: char| {
        let exponent = !hex && matches!(before, 'e' | 'E') && matches!(c, '+' | '-');
        before = c;
        c.is_ascii_alphanumeric() || c == '.' || exponent
    };
    let mut part = part;
    text.find(|c| !part(c)).unwrap_or(text.len())
}

fn number_of(text: &str) -> Option<Token> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] if !lower.contains(['.', 'e']) => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if radix == 10 && digits.contains(['.', 'e']) {
        return digits.trim_end_matches(['f', 'l']).parse().ok().map(Token::Float);
    }
    let end = digits.trim_end_matches(['u', 'l']);
    let suffix = &digits[end.len()..];
    let unsigned = match suffix.matches('u').count() {
        0 => false,
        1 => true,
        _ => return None,
    };
    let long = match suffix.replace('u', "").len() {
        0 => false,
        1 | 2 => true,
        _ => return None,
    };
    let digits = if end.is_empty() && radix == 8 { "0" } else { end };
    let bits = u64::from_str_radix(digits, radix).ok()?;
    // The first type of C that holds it.
    let fits = |size: u64, signed: bool| {
        let width = size as u32 * 8 - u32::from(signed);
        bits.checked_shr(width).unwrap_or(0) == 0
    };
    let types = [(4, true), (4, false), (8, true), (8, false)];
    let (size, signed) = types.into_iter().find(|&(size, signed)| {
        let allowed = !(long && size == 4 || unsigned && signed);
        allowed && (signed || unsigned || radix != 10 || size == 8) && fits(size, signed)
    })?;
    Some(Token::Integer { bits, size, signed })
}

/// The bytes between quotes, and how long the whole is.
fn quoted(text: &str, quote: char) -> Option<(Vec<u8>, usize)> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 1;
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        match byte {
            b if char::from(b) == quote => return Some((out, at)),
            b'\\' => {
                let escaped = *bytes.get(at)?;
                at += 1;
                out.push(match escaped {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    b'a' => 7,
                    b'b' => 8,
                    b'f' => 12,
                    b'v' => 11,
                    b'e' => 27,
                    b'x' => {
                        let digits = digits(bytes.get(at..)?, 16, 2);
                        at += digits.len();
                        u8::from_str_radix(digits, 16).ok()?
                    }
                    b'0'..=b'7' => {
                        let digits = digits(bytes.get(at - 1..)?, 8, 3);
                        at += digits.len() - 1;
                        u8::from_str_radix(digits, 8).ok()?
                    }
                    other => other,
                });
            }
            b => out.push(b),
        }
    }
}

/// The digits at the start of `bytes`, at most `most`.
fn digits(bytes: &[u8], radix: u32, most: usize) -> &str {
    let is = |byte: &&u8| char::from(**byte).is_digit(radix);
    let len = bytes.iter().take(most).take_while(is).count();
    std::str::from_utf8(&bytes[..len]).unwrap_or_default()
}
