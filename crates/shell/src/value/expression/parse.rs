//! From tokens to a tree, by C's precedences. gdb's `@` binds tighter than `*` and `/`.

use super::ExprError;
use super::ast::{Binary, Derived, Expr, Node, TypeName, Unary};
use super::lex::Token;

/// Deeper nesting is typed by nobody.
const MAX_DEPTH: usize = 200;

/// Parses `tokens`. `is_type` knows the typedefs and structs that a name may be.
pub(super) fn parse(
    tokens: Vec<(Token, usize)>,
    is_type: &dyn Fn(&str) -> bool,
) -> Result<Expr, ExprError> {
    let end = tokens.last().map_or(1, |(_, column)| column + 1);
    let mut parser = Parser { tokens, at: 0, end, depth: 0, is_type };
    let tree = match parser.whole_type()? {
        Some(ty) => Expr { column: ty.column, node: Node::Type(ty) },
        None => parser.expression(0)?,
    };
    match parser.peek() {
        None => Ok(tree),
        Some(token) => Err(parser.unexpected(&token.clone())),
    }
}

struct Parser<'t> {
    tokens: Vec<(Token, usize)>,
    at: usize,
    end: usize,
    depth: usize,
    is_type: &'t dyn Fn(&str) -> bool,
}

const INTEGER_WORDS: &[&str] = &[
    "unsigned", "signed", "long", "int", "short", "char", "_Bool", "bool", "float", "double",
    "__int128",
];
const QUALIFIERS: &[&str] = &["const", "volatile", "restrict"];

/// (operator, how tightly it binds)
fn binary(mark: &str) -> Option<(Binary, u8)> {
    Some(match mark {
        "," => (Binary::Comma, 1),
        "||" => (Binary::OrOr, 3),
        "&&" => (Binary::AndAnd, 4),
        "|" => (Binary::Or, 5),
        "^" => (Binary::Xor, 6),
        "&" => (Binary::And, 7),
        "==" => (Binary::Equal, 8),
        "!=" => (Binary::NotEqual, 8),
        "<" => (Binary::Less, 9),
        ">" => (Binary::Greater, 9),
        "<=" => (Binary::LessEqual, 9),
        ">=" => (Binary::GreaterEqual, 9),
        "<<" => (Binary::Shl, 10),
        ">>" => (Binary::Shr, 10),
        "+" => (Binary::Add, 11),
        "-" => (Binary::Sub, 11),
        "*" => (Binary::Mul, 12),
        "/" => (Binary::Div, 12),
        "%" => (Binary::Rem, 12),
        "@" => (Binary::Repeat, 13),
        _ => return None,
    })
}

/// `? :` binds like this.
const CHOICE: u8 = 2;

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn column(&self) -> usize {
        self.tokens.get(self.at).map_or(self.end, |(_, column)| *column)
    }

    fn fail<T>(&self, what: impl Into<String>) -> Result<T, ExprError> {
        Err(ExprError { what: what.into(), column: self.column() })
    }

    fn unexpected(&self, token: &Token) -> ExprError {
        let what = match token {
            Token::Mark("=") => "a dump can't be changed: `==` compares".to_owned(),
            Token::Mark("(") => "a dead kernel runs no functions".to_owned(),
            Token::Mark(mark) => format!("`{mark}` is not expected"),
            Token::Word(word) | Token::PerCpu(word, _) => format!("`{word}` is not expected"),
            _ => "an operator is missing".to_owned(),
        };
        ExprError { what, column: self.column() }
    }

    fn mark(&self) -> Option<&'static str> {
        match self.peek() {
            Some(Token::Mark(mark)) => Some(mark),
            _ => None,
        }
    }

    fn take(&mut self, mark: &str) -> bool {
        let found = self.mark() == Some(mark);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, mark: &str) -> Result<(), ExprError> {
        if self.take(mark) { Ok(()) } else { self.fail(format!("`{mark}` is missing")) }
    }

    /// Counts the nesting for as long as `inner` runs.
    fn nested<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, ExprError>,
    ) -> Result<T, ExprError> {
        if self.depth >= MAX_DEPTH {
            return self.fail("the expression is nested too deeply");
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// An expression of operators that bind at least as tightly as `least`.
    fn expression(&mut self, least: u8) -> Result<Expr, ExprError> {
        self.nested(|parser| {
            let mut left = parser.unary()?;
            // A chain such as 1+1+1... makes a deep tree without deep nesting here.
            let mut length = 0;
            while let Some(mark) = parser.mark() {
                let column = parser.column();
                length += 1;
                if length > MAX_DEPTH {
                    return parser.fail("the expression is too long");
                }
                if mark == "?" && least <= CHOICE {
                    parser.at += 1;
                    let yes = parser.expression(CHOICE)?;
                    parser.expect(":")?;
                    let no = parser.expression(CHOICE)?;
                    let node = Node::Choice(Box::new(left), Box::new(yes), Box::new(no));
                    left = Expr { node, column };
                    continue;
                }
                let Some((operator, tightness)) = binary(mark).filter(|(_, t)| *t >= least) else {
                    break;
                };
                parser.at += 1;
                let right = parser.expression(tightness + 1)?;
                let node = Node::Binary(operator, Box::new(left), Box::new(right));
                left = Expr { node, column };
            }
            Ok(left)
        })
    }

    fn unary(&mut self) -> Result<Expr, ExprError> {
        let column = self.column();
        let operator = match self.mark() {
            Some("&") => Unary::Address,
            // `&&x` has no other meaning here.
            Some("*") => Unary::Deref,
            Some("-") => Unary::Minus,
            Some("+") => Unary::Plus,
            Some("~") => Unary::Invert,
            Some("!") => Unary::Not,
            _ => return self.prefix(),
        };
        self.at += 1;
        let operand = self.nested(Self::unary)?;
        Ok(Expr { node: Node::Unary(operator, Box::new(operand)), column })
    }

    /// A cast, `{type}`, `sizeof`, or a value with what stands behind it.
    fn prefix(&mut self) -> Result<Expr, ExprError> {
        let column = self.column();
        if self.mark() == Some("(") && self.begins_type(self.at + 1) {
            self.at += 1;
            let ty = self.type_name()?;
            self.expect(")")?;
            let operand = self.nested(Self::unary)?;
            return Ok(Expr { node: Node::Cast(ty, Box::new(operand)), column });
        }
        if self.take("{") {
            let ty = self.type_name()?;
            self.expect("}")?;
            let operand = self.nested(Self::unary)?;
            return Ok(Expr { node: Node::At(ty, Box::new(operand)), column });
        }
        if self.peek() == Some(&Token::Word("sizeof".to_owned())) {
            self.at += 1;
            let operand = if self.mark() == Some("(") && self.begins_type(self.at + 1) {
                self.at += 1;
                let ty = self.type_name()?;
                self.expect(")")?;
                Expr { column: ty.column, node: Node::Type(ty) }
            } else {
                self.nested(Self::unary)?
            };
            return Ok(Expr { node: Node::SizeOf(Box::new(operand)), column });
        }
        self.postfix()
    }

    fn postfix(&mut self) -> Result<Expr, ExprError> {
        let mut value = self.primary()?;
        let mut length = 0;
        loop {
            let column = self.column();
            length += 1;
            if length > MAX_DEPTH {
                return self.fail("the expression is too long");
            }
            let node = if self.take("[") {
                let index = self.expression(0)?;
                self.expect("]")?;
                Node::Index(Box::new(value), Box::new(index))
            } else if self.mark() == Some(".") || self.mark() == Some("->") {
                let arrow = self.mark() == Some("->");
                self.at += 1;
                let name = match self.peek() {
                    Some(Token::Word(name)) => name.clone(),
                    _ => return self.fail("the name of a member is missing"),
                };
                self.at += 1;
                Node::Member(Box::new(value), name, arrow)
            } else {
                return Ok(value);
            };
            value = Expr { node, column };
        }
    }

    fn primary(&mut self) -> Result<Expr, ExprError> {
        let column = self.column();
        let Some(token) = self.peek().cloned() else {
            return self.fail("the expression ends where a value is expected");
        };
        let node = match token {
            Token::Integer { bits, size, signed } => Node::Integer { bits, size, signed },
            Token::Float(number) => Node::Float(number),
            Token::Character(byte) => Node::Character(byte),
            Token::Text(bytes) => Node::Text(bytes),
            Token::Word(name) => Node::Name(name),
            Token::PerCpu(name, cpu) => Node::PerCpu(name, cpu),
            Token::Dollar(name) => Node::Dollar(name),
            Token::Mark("(") => {
                self.at += 1;
                let inner = self.expression(0)?;
                self.expect(")")?;
                return Ok(inner);
            }
            other => return Err(self.unexpected(&other)),
        };
        self.at += 1;
        Ok(Expr { node, column })
    }

    /// Whether a type begins at token `at`.
    fn begins_type(&self, at: usize) -> bool {
        match self.tokens.get(at) {
            Some((Token::Word(word), _)) => {
                let word = word.as_str();
                matches!(word, "struct" | "union" | "enum" | "void")
                    || INTEGER_WORDS.contains(&word)
                    || QUALIFIERS.contains(&word)
                    || (self.is_type)(word)
            }
            _ => false,
        }
    }

    /// All tokens as a type, if they are one.
    fn whole_type(&mut self) -> Result<Option<TypeName>, ExprError> {
        if !self.begins_type(0) {
            return Ok(None);
        }
        let ty = self.type_name()?;
        match self.peek() {
            None => Ok(Some(ty)),
            Some(_) => {
                self.at = 0;
                Ok(None)
            }
        }
    }

    fn type_name(&mut self) -> Result<TypeName, ExprError> {
        let column = self.column();
        let mut integer: Vec<String> = Vec::new();
        let mut base: Option<String> = None;
        let mut qualifiers = String::new();
        while let Some(Token::Word(word)) = self.peek() {
            let word = word.clone();
            if QUALIFIERS.contains(&word.as_str()) {
                self.at += 1;
                qualifiers.push_str(&format!("{word} "));
            } else if base.is_none() && INTEGER_WORDS.contains(&word.as_str()) {
                self.at += 1;
                integer.push(word);
            } else if base.is_none() && integer.is_empty() {
                self.at += 1;
                base = Some(match word.as_str() {
                    "struct" | "union" | "enum" => match self.peek().cloned() {
                        Some(Token::Word(tag)) => {
                            self.at += 1;
                            format!("{word} {tag}")
                        }
                        _ => return self.fail(format!("the name of the {word} is missing")),
                    },
                    _ => word,
                });
            } else {
                break;
            }
        }
        let base = match base {
            Some(base) => base,
            None if integer.is_empty() => return self.fail("the name of a type is missing"),
            None => integer_name(&integer),
        };
        let mut derived = Vec::new();
        self.pointers(&mut derived);
        // `(*)(...)` or `(*)[N]`
        let mut inner = Vec::new();
        let behind = self.tokens.get(self.at + 1).map(|(token, _)| token);
        if self.mark() == Some("(") && behind == Some(&Token::Mark("*")) {
            self.at += 1;
            self.pointers(&mut inner);
            self.expect(")")?;
        }
        if !inner.is_empty() && self.take("(") {
            let mut open = 1;
            while open > 0 {
                match self.peek() {
                    Some(Token::Mark("(")) => open += 1,
                    Some(Token::Mark(")")) => open -= 1,
                    Some(_) => {}
                    None => return self.fail("`)` is missing"),
                }
                self.at += 1;
            }
            derived.push(Derived::Function);
        }
        let mut arrays = Vec::new();
        while self.take("[") {
            let len = match self.mark() {
                Some("]") => None,
                _ => Some(Box::new(self.expression(0)?)),
            };
            self.expect("]")?;
            arrays.push(Derived::Array(len));
        }
        derived.extend(arrays.into_iter().rev());
        derived.extend(inner);
        Ok(TypeName { qualifiers, base, derived, column })
    }

    fn pointers(&mut self, derived: &mut Vec<Derived>) {
        loop {
            if self.take("*") {
                derived.push(Derived::Pointer);
            } else if matches!(self.peek(), Some(Token::Word(w)) if QUALIFIERS.contains(&w.as_str()))
            {
                self.at += 1;
            } else {
                return;
            }
        }
    }
}

/// `unsigned long` for `long unsigned int`.
fn integer_name(words: &[String]) -> String {
    let has = |word: &str| words.iter().any(|w| w == word);
    let longs = words.iter().filter(|w| *w == "long").count();
    let unsigned = if has("unsigned") { "unsigned " } else { "" };
    let base = match (longs, words) {
        _ if has("_Bool") || has("bool") => return "bool".to_owned(),
        _ if has("float") => return "float".to_owned(),
        _ if has("double") => return "double".to_owned(),
        _ if has("char") && has("signed") => return "signed char".to_owned(),
        _ if has("char") => "char",
        _ if has("short") => "short",
        _ if has("__int128") => "__int128",
        (0, _) => "int",
        (1, _) => "long",
        _ => "long long",
    };
    format!("{unsigned}{base}")
}
