//! The 256 strings of which names consist.
//!
//! They stand NUL-terminated in `kallsyms_token_table`; `kallsyms_token_index[t]` is the offset of
//! token `t` there. A token is a frequent part of names, or, for a character that occurs in names,
//! that character (scripts/kallsyms.c, `insert_real_symbols_in_table`).

use super::KallsymsError;
use super::tables::{self, Tables};
use crate::memory::Memory;

const TOKENS: usize = 256;
/// The part of a token that is copied at once.
pub(super) const HEAD: usize = 16;
/// `KSYM_NAME_LEN` is 512 since v6.1, 128 before: longer than that is no symbol.
pub(super) const MAX_NAME: usize = 512;

/// The strings that bytes of a compressed name stand for.
pub(super) struct Tokens {
    table: Vec<u8>,
    spans: [(u16, u16); TOKENS],
    heads: Vec<[u8; HEAD]>,
}

impl Tokens {
    pub(super) fn read(memory: &dyn Memory, tables: &Tables) -> Result<Tokens, KallsymsError> {
        let malformed = |reason| KallsymsError::Malformed {
            table: "kallsyms_token_table",
            addr: tables.token_table,
            reason,
        };
        let index = tables::read(memory, "kallsyms_token_index", tables.token_index, TOKENS * 2)?;
        let mut starts = [0_u16; TOKENS];
        for (start, bytes) in starts.iter_mut().zip(index.chunks_exact(2)) {
            *start = u16::from_le_bytes([bytes[0], bytes[1]]);
        }
        let last = usize::from(starts.iter().copied().max().unwrap_or_default());
        let mut table = tables::read(memory, "kallsyms_token_table", tables.token_table, last)?;
        // The last token has no successor that would tell its length.
        loop {
            let addr = tables.token_table.wrapping_add(table.len() as u64);
            let byte = tables::read(memory, "kallsyms_token_table", addr, 1)?;
            table.extend(&byte);
            if byte == [0] {
                break;
            }
            if table.len() - last > MAX_NAME {
                return Err(malformed("its last token does not end"));
            }
        }
        let mut spans = [(0, 0); TOKENS];
        let mut heads = vec![[0; HEAD]; TOKENS];
        for ((span, head), start) in spans.iter_mut().zip(&mut heads).zip(starts) {
            let rest = &table[usize::from(start)..];
            let len = memchr::memchr(0, rest).unwrap_or(rest.len()).min(MAX_NAME);
            if !rest[..len].iter().all(u8::is_ascii_graphic) {
                return Err(malformed("a token in it is no part of a name"));
            }
            *span = (start, len as u16);
            let len = len.min(HEAD);
            head[..len].copy_from_slice(&rest[..len]);
        }
        Ok(Tokens { table, spans, heads })
    }

    pub(super) fn heap_size(&self) -> usize {
        self.table.capacity() + self.heads.capacity() * HEAD
    }

    /// The first bytes of a token, to be copied at once, and its length.
    pub(super) fn head(&self, token: u8) -> (&[u8; HEAD], usize) {
        let token = usize::from(token);
        (&self.heads[token], usize::from(self.spans[token].1))
    }

    pub(super) fn get(&self, token: u8) -> &[u8] {
        let (start, len) = self.spans[usize::from(token)];
        &self.table[usize::from(start)..][..usize::from(len)]
    }
}
