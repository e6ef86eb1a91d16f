//! Expressions of C over the dead kernel, as gdb's `print` takes them: symbols, enum constants,
//! casts, members, indices, arithmetic, `sizeof`, `array@count`, `{type}address`, per-CPU copies
//! (`runqueues:1`), results of earlier expressions (`$1`, `$`).
//!
//! [`lex`] makes tokens, [`parse`] a tree, [`eval`] walks it. Nothing is written to the dump, and
//! no function is called: both are told.

mod arithmetic;
mod ast;
mod ctype;
mod eval;
mod lex;
pub(crate) mod lookup;
mod operand;
mod parse;

use kmortem_kernel::Kernel;

use crate::session::Session;
pub(crate) use ctype::CType;
pub(crate) use operand::Operand;

/// What was not understood, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} (column {column})")]
pub(crate) struct ExprError {
    pub(crate) what: String,
    /// From 1, in the expression.
    pub(crate) column: usize,
}

/// What an expression may speak of.
#[derive(Clone, Copy)]
pub(crate) struct Env<'k> {
    pub(crate) kernel: &'k Kernel,
    /// Expressions whose values `$1`, `$2`, ... are.
    pub(crate) history: &'k [String],
    /// The `mm_struct` whose user memory addresses are of.
    pub(crate) user: Option<u64>,
}

/// An expression, or the name of a type.
pub(crate) enum Meaning<'k> {
    Value(Operand<'k>),
    Type(CType<'k>),
}

/// The value of `text`.
pub(crate) fn evaluate<'k>(env: Env<'k>, text: &str) -> Result<Operand<'k>, ExprError> {
    match meaning(env, text)? {
        Meaning::Value(value) => Ok(value),
        Meaning::Type(ty) => {
            let what = format!("{} is a type; `whatis` shows it", ty.name());
            Err(ExprError { what, column: 1 })
        }
    }
}

/// What `text` means: a value or a type.
pub(crate) fn meaning<'k>(env: Env<'k>, text: &str) -> Result<Meaning<'k>, ExprError> {
    let is_type = |name: &str| lookup::is_type_name(env.kernel, name);
    let tree = parse::parse(lex::lex(text)?, &is_type)?;
    eval::Evaluator::new(env).meaning(&tree)
}

/// The type that a declaration without its name means: `struct list_head [3]`.
pub(crate) fn type_of_declaration<'k>(
    kernel: &'k Kernel,
    text: &str,
) -> Result<CType<'k>, ExprError> {
    let env = Env { kernel, history: &[], user: None };
    match meaning(env, text)? {
        Meaning::Type(ty) => Ok(ty),
        Meaning::Value(_) => Err(ExprError { what: format!("{text} is no type"), column: 1 }),
    }
}

/// The address that `text` means: a pointer's value, or where an object lies.
pub(crate) fn address(session: &Session, text: &str) -> Result<u64, ExprError> {
    let env = Env { kernel: session.kernel(), history: session.history(), user: None };
    let value = evaluate(env, text)?;
    let whole = value.ty.is_record();
    match value.address() {
        Some(addr) if whole => Ok(addr),
        _ => value.integer(&env).map_err(|what| ExprError { what, column: 1 }),
    }
}

#[cfg(test)]
mod tests;
