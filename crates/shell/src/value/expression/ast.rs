//! The tree of an expression.

/// An expression with the column that it begins at, or its operator stands at.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expr {
    pub(crate) node: Node,
    pub(crate) column: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Integer {
        bits: u64,
        size: u64,
        signed: bool,
    },
    Float(f64),
    Character(u8),
    Text(Vec<u8>),
    Name(String),
    /// `runqueues:1`
    PerCpu(String, u32),
    /// `$`, `$1`, `$rip`: what stands behind the dollar.
    Dollar(String),
    Unary(Unary, Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    /// `a ? b : c`
    Choice(Box<Expr>, Box<Expr>, Box<Expr>),
    Cast(TypeName, Box<Expr>),
    /// `{type}address`
    At(TypeName, Box<Expr>),
    SizeOf(Box<Expr>),
    /// `a.b`, or with `true` `a->b`
    Member(Box<Expr>, String, bool),
    Index(Box<Expr>, Box<Expr>),
    Type(TypeName),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unary {
    Address,
    Deref,
    Minus,
    Plus,
    Invert,
    Not,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Shl,
    Shr,
    Less,
    Greater,
    LessEqual,
    GreaterEqual,
    Equal,
    NotEqual,
    And,
    Xor,
    Or,
    AndAnd,
    OrOr,
    /// gdb's `first@count`
    Repeat,
    Comma,
}

/// A type as it was typed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TypeName {
    /// `const `, `volatile `, both or nothing.
    pub(crate) qualifiers: String,
    /// `struct foo`, `unsigned long`, `pid_t`, `void`
    pub(crate) base: String,
    /// What is made of it, from the inside out.
    pub(crate) derived: Vec<Derived>,
    pub(crate) column: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Derived {
    Pointer,
    /// `[N]`, or `[]`
    Array(Option<Box<Expr>>),
    Function,
}
