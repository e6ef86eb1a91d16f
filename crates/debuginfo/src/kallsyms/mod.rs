//! The kernel's own symbol table (kernel/kallsyms.c, written by scripts/kallsyms.c).
//!
//! The symbols are sorted by address; symbol `i` is entry `i` of an address table
//! (`encoding`) and name `i` of a table of compressed names
//! (`names`). VMCOREINFO tells where the tables are since v6.0 (commits
//! 5fd8fea935a1 and f09bddbd8661, backported by some distributions); elsewhere
//! [`Kallsyms::scan`] finds them.
//!
//! What is kept is what the kernel keeps: compressed names, markers and raw addresses. A look-up
//! expands the names it returns and no others.

mod encoding;
mod names;
mod scan;
mod tables;
mod tokens;

use std::ops::Range;
use std::sync::OnceLock;

use rayon::prelude::*;

use crate::memory::{Memory, MemoryError};
use crate::name_index::NameIndex;
pub use encoding::Addresses;
use encoding::{AddressTable, Check};
use names::Names;
pub use tables::Tables;

/// A symbol without a successor near it is taken to be no longer than this. Sizes are distances
/// to the next symbol, so that the last one before a hole would otherwise own the hole. The
/// largest objects of real kernels (lockdep's tables, early page tables) stay below it.
const MAX_SYMBOL_SIZE: u64 = 16 << 20;

/// Addresses below this are no kernel addresses: what the table has there are the offsets of
/// per-CPU variables (x86_64 up to v6.14) and absolute symbols.
const KERNEL_HALF: u64 = 1 << 63;

/// The symbols of vmlinux.
pub struct Kallsyms {
    names: Names,
    addresses: AddressTable,
    /// How many symbols at the start of the table lie below [`KERNEL_HALF`].
    percpu: u32,
    index: OnceLock<NameIndex>,
}

/// One symbol.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Symbol {
    /// As in the table.
    pub name: String,
    /// Its value.
    pub addr: u64,
    /// The letter that nm(1) prints: upper case is global.
    pub kind: u8,
}

/// The symbol that an address belongs to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    /// As in the table.
    pub name: String,
    /// Where the symbol starts.
    pub addr: u64,
    /// The letter that nm(1) prints: upper case is global.
    pub kind: u8,
    /// Distance to the next symbol at another address, capped: kallsyms has no sizes.
    pub size: u64,
}

/// Why there are no symbols.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KallsymsError {
    /// A table is not in the dump.
    #[error("{table} is not readable: {source}")]
    Memory {
        /// The kernel's name of the table.
        table: &'static str,
        /// What failed.
        #[source]
        source: MemoryError,
    },
    /// A table is not what scripts/kallsyms.c writes.
    #[error("{table} at {addr:#x} is malformed: {reason}")]
    Malformed {
        /// The kernel's name of the table.
        table: &'static str,
        /// Where it is.
        addr: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The tables are there, but with no encoding of the addresses do they make sense.
    #[error("no known encoding of kallsyms addresses fits: {0}")]
    NoEncoding(String),
    /// The scan came to its end.
    #[error("no kallsyms tables between {:#x} and {:#x}: {reason}", range.start, range.end)]
    NotFound {
        /// What was searched.
        range: Range<u64>,
        /// How far it came.
        reason: &'static str,
    },
}

impl Kallsyms {
    /// Reads the tables and keeps the encoding with which every anchor (name, address) that is in
    /// the table decodes right. Without anchors the table has to agree with itself: the tables
    /// lie where its own `_text`, `_end` and `__start_rodata` say.
    pub fn load(
        memory: &dyn Memory,
        tables: &Tables,
        anchors: &[(&str, u64)],
    ) -> Result<Kallsyms, KallsymsError> {
        let names = Names::read(memory, tables)?;
        let check = Check::new(&names, tables.names, anchors);
        let addresses = AddressTable::read(memory, tables, &check)?;
        Ok(Kallsyms::new(names, addresses))
    }

    fn new(names: Names, addresses: AddressTable) -> Kallsyms {
        let percpu = addresses.partition_point(|addr| addr < KERNEL_HALF);
        Kallsyms { names, addresses, percpu, index: OnceLock::new() }
    }

    /// Finds the tables in a part of kernel memory (holes are stepped over) and loads them.
    pub fn scan(
        memory: &dyn Memory,
        range: Range<u64>,
        anchors: &[(&str, u64)],
    ) -> Result<(Tables, Kallsyms), KallsymsError> {
        scan::scan(memory, range, anchors)
    }

    /// The address of the first symbol of this name. A function that clang's LTO renamed
    /// (`name.llvm.123`) is found by its source name if no symbol has that name itself.
    pub fn find(&self, name: &str) -> Option<u64> {
        let mut stripped = None;
        for id in self.candidates(name) {
            match self.names.compare(id, name) {
                names::Match::Exact => return self.addresses.get(id),
                names::Match::Llvm => stripped = stripped.or(Some(id)),
                names::Match::No => {}
            }
        }
        stripped.and_then(|id| self.addresses.get(id))
    }

    /// The addresses of all symbols of this name, ascending; LTO's renamed ones included.
    pub fn find_all(&self, name: &str) -> Vec<u64> {
        let matching = self.candidates(name).filter(|&id| {
            matches!(self.names.compare(id, name), names::Match::Exact | names::Match::Llvm)
        });
        matching.filter_map(|id| self.addresses.get(id)).collect()
    }

    /// The symbol that a kernel address lies in. Several may start at the same address: the one
    /// that a person expects is preferred, and among equals the first, as the kernel does.
    pub fn lookup(&self, addr: u64) -> Option<Found> {
        (addr >= KERNEL_HALF).then(|| self.lookup_in(addr, self.percpu..self.names.count()))?
    }

    /// The per-CPU variable that an offset into a per-CPU area lies in, where the table has
    /// per-CPU variables as offsets (x86_64 up to v6.14, commit 01157ddc58dc2).
    pub fn lookup_percpu(&self, offset: u64) -> Option<Found> {
        self.lookup_in(offset, 0..self.percpu)
    }

    /// All symbols, ascending by address.
    pub fn iter(&self) -> impl Iterator<Item = Symbol> + '_ {
        self.names.iter().zip(0..).filter_map(|(expanded, id)| {
            let addr = self.addresses.get(id)?;
            Some(Symbol { name: expanded.name, addr, kind: expanded.kind })
        })
    }

    /// The number of symbols.
    pub fn len(&self) -> usize {
        self.names.count() as usize
    }

    /// No table that loads is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How the addresses were found to be encoded.
    pub fn encoding(&self) -> Addresses {
        self.addresses.encoding()
    }

    /// Bytes of heap that the tables and the index (if somebody asked for a name) take.
    pub fn heap_size(&self) -> usize {
        self.names.heap_size()
            + self.addresses.heap_size()
            + self.index.get().map_or(0, NameIndex::heap_size)
    }

    fn lookup_in(&self, addr: u64, ids: Range<u32>) -> Option<Found> {
        let after = self.addresses.partition_point(|start| start <= addr).clamp(ids.start, ids.end);
        let last = after.checked_sub(1).filter(|id| ids.contains(id))?;
        let start = self.addresses.get(last)?;
        let alias = |id: &u32| self.addresses.get(*id) == Some(start);
        let first = (ids.start..after).rev().take_while(alias).last()?;
        let next = if after < ids.end { self.addresses.get(after) } else { None };
        // Nothing follows `_end`: it owns no byte, but is still the name of its address.
        let size = next.map_or(0, |next| (next - start).min(MAX_SYMBOL_SIZE));
        if addr - start >= size.max(1) {
            return None;
        }
        let best = self.names.most_telling(first..after)?;
        Some(Found { name: best.name, addr: start, kind: best.kind, size })
    }

    fn candidates(&self, name: &str) -> impl Iterator<Item = u32> + '_ {
        let index = self.index.get_or_init(|| {
            let hashes: Vec<Option<u32>> = (0..self.names.blocks())
                .into_par_iter()
                .flat_map_iter(|block| self.names.hashes_of_block(block))
                .collect();
            NameIndex::new(&hashes)
        });
        index.candidates(names::index_hash(name.as_bytes())).iter().copied()
    }
}

impl std::fmt::Debug for Kallsyms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kallsyms")
            .field("len", &self.len())
            .field("encoding", &self.encoding())
            .finish_non_exhaustive()
    }
}
