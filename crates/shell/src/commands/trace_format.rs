//! A trace event's own words: what its `print_fmt` makes of its fields.
//!
//! `trace_event_call.print_fmt` is the text of the macro `TP_printk`: a format
//! in quotes, and C expressions over `REC->FIELD`, with helpers such as
//! `__get_str(FIELD)`, `__print_flags(VALUE, "|", { BIT, "NAME" }, ...)` and
//! `__print_symbolic(VALUE, { NUMBER, "NAME" }, ...)`
//! (include/trace/stages/stage3_trace_output.h). The parts are parsed once for
//! an event, see `trace_parse.rs`. What is not understood here
//! leaves the event to its fields' names and values.

use std::cell::RefCell;
use std::rc::Rc;

use kmortem_kernel::Kernel;
use kmortem_kernel::ftrace::{EventFormat, FieldValue};
use rustc_hash::FxHashMap;

use super::trace_parse::{Binary, Expr, parse};
use crate::printf::{Argument, Conversion, Piece};
use crate::value::expression::lookup;

/// A format of events, ready to be filled.
struct Printer {
    pieces: Vec<Piece>,
    arguments: Vec<Expr>,
}

/// A value of an expression.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    /// 64 bits, whether they have a sign, and how far `+ 1` goes from a pointer.
    Number {
        bits: u64,
        signed: bool,
        step: u64,
    },
    Text(String),
    Numbers(Vec<u64>),
}

/// Values of names, as they were found.
type Names = RefCell<FxHashMap<String, Option<Value>>>;

/// What an expression speaks of.
struct Scope<'e> {
    kernel: Option<&'e Kernel>,
    names: &'e Names,
    fields: &'e [(String, FieldValue)],
}

/// The printers of a kernel's events, made when the first of a kind comes.
pub(super) struct Printers<'k> {
    kernel: &'k Kernel,
    by_id: RefCell<FxHashMap<i32, Option<Rc<Printer>>>>,
    names: Names,
}

impl<'k> Printers<'k> {
    pub(super) fn new(kernel: &'k Kernel) -> Printers<'k> {
        Printers { kernel, by_id: RefCell::default(), names: RefCell::default() }
    }

    /// An event of `format` with these fields in its own words; `None`: its format is beyond what
    /// is understood here.
    pub(super) fn print(
        &self,
        format: &EventFormat,
        fields: &[(String, FieldValue)],
    ) -> Option<String> {
        let make = || Printer::new(&format.print_fmt).map(Rc::new);
        let printer = self.by_id.borrow_mut().entry(format.id).or_insert_with(make).clone()?;
        printer.print(&Scope { kernel: Some(self.kernel), names: &self.names, fields })
    }
}

impl Printer {
    /// `None`: its format is beyond what is understood here.
    fn new(print_fmt: &str) -> Option<Printer> {
        let (format, arguments) = parse(print_fmt)?;
        let pieces = crate::printf::parse(&format).ok()?;
        let wanted = pieces.iter().filter(|piece| matches!(piece, Piece::Value(_))).count();
        (wanted == arguments.len()).then_some(Printer { pieces, arguments })
    }

    /// The event in its own words.
    fn print(&self, scope: &Scope<'_>) -> Option<String> {
        let mut arguments = self.arguments.iter();
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Value(conversion) => {
                    let value = scope.value(arguments.next()?)?;
                    text.push_str(&scope.converted(conversion, value)?);
                }
            }
        }
        Some(text.trim_end_matches('\n').to_owned())
    }
}

impl Scope<'_> {
    fn converted(&self, conversion: &Conversion, value: Value) -> Option<String> {
        Some(match (conversion.letter, conversion.suffix.as_str(), value) {
            ('s', _, Value::Text(text)) => conversion.write(&Argument::Text(text)),
            ('p', "s" | "S" | "B", Value::Number { bits, .. }) => {
                let found = self.kernel.and_then(|kernel| kernel.symbol_at(bits));
                match (found, conversion.suffix.as_str()) {
                    (Some(found), "s") => found.name,
                    (Some(found), _) => {
                        format!("{}+{:#x}/{:#x}", found.name, found.offset, found.size)
                    }
                    (None, _) => format!("{bits:#x}"),
                }
            }
            // Others show what lies at an address, which the event does not have.
            ('p', "" | "x" | "K", Value::Number { bits, .. }) => format!("{bits:#x}"),
            ('s' | 'p', ..) => return None,
            (_, _, Value::Number { bits, .. }) => conversion.write(&Argument::Integer(bits)),
            _ => return None,
        })
    }

    fn value(&self, expr: &Expr) -> Option<Value> {
        Some(match expr {
            Expr::Number { bits, signed } => {
                Value::Number { bits: *bits, signed: *signed, step: 1 }
            }
            Expr::Text(text) => Value::Text(text.clone()),
            Expr::Field(name) => self.field(name)?,
            Expr::Name(name) => self.named(name)?,
            Expr::Not(of) => truth(!self.is_true(of)?),
            Expr::Complement(of) => match self.value(of)? {
                Value::Number { bits, signed, .. } => {
                    Value::Number { bits: !bits, signed, step: 1 }
                }
                _ => return None,
            },
            Expr::Minus(of) => match self.value(of)? {
                Value::Number { bits, .. } => {
                    Value::Number { bits: bits.wrapping_neg(), signed: true, step: 1 }
                }
                _ => return None,
            },
            Expr::Cast { size, signed, target, of } => self.cast((*size, *signed), target, of)?,
            Expr::Binary(op, a, b) => self.binary(*op, a, b)?,
            Expr::Choice(condition, yes, no) => match self.is_true(condition)? {
                true => self.value(yes)?,
                false => self.value(no)?,
            },
            Expr::Call(name, arguments) => self.call(name, arguments)?,
            Expr::Pair(..) => return None,
        })
    }

    fn field(&self, name: &str) -> Option<Value> {
        let (_, value) = self.fields.iter().find(|(field, _)| field == name)?;
        Some(match value {
            FieldValue::Signed(n) => {
                Value::Number { bits: n.cast_unsigned(), signed: true, step: 1 }
            }
            FieldValue::Unsigned(n) => Value::Number { bits: *n, signed: false, step: 1 },
            FieldValue::Pointer(text) => {
                let bits = u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()?;
                Value::Number { bits, signed: false, step: 1 }
            }
            FieldValue::Text(text) => Value::Text(text.clone()),
            FieldValue::Numbers(all) => Value::Numbers(all.clone()),
        })
    }

    /// A constant of an enum, or a variable of the kernel of 8 bytes.
    fn named(&self, name: &str) -> Option<Value> {
        if let Some(known) = self.names.borrow().get(name) {
            return known.clone();
        }
        let found = self.find(name);
        self.names.borrow_mut().insert(name.to_owned(), found.clone());
        found
    }

    fn find(&self, name: &str) -> Option<Value> {
        let kernel = self.kernel?;
        if let Some((_, value)) = lookup::constant(kernel, name) {
            return Some(Value::Number { bits: value.cast_unsigned(), signed: true, step: 1 });
        }
        let bits = kernel.read_u64(kernel.symbol(name).ok()?).ok()?;
        Some(Value::Number { bits, signed: false, step: 1 })
    }

    fn cast(&self, (size, signed): (u64, bool), target: &str, of: &Expr) -> Option<Value> {
        let value = self.value(of)?;
        let Value::Number { bits, .. } = value else { return Some(value) };
        let step = match target {
            "" | "void" => 1,
            target => self.kernel?.ty(target).ok()?.size()?,
        };
        let unused = 64 - (size.clamp(1, 8) * 8) as u32;
        let bits = match signed {
            true => ((bits << unused) as i64 >> unused).cast_unsigned(),
            false => bits << unused >> unused,
        };
        Some(Value::Number { bits, signed, step })
    }

    fn is_true(&self, expr: &Expr) -> Option<bool> {
        match self.value(expr)? {
            Value::Number { bits, .. } => Some(bits != 0),
            Value::Text(_) => Some(true),
            Value::Numbers(_) => None,
        }
    }

    fn number(&self, expr: &Expr) -> Option<u64> {
        match self.value(expr)? {
            Value::Number { bits, .. } => Some(bits),
            _ => None,
        }
    }

    fn binary(&self, op: Binary, a: &Expr, b: &Expr) -> Option<Value> {
        match op {
            Binary::And => return Some(truth(self.is_true(a)? && self.is_true(b)?)),
            Binary::Or => return Some(truth(self.is_true(a)? || self.is_true(b)?)),
            _ => {}
        }
        let (Value::Number { bits: a, signed: x, step }, Value::Number { bits: b, signed: y, .. }) =
            (self.value(a)?, self.value(b)?)
        else {
            return None;
        };
        let signed = x && y;
        let (i, j) = (a.cast_signed(), b.cast_signed());
        let shift = u32::try_from(b).ok().filter(|n| *n < 64);
        let bits = match op {
            Binary::Add => a.wrapping_add(b.wrapping_mul(step)),
            Binary::Sub => a.wrapping_sub(b),
            Binary::Mul => a.wrapping_mul(b),
            Binary::Div if signed => i.checked_div(j)?.cast_unsigned(),
            Binary::Div => a.checked_div(b)?,
            Binary::Rem if signed => i.checked_rem(j)?.cast_unsigned(),
            Binary::Rem => a.checked_rem(b)?,
            Binary::BitAnd => a & b,
            Binary::BitOr => a | b,
            Binary::BitXor => a ^ b,
            Binary::Left => a << shift?,
            Binary::Right if x => (i >> shift?).cast_unsigned(),
            Binary::Right => a >> shift?,
            Binary::Equal => return Some(truth(a == b)),
            Binary::NotEqual => return Some(truth(a != b)),
            Binary::Less => return Some(truth(if signed { i < j } else { a < b })),
            Binary::LessEqual => return Some(truth(if signed { i <= j } else { a <= b })),
            Binary::Greater => return Some(truth(if signed { i > j } else { a > b })),
            Binary::GreaterEqual => return Some(truth(if signed { i >= j } else { a >= b })),
            Binary::And | Binary::Or => return None,
        };
        Some(Value::Number { bits, signed, step })
    }

    fn call(&self, name: &str, arguments: &[Expr]) -> Option<Value> {
        let field = || match arguments {
            [Expr::Name(name)] => self.field(name),
            _ => None,
        };
        Some(match (name, arguments) {
            ("__get_str" | "__get_rel_str" | "__get_dynamic_array", _) => field()?,
            ("__get_rel_dynamic_array", _) => field()?,
            ("__print_flags" | "__print_flags_u64", [flags, Expr::Text(delimiter), names @ ..]) => {
                Value::Text(self.flags(self.number(flags)?, delimiter, names)?)
            }
            ("__print_symbolic" | "__print_symbolic_u64", [number, names @ ..]) => {
                let number = self.number(number)?;
                let mut text = format!("{number:#x}");
                for pair in names {
                    let Expr::Pair(value, name) = pair else { return None };
                    let Some(name) = name else { break };
                    if self.number(value)? == number {
                        text.clone_from(name);
                        break;
                    }
                }
                Value::Text(text)
            }
            ("__print_hex", [of, len]) => {
                let bytes = self.numbers(of, len)?;
                let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                Value::Text(bytes.join(" "))
            }
            ("__print_array", [of, count, _]) => {
                let all = self.numbers(of, count)?;
                let all: Vec<String> = all.iter().map(|n| format!("{n:#x}")).collect();
                Value::Text(format!("{{{}}}", all.join(",")))
            }
            _ => return None,
        })
    }

    /// The elements of an array of the event, as many as `count` says.
    fn numbers(&self, of: &Expr, count: &Expr) -> Option<Vec<u64>> {
        let Value::Numbers(mut all) = self.value(of)? else { return None };
        all.truncate(usize::try_from(self.number(count)?).ok()?);
        Some(all)
    }

    /// Names of bits, then the bits that have none (`trace_print_flags_seq`).
    fn flags(&self, mut flags: u64, delimiter: &str, names: &[Expr]) -> Option<String> {
        let mut found = Vec::new();
        for pair in names {
            let Expr::Pair(mask, name) = pair else { return None };
            let Some(name) = name else { break };
            let mask = self.number(mask)?;
            if flags != 0 && flags & mask == mask {
                found.push(name.clone());
                flags &= !mask;
            }
        }
        if flags != 0 {
            found.push(format!("{flags:#x}"));
        }
        Some(found.join(delimiter))
    }
}

fn truth(value: bool) -> Value {
    Value::Number { bits: u64::from(value), signed: true, step: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(print_fmt: &str) -> Option<String> {
        let number = |name: &str, n| (name.to_owned(), FieldValue::Unsigned(n));
        let fields = [
            number("dev", 0x00fe_0003),
            number("vec", 9),
            number("state", 0x102),
            ("name".to_owned(), FieldValue::Text("ttyS0".to_owned())),
            ("prio".to_owned(), FieldValue::Signed(-2)),
            ("buf".to_owned(), FieldValue::Numbers(vec![1, 0xab])),
        ];
        let names = Names::default();
        Printer::new(print_fmt)?.print(&Scope { kernel: None, names: &names, fields: &fields })
    }

    #[test]
    fn events_are_written_as_their_formats_say() {
        for (print_fmt, expected) in [
            (
                r#""%d,%d", ((unsigned int) ((REC->dev) >> 20)), ((unsigned int) ((REC->dev) & ((1U << 20) - 1)))"#,
                "15,917507",
            ),
            (
                r#""vec=%u [action=%s]", REC->vec, __print_symbolic(REC->vec, { 0, "HI" }, { (1 << 3) + 1, "RCU" })"#,
                "vec=9 [action=RCU]",
            ),
            (r#""%s", __print_symbolic(REC->vec, { 0, "HI" })"#, "0x9"),
            (
                r#""prev_state=%s%s", (REC->state & 0xff) ? __print_flags(REC->state & 0xff, "|", { 0x1, "S" }, { 0x2, "D" }) : "R", REC->state & 0x100 ? "+" : """#,
                "prev_state=D+",
            ),
            (
                r#""%s", __print_flags(REC->state, "|", { 0x2, "D" }, { 0, ((void *)0) })"#,
                "D|0x100",
            ),
            (r#""(%lx) name=\"%s\"", REC->dev, __get_str(name)"#, "(fe0003) name=\"ttyS0\""),
            (r#""prio=%d %03d" " more", REC->prio, REC->vec"#, "prio=-2 009 more"),
            (
                r#""%s %s", __print_hex(__get_dynamic_array(buf), 2), __print_array(REC->buf, 1, 1)"#,
                "01 ab {0x1}",
            ),
            (r#""timeout=%ld", (long)REC->vec - REC->prio"#, "timeout=11"),
        ] {
            assert_eq!(printed(print_fmt).as_deref(), Some(expected), "{print_fmt}");
        }
    }

    #[test]
    fn what_is_not_understood_is_left_to_the_fields() {
        for print_fmt in [
            "",
            "no quotes",
            r#""%d""#,
            r#""%d", REC->missing"#,
            r#""%d", REC->vec / 0"#,
            r#""%s", __unknown(REC->vec)"#,
            r#""%pI4", REC->dev"#,
            r#""%s", REC->vec"#,
            r#""%d", (((((REC->vec"#,
        ] {
            assert_eq!(printed(print_fmt), None, "{print_fmt}");
        }
    }
}
