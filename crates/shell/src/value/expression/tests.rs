use proptest::prelude::*;

use super::arithmetic::{self, Number};
use super::ast::{Binary, Derived, Expr, Node, Unary};
use super::{ExprError, lex, parse};

fn tree(text: &str) -> Result<Expr, ExprError> {
    parse::parse(lex::lex(text)?, &|name| matches!(name, "pid_t" | "list_head"))
}

/// Integers only.
fn number(expr: &Expr) -> Result<Number, String> {
    match &expr.node {
        Node::Integer { bits, size, signed } => {
            Ok(Number::Integer { bits: *bits, size: *size, signed: *signed })
        }
        Node::Unary(operator, a) => arithmetic::unary(*operator, number(a)?),
        Node::Binary(operator, a, b) => arithmetic::binary(*operator, number(a)?, number(b)?),
        node => Err(format!("{node:?}")),
    }
}

fn value(text: &str) -> Result<(u64, u64, bool), String> {
    match number(&tree(text).map_err(|e| e.to_string())?)? {
        Number::Integer { bits, size, signed } => Ok((bits, size, signed)),
        Number::Float(number) => Err(number.to_string()),
    }
}

#[test]
fn operators_bind_as_in_c() {
    assert_eq!(value("1 + 2 * 3 - 4 / 2"), Ok((5, 4, true)));
    assert_eq!(value("(1 + 2) * 3"), Ok((9, 4, true)));
    assert_eq!(value("1 << 4 | 1 == 1"), Ok((17, 4, true)));
    assert_eq!(value("10 - 3 - 2"), Ok((5, 4, true)));
    let Node::Binary(Binary::Repeat, first, _) = tree("*a.b@4").unwrap().node else { panic!() };
    assert!(matches!(first.node, Node::Unary(Unary::Deref, _)));
}

#[test]
fn numbers_have_the_types_of_c() {
    assert_eq!(value("0xffffffff"), Ok((0xffff_ffff, 4, false)));
    assert_eq!(value("2147483648"), Ok((0x8000_0000, 8, true)));
    assert_eq!(value("5u - 6"), Ok((0xffff_ffff, 4, false)));
    assert_eq!(value("-7 / 2"), Ok((0xffff_fffd, 4, true)));
    assert_eq!(value("~0UL"), Ok((u64::MAX, 8, false)));
    assert_eq!(value("1UL << 40"), Ok((1 << 40, 8, false)));
    assert_eq!(value("-1 < 0u"), Ok((0, 4, true)));
    assert_eq!(value("-1L < 0u"), Ok((1, 4, true)));
    assert_eq!(value("1 << 40"), Ok((0, 4, true)));
    assert_eq!(value("017 + 0b11"), Ok((18, 4, true)));
    assert_eq!(value("5 / 0"), Err("division by zero".to_owned()));
    assert_eq!(value("-9223372036854775807L - 1L"), Ok((1 << 63, 8, true)));
}

#[test]
fn types_and_values_are_told_apart() {
    let Node::Cast(ty, _) = tree("(const struct task_struct *)0x10").unwrap().node else {
        panic!()
    };
    assert_eq!(
        (ty.base.as_str(), ty.derived.as_slice()),
        ("struct task_struct", &[Derived::Pointer][..])
    );
    let Node::Type(ty) = tree("long unsigned int").unwrap().node else { panic!() };
    assert_eq!(ty.base, "unsigned long");
    let Node::Type(ty) = tree("int (*)(void *, int)").unwrap().node else { panic!() };
    assert_eq!(ty.derived, [Derived::Function, Derived::Pointer]);
    assert!(matches!(tree("(pid) + 1").unwrap().node, Node::Binary(..)));
    assert!(matches!(tree("sizeof(pid_t) * 2").unwrap().node, Node::Binary(Binary::Mul, ..)));
    assert_eq!(tree("runqueues:1").unwrap().node, Node::PerCpu("runqueues".into(), 1));
    assert!(matches!(tree("a ? b:1").unwrap().node, Node::Choice(..)));
}

#[test]
fn what_is_not_understood_is_told_with_its_column() {
    let column = |text| tree(text).unwrap_err().column;
    assert_eq!(column("1 +"), 4);
    assert_eq!(column("a->5"), 4);
    assert_eq!(column("f(1)"), 2);
    assert_eq!(column("a = 5"), 3);
    assert_eq!(column("1 ` 2"), 3);
    assert!(tree("a = 5").unwrap_err().to_string().contains("can't be changed"));
    assert!(tree(&"(".repeat(5000)).is_err());
    assert!(tree(&"-".repeat(900)).is_err());
    assert!(tree(&"1+".repeat(9000)).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,60}") {
        let _ = tree(&text).map(|tree| number(&tree));
    }

    #[test]
    fn no_tokens_make_it_panic(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "1", "0x8000000000000000", "a", "(", ")", "[", "]", "{", "}", "*", "&", "-", "->",
                ".", "struct", "x", "unsigned", "long", "pid_t", "sizeof", "@", "/", "%", "<<",
                ">>", "?", ":", ",", "'a'", "\"b\"", "$1", "a:1", "1.5", "-1", "!", "~", "=",
            ]),
            0..40,
        )
    ) {
        let _ = tree(&words.join(" ")).map(|tree| number(&tree));
    }
}
