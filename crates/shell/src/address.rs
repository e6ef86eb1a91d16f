//! Addresses and numbers on a command line.
//!
//! crash(8) reads an address as hexadecimal with or without `0x`, or as a
//! symbol, also with an offset (`jiffies_64+8`), and a per-CPU symbol with the
//! CPU behind a colon (`runqueues:1`), or as an expression in
//! parentheses (see [`crate::arithmetic`]). A count is decimal unless it begins
//! with `0x`.

use kmortem_kernel::Kernel;

use crate::arithmetic;
use crate::error::CommandError;

/// The address that `word` means.
pub(crate) fn address(
    command: &'static str,
    kernel: &Kernel,
    word: &str,
) -> Result<u64, CommandError> {
    let failed = |what: String| CommandError::Failed { command, what };
    if let Some(number) = hex(word) {
        return Ok(number);
    }
    if word.starts_with('(') {
        let value = arithmetic::evaluate(word, &|name| symbol(kernel, name));
        return value.map_err(|why| failed(format!("{word} has no value: {why}")));
    }
    let (base, offset) = offset_of(word);
    let (name, cpu) = match base.split_once(':') {
        Some((name, cpu)) => (name, Some(cpu)),
        None => (base, None),
    };
    let name = name.strip_prefix('&').unwrap_or(name);
    let start = match (hex(name), cpu) {
        (Some(number), None) => number,
        (_, None) => symbol(kernel, name)
            .ok_or_else(|| failed(format!("{word} is neither an address nor a symbol")))?,
        (_, Some(cpu)) => {
            let cpu = cpu.parse().map_err(|_| failed(format!("`{cpu}` is no CPU")))?;
            kernel.per_cpu(name, cpu).map_err(|e| failed(e.to_string()))?
        }
    };
    Ok(start.wrapping_add(offset.unwrap_or(0)))
}

/// The value of a symbol, per-CPU ones with their CPU (`runqueues:1`), for
/// [`arithmetic::evaluate`].
pub(crate) fn symbol(kernel: &Kernel, name: &str) -> Option<u64> {
    match name.split_once(':') {
        Some((name, cpu)) => kernel.per_cpu(name, cpu.parse().ok()?).ok(),
        None => kernel.symbol_anywhere(name).ok().or_else(|| variant(kernel, name)),
    }
}

/// The only variant (`name.isra.0`, `name.constprop.0`) that the compiler made
/// of the function `name`: crash(8) knows it by the name in the source.
fn variant(kernel: &Kernel, name: &str) -> Option<u64> {
    let is_variant = |symbol: &str| {
        symbol.strip_prefix(name).is_some_and(|suffix| {
            [".isra.", ".constprop.", ".part."].iter().any(|kind| suffix.starts_with(kind))
                && !suffix.contains(".cold")
        })
    };
    let mut found = kernel.kallsyms().ok()?.iter().filter(|symbol| is_variant(&symbol.name));
    let first = found.next()?;
    found.next().is_none().then_some(first.addr)
}

/// Words of a command line with those between parentheses made one again:
/// `(a`, `+`, `b)` is the one expression `(a + b)`.
pub(crate) fn with_expressions(words: &[String]) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    let mut open = 0i64;
    for word in words {
        let count = |c| word.matches(c).count() as i64;
        match joined.last_mut().filter(|_| open > 0) {
            Some(last) => {
                last.push(' ');
                last.push_str(word);
            }
            None => joined.push(word.clone()),
        }
        open = (open + count('(') - count(')')).max(0);
    }
    joined
}

/// `base+8` or `base-0x10`: the base, and what is added to it.
fn offset_of(word: &str) -> (&str, Option<u64>) {
    let Some(at) = word.rfind(['+', '-']).filter(|at| *at > 0) else { return (word, None) };
    let (base, rest) = word.split_at(at);
    match (number(&rest[1..]), rest.starts_with('-')) {
        (Some(n), false) => (base, Some(n)),
        (Some(n), true) => (base, Some(n.wrapping_neg())),
        (None, _) => (word, None),
    }
}

/// A hexadecimal number, with or without `0x`.
pub(crate) fn hex(word: &str) -> Option<u64> {
    let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")).unwrap_or(word);
    let all = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    all.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// A count: decimal, or hexadecimal with `0x`.
pub(crate) fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hexadecimal_and_counts_decimal() {
        assert_eq!(hex("ffff888005c44180"), Some(0xffff_8880_05c4_4180));
        assert_eq!((hex("0x10"), hex("10"), hex(""), hex("1g")), (Some(16), Some(16), None, None));
        assert_eq!((number("10"), number("0x10"), number("-1")), (Some(10), Some(16), None));
    }

    #[test]
    fn offsets_are_split_off() {
        assert_eq!(offset_of("jiffies_64+8"), ("jiffies_64", Some(8)));
        assert_eq!(offset_of("init_task-0x10"), ("init_task", Some(-16i64 as u64)));
        assert_eq!(offset_of("a-b"), ("a-b", None));
    }

    #[test]
    fn expressions_are_one_word() {
        let words = ["a", "(b", "+", "c)", "(d)", "e"].map(str::to_owned);
        assert_eq!(with_expressions(&words), ["a", "(b + c)", "(d)", "e"]);
    }
}
