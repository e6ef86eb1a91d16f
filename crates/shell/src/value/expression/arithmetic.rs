//! C's arithmetic: promotions, signs, widths.

use super::ast::{Binary, Unary};

/// A number with its C type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    /// `bits` has nothing above `size` bytes.
    Integer {
        bits: u64,
        size: u64,
        signed: bool,
    },
    Float(f64),
}

/// `bits` of `size` bytes as 64 bits.
pub(crate) fn extend(bits: u64, size: u64, signed: bool) -> u64 {
    let unused = 64 - (size.clamp(1, 8) * 8) as u32;
    match signed {
        true => ((bits << unused) as i64 >> unused) as u64,
        false => bits << unused >> unused,
    }
}

impl Number {
    pub(super) fn int(value: bool) -> Number {
        Number::Integer { bits: u64::from(value), size: 4, signed: true }
    }

    /// Without what its size does not hold.
    pub(super) fn truncated(self) -> Number {
        match self {
            Number::Integer { bits, size, signed } => {
                Number::Integer { bits: extend(bits, size, false), size, signed }
            }
            float => float,
        }
    }

    pub(super) fn is_true(self) -> bool {
        match self {
            Number::Integer { bits, .. } => bits != 0,
            Number::Float(number) => number != 0.0,
        }
    }

    /// As its 64 bits, extended by its sign.
    pub(super) fn wide(self) -> u64 {
        match self {
            Number::Integer { bits, size, signed } => extend(bits, size, signed),
            Number::Float(number) => number as i64 as u64,
        }
    }

    /// As a floating-point number.
    pub(crate) fn float(self) -> f64 {
        match self {
            Number::Integer { signed: true, .. } => self.wide() as i64 as f64,
            Number::Integer { bits, .. } => bits as f64,
            Number::Float(number) => number,
        }
    }

    /// What is smaller than an int becomes one.
    fn promoted(self) -> Number {
        match self {
            Number::Integer { size, .. } if size < 4 => {
                Number::Integer { bits: self.wide(), size: 4, signed: true }.truncated()
            }
            other => other,
        }
    }

    fn size_and_sign(self) -> (u64, bool) {
        match self {
            Number::Integer { size, signed, .. } => (size, signed),
            Number::Float(_) => (8, true),
        }
    }
}

/// `-a`, `~a`, `+a`, `!a`.
pub(super) fn unary(operator: Unary, number: Number) -> Result<Number, String> {
    let number = match operator {
        Unary::Not => return Ok(Number::int(!number.is_true())),
        _ => number.promoted(),
    };
    let (size, signed) = number.size_and_sign();
    let integer = |bits| Number::Integer { bits, size, signed }.truncated();
    match (operator, number) {
        (Unary::Minus, Number::Float(number)) => Ok(Number::Float(-number)),
        (Unary::Minus, _) => Ok(integer(number.wide().wrapping_neg())),
        (Unary::Invert, Number::Integer { .. }) => Ok(integer(!number.wide())),
        (Unary::Plus, number) => Ok(number),
        _ => Err("~ takes an integer".to_owned()),
    }
}

/// `a + b` and the like, of numbers.
pub(super) fn binary(operator: Binary, a: Number, b: Number) -> Result<Number, String> {
    let (a, b) = (a.promoted(), b.promoted());
    if let (Number::Float(_), _) | (_, Number::Float(_)) = (a, b) {
        return floating(operator, a.float(), b.float());
    }
    let ((size_a, signed_a), (size_b, signed_b)) = (a.size_and_sign(), b.size_and_sign());
    if matches!(operator, Binary::Shl | Binary::Shr) {
        return Ok(shift(operator, a, b.wide()));
    }
    let size = size_a.max(size_b);
    // An unsigned operand makes the result unsigned unless the other is wider.
    let unsigned = !signed_a && size_a == size || !signed_b && size_b == size;
    let convert = |n: Number| extend(n.wide(), size, !unsigned);
    let (x, y) = (convert(a), convert(b));
    let integer = |bits| Number::Integer { bits, size, signed: !unsigned }.truncated();
    let order = if unsigned { x.cmp(&y) } else { (x as i64).cmp(&(y as i64)) };
    Ok(match operator {
        Binary::Add => integer(x.wrapping_add(y)),
        Binary::Sub => integer(x.wrapping_sub(y)),
        Binary::Mul => integer(x.wrapping_mul(y)),
        Binary::Div | Binary::Rem if y == 0 => return Err("division by zero".to_owned()),
        Binary::Div if unsigned => integer(x / y),
        Binary::Div => integer((x as i64).wrapping_div(y as i64) as u64),
        Binary::Rem if unsigned => integer(x % y),
        Binary::Rem => integer((x as i64).wrapping_rem(y as i64) as u64),
        Binary::And => integer(x & y),
        Binary::Or => integer(x | y),
        Binary::Xor => integer(x ^ y),
        Binary::Less => Number::int(order.is_lt()),
        Binary::Greater => Number::int(order.is_gt()),
        Binary::LessEqual => Number::int(order.is_le()),
        Binary::GreaterEqual => Number::int(order.is_ge()),
        Binary::Equal => Number::int(order.is_eq()),
        Binary::NotEqual => Number::int(order.is_ne()),
        _ => return Err("not an operator of numbers".to_owned()),
    })
}

/// The result has the left operand's type; what is shifted out at either end is gone.
fn shift(operator: Binary, number: Number, by: u64) -> Number {
    let (size, signed) = number.size_and_sign();
    let wide = number.wide();
    let out = by >= size * 8;
    let bits = match operator {
        Binary::Shl if out => 0,
        Binary::Shl => wide << by,
        _ if out && signed && (wide as i64) < 0 => u64::MAX,
        _ if out => 0,
        _ if signed => ((wide as i64) >> by) as u64,
        _ => wide >> by,
    };
    Number::Integer { bits, size, signed }.truncated()
}

fn floating(operator: Binary, a: f64, b: f64) -> Result<Number, String> {
    Ok(match operator {
        Binary::Add => Number::Float(a + b),
        Binary::Sub => Number::Float(a - b),
        Binary::Mul => Number::Float(a * b),
        Binary::Div => Number::Float(a / b),
        Binary::Less => Number::int(a < b),
        Binary::Greater => Number::int(a > b),
        Binary::LessEqual => Number::int(a <= b),
        Binary::GreaterEqual => Number::int(a >= b),
        Binary::Equal => Number::int(a == b),
        Binary::NotEqual => Number::int(a != b),
        _ => return Err("this operator takes integers".to_owned()),
    })
}
