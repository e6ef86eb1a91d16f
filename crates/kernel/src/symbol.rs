//! Names for addresses and addresses for names, of the kernel and its modules.

use serde::Serialize;

use kmortem_debuginfo::kallsyms::Kallsyms;

use crate::Kernel;
use crate::data_symbols::DataSymbols;
use crate::error::{Error, Result};

/// No object in read-only data is larger. Behind the last one are tables
/// without names, of which kallsyms' own are the largest.
const LARGEST_CONSTANT: u64 = 64 << 10;

/// The symbol that an address lies in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SymbolAt {
    /// The symbol's name.
    pub name: String,
    /// Bytes from the symbol's start to the address.
    pub offset: u64,
    /// Bytes to the next symbol (capped): a symbol's size as far as kallsyms
    /// knows.
    pub size: u64,
    /// The module that it belongs to; none for the kernel itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
}

impl std::fmt::Display for SymbolAt {
    /// `name+0x12`, with ` [module]` behind it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{:#x}", self.name, self.offset)?;
        match &self.module {
            Some(module) => write!(f, " [{module}]"),
            None => Ok(()),
        }
    }
}

impl Kernel {
    /// Address of the kernel's symbol `name` (not of a module's). Where the
    /// symbol table is lost, VMCOREINFO knows some.
    pub fn symbol(&self, name: &str) -> Result<u64> {
        match self.kallsyms() {
            Ok(kallsyms) => kallsyms
                .find(name)
                .or_else(|| self.data_symbols(kallsyms)?.get(self, name))
                .ok_or_else(|| Error::NoSymbol(name.to_owned())),
            Err(lost) => self.vmcoreinfo().and_then(|info| info.symbol(name)).ok_or(lost),
        }
    }

    /// The address of data that kernels may be built without. None: this one was.
    /// Where the kernel does not list its data, nothing can be said.
    pub fn symbol_if_built(&self, name: &str) -> Result<Option<u64>> {
        match self.symbol(name) {
            Ok(addr) => Ok(Some(addr)),
            Err(Error::NoSymbol(_)) if self.lists_data() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether the kernel's own table has symbols of data (`CONFIG_KALLSYMS_ALL`).
    pub fn lists_data(&self) -> bool {
        self.kallsyms().is_ok_and(|table| table.find("init_task").is_some())
    }

    /// Symbols of data, where the kernel's table has none.
    fn data_symbols(&self, kallsyms: &Kallsyms) -> Option<&DataSymbols> {
        let found = self.data_symbols.get_or_init(|| {
            let has_data = kallsyms.find("init_task").is_some();
            (!has_data).then(|| DataSymbols::find(self.space()))
        });
        found.as_ref()
    }

    /// Address of `name` in the kernel or in any module.
    pub fn symbol_anywhere(&self, name: &str) -> Result<u64> {
        self.symbol(name).or_else(|e| {
            let modules = self.modules().map_err(|_| e.clone())?;
            modules.iter().find_map(|m| m.symbols(self).ok()?.find(name)).ok_or(e)
        })
    }

    /// The symbol that `addr` lies in: the kernel's, or a module's.
    pub fn symbol_at(&self, addr: u64) -> Option<SymbolAt> {
        if let Some(module) = self.module_at(addr) {
            let found = module.symbols(self).ok().and_then(|s| s.lookup(addr))?;
            // A symbol of the area below names nothing in this one.
            let start = addr.wrapping_sub(found.offset);
            let area = module.memory.iter().find(|area| area.range.contains(&addr))?;
            if !area.range.contains(&start) {
                return None;
            }
            return Some(SymbolAt { module: Some(module.name.clone()), ..found });
        }
        if !self.space().image_range().contains(&addr) {
            return None;
        }
        let found = self.kallsyms().ok()?.lookup(addr)?;
        // There are no sizes, and the table's own parts are the last symbols
        // before data without names.
        let offset = addr - found.addr;
        if offset > 0 && found.name.starts_with("kallsyms_")
            || offset > LARGEST_CONSTANT && self.is_constant(addr)
        {
            return None;
        }
        Some(SymbolAt {
            name: found.name.to_string(),
            offset: addr - found.addr,
            size: found.size,
            module: None,
        })
    }

    /// Whether `addr` lies in the kernel's read-only data.
    fn is_constant(&self, addr: u64) -> bool {
        match (self.symbol("__start_rodata"), self.symbol("__end_rodata")) {
            (Ok(start), Ok(end)) => (start..end).contains(&addr),
            _ => false,
        }
    }

    /// Whether code may run at `addr`: the kernel's text (init text included)
    /// or a module's.
    pub fn is_text(&self, addr: u64) -> bool {
        let between = |from: &str, to: &str| match (self.symbol(from), self.symbol(to)) {
            (Ok(from), Ok(to)) => (from..to).contains(&addr),
            _ => false,
        };
        between("_stext", "_etext")
            || between("_sinittext", "_einittext")
            || self.module_at(addr).is_some_and(|m| m.is_text(addr))
    }
}
