//! Integer expressions on a command line, as `eval` and arguments in
//! parentheses take them: `(linux_banner + 4k)`.
//!
//! Operators and their order are C's: `|`, `^`, `&`, `<< >>`, `+ -`, `* / %`,
//! then `~` and `-` in front of an operand, and parentheses. Numbers are
//! decimal, hexadecimal behind `0x` or where a letter says so, and may end in
//! `k`, `m` or `g`. What is no number is a symbol. Results wrap at 64 bits, as
//! addresses do.

/// How deep parentheses and signs may be nested.
const DEEPEST: u32 = 64;

/// The value of `text`; `symbol` gives the values of names.
pub(crate) fn evaluate(text: &str, symbol: &dyn Fn(&str) -> Option<u64>) -> Result<u64, String> {
    let mut parser = Parser { rest: text.trim_start(), symbol, depth: 0 };
    let value = parser.binary(0)?;
    match parser.rest {
        "" => Ok(value),
        rest => Err(format!("`{rest}` is not understood")),
    }
}

/// The number that `word` means by itself.
pub(crate) fn number(word: &str) -> Result<Option<u64>, String> {
    let (digits, unit) = match word.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&word[..at], 10),
        Some((at, 'm' | 'M')) => (&word[..at], 20),
        Some((at, 'g' | 'G')) => (&word[..at], 30),
        _ => (word, 0),
    };
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let radix = match (hex, digits.bytes().all(|b| b.is_ascii_digit())) {
        (None, true) => 10,
        _ => 16,
    };
    let digits = hex.unwrap_or(digits);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let too_large = || format!("{word} has more than 64 bits");
    let number = u64::from_str_radix(digits, radix).map_err(|_| too_large())?;
    number.checked_mul(1 << unit).ok_or_else(too_large).map(Some)
}

struct Parser<'a> {
    rest: &'a str,
    symbol: &'a dyn Fn(&str) -> Option<u64>,
    depth: u32,
}

/// Binary operators from the loosest to the tightest.
const LEVELS: [&[&str]; 6] = [&["|"], &["^"], &["&"], &["<<", ">>"], &["+", "-"], &["*", "/", "%"]];

impl Parser<'_> {
    fn take(&mut self, token: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(token) else { return false };
        self.rest = rest.trim_start();
        true
    }

    fn binary(&mut self, level: usize) -> Result<u64, String> {
        let Some(operators) = LEVELS.get(level) else { return self.operand() };
        let mut left = self.binary(level + 1)?;
        while let Some(operator) = operators.iter().find(|o| self.rest.starts_with(**o)) {
            self.take(operator);
            let right = self.binary(level + 1)?;
            left = apply(operator, left, right)?;
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<u64, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("it is nested too deeply".to_owned());
        }
        let value = if self.take("~") {
            !self.operand()?
        } else if self.take("-") {
            self.operand()?.wrapping_neg()
        } else if self.take("(") {
            let value = self.binary(0)?;
            if !self.take(")") {
                return Err("a parenthesis is not closed".to_owned());
            }
            value
        } else {
            self.word()?
        };
        self.depth -= 1;
        Ok(value)
    }

    fn word(&mut self) -> Result<u64, String> {
        let of_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '$' | '@' | ':');
        let end = self.rest.find(|c| !of_word(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if word.is_empty() {
            return Err(match rest {
                "" => "an operand is missing".to_owned(),
                rest => format!("`{rest}` is not understood"),
            });
        }
        let value = match number(word)? {
            Some(number) => number,
            None => (self.symbol)(word)
                .ok_or_else(|| format!("{word} is neither a number nor a symbol"))?,
        };
        self.rest = rest.trim_start();
        Ok(value)
    }
}

fn apply(operator: &str, left: u64, right: u64) -> Result<u64, String> {
    let shift = u32::try_from(right).unwrap_or(u32::MAX);
    let zero = || "it divides by zero".to_owned();
    Ok(match operator {
        "|" => left | right,
        "^" => left ^ right,
        "&" => left & right,
        "<<" => left.checked_shl(shift).unwrap_or(0),
        ">>" => left.checked_shr(shift).unwrap_or(0),
        "+" => left.wrapping_add(right),
        "-" => left.wrapping_sub(right),
        "*" => left.wrapping_mul(right),
        "/" => left.checked_div(right).ok_or_else(zero)?,
        _ => left.checked_rem(right).ok_or_else(zero)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<u64, String> {
        evaluate(text, &|name| (name == "jiffies").then_some(0xffff_0000))
    }

    #[test]
    fn operators_bind_as_in_c() {
        assert_eq!(value("1 + 2 * 3"), Ok(7));
        assert_eq!(value("(1 + 2) * 3"), Ok(9));
        assert_eq!(value("1 | 2 << 4 & f0"), Ok(0x21));
        assert_eq!(value("10-3-2"), Ok(5));
        assert_eq!(value("~1 & ff"), Ok(0xfe));
        assert_eq!(value("7 - 9"), Ok(-2i64 as u64));
        assert_eq!(value("1 << 64"), Ok(0));
    }

    #[test]
    fn numbers_are_decimal_unless_a_letter_says_otherwise() {
        assert_eq!(value("100 + beef"), Ok(0xbf53));
        assert_eq!(value("0x1k"), Ok(1024));
        assert_eq!(value("010"), Ok(10));
        assert_eq!(value("2G"), Ok(2 << 30));
        assert_eq!(value("jiffies+8"), Ok(0xffff_0008));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(value("10 / 0"), Err("it divides by zero".into()));
        assert_eq!(value("12 34"), Err("`34` is not understood".into()));
        assert_eq!(value("(1"), Err("a parenthesis is not closed".into()));
        assert_eq!(value("1 +"), Err("an operand is missing".into()));
        assert!(value("100000000000000000000").unwrap_err().contains("64 bits"));
        assert!(value("zz").unwrap_err().contains("neither"));
        assert!(value(&"(".repeat(100_000)).unwrap_err().contains("nested"));
        assert!(value(&"-".repeat(100_000)).unwrap_err().contains("nested"));
    }
}
