//! Where the tables are, and the small ones among them.
//!
//! In memory, in the order scripts/kallsyms.c writes them (each aligned to 8, since v7.0 to 4):
//!
//! | up to v6.3                        | since v6.4 (404bad70fcf7)         |
//! |-----------------------------------|-----------------------------------|
//! | addresses u64\[n] / offsets u32\[n] | num_syms u32                      |
//! | relative_base u64 (with offsets)  | names                             |
//! | num_syms u32                      | markers u32\[(n + 255) / 256]      |
//! | names                             | token_table                       |
//! | markers u32\[(n + 255) / 256]      | token_index u16\[256]              |
//! | seqs_of_names u8\[3n] (v6.2, 60443c88f3a8; u32\[n] in 6.2-rc) | addresses u64\[n] / offsets u32\[n] |
//! | token_table                       | relative_base u64 (until v7.0, a081b5789255d) |
//! | token_index u16\[256]              | seqs_of_names u8\[3n]              |
//!
//! A marker is the offset in names of every 256th name. Markers were unsigned longs before v4.20
//! (80ffbaa5b1bd), which is older than any kernel with BTF.

use super::KallsymsError;
use crate::memory::{Memory, read_vec};

/// More symbols than any kernel has (an allyesconfig kernel with debugging has about a million):
/// a count above it is no count.
pub(super) const MAX_SYMBOLS: u32 = 1 << 23;

/// One marker stands for this many names.
pub(super) const NAMES_PER_MARKER: u32 = 256;

/// The virtual addresses of the tables.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Tables {
    /// The value of `kallsyms_num_syms` (not its address).
    pub num_syms: u32,
    /// `kallsyms_names`
    pub names: u64,
    /// `kallsyms_markers`
    pub markers: u64,
    /// `kallsyms_token_table`
    pub token_table: u64,
    /// `kallsyms_token_index`
    pub token_index: u64,
    /// `kallsyms_offsets`, or `kallsyms_addresses` where the kernel has that.
    pub offsets: u64,
    /// `kallsyms_relative_base`: the address of the variable.
    pub relative_base: Option<u64>,
    /// `kallsyms_seqs_of_names`
    pub seqs_of_names: Option<u64>,
}

impl Tables {
    /// Markers of this many symbols.
    pub(super) fn marker_count(&self) -> u32 {
        self.num_syms.div_ceil(NAMES_PER_MARKER)
    }
}

pub(super) fn read(
    memory: &dyn Memory,
    table: &'static str,
    addr: u64,
    len: usize,
) -> Result<Vec<u8>, KallsymsError> {
    if addr.checked_add(len as u64).is_none() {
        let reason = "it would pass the end of the address space";
        return Err(KallsymsError::Malformed { table, addr, reason });
    }
    read_vec(memory, addr, len).map_err(|source| KallsymsError::Memory { table, source })
}

pub(super) fn read_u32s(
    memory: &dyn Memory,
    table: &'static str,
    addr: u64,
    count: u32,
) -> Result<Vec<u32>, KallsymsError> {
    let bytes = read(memory, table, addr, count as usize * 4)?;
    Ok(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

pub(super) fn read_u64s(
    memory: &dyn Memory,
    table: &'static str,
    addr: u64,
    count: u32,
) -> Result<Vec<u64>, KallsymsError> {
    let bytes = read(memory, table, addr, count as usize * 8)?;
    let words = bytes.chunks_exact(8);
    Ok(words
        .map(|b| u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
        .collect())
}
