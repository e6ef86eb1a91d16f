//! The compressed names.
//!
//! A name is a length and that many bytes, each the number of a token; the tokens concatenated
//! (`tokens`) are the type letter of nm(1) and the name. Up to v6.0 the length is one byte;
//! since v6.1 (73bbb94466fd3) a high bit in it means that a second byte has bits 7 and up. Nothing
//! in the dump tells which: the names of one kind do not meet the markers when walked as the
//! other.

use std::ops::Range;

use super::KallsymsError;
use super::tables::{self, MAX_SYMBOLS, NAMES_PER_MARKER, Tables};
use super::tokens::{HEAD, MAX_NAME, Tokens};
use crate::memory::Memory;
use crate::name_index;

/// A length of two bytes has 14 bits.
const MAX_COMPRESSED: u64 = 0x3fff + 2;
/// Ten times what the kernel with most symbols has.
const MAX_BYTES: u64 = 128 << 20;
/// Before every table is at most this much padding.
const MAX_PADDING: u64 = 8;

/// The suffix of functions that clang's LTO promoted to global, followed by a number.
const LLVM_SUFFIX: &[u8] = b".llvm.";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lengths {
    OneByte,
    UpToTwoBytes,
}

/// All names, compressed as in the kernel.
pub(super) struct Names {
    bytes: Vec<u8>,
    markers: Vec<u32>,
    count: u32,
    lengths: Lengths,
    tokens: Tokens,
}

/// A name as a person reads it.
pub(super) struct Expanded {
    pub(super) name: String,
    pub(super) kind: u8,
}

/// How a symbol's name compares to a wanted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    No,
    Exact,
    /// The wanted name and LTO's suffix.
    Llvm,
}

impl Names {
    pub(super) fn read(memory: &dyn Memory, tables: &Tables) -> Result<Names, KallsymsError> {
        let malformed = |reason| KallsymsError::Malformed {
            table: "kallsyms_names",
            addr: tables.names,
            reason,
        };
        let count = tables.num_syms;
        if count == 0 || count > MAX_SYMBOLS {
            return Err(malformed("the number of symbols is impossible"));
        }
        // scripts/kallsyms.c has always written the markers right after the names.
        let len = tables
            .markers
            .checked_sub(tables.names)
            .ok_or_else(|| malformed("kallsyms_markers lies before it, which no kernel did"))?;
        if len > (u64::from(count) * MAX_COMPRESSED + MAX_PADDING).min(MAX_BYTES) {
            return Err(malformed("kallsyms_markers is too far behind it"));
        }
        let tokens = Tokens::read(memory, tables)?;
        let markers =
            tables::read_u32s(memory, "kallsyms_markers", tables.markers, tables.marker_count())?;
        let bytes = tables::read(memory, "kallsyms_names", tables.names, len as usize)?;
        let mut names = Names { bytes, markers, count, lengths: Lengths::UpToTwoBytes, tokens };
        for lengths in [Lengths::UpToTwoBytes, Lengths::OneByte] {
            names.lengths = lengths;
            if names.meets_markers() {
                names.bytes.shrink_to_fit();
                return Ok(names);
            }
        }
        Err(malformed("it does not meet its markers"))
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Names come in blocks of 256, one per marker.
    pub(super) fn blocks(&self) -> u32 {
        self.markers.len() as u32
    }

    pub(super) fn heap_size(&self) -> usize {
        self.bytes.capacity() + self.markers.capacity() * 4 + self.tokens.heap_size()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Expanded> + '_ {
        (0..self.blocks()).flat_map(|block| self.block(block)).map(|name| self.expand(name))
    }

    /// One hash per name of the block.
    pub(super) fn hashes_of_block(&self, block: u32) -> impl Iterator<Item = Option<u32>> + '_ {
        let mut buffer = Buffer::new();
        self.block(block).map(move |name| {
            let name = self.expand_into(name, &mut buffer).get(1..)?;
            Some(index_hash(name))
        })
    }

    pub(super) fn compare(&self, id: u32, wanted: &str) -> Match {
        let Some(name) = self.compressed(id) else { return Match::No };
        let mut buffer = Buffer::new();
        match self.expand_into(name, &mut buffer).get(1..) {
            Some(name) if name == wanted.as_bytes() => Match::Exact,
            Some(name) if without_llvm_suffix(name) == wanted.as_bytes() => Match::Llvm,
            _ => Match::No,
        }
    }

    /// The best name for a person among those of one address.
    pub(super) fn most_telling(&self, ids: Range<u32>) -> Option<Expanded> {
        // More aliases than this are no aliases, and each costs an expansion.
        ids.take(64)
            .filter_map(|id| self.compressed(id))
            .map(|name| self.expand(name))
            .min_by_key(doubts)
    }

    /// The numbers of all symbols with each of the wanted names, in one pass over the table and
    /// without the index: opening a dump asks for a handful of names.
    pub(super) fn find_few(&self, wanted: &[&str]) -> Vec<Vec<u32>> {
        let mut found = vec![Vec::new(); wanted.len()];
        // Most symbols are ruled out by their first token (which begins with the type letter).
        let begun_by: Vec<Vec<usize>> = (0..=u8::MAX)
            .map(|token| {
                let rest = self.tokens.get(token).get(1..).unwrap_or_default();
                let begins = |at: &usize| wanted[*at].as_bytes().starts_with(rest);
                (0..wanted.len()).filter(begins).collect()
            })
            .collect();
        let names = (0..self.blocks()).flat_map(|block| self.block(block));
        for (id, name) in (0_u32..).zip(names) {
            let Some(&first) = name.first() else { continue };
            for &at in &begun_by[usize::from(first)] {
                if self.is(name, wanted[at].as_bytes()) {
                    found[at].push(id);
                }
            }
        }
        found
    }

    fn is(&self, name: &[u8], wanted: &[u8]) -> bool {
        let mut rest = wanted;
        let mut tokens = name.iter().map(|&token| self.tokens.get(token));
        let first = tokens.next().and_then(|token| token.get(1..)).unwrap_or_default();
        for token in std::iter::once(first).chain(tokens) {
            match rest.strip_prefix(token) {
                Some(left) => rest = left,
                None => return false,
            }
        }
        rest.is_empty()
    }

    /// Walks all names: each block has to end where the next marker points, the last one at the
    /// markers (which follow, aligned).
    fn meets_markers(&self) -> bool {
        if self.markers.first() != Some(&0) {
            return false;
        }
        (0..self.blocks()).all(|block| {
            let Some(end) = self.end_of_block(block) else { return false };
            match self.markers.get(block as usize + 1) {
                Some(&next) => end == next as usize,
                None => self.bytes.len() - end < MAX_PADDING as usize,
            }
        })
    }

    fn end_of_block(&self, block: u32) -> Option<usize> {
        let mut position = self.markers[block as usize] as usize;
        for _ in 0..self.names_in_block(block) {
            let name = entry(&self.bytes, position, self.lengths)?;
            position = name.end;
            if name.is_empty() {
                return None;
            }
        }
        Some(position)
    }

    fn names_in_block(&self, block: u32) -> u32 {
        (self.count - block * NAMES_PER_MARKER).min(NAMES_PER_MARKER)
    }

    fn block(&self, block: u32) -> impl Iterator<Item = &[u8]> {
        let mut position = self.markers.get(block as usize).map_or(usize::MAX, |&m| m as usize);
        (0..self.names_in_block(block)).map_while(move |_| {
            let name = entry(&self.bytes, position, self.lengths)?;
            position = name.end;
            self.bytes.get(name)
        })
    }

    fn compressed(&self, id: u32) -> Option<&[u8]> {
        if id >= self.count {
            return None;
        }
        self.block(id / NAMES_PER_MARKER).nth((id % NAMES_PER_MARKER) as usize)
    }

    fn expand(&self, name: &[u8]) -> Expanded {
        let mut buffer = Buffer::new();
        let expanded = self.expand_into(name, &mut buffer);
        let kind = expanded.first().copied().unwrap_or(b'?');
        let name = String::from_utf8_lossy(expanded.get(1..).unwrap_or_default()).into_owned();
        Expanded { name, kind }
    }

    /// The type letter and the name.
    fn expand_into<'b>(&self, name: &[u8], buffer: &'b mut Buffer) -> &'b [u8] {
        let mut len = 0;
        for &token in name {
            let (head, token_len) = self.tokens.head(token);
            if len + token_len > MAX_NAME {
                break;
            }
            // Nearly all tokens are short, and a copy of fixed length is one instruction.
            if token_len <= HEAD {
                buffer.0[len..len + HEAD].copy_from_slice(head);
            } else {
                buffer.0[len..len + token_len].copy_from_slice(self.tokens.get(token));
            }
            len += token_len;
        }
        &buffer.0[..len]
    }
}

/// A name while it is expanded; copies may pass its end.
struct Buffer([u8; MAX_NAME + HEAD]);

impl Buffer {
    fn new() -> Buffer {
        Buffer([0; MAX_NAME + HEAD])
    }
}

/// Where in the names table the tokens of the name at `position` are.
fn entry(bytes: &[u8], position: usize, lengths: Lengths) -> Option<Range<usize>> {
    let first = usize::from(*bytes.get(position)?);
    let (start, len) = match lengths {
        Lengths::UpToTwoBytes if first & 0x80 != 0 => {
            (position + 2, first & 0x7f | usize::from(*bytes.get(position + 1)?) << 7)
        }
        _ => (position + 1, first),
    };
    (start + len <= bytes.len()).then_some(start..start + len)
}

/// What a name is indexed by: functions that LTO renamed by their source name.
pub(super) fn index_hash(name: &[u8]) -> u32 {
    name_index::hash(without_llvm_suffix(name))
}

fn without_llvm_suffix(name: &[u8]) -> &[u8] {
    // Looked for from the end, and only where there are digits: most names cost one byte.
    let number = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    match name[..name.len() - number].strip_suffix(LLVM_SUFFIX) {
        Some(source) if number > 0 => source,
        _ => name,
    }
}

/// Reasons to think that this alias is not what a person means, the worst first.
fn doubts(symbol: &Expanded) -> (bool, bool, bool) {
    let name = symbol.name.as_str();
    // Labels around a function, not the function: padding for ftrace, CFI, the outlined part.
    let part = name.starts_with("__pfx_")
        || name.starts_with("__cfi_")
        || name.ends_with(".cold")
        || name.contains(".cold.");
    // The linker script's borders of sections.
    let border = matches!(name, "_text" | "_stext" | "_etext" | "_sinittext" | "_einittext")
        || name.starts_with("__start_")
        || name.starts_with("__stop_")
        || name.starts_with("__end_")
        || name.ends_with("_start")
        || name.ends_with("_end")
        || name.ends_with("_begin");
    // The entry of 32-bit callers: one with the 64-bit one where a call has no arguments.
    let compat = name.starts_with("__ia32_");
    (part, border || compat, symbol.kind.is_ascii_lowercase())
}
