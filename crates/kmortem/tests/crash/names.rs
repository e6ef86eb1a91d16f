//! Which symbols are the same: those that stand for one address, in each
//! program's own table.
//!
//! Both choose a name where several share an address, and crash cuts the
//! compiler's suffixes off some. crash's table is what `sym -l` shows there;
//! kmortem's is that of the opened kernel and its modules.

use std::collections::HashMap;

use kmortem_kernel::Kernel;

use crate::diff::Hunk;

/// Addresses of names.
type Table = HashMap<String, Vec<u64>>;

/// The tables of both.
#[derive(Default)]
pub(crate) struct Names {
    crash: Table,
    kmortem: Table,
}

impl Names {
    /// From crash's answer to `sym -l`, and the kernel's symbols.
    pub(crate) fn new(list: &str, kernel: &Kernel) -> Result<Names, String> {
        let mut names = Names::default();
        for line in list.lines() {
            if let Some((address, name)) = listed(line) {
                names.crash.entry(name.to_owned()).or_default().push(address);
            }
        }
        let kallsyms = kernel.kallsyms().map_err(|e| e.to_string())?;
        for symbol in kallsyms.iter() {
            names.kmortem.entry(symbol.name).or_default().push(symbol.addr);
        }
        for module in kernel.modules().map_err(|e| e.to_string())? {
            let symbols = module.symbols(kernel).map_err(|e| e.to_string())?;
            for (address, _, name) in symbols.iter() {
                names.kmortem.entry(name.to_owned()).or_default().push(address);
            }
        }
        Ok(names)
    }

    /// Takes out of a hunk the lines that differ by names of one address only.
    pub(crate) fn take_same(&self, hunk: &mut Hunk) {
        /// How far two such lines may lie from each other.
        const NEAR: usize = 16;
        let mut from = 0;
        let mut left = Vec::new();
        for theirs in std::mem::take(&mut hunk.crash) {
            let near = hunk.kmortem.iter().enumerate().skip(from).take(NEAR);
            match near.map(|(i, ours)| (i, self.same(&theirs, ours))).find(|(_, same)| *same) {
                Some((i, _)) => {
                    hunk.kmortem.remove(i);
                    from = i;
                }
                None => left.push(theirs),
            }
        }
        hunk.crash = left;
    }

    /// Whether two lines are alike but for names of one address, and for the
    /// blanks that fill a column behind them.
    fn same(&self, theirs: &str, ours: &str) -> bool {
        let mut pairs = (words(theirs), words(ours));
        loop {
            match (pairs.0.next(), pairs.1.next()) {
                (None, None) => return true,
                (Some(a), Some(b)) if a == b || is_cut(a, b) || self.same_address(a, b) => {}
                _ => return false,
            }
        }
    }

    fn same_address(&self, theirs: &str, ours: &str) -> bool {
        let (Some(theirs), Some(ours)) = (self.crash.get(theirs), self.kmortem.get(ours)) else {
            return false;
        };
        theirs.iter().any(|address| ours.contains(address))
    }
}

/// Whether gdb cut the compiler's suffix off: `aio_fs` of `aio_fs.17`.
fn is_cut(theirs: &str, ours: &str) -> bool {
    ours.strip_prefix(theirs).is_some_and(|suffix| suffix.starts_with('.'))
}

/// Names, and what stands between them; no blanks.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let mut rest = line.trim_start();
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = rest.find(|c: char| c == ' ' || named(c) != named(first)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        rest = behind.trim_start();
        Some(word)
    })
}

/// `ffffffff95000000 (T) _stext`, and what may stand behind it.
fn listed(line: &str) -> Option<(u64, &str)> {
    let (address, rest) = line.split_once(" (")?;
    let (_, name) = rest.split_once(") ")?;
    Some((u64::from_str_radix(address, 16).ok()?, name.split(' ').next()?))
}

#[test]
fn names_of_one_address_are_the_same() {
    let table = |rows: &[(&str, u64)]| -> Table {
        rows.iter().map(|(name, address)| ((*name).to_owned(), vec![*address])).collect()
    };
    let names = Names {
        crash: table(&[("__memset", 1), ("sk_drops_add", 2), (".data", 3)]),
        kmortem: table(&[("memset", 1), ("sk_drops_add.isra.0", 2), ("init_stack", 3), ("b", 4)]),
    };
    assert!(names.same("call 0x1 <__memset+3>", "call 0x1 <memset+3>"));
    assert!(names.same("call 0x2 <sk_drops_add>", "call 0x2 <sk_drops_add.isra.0>"));
    assert!(names.same("1:  .data            0", "1:  init_stack       0"));
    assert!(names.same("0x5 <aio_fs>", "0x5 <aio_fs.17>"));
    assert!(!names.same("0x5 <aio_f>", "0x5 <aio_fs.17>"));
    assert!(!names.same("call 0x1 <__memset+3>", "call 0x1 <memset+4>"));
    assert!(!names.same("call 0x1 <__memset>", "call 0x1 <b>"));
    assert!(!names.same("call 0x1 <__memset>", "call 0x1 <memset> x"));
}
