//! The table of system calls.
//!
//! `sys_call_table` (arch/x86/entry/syscall_64.c) is an array of functions by
//! number. It ends where a word is no function of the kernel's or a module's
//! text, at the latest at the next symbol. An entry outside the kernel's text
//! was replaced. Since v6.9 (1e3ad78334a6) the kernel itself calls by a `switch`
//! and has the table for tracers.

use serde::Serialize;

use crate::Kernel;
use crate::error::Result;
use crate::stack::hex;
use crate::symbol::SymbolAt;

/// Numbers end below 1000 (there are 470 in v7.0).
const MOST: u64 = 1024;

/// A system call.
#[derive(Debug, Clone, Serialize)]
pub struct SystemCall {
    /// Its number.
    pub number: u32,
    /// Its name as user space knows it ("read"); `None`: there is none of that
    /// number.
    pub name: Option<String>,
    /// Address of the function that answers.
    #[serde(serialize_with = "hex")]
    pub function: u64,
    /// That function.
    pub symbol: Option<SymbolAt>,
    /// The function is not the kernel's own: somebody replaced it.
    pub replaced: bool,
}

impl Kernel {
    /// The system calls, by number.
    pub fn system_calls(&self) -> Result<Vec<SystemCall>> {
        let table = self.symbol("sys_call_table")?;
        let size = self.kallsyms()?.lookup(table).map_or(MOST * 8, |found| found.size);
        let count = (size / 8).min(MOST);
        let own = self.symbol("_stext")?..self.symbol("_etext")?;
        let mut calls = Vec::new();
        for number in 0..count {
            let function = self.read_u64(table.wrapping_add(number * 8))?;
            // Another table's words, or padding, may follow without a symbol.
            if function >> 63 == 0 || !function_like(self, function) {
                break;
            }
            let symbol = self.symbol_at(function).map(|found| self.as_called(found, function));
            calls.push(SystemCall {
                number: number as u32,
                name: symbol.as_ref().and_then(|s| call_name(&s.name)),
                function,
                replaced: !own.contains(&function) || symbol.as_ref().is_none_or(|s| s.offset != 0),
                symbol,
            });
        }
        Ok(calls)
    }
}

impl Kernel {
    /// Calls without arguments have one function for all ways in, under several
    /// names: the one that the table was made with.
    fn as_called(&self, found: SymbolAt, function: u64) -> SymbolAt {
        let Some((_, call)) = found.name.split_once("sys_") else { return found };
        let name = format!("__x64_sys_{call}");
        match self.symbol(&name) {
            Ok(at) if at == function => SymbolAt { name, ..found },
            _ => found,
        }
    }
}

/// Whether code may be there: text, or memory outside the image that a
/// replaced entry may lead to.
fn function_like(kernel: &Kernel, addr: u64) -> bool {
    kernel.is_text(addr) || !kernel.space().image_range().contains(&addr)
}

/// The call's name out of its function's (`__x64_sys_read`).
fn call_name(function: &str) -> Option<String> {
    let name = function.split_once("sys_").map(|(_, name)| name)?;
    (name != "ni_syscall").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::call_name;

    #[test]
    fn functions_name_their_call() {
        assert_eq!(call_name("__x64_sys_read").as_deref(), Some("read"));
        assert_eq!(call_name("sys_read").as_deref(), Some("read"));
        assert_eq!(call_name("__x64_sys_ni_syscall"), None);
        assert_eq!(call_name("hook"), None);
    }
}
