//! From a tree to a value.

use super::arithmetic::{self, Number};
use super::ast::{Binary, Derived, Expr, Node, TypeName, Unary};
use super::ctype::{CType, Shape};
use super::operand::{Operand, Place, needs_cpu};
use super::{Env, ExprError, Meaning, lookup};

/// Evaluates one expression.
pub(super) struct Evaluator<'k> {
    env: Env<'k>,
}

/// A failure that gets its column from the node it happened at.
type Step<T> = Result<T, String>;

impl<'k> Evaluator<'k> {
    pub(super) fn new(env: Env<'k>) -> Evaluator<'k> {
        Evaluator { env }
    }

    pub(super) fn meaning(&self, tree: &Expr) -> Result<Meaning<'k>, ExprError> {
        match &tree.node {
            Node::Type(name) => self.ty(name).map(Meaning::Type),
            _ => self.value(tree).map(Meaning::Value),
        }
    }

    fn value(&self, expr: &Expr) -> Result<Operand<'k>, ExprError> {
        let at = |what: String| ExprError { what, column: expr.column };
        match &expr.node {
            Node::Integer { bits, size, signed } => Ok(Operand::of_integer(*bits, *size, *signed)),
            Node::Float(number) => Ok(float(*number)),
            Node::Character(byte) => {
                let char_type = lookup::base_type(self.env.kernel, "char").map_err(at)?;
                Ok(Operand::computed(char_type, u64::from(*byte), 1))
            }
            Node::Text(bytes) => {
                let char_type = lookup::base_type(self.env.kernel, "char").map_err(at)?;
                let mut bytes = bytes.clone();
                bytes.push(0);
                let ty = CType::Array(Box::new(char_type), bytes.len() as u64);
                Ok(Operand { ty, place: Place::Computed(bytes) })
            }
            Node::Name(name) => lookup::name(self.env.kernel, name).map_err(at),
            Node::PerCpu(name, cpu) => {
                let found = lookup::name(self.env.kernel, name).map_err(at)?;
                let addr = self.env.kernel.per_cpu(name, *cpu).map_err(|e| at(e.to_string()))?;
                Ok(Operand { ty: found.ty, place: Place::Memory(addr) })
            }
            Node::Dollar(name) => self.history(name).map_err(at),
            Node::Unary(operator, operand) => self.unary(*operator, operand, expr.column),
            Node::Binary(operator, a, b) => self.binary(*operator, a, b, expr.column),
            Node::Choice(condition, yes, no) => {
                let condition = self.number(condition)?;
                self.value(if condition.is_true() { yes } else { no })
            }
            Node::Cast(name, operand) => {
                let ty = self.ty(name)?;
                let operand = self.value(operand)?;
                self.cast(ty, operand).map_err(at)
            }
            Node::At(name, address) => {
                let ty = self.ty(name)?;
                let addr = self.number(address)?.wide();
                Ok(Operand { ty, place: Place::Memory(addr) })
            }
            Node::SizeOf(operand) => {
                let ty = match &operand.node {
                    Node::Type(name) => self.ty(name)?,
                    _ => self.value(operand)?.ty,
                };
                let what = || at(format!("{} has no size", ty.name()));
                Ok(Operand::of_integer(ty.size().ok_or_else(what)?, 8, false))
            }
            Node::Member(object, name, arrow) => {
                let object = self.value(object)?;
                self.member(object, name, *arrow).map_err(at)
            }
            Node::Index(array, index) => {
                let array = self.value(array)?;
                let index = self.number(index)?.wide();
                self.element(&array, index).map_err(at)
            }
            Node::Type(name) => Err(at(format!("{} is a type, not a value", name.base))),
        }
    }

    fn number(&self, expr: &Expr) -> Result<Number, ExprError> {
        let operand = self.value(expr)?;
        self.number_of(&operand).map_err(|what| ExprError { what, column: expr.column })
    }

    fn number_of(&self, operand: &Operand<'k>) -> Step<Number> {
        operand.number(&self.env)
    }

    /// `$1`, `$` (the last), `$$` (the one before), `$$3` (three before the last).
    fn history(&self, name: &str) -> Step<Operand<'k>> {
        let history = self.env.history;
        let index = match name.strip_prefix('$') {
            Some("") => history.len().checked_sub(1),
            Some(back) => back.parse::<usize>().ok().and_then(|n| history.len().checked_sub(n)),
            None if name.is_empty() => Some(history.len()),
            None if name.bytes().all(|b| b.is_ascii_digit()) => name.parse().ok(),
            None => {
                return Err(format!(
                    "${name} is no result of an earlier expression; registers are in `bt`"
                ));
            }
        };
        // Results count from 1.
        let index = index.and_then(|n| n.checked_sub(1)).filter(|n| *n < history.len());
        let index = index.ok_or_else(|| format!("there is no result ${name} yet"))?;
        let earlier = history.get(..index).unwrap_or_default();
        let text = history.get(index).map_or("", String::as_str);
        let env = Env { history: earlier, ..self.env };
        super::evaluate(env, text).map_err(|error| error.what)
    }

    fn unary(
        &self,
        operator: Unary,
        operand: &Expr,
        column: usize,
    ) -> Result<Operand<'k>, ExprError> {
        let at = |what: String| ExprError { what, column };
        let value = self.value(operand)?;
        match operator {
            Unary::Address => match value.place {
                Place::Memory(addr) | Place::PerCpu(addr, _) => {
                    let ty = match value.ty {
                        CType::Unknown(_) => CType::Void,
                        ty => ty,
                    };
                    Ok(Operand::computed(ty.pointer(), addr, 8))
                }
                Place::Bits(..) => Err(at("a bitfield has no address".to_owned())),
                Place::Computed(_) => Err(at("a result has no address".to_owned())),
            },
            Unary::Deref => self.deref(&value).map_err(at),
            _ => {
                let number = self.number_of(&value).map_err(at)?;
                arithmetic::unary(operator, number).map(of_number).map_err(at)
            }
        }
    }

    fn deref(&self, pointer: &Operand<'k>) -> Step<Operand<'k>> {
        let to = match pointer.ty.shape() {
            Shape::Pointer(CType::Void) => {
                return Err("a void pointer leads to no type: cast it first".to_owned());
            }
            Shape::Pointer(to) => to,
            Shape::Array(of) => of,
            Shape::Function => pointer.ty.clone(),
            // As gdb does with a plain number.
            Shape::Integer { .. } => CType::Integer { size: 8, signed: true },
            _ => return Err(format!("{} is no pointer", pointer.ty.name())),
        };
        match self.number_of(pointer)?.wide() {
            0 => Err(format!("the pointer ({}) is NULL", pointer.ty.name())),
            addr => Ok(Operand { ty: to, place: Place::Memory(addr) }),
        }
    }

    fn member(&self, object: Operand<'k>, name: &str, arrow: bool) -> Step<Operand<'k>> {
        // gdb lets `.` go through pointers, too.
        let pointer = match object.ty.shape() {
            Shape::Pointer(to) => Some(to),
            Shape::Array(of) if arrow => Some(of),
            _ => None,
        };
        let (ty, addr) = match (pointer, &object.place) {
            // NULL is allowed: &((struct x *)0)->member is an offset.
            (Some(to), _) => (to, self.number_of(&object)?.wide()),
            (None, Place::Memory(addr)) => (object.ty.clone(), *addr),
            (None, Place::PerCpu(_, name)) => return Err(needs_cpu(self.env.kernel, name)),
            (None, _) => return Err(format!("{} has no members", object.ty.name())),
        };
        if let CType::Unknown(name) = &ty {
            return Err(format!(
                "the dump has no type for `{name}`: cast it, as in `((struct x *)&{name})->member`"
            ));
        }
        let Shape::Record(record) = ty.shape() else {
            return Err(format!("{} has no members", ty.name()));
        };
        let missing = || format!("{} has no member `{name}`", ty.name());
        let found = record.member(name).ok_or_else(missing)?;
        let place = match found.bit_size {
            Some(width) => Place::Bits(addr, found.bit_offset, width),
            None => Place::Memory(addr.wrapping_add(found.bit_offset / 8)),
        };
        Ok(Operand { ty: CType::of(found.ty), place })
    }

    fn element(&self, array: &Operand<'k>, index: u64) -> Step<Operand<'k>> {
        let (of, start) = match (array.ty.shape(), &array.place) {
            (Shape::Array(of), Place::Computed(bytes)) => {
                let size = of.size().unwrap_or(0) as usize;
                let from = usize::try_from(index).ok().and_then(|index| index.checked_mul(size));
                let part = from.and_then(|from| bytes.get(from..from.checked_add(size)?));
                let part = part.ok_or_else(|| "there is no such element".to_owned())?.to_vec();
                return Ok(Operand { ty: of, place: Place::Computed(part) });
            }
            (Shape::Array(of) | Shape::Pointer(of), _) => (of, self.number_of(array)?.wide()),
            _ => return Err(format!("{} is neither an array nor a pointer", array.ty.name())),
        };
        let size = of.size().ok_or_else(|| format!("{} has no size", of.name()))?;
        let addr = start.wrapping_add(index.wrapping_mul(size));
        Ok(Operand { ty: of, place: Place::Memory(addr) })
    }

    fn binary(
        &self,
        operator: Binary,
        a: &Expr,
        b: &Expr,
        column: usize,
    ) -> Result<Operand<'k>, ExprError> {
        let at = |what: String| ExprError { what, column };
        match operator {
            Binary::Comma => {
                self.value(a)?;
                return self.value(b);
            }
            Binary::AndAnd => {
                let both = self.number(a)?.is_true() && self.number(b)?.is_true();
                return Ok(of_number(Number::int(both)));
            }
            Binary::OrOr => {
                let either = self.number(a)?.is_true() || self.number(b)?.is_true();
                return Ok(of_number(Number::int(either)));
            }
            Binary::Repeat => {
                let first = self.value(a)?;
                let count = self.number(b)?.wide();
                let Place::Memory(_) = first.place else {
                    return Err(at("only what lies in memory can be repeated with @".to_owned()));
                };
                if count == 0 || count > 1 << 32 {
                    return Err(at(format!("{count} is no count for @")));
                }
                let ty = CType::Array(Box::new(first.ty), count);
                return Ok(Operand { ty, place: first.place });
            }
            _ => {}
        }
        let (left, right) = (self.value(a)?, self.value(b)?);
        if let Some(result) = self.pointers(operator, &left, &right).map_err(at)? {
            return Ok(result);
        }
        let (x, y) = (self.number_of(&left).map_err(at)?, self.number_of(&right).map_err(at)?);
        arithmetic::binary(operator, x, y).map(of_number).map_err(at)
    }

    /// `p + 1`, `1 + p`, `p - 1`, `p - q`; `None` where no pointer takes part.
    fn pointers(
        &self,
        operator: Binary,
        left: &Operand<'k>,
        right: &Operand<'k>,
    ) -> Step<Option<Operand<'k>>> {
        let target = |operand: &Operand<'k>| match operand.ty.shape() {
            Shape::Pointer(to) | Shape::Array(to) => Some(to),
            _ => None,
        };
        let size = |ty: &CType<'k>| match ty {
            CType::Void => 1,
            ty => ty.size().unwrap_or(1).max(1),
        };
        let (to_left, to_right) = (target(left), target(right));
        let moved = |pointer: &Operand<'k>, to: CType<'k>, by: u64| -> Step<Operand<'k>> {
            let start = self.number_of(pointer)?.wide();
            let addr = start.wrapping_add(by.wrapping_mul(size(&to)));
            // An array becomes a pointer to its elements.
            let ty = match pointer.ty.shape() {
                Shape::Pointer(_) => pointer.ty.clone(),
                _ => to.pointer(),
            };
            Ok(Operand::computed(ty, addr, 8))
        };
        Ok(Some(match (operator, to_left, to_right) {
            (Binary::Add, Some(to), None) => moved(left, to, self.number_of(right)?.wide())?,
            (Binary::Add, None, Some(to)) => moved(right, to, self.number_of(left)?.wide())?,
            (Binary::Sub, Some(to), None) => {
                moved(left, to, self.number_of(right)?.wide().wrapping_neg())?
            }
            (Binary::Sub, Some(a), Some(b)) => {
                if size(&a) != size(&b) {
                    return Err("pointers to different types have no distance".to_owned());
                }
                let (x, y) = (self.number_of(left)?.wide(), self.number_of(right)?.wide());
                let distance = x.wrapping_sub(y) as i64 / size(&a) as i64;
                Operand::of_integer(distance as u64, 8, true)
            }
            _ => return Ok(None),
        }))
    }

    fn cast(&self, ty: CType<'k>, operand: Operand<'k>) -> Step<Operand<'k>> {
        // gdb takes a symbol without a type for one of the type it is cast to.
        if let (CType::Unknown(_), Place::Memory(_)) = (&operand.ty, &operand.place) {
            return Ok(Operand { ty, place: operand.place });
        }
        match ty.shape() {
            Shape::Integer { size, .. } => {
                let number = self.number_of(&operand)?;
                let bits = if is_bool(&ty) { u64::from(number.is_true()) } else { number.wide() };
                Ok(Operand::computed(ty, arithmetic::extend(bits, size, false), size))
            }
            Shape::Pointer(_) => {
                let bits = self.number_of(&operand)?.wide();
                Ok(Operand::computed(ty, bits, 8))
            }
            Shape::Float { size: 8 } => {
                let number =
                    arithmetic::binary(Binary::Mul, self.number_of(&operand)?, Number::Float(1.0))?;
                let bits = match number {
                    Number::Float(number) => number.to_bits(),
                    Number::Integer { bits, .. } => bits,
                };
                Ok(Operand::computed(ty, bits, 8))
            }
            // To its own type, or another view of the same memory.
            _ if ty.size().is_some() && ty.size() == operand.ty.size() => {
                Ok(Operand { ty, place: operand.place })
            }
            _ => Err(format!("{} can't become {}", operand.ty.name(), ty.name())),
        }
    }

    fn ty(&self, name: &TypeName) -> Result<CType<'k>, ExprError> {
        let at = |what: String| ExprError { what, column: name.column };
        let mut ty = lookup::base_type(self.env.kernel, &name.base).map_err(at)?;
        if !name.qualifiers.is_empty() {
            ty = CType::Qualified(name.qualifiers.clone(), Box::new(ty));
        }
        for derived in &name.derived {
            ty = match derived {
                Derived::Pointer => ty.pointer(),
                Derived::Array(None) => CType::Array(Box::new(ty), 0),
                Derived::Array(Some(len)) => {
                    let len = self.number(len)?.wide();
                    CType::Array(Box::new(ty), len)
                }
                // A pointer to a function is all that is ever made of it.
                Derived::Function => CType::Void,
            };
        }
        Ok(ty)
    }
}

fn is_bool(ty: &CType<'_>) -> bool {
    matches!(ty, CType::Known(ty) if ty.strip().name() == "_Bool")
}

fn float<'k>(number: f64) -> Operand<'k> {
    Operand::computed(CType::Double, number.to_bits(), 8)
}

fn of_number<'k>(number: Number) -> Operand<'k> {
    match number {
        Number::Integer { bits, size, signed } => Operand::of_integer(bits, size, signed),
        Number::Float(number) => float(number),
    }
}
