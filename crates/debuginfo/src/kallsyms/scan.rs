//! Finding the tables when nobody says where they are.
//!
//! The token table is unmistakable: characters that occur in names stand for themselves, so that
//! somewhere in read-only data the digits follow each other, each with its NUL. From there:
//!
//! 1. The token index follows the token table; it says where token '0' is, hence where the table
//!    starts, and all of its 256 entries have to meet the tokens.
//! 2. The markers lie before the token table (v6.2 and v6.3: with `seqs_of_names` between):
//!    ascending words that begin with 0.
//! 3. The names lie before the markers and the count before the names; a candidate is right if
//!    the names, walked, meet every marker and end where the markers begin.
//! 4. The addresses lie before the count or behind the token index (see
//!    `tables`): what decodes and agrees with the anchors is it.

use std::ops::Range;

use memchr::memmem::Finder;

use super::encoding::{AddressTable, Check};
use super::names::Names;
use super::tables::{MAX_SYMBOLS, NAMES_PER_MARKER, Tables};
use super::{Kallsyms, KallsymsError};
use crate::memory::Memory;

/// Read at once; a chunk that can't be read is tried again page by page.
const CHUNK: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// Nobody's kernel mapping is larger.
const MAX_RANGE: u64 = 1 << 30;
const TOKENS: usize = 256;
/// The token index consists of u16.
const MAX_TOKEN_TABLE: u64 = 1 << 16;
const TOKEN_INDEX: u64 = 2 * TOKENS as u64;
/// Compressed names are at least a length and a token long, in practice below this at average.
const BLOCK_BYTES: Range<u32> = 2 * NAMES_PER_MARKER..128 * NAMES_PER_MARKER;
/// The names of distributions' kernels begin within this distance before the tokens,
const NEAR_TABLES: u64 = 4 << 20;
/// and those of any kernel within this.
const MAX_TABLES: u64 = 64 << 20;

pub(super) fn scan(
    memory: &dyn Memory,
    range: Range<u64>,
    anchors: &[(&str, u64)],
) -> Result<(Tables, Kallsyms), KallsymsError> {
    // What is computed from an address in the range stays an address.
    let end = range.end.min(u64::MAX - MAX_RANGE);
    let range = range.start..end.min(range.start.saturating_add(MAX_RANGE));
    let scan = Scan { memory, range: range.clone() };
    let digits: Vec<u8> = (b'0'..=b'9').flat_map(|digit| [digit, 0]).collect();
    let finder = Finder::new(&digits);
    let mut reason = "nothing there looks like a token table";
    let mut last_error = None;
    // The end of the last chunk, in case the digits lie across two.
    let mut window: Vec<u8> = Vec::with_capacity(CHUNK as usize + digits.len());
    let mut at = range.start;
    while at < range.end {
        let len = CHUNK.min(range.end - at);
        let kept = window.len().min(digits.len() - 1);
        window.drain(..window.len() - kept);
        let start = at - kept as u64;
        scan.append(&mut window, at, len);
        for position in finder.find_iter(&window) {
            let Some(tokens) = scan.tokens(start + position as u64) else { continue };
            reason = "there is a token table, but no markers and names that belong to it";
            for place in scan.names(&tokens) {
                match scan.load(&tokens, &place, anchors) {
                    Ok(found) => return Ok(found),
                    Err(error) => last_error = Some(error),
                }
            }
        }
        at += len;
    }
    Err(last_error.unwrap_or(KallsymsError::NotFound { range, reason }))
}

struct TokenTable {
    table: u64,
    index: u64,
}

struct NamesPlace {
    names: u64,
    markers: u64,
    num_syms: u32,
}

struct Scan<'a> {
    memory: &'a dyn Memory,
    range: Range<u64>,
}

impl Scan<'_> {
    /// Appends a part of memory. Pages that are not there become zeros, which nothing that is
    /// looked for contains in such number; what is found is read again by who loads it.
    fn append(&self, window: &mut Vec<u8>, at: u64, len: u64) {
        let old = window.len();
        window.resize(old + len as usize, 0);
        let new = &mut window[old..];
        if self.memory.read(at, new).is_ok() {
            return;
        }
        let mut done = 0;
        while done < len {
            let to_boundary = PAGE - (at + done) % PAGE;
            let part = &mut new[done as usize..(done + to_boundary).min(len) as usize];
            if self.memory.read(at + done, part).is_err() {
                part.fill(0);
            }
            done += to_boundary;
        }
    }

    /// As much as there is from `start` on, `len` bytes at most.
    fn read_until_hole(&self, start: u64, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        if self.memory.read(start, &mut bytes).is_ok() {
            return bytes;
        }
        let mut done = 0;
        while done < len {
            let end = (done + PAGE - (start + done) % PAGE).min(len);
            if self.memory.read(start + done, &mut bytes[done as usize..end as usize]).is_err() {
                break;
            }
            done = end;
        }
        bytes.truncate(done as usize);
        bytes
    }

    /// As much as there is up to `end`, `len` bytes at most, and where it starts.
    fn read_back(&self, end: u64, len: u64) -> (u64, Vec<u8>) {
        let start = end.saturating_sub(len).max(self.range.start);
        let mut bytes = vec![0; end.saturating_sub(start) as usize];
        if self.memory.read(start, &mut bytes).is_ok() {
            return (start, bytes);
        }
        let mut from = end;
        while from > start {
            let page = ((from - 1) / PAGE * PAGE).max(start);
            let part = &mut bytes[(page - start) as usize..(from - start) as usize];
            if self.memory.read(page, part).is_err() {
                break;
            }
            from = page;
        }
        bytes.drain(..(from - start) as usize);
        (from, bytes)
    }

    /// Step 1: the tables around token '0' at `zero`.
    fn tokens(&self, zero: u64) -> Option<TokenTable> {
        let bytes = self.read_until_hole(zero, MAX_TOKEN_TABLE + 8 + TOKEN_INDEX);
        let mut ends = memchr::memchr_iter(0, &bytes);
        let end = ends.nth(TOKENS - 1 - usize::from(b'0'))? + 1;
        // Aligned to 8, since v7.0 to 4.
        let index = [4, 8].into_iter().find_map(|alignment| {
            let index = (zero + end as u64).next_multiple_of(alignment);
            let words = bytes.get((index - zero) as usize..)?.get(..TOKEN_INDEX as usize)?;
            let starts: Vec<u64> = words
                .chunks_exact(2)
                .map(|word| u64::from(u16::from_le_bytes([word[0], word[1]])))
                .collect();
            let meets = |token: usize| {
                let start = starts[token].checked_sub(starts[usize::from(b'0')])? as usize;
                (bytes.get(start - 1) == Some(&0)).then_some(())
            };
            let ascending = starts.windows(2).all(|pair| pair[0] < pair[1]);
            let own = usize::from(b'1')..TOKENS;
            (starts[0] == 0 && ascending && own.into_iter().all(|token| meets(token).is_some()))
                .then(|| (index, zero.checked_sub(starts[usize::from(b'0')])))
        });
        let (index, table) = index?;
        Some(TokenTable { table: table?, index })
    }

    /// Steps 2 and 3: markers, and names that may belong to them.
    fn names(&self, tokens: &TokenTable) -> Vec<NamesPlace> {
        let near = self.names_within(tokens, NEAR_TABLES);
        if near.is_empty() { self.names_within(tokens, MAX_TABLES) } else { near }
    }

    fn names_within(&self, tokens: &TokenTable, distance: u64) -> Vec<NamesPlace> {
        let (start, before) = self.read_back(tokens.table, distance);
        // The words are aligned in memory; `before` may begin anywhere.
        let shift = (start.wrapping_neg() % 4) as usize;
        let before = before.get(shift..).unwrap_or_default();
        let start = start + shift as u64;
        let words = before.len() / 4;
        let word =
            |index: usize| Some(u32::from_le_bytes(*before.get(index * 4..)?.first_chunk()?));
        let follows = |low: usize, high: usize| {
            let bytes = word(high)?.checked_sub(word(low)?)?;
            BLOCK_BYTES.contains(&bytes).then_some(())
        };
        let mut end = words;
        // Padding looks like the marker of a kernel with few names: the last thing to try.
        let mut few = Vec::new();
        while end > 0 {
            // A run of words that each explain the next.
            let mut first = end - 1;
            while first > 0 && follows(first - 1, first).is_some() {
                first -= 1;
            }
            let last = std::mem::replace(&mut end, first) - 1;
            let count = last - first + 1;
            // A single 0 is everywhere; it is a marker only right before the tokens.
            let markers = word(first) == Some(0) && (count > 1 || last + 3 > words);
            let (true, Some(last_marker)) = (markers, word(last)) else { continue };
            let found: Vec<NamesPlace> =
                names_before(&before[..first * 4], count as u32, last_marker)
                    .into_iter()
                    .map(|(at, num_syms)| NamesPlace {
                        names: start + at as u64,
                        markers: start + first as u64 * 4,
                        num_syms,
                    })
                    .collect();
            if count == 1 {
                few.extend(found);
            } else if !found.is_empty() {
                return found;
            }
        }
        few
    }

    /// Step 4: the names have to meet their markers, and at one of the places where addresses may
    /// be there have to be some.
    fn load(
        &self,
        tokens: &TokenTable,
        place: &NamesPlace,
        anchors: &[(&str, u64)],
    ) -> Result<(Tables, Kallsyms), KallsymsError> {
        let mut tables = Tables {
            num_syms: place.num_syms,
            names: place.names,
            markers: place.markers,
            token_table: tokens.table,
            token_index: tokens.index,
            offsets: 0,
            relative_base: None,
            seqs_of_names: None,
        };
        let names = Names::read(self.memory, &tables)?;
        let check = Check::new(&names, place.names, anchors);
        let words = 4 * u64::from(place.num_syms);
        // Since v6.4 behind the token index, aligned to 8, or since v7.0 to 4.
        let behind = tokens.index + TOKEN_INDEX;
        let offsets = behind.next_multiple_of(8);
        let base = (offsets + words).next_multiple_of(8);
        // Up to v6.3 before the count, which is aligned to 8.
        let count = place.names.wrapping_sub(8);
        let old_base = count.wrapping_sub(8);
        let places = [
            (offsets, Some(base)),
            (behind.next_multiple_of(4), None),
            (old_base.wrapping_sub(words) / 8 * 8, Some(old_base)),
            (count.wrapping_sub(2 * words), None),
        ];
        let mut why = Vec::new();
        for (offsets, relative_base) in places {
            tables.offsets = offsets;
            tables.relative_base = relative_base;
            match AddressTable::read(self.memory, &tables, &check) {
                Ok(addresses) => {
                    let relative = addresses.encoding().has_base();
                    tables.relative_base = relative_base.filter(|_| relative);
                    return Ok((tables, Kallsyms::new(names, addresses)));
                }
                Err(error) => why.push(format!("at {offsets:#x}: {error}")),
            }
        }
        Err(KallsymsError::NoEncoding(why.join("; ")))
    }
}

/// Step 3: where names may start that end at the end of `before`, and how many there are.
fn names_before(before: &[u8], markers: u32, last_marker: u32) -> Vec<(usize, u32)> {
    let counts = (markers - 1) * NAMES_PER_MARKER + 1..=markers.saturating_mul(NAMES_PER_MARKER);
    let mut found = Vec::new();
    // The last block is as long as any.
    let Some(latest) = before.len().checked_sub(last_marker as usize) else { return found };
    let earliest = latest.saturating_sub(BLOCK_BYTES.end as usize + 8);
    for start in (earliest..=latest).rev() {
        // num_syms is a word, followed by the padding that the alignment of the names needs.
        for back in [8, 4] {
            let count = start
                .checked_sub(back)
                .and_then(|at| Some(u32::from_le_bytes(*before.get(at..)?.first_chunk()?)));
            let Some(count) = count.filter(|count| counts.contains(count)) else { continue };
            let padded = back == 4 || before[start - 4..start] == [0; 4];
            if count <= MAX_SYMBOLS && padded && !found.contains(&(start, count)) {
                found.push((start, count));
            }
        }
    }
    found
}
