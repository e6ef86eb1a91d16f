//! Characters and strings as gdb writes them in the C locale: what is not ASCII is octal.

use super::data::Text;

/// `'a'`, `'\000'`, `'\''`.
pub(crate) fn character(byte: u8) -> String {
    let mut text = String::from("'");
    escape(&mut text, byte, '\'');
    text.push('\'');
    text
}

/// `"swapper/0\000\000"`: a NUL at the very end is C's own and left out; `...` behind it where
/// there is more.
pub(crate) fn string(text: &Text) -> String {
    let whole = text.bytes.len() as u64 == text.len;
    let bytes = match text.bytes.as_slice() {
        [rest @ .., 0] if whole => rest,
        bytes => bytes,
    };
    let mut out = format!("\"{}\"", escaped(bytes));
    if !whole {
        out.push_str("...");
    }
    out
}

/// The string up to its first NUL: `"swapper/0"`.
pub(crate) fn string_to_nul(text: &Text) -> String {
    let bytes = text.until_nul();
    if bytes.len() < text.bytes.len() {
        return format!("\"{}\"", escaped(bytes));
    }
    string(text)
}

/// What stands between the quotes of a string.
pub(super) fn escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    bytes.iter().for_each(|byte| escape(&mut out, *byte, '"'));
    out
}

/// Adds one character. Numbers have three digits: one behind them can't read as part of them.
fn escape(out: &mut String, byte: u8, quote: char) {
    let short = match byte {
        7 => 'a',
        8 => 'b',
        9 => 't',
        10 => 'n',
        11 => 'v',
        12 => 'f',
        13 => 'r',
        b'\\' => '\\',
        byte if char::from(byte) == quote => quote,
        b' '..=b'~' => return out.push(char::from(byte)),
        byte => return out.push_str(&format!("\\{byte:03o}")),
    };
    out.push('\\');
    out.push(short);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8], len: u64) -> String {
        string(&Text { bytes: bytes.to_vec(), len, plain: true })
    }

    #[test]
    fn strings_keep_all_but_the_last_nul() {
        assert_eq!(text(b"sh\0\0", 4), r#""sh\000""#);
        assert_eq!(text(b"\0", 1), r#""""#);
        assert_eq!(text(b"ab", 200), r#""ab"..."#);
        assert_eq!(text(b"a\"b\\\n\t'\xe9", 8), r#""a\"b\\\n\t'\351""#);
    }

    #[test]
    fn characters_have_their_own_quote() {
        let all = [0, b's', b'\'', b'"', 0xff].map(character);
        assert_eq!(all, [r"'\000'", "'s'", r"'\''", "'\"'", r"'\377'"]);
    }
}
