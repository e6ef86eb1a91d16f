//! Loaded modules: where they lie and their symbols.
//!
//! `modules` (kernel/module/main.c) is the ring of `struct module`
//! (include/linux/module.h). Memory is `mem[MOD_*]` since v6.4
//! (ac3b43283923), `core_layout` and `init_layout` before. Symbols are in
//! `module.kallsyms`: ELF symbols, a string table and, since v5.2
//! (1c7651f43777), one type letter per symbol.

use std::ops::Range;
use std::sync::OnceLock;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::layout::Embedded;
use crate::stack::hex;
use crate::symbol::SymbolAt;
use crate::{Kernel, layout};

layout! {
    /// `struct module`, include/linux/module.h
    pub struct ModuleLayout for "module" {
        state: u32 = "state",
        list: Embedded = "list",
        name: str = "name",
        version: u64 = "version",
        srcversion: u64 = "srcversion",
        args: u64 = "args",
        taints: u64 = "taints",
        kallsyms: u64 = "kallsyms",
        refcnt: i32 = "refcnt.counter",
        source_list: Embedded = "source_list",
        init: u64 = "init",
        mem: Embedded = "mem",
        core_base: u64 = "core_layout.base" | "module_core",
        core_size: u32 = "core_layout.size" | "core_size",
        core_text_size: u32 = "core_layout.text_size" | "core_text_size",
        init_base: u64 = "init_layout.base" | "module_init",
        init_size: u32 = "init_layout.size" | "init_size",
        init_text_size: u32 = "init_layout.text_size" | "init_text_size",
        num_orcs: u32 = "arch.num_orcs",
        orc_unwind: u64 = "arch.orc_unwind",
        orc_unwind_ip: u64 = "arch.orc_unwind_ip",
    }
}

layout! {
    /// `struct module_memory`, include/linux/module.h
    pub struct ModuleMemoryLayout for "module_memory" {
        base: u64 = "base",
        bytes: u32 = "size",
    }
}

layout! {
    /// `struct mod_kallsyms`, include/linux/module.h
    pub struct ModKallsymsLayout for "mod_kallsyms" {
        symtab: u64 = "symtab",
        num_symtab: u32 = "num_symtab",
        strtab: u64 = "strtab",
        typetab: u64 = "typetab",
    }
}

layout! {
    /// `struct module_use`, include/linux/module.h
    pub struct ModuleUseLayout for "module_use" {
        source_list: Embedded = "source_list",
        source: u64 = "source",
    }
}

/// The first of the memory kinds that are freed once the module is up
/// (`MOD_INIT_TEXT`, enum mod_mem_type, include/linux/module.h).
const MOD_INIT_TEXT: usize = 4;
const MOD_TEXT: usize = 0;
/// `enum mod_mem_type` without its prefix.
const MEMORY_KINDS: [&str; 7] =
    ["TEXT", "DATA", "RODATA", "RO_AFTER_INIT", "INIT_TEXT", "INIT_DATA", "INIT_RODATA"];
/// Most symbols a module is believed to have, and longest string table.
const MOST_SYMBOLS: u32 = 1 << 20;
const LONGEST_STRTAB: u64 = 64 << 20;

/// State of a module (`enum module_state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleState {
    /// In use.
    Live,
    /// Its init function is running.
    Coming,
    /// Being removed.
    Going,
    /// Still being set up.
    Unformed,
}

/// One piece of a module's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModuleMemory {
    /// Kernel virtual addresses.
    #[serde(serialize_with = "hex_range")]
    pub range: Range<u64>,
    /// Whether it holds code.
    pub text: bool,
    /// Whether it is freed once the module's init function has returned.
    pub init: bool,
    /// Its kind (`TEXT`, `RODATA`, ...), if this kernel keeps them apart.
    #[serde(skip)]
    pub kind: Option<&'static str>,
}

/// Addresses are hexadecimal text in JSON, those of a range too.
fn hex_range<S: serde::Serializer>(range: &Range<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    let ends = [("start", range.start), ("end", range.end)];
    serializer.collect_map(ends.map(|(name, addr)| (name, format!("{addr:#x}"))))
}

/// A loaded module.
#[derive(Debug, Serialize)]
pub struct Module {
    /// Address of its `struct module`.
    #[serde(serialize_with = "hex")]
    pub addr: u64,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: ModuleState,
    /// Its memory, the core text first.
    pub memory: Vec<ModuleMemory>,
    /// Bits of `taints`, as in the kernel's taint mask.
    pub taints: u64,
    /// Source version, where the module has one.
    pub srcversion: Option<String>,
    /// Version, where the module has one.
    pub version: Option<String>,
    /// Reference count, as `lsmod` shows it.
    pub refcount: Option<i32>,
    /// Names of the modules that use this one.
    pub used_by: Vec<String>,
    /// Unwind tables: (address of ips, address of entries, count).
    #[serde(skip)]
    pub(crate) orc: Option<(u64, u64, u64)>,
    #[serde(skip)]
    kallsyms: u64,
    #[serde(skip)]
    symbols: OnceLock<Result<ModuleSymbols>>,
}

/// The modules, with an index by address.
pub struct ModuleTable {
    list: Vec<Module>,
    /// (start, end, position in `list`), sorted.
    by_addr: Vec<(u64, u64, usize)>,
    /// Where the list broke off, if it did.
    broken: Option<Error>,
}

/// The symbols of one module, sorted by address.
#[derive(Debug)]
pub struct ModuleSymbols {
    /// (address, kind, name, bytes), by address.
    sorted: Vec<(u64, u8, String, u64)>,
    /// The module's memory, and whether that is code.
    areas: Vec<(Range<u64>, bool)>,
}

impl Module {
    /// Where its core (what stays after init) begins.
    pub fn base(&self) -> u64 {
        self.memory.first().map_or(0, |m| m.range.start)
    }

    /// Bytes of its core memory.
    pub fn core_size(&self) -> u64 {
        self.memory.iter().filter(|m| !m.init).map(|m| m.range.end - m.range.start).sum()
    }

    /// Whether `addr` is in its code.
    pub fn is_text(&self, addr: u64) -> bool {
        self.memory.iter().any(|m| m.text && m.range.contains(&addr))
    }

    /// Letters of its taints as the kernel prints them ("OE").
    pub fn taint_letters(&self) -> String {
        taint_letters(self.taints)
    }

    /// Its symbols, read at the first question.
    pub fn symbols(&self, kernel: &Kernel) -> Result<&ModuleSymbols> {
        self.symbols.get_or_init(|| read_symbols(kernel, self)).as_ref().map_err(Clone::clone)
    }
}

/// Letters of a taint mask, in the kernel's order (kernel/panic.c,
/// `taint_flags`).
pub fn taint_letters(mask: u64) -> String {
    "PFSRMBUDAWCIOELKXTNJ"
        .chars()
        .enumerate()
        .filter(|(i, _)| mask >> i & 1 == 1)
        .map(|(_, c)| c)
        .collect()
}

impl ModuleSymbols {
    /// Address of `name`.
    pub fn find(&self, name: &str) -> Option<u64> {
        self.sorted.iter().find(|s| s.2 == name).map(|s| s.0)
    }

    /// All symbols: (address, type letter, name), by address.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u8, &str)> {
        self.sorted.iter().map(|(a, k, n, _)| (*a, *k, n.as_str()))
    }

    /// The symbol that `addr` lies in. A function reaches up to the next one, as nothing else
    /// is among them; of data, most of which has no name, an object ends where its size says.
    pub fn lookup(&self, addr: u64) -> Option<SymbolAt> {
        let after = self.sorted.partition_point(|s| s.0 <= addr);
        let last = after.checked_sub(1)?;
        let start = self.sorted[last].0;
        let (area, text) = self.areas.iter().find(|(area, _)| area.contains(&addr))?;
        // Of several names at one address, the global one is what people know,
        // but `init_module` and `cleanup_module` are mere aliases that every
        // module has for the functions its source names.
        let same = self.sorted[..after].iter().rev().take_while(|s| s.0 == start);
        let best = same.min_by_key(|s| {
            let alias = matches!(s.2.as_str(), "init_module" | "cleanup_module");
            // The linker's marks of a section's ends name no object.
            let mark = s.2.starts_with("__start_") || s.2.starts_with("__stop_");
            (alias || mark, !s.1.is_ascii_uppercase())
        })?;
        let same = self.sorted[..after].iter().rev().take_while(|s| s.0 == start);
        let size = same.map(|s| s.3).max().unwrap_or(0);
        if !area.contains(&start) || !text && size > 0 && addr - start >= size {
            return None;
        }
        let next = self.sorted.get(after).map_or(start + 4096, |s| s.0);
        Some(SymbolAt {
            name: best.2.clone(),
            offset: addr - start,
            size: next - start,
            module: None,
        })
    }
}

impl Kernel {
    /// The loaded modules, newest first, as the kernel's list has them.
    pub fn modules(&self) -> Result<&[Module]> {
        self.module_table().map(|t| t.list.as_slice())
    }

    /// Why the list of modules is incomplete, if it is.
    pub fn modules_broken(&self) -> Option<Error> {
        self.module_table().ok().and_then(|t| t.broken.clone())
    }

    /// The module that `addr` lies in.
    pub fn module_at(&self, addr: u64) -> Option<&Module> {
        let table = self.module_table().ok()?;
        let after = table.by_addr.partition_point(|r| r.0 <= addr);
        let (_, end, which) = table.by_addr.get(after.checked_sub(1)?)?;
        (addr < *end).then(|| &table.list[*which])
    }

    fn module_table(&self) -> Result<&ModuleTable> {
        self.modules.get_or_init(|| read_modules(self)).as_ref().map_err(Clone::clone)
    }
}

fn read_modules(kernel: &Kernel) -> Result<ModuleTable> {
    let layout = kernel.layout::<ModuleLayout>()?;
    let head = kernel.symbol("modules")?;
    let mut list = Vec::new();
    let mut broken = None;
    for entry in kernel.list(head, layout.list.offset()?, "the list of modules") {
        match entry.and_then(|addr| read_module(kernel, &layout, addr)) {
            Ok(module) => list.push(module),
            Err(e) => {
                broken = Some(e);
                break;
            }
        }
    }
    let mut by_addr: Vec<_> = list
        .iter()
        .enumerate()
        .flat_map(|(i, m): (usize, &Module)| {
            m.memory.iter().map(move |r| (r.range.start, r.range.end, i))
        })
        .collect();
    by_addr.sort_unstable();
    Ok(ModuleTable { list, by_addr, broken })
}

fn read_module(kernel: &Kernel, layout: &ModuleLayout, addr: u64) -> Result<Module> {
    let name = layout.name.read(kernel, addr)?;
    let state = match layout.state.read(kernel, addr)? {
        0 => ModuleState::Live,
        1 => ModuleState::Coming,
        2 => ModuleState::Going,
        3 => ModuleState::Unformed,
        other => return Err(Error::corrupt(format!("the state ({other}) of a module"), addr)),
    };
    let text = |member: &crate::layout::Member<u64>| {
        let at = member.read(kernel, addr).ok().filter(|p| *p != 0)?;
        kernel.read_cstring(at, 256).ok()
    };
    let orc = match (
        layout.orc_unwind_ip.read(kernel, addr),
        layout.orc_unwind.read(kernel, addr),
        layout.num_orcs.read(kernel, addr),
    ) {
        (Ok(ip), Ok(entries), Ok(n)) if n > 0 => Some((ip, entries, u64::from(n))),
        _ => None,
    };
    Ok(Module {
        addr,
        name,
        state,
        memory: read_memory(kernel, layout, addr)?,
        taints: layout.taints.read(kernel, addr).unwrap_or(0),
        srcversion: text(&layout.srcversion),
        version: text(&layout.version),
        // The kernel holds one reference itself (MODULE_REF_BASE).
        refcount: layout.refcnt.read(kernel, addr).ok().map(|n| n - 1),
        used_by: used_by(kernel, layout, addr).unwrap_or_default(),
        orc,
        kallsyms: layout.kallsyms.read(kernel, addr)?,
        symbols: OnceLock::new(),
    })
}

fn read_memory(kernel: &Kernel, layout: &ModuleLayout, addr: u64) -> Result<Vec<ModuleMemory>> {
    let mut memory = Vec::new();
    let mut push = |base: u64, size: u64, text: bool, init: bool, kind: Option<&'static str>| {
        if base != 0
            && size != 0
            && let Some(end) = base.checked_add(size)
        {
            memory.push(ModuleMemory { range: base..end, text, init, kind });
        }
    };
    if layout.mem.exists() {
        let piece = kernel.layout::<ModuleMemoryLayout>()?;
        let place = layout.mem.place()?;
        let first = layout.mem.address(addr)?;
        let kinds = place.size.checked_div(piece.size).unwrap_or(0).min(32) as usize;
        for kind in 0..kinds {
            let at = first + kind as u64 * piece.size;
            let text = kind == MOD_TEXT || kind == MOD_INIT_TEXT;
            push(
                piece.base.read(kernel, at)?,
                u64::from(piece.bytes.read(kernel, at)?),
                text,
                kind >= MOD_INIT_TEXT,
                MEMORY_KINDS.get(kind).copied(),
            );
        }
    } else {
        for (base, size, text_size, init) in [
            (&layout.core_base, &layout.core_size, &layout.core_text_size, false),
            (&layout.init_base, &layout.init_size, &layout.init_text_size, true),
        ] {
            let base = base.read(kernel, addr)?;
            let size = u64::from(size.read(kernel, addr)?);
            let text = u64::from(text_size.read(kernel, addr)?).min(size);
            push(base, text, true, init, None);
            push(base.wrapping_add(text), size - text, false, init, None);
        }
    }
    Ok(memory)
}

fn used_by(kernel: &Kernel, layout: &ModuleLayout, addr: u64) -> Result<Vec<String>> {
    let link = kernel.layout::<ModuleUseLayout>()?;
    let head = layout.source_list.address(addr)?;
    let users = kernel.list(head, link.source_list.offset()?, "the users of a module");
    users
        .take(4096)
        .map(|user| layout.name.read(kernel, link.source.read(kernel, user?)?))
        .collect()
}

/// `n` little-endian bytes at `from`.
fn word(bytes: &[u8], from: usize, n: usize) -> u64 {
    bytes[from..from + n].iter().rev().fold(0, |v, b| v << 8 | u64::from(*b))
}

/// The string table as far as symbols point into it, up to the first page that
/// is not in the dump.
fn read_strings(kernel: &Kernel, strtab: u64, symtab: &[u8]) -> Vec<u8> {
    let last = symtab.chunks_exact(24).map(|sym| word(sym, 0, 4)).max().unwrap_or(0);
    let len = (last + 512).min(LONGEST_STRTAB) as usize;
    let mut strings = vec![0; len];
    let mut read = 0;
    while read < len {
        let at = strtab.wrapping_add(read as u64);
        let n = ((4096 - (at & 0xfff)) as usize).min(len - read);
        if kernel.read(at, &mut strings[read..read + n]).is_err() {
            break;
        }
        read += n;
    }
    strings.truncate(read);
    strings
}

/// Reads `module.kallsyms`. An `Elf64_Sym` is {u32 name, u8 info, u8 other,
/// u16 shndx, u64 value, u64 size}; index 0 is the null symbol.
fn read_symbols(kernel: &Kernel, module: &Module) -> Result<ModuleSymbols> {
    let layout = kernel.layout::<ModKallsymsLayout>()?;
    let at = module.kallsyms;
    if at == 0 {
        return Err(Error::Null(format!("kallsyms of module {}", module.name)));
    }
    let count = layout.num_symtab.read(kernel, at)?;
    if count > MOST_SYMBOLS {
        return Err(Error::corrupt(format!("the symbol count ({count}) of {}", module.name), at));
    }
    let symtab = kernel.read_bytes(layout.symtab.read(kernel, at)?, u64::from(count) * 24)?;
    let strings = read_strings(kernel, layout.strtab.read(kernel, at)?, &symtab);
    let types = match layout.typetab.read(kernel, at) {
        Ok(typetab) => kernel.read_bytes(typetab, u64::from(count)).ok(),
        Err(_) => None,
    };
    let mut sorted = Vec::with_capacity(count as usize);
    for (i, sym) in symtab.chunks_exact(24).enumerate().skip(1) {
        let (name_at, info, shndx, value, size) =
            (word(sym, 0, 4), sym[4], word(sym, 6, 2), word(sym, 8, 8), word(sym, 16, 8));
        let in_module = module.memory.iter().any(|m| m.range.contains(&value));
        if shndx == 0 || !in_module {
            continue;
        }
        let Some(tail) = strings.get(name_at as usize..) else { continue };
        let end = tail.iter().take(512).position(|b| *b == 0).unwrap_or(tail.len().min(512));
        let name = String::from_utf8_lossy(&tail[..end]).into_owned();
        let kind = match &types {
            Some(letters) => letters[i],
            None => info,
        };
        // Mapping symbols and compiler labels name nothing that people know.
        if name.is_empty() || name.starts_with('$') || name.starts_with(".L") {
            continue;
        }
        sorted.push((value, kind, name, size));
    }
    sorted.sort_by_key(|symbol| symbol.0);
    let areas = module.memory.iter().map(|m| (m.range.clone(), m.text)).collect();
    Ok(ModuleSymbols { sorted, areas })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_end_with_their_area_and_data_with_its_size() {
        let symbol = |at, kind, name: &str, size| (at, kind, name.to_owned(), size);
        let symbols = ModuleSymbols {
            sorted: vec![
                symbol(0x1010, b't', "first", 0x20),
                symbol(0x1080, b't', "last", 0x10),
                symbol(0x3000, b'd', "table", 0x40),
                symbol(0x3080, b'd', "unsized", 0),
            ],
            areas: vec![(0x1000..0x2000, true), (0x3000..0x4000, false), (0x5000..0x6000, false)],
        };
        let at = |addr| symbols.lookup(addr).map(|found| (found.name, found.offset));
        let named = |name: &str, offset| Some((name.to_owned(), offset));
        // Code reaches up to the next function, or the end of its area.
        assert_eq!(at(0x1070), named("first", 0x60));
        assert_eq!(at(0x1fff), named("last", 0xf7f));
        assert_eq!(at(0x303f), named("table", 0x3f));
        assert_eq!(at(0x3040), None);
        assert_eq!(at(0x3fff), named("unsized", 0xf7f));
        // Before the first one, between areas, in an area that has none.
        assert_eq!([at(0x100f), at(0x2000), at(0x5000)], [None, None, None]);
    }
}
