//! The C of a trace event's `print_fmt`: a format and its arguments.
//!
//! Only what `TP_printk` needs: numbers, text, `REC->FIELD`, casts to integers
//! and pointers, operators, `?:`, calls with names as arguments, and pairs in
//! braces. Nothing is looked up here.

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    Number {
        bits: u64,
        signed: bool,
    },
    Text(String),
    /// `REC->NAME`
    Field(String),
    /// A constant, a variable, or what a call takes.
    Name(String),
    Not(Box<Expr>),
    Complement(Box<Expr>),
    Minus(Box<Expr>),
    /// To an integer of `size` bytes; of pointers, what they point to.
    Cast {
        size: u64,
        signed: bool,
        target: String,
        of: Box<Expr>,
    },
    Binary(Binary, Box<Expr>, Box<Expr>),
    Choice(Box<Expr>, Box<Expr>, Box<Expr>),
    Call(String, Vec<Expr>),
    /// `{ NUMBER, "NAME" }`; `{ 0, NULL }` ends a list.
    Pair(Box<Expr>, Option<String>),
}

/// Operators between two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    BitAnd,
    BitOr,
    BitXor,
    Left,
    Right,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    And,
    Or,
}

/// How they are written, and how tightly they bind.
const OPERATORS: &[(&str, Binary, u8)] = &[
    ("||", Binary::Or, 1),
    ("&&", Binary::And, 2),
    ("|", Binary::BitOr, 3),
    ("^", Binary::BitXor, 4),
    ("&", Binary::BitAnd, 5),
    ("==", Binary::Equal, 6),
    ("!=", Binary::NotEqual, 6),
    ("<=", Binary::LessEqual, 7),
    (">=", Binary::GreaterEqual, 7),
    ("<<", Binary::Left, 8),
    (">>", Binary::Right, 8),
    ("<", Binary::Less, 7),
    (">", Binary::Greater, 7),
    ("+", Binary::Add, 9),
    ("-", Binary::Sub, 9),
    ("*", Binary::Mul, 10),
    ("/", Binary::Div, 10),
    ("%", Binary::Rem, 10),
];

/// Integer types of more than one meaning, besides those of C itself.
const TYPES: &[(&str, u64, bool)] = &[
    ("u8", 1, false),
    ("__u8", 1, false),
    ("u16", 2, false),
    ("__u16", 2, false),
    ("u32", 4, false),
    ("__u32", 4, false),
    ("u64", 8, false),
    ("__u64", 8, false),
    ("s8", 1, true),
    ("s16", 2, true),
    ("s32", 4, true),
    ("__s32", 4, true),
    ("s64", 8, true),
    ("__s64", 8, true),
    ("gfp_t", 4, false),
    ("size_t", 8, false),
    ("ssize_t", 8, true),
    ("dev_t", 4, false),
    ("pid_t", 4, true),
    ("sector_t", 8, false),
    ("loff_t", 8, true),
    ("bool", 1, false),
    ("uintptr_t", 8, false),
];

/// Brackets in brackets: macros nest deeply, but not without end.
const DEEPEST: usize = 128;

/// The format in quotes (with its escapes) and the arguments behind it.
pub(super) fn parse(print_fmt: &str) -> Option<(String, Vec<Expr>)> {
    let mut parser = Parser { rest: print_fmt, depth: 0 };
    let format = parser.text()?;
    let mut arguments = Vec::new();
    while parser.takes(",") {
        arguments.push(parser.choice()?);
    }
    parser.blank();
    parser.rest.is_empty().then_some((format, arguments))
}

struct Parser<'t> {
    rest: &'t str,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Whether `symbol` comes next; then it is taken.
    fn takes(&mut self, symbol: &str) -> bool {
        self.blank();
        match self.rest.strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> Option<&'t str> {
        self.blank();
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        if word.is_empty() || word.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.rest = rest;
        Some(word)
    }

    /// Texts behind each other are one.
    fn text(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut some = false;
        while self.takes("\"") {
            let mut escaped = false;
            let end = self.rest.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            })?;
            text.push_str(&self.rest[..end]);
            self.rest = &self.rest[end + 1..];
            some = true;
        }
        some.then_some(text)
    }

    fn choice(&mut self) -> Option<Expr> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        let condition = self.binary(1)?;
        let expr = if self.takes("?") {
            let yes = self.choice()?;
            if !self.takes(":") {
                return None;
            }
            Expr::Choice(Box::new(condition), Box::new(yes), Box::new(self.choice()?))
        } else {
            condition
        };
        self.depth -= 1;
        Some(expr)
    }

    fn binary(&mut self, least: u8) -> Option<Expr> {
        let mut left = self.unary()?;
        loop {
            self.blank();
            let next = OPERATORS.iter().find(|(text, ..)| self.rest.starts_with(text));
            let Some((text, op, level)) = next.filter(|(.., level)| *level >= least) else {
                return Some(left);
            };
            self.rest = &self.rest[text.len()..];
            let right = self.binary(level + 1)?;
            left = Expr::Binary(*op, Box::new(left), Box::new(right));
        }
    }

    fn unary(&mut self) -> Option<Expr> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        let expr = if self.takes("!") {
            Expr::Not(Box::new(self.unary()?))
        } else if self.takes("~") {
            Expr::Complement(Box::new(self.unary()?))
        } else if self.takes("-") {
            Expr::Minus(Box::new(self.unary()?))
        } else if self.takes("(") {
            match self.type_name() {
                Some((size, signed, target)) => {
                    Expr::Cast { size, signed, target, of: Box::new(self.unary()?) }
                }
                None => {
                    let inner = self.choice()?;
                    if !self.takes(")") {
                        return None;
                    }
                    inner
                }
            }
        } else {
            self.primary()?
        };
        self.depth -= 1;
        Some(expr)
    }

    /// A type and the bracket behind it; nothing is taken where there is none.
    fn type_name(&mut self) -> Option<(u64, bool, String)> {
        let before = self.rest;
        let found = self.type_words();
        if found.is_none() {
            self.rest = before;
        }
        found
    }

    fn type_words(&mut self) -> Option<(u64, bool, String)> {
        let mut words = Vec::new();
        while let Some(word) = self.word() {
            if !matches!(word, "const" | "volatile" | "__force") {
                words.push(word);
            }
        }
        let pointer = self.takes("*");
        if words.is_empty() || !self.takes(")") {
            return None;
        }
        if pointer {
            return Some((8, false, words.join(" ")));
        }
        let known = TYPES.iter().find(|(name, ..)| words == [*name]);
        if let Some((_, size, signed)) = known {
            return Some((*size, *signed, String::new()));
        }
        let is_c = |word: &&str| {
            matches!(*word, "unsigned" | "signed" | "long" | "int" | "short" | "char")
        };
        if !words.iter().all(is_c) {
            return None;
        }
        let size = match () {
            () if words.contains(&"long") => 8,
            () if words.contains(&"short") => 2,
            () if words.contains(&"char") => 1,
            () => 4,
        };
        Some((size, !words.contains(&"unsigned"), String::new()))
    }

    fn primary(&mut self) -> Option<Expr> {
        self.blank();
        if self.rest.starts_with('"') {
            return Some(Expr::Text(self.text()?));
        }
        if self.rest.starts_with(|c: char| c.is_ascii_digit()) {
            return self.number();
        }
        if self.takes("{") {
            let number = self.choice()?;
            if !self.takes(",") {
                return None;
            }
            let name = self.text();
            if name.is_none() {
                self.choice()?;
            }
            // A comma may stand behind the last of a list.
            self.takes(",");
            return self.takes("}").then_some(Expr::Pair(Box::new(number), name));
        }
        let name = self.word()?;
        if name == "REC" {
            return if self.takes("->") {
                Some(Expr::Field(self.word()?.to_owned()))
            } else {
                None
            };
        }
        if !self.takes("(") {
            return Some(Expr::Name(name.to_owned()));
        }
        let mut arguments = Vec::new();
        if !self.takes(")") {
            loop {
                arguments.push(self.choice()?);
                if self.takes(")") {
                    break;
                }
                if !self.takes(",") {
                    return None;
                }
            }
        }
        Some(Expr::Call(name.to_owned(), arguments))
    }

    fn number(&mut self) -> Option<Expr> {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric());
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        let digits = word.trim_end_matches(['u', 'U', 'l', 'L']);
        let bits = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            Some(hex) => u64::from_str_radix(hex, 16).ok()?,
            None if digits.len() > 1 && digits.starts_with('0') => {
                u64::from_str_radix(digits, 8).ok()?
            }
            None => digits.parse().ok()?,
        };
        self.rest = rest;
        let unsigned = word[digits.len()..].contains(['u', 'U']);
        Some(Expr::Number { bits, signed: !unsigned })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_bind_as_in_c() {
        let (format, arguments) = parse(r#""%d", 1 + 2 * 3 << 1 == 14 && 1"#).unwrap();
        assert_eq!(format, "%d");
        let [Expr::Binary(Binary::And, left, _)] = arguments.as_slice() else {
            panic!("{arguments:?}")
        };
        let Expr::Binary(Binary::Equal, left, _) = &**left else { panic!("{left:?}") };
        assert!(matches!(&**left, Expr::Binary(Binary::Left, ..)));
    }

    #[test]
    fn casts_are_told_from_brackets() {
        let argument = |text: &str| parse(&format!("\"%d\", {text}")).unwrap().1.remove(0);
        assert!(matches!(argument("(unsigned long)1"), Expr::Cast { size: 8, signed: false, .. }));
        assert!(matches!(argument("((( gfp_t)1))"), Expr::Cast { size: 4, .. }));
        assert!(matches!(argument("(void *)REC->ip"), Expr::Cast { size: 8, .. }));
        assert_eq!(argument("(name)"), Expr::Name("name".to_owned()));
    }

    #[test]
    fn brackets_without_end_are_refused() {
        let deep = format!("\"%d\", {}1", "(".repeat(100_000));
        assert_eq!(parse(&deep), None);
        assert_eq!(parse(&format!("\"%d\", {}1", "-".repeat(100_000))), None);
        assert_eq!((parse("\"%d"), parse("\"%d\", ")), (None, None));
    }
}
