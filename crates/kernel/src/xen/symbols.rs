//! Symbols that the hypervisor carries, in tables like those of Linux (Xen,
//! xen/tools/symbols.c, xen/common/symbols.c):
//!
//! ```text
//! symbols_offsets        u32 of each: address less the start of the room for the image, ascending
//! symbols_num_addrs      u32
//! symbols_names          of each: length u8, that many tokens; the first character is the type.
//!                        Length 0: the end of the one before it
//! symbols_sorted_offsets by name, in builds that look up by name
//! symbols_markers        u32: place of every 256th name
//! symbols_token_table    256 strings with their NUL
//! symbols_token_index    u16
//! ```
//!
//! Static ones have their file in front: `drivers/char/console.c#conring`.
//! They are found as Linux's are: the digits in the token table stand for
//! themselves.

use crate::symbol::SymbolAt;

const TOKENS: usize = 256;
/// Tables of tokens have about 1000 bytes.
const LONGEST_TOKENS: usize = 16 << 10;
/// Xen 4.17 has 6900.
const MOST: u32 = 1 << 17;
const FEWEST: u32 = 256;
/// Places that are tried for the count.
const MOST_PLACES: usize = 64;

/// All symbols, by address.
pub(super) struct Symbols {
    room: u64,
    /// Offset from the start of the room, and name.
    all: Vec<(u32, String)>,
}

impl Symbols {
    /// The address of a symbol, in whatever file it is.
    pub(super) fn address(&self, name: &str) -> Option<u64> {
        let found = self.all.iter().find(|(_, found)| base_name(found) == name)?;
        Some(self.room + u64::from(found.0))
    }

    /// The symbol that `addr` lies in.
    pub(super) fn at(&self, addr: u64) -> Option<SymbolAt> {
        let offset = u32::try_from(addr.checked_sub(self.room)?).ok()?;
        let index = self.all.partition_point(|(start, _)| *start <= offset);
        let (start, _) = self.all.get(index.checked_sub(1)?)?;
        let first = self.all.partition_point(|(other, _)| other < start);
        let end = self.all.get(index).map_or(*start, |(next, _)| *next);
        let (start, name) = self.all.get(first)?;
        // No name: what lies behind the end of a symbol.
        (!name.is_empty()).then(|| SymbolAt {
            name: base_name(name).to_owned(),
            offset: u64::from(offset - start),
            size: u64::from(end.saturating_sub(*start)),
            module: None,
        })
    }
}

fn base_name(name: &str) -> &str {
    name.rsplit_once('#').map_or(name, |(_, name)| name)
}

/// Finds the tables in `image`, which begins at `room`.
pub(super) fn find(image: &[u8], room: u64) -> Result<Symbols, String> {
    let digits: Vec<u8> = (b'0'..=b'9').flat_map(|digit| [digit, 0]).collect();
    let mut why = "nothing in the hypervisor's image looks like its symbols";
    for zero in memchr::memmem::find_iter(image, &digits).take(MOST_PLACES) {
        let Some((start, tokens)) = tokens(image, zero) else { continue };
        why = "the hypervisor's symbols can't be made out";
        if let Some(all) = table(image, start, &tokens) {
            return Ok(Symbols { room, all });
        }
    }
    Err(why.to_owned())
}

/// The tokens around that of '0', and where they start.
fn tokens(image: &[u8], zero: usize) -> Option<(usize, Vec<&[u8]>)> {
    let before = image.get(zero.saturating_sub(LONGEST_TOKENS)..zero)?;
    // The tokens before it end in as many NULs, one of which ends what lies before the table.
    let end = memchr::memrchr_iter(0, before).nth(usize::from(b'0'))?;
    let start = zero - before.len() + end + 1;
    let area = image.get(start..image.len().min(start + LONGEST_TOKENS))?;
    let tokens: Vec<&[u8]> = area.split(|byte| *byte == 0).take(TOKENS).collect();
    (tokens.len() == TOKENS && tokens.iter().all(|token| !token.is_empty()))
        .then_some((start, tokens))
}

/// The symbols whose tables end at the tokens.
fn table(image: &[u8], end: usize, tokens: &[&[u8]]) -> Option<Vec<(u32, String)>> {
    let words: Vec<u32> = image
        .get(..end)?
        .chunks_exact(4)
        .filter_map(|word| word.first_chunk().map(|word| u32::from_le_bytes(*word)))
        .collect();
    // How many words up to each one ascend.
    let mut ascending: Vec<u32> = Vec::with_capacity(words.len());
    for (index, word) in words.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| words.get(before));
        let run = match (before, ascending.last()) {
            (Some(before), Some(run)) if before <= word => run + 1,
            _ => 1,
        };
        ascending.push(run);
    }
    let is_count = |place: usize| {
        let count = words.get(place).copied().filter(|n| (FEWEST..MOST).contains(n))?;
        let last = place.checked_sub(1)?;
        let fits = ascending.get(last).is_some_and(|run| *run >= count)
            && words.get(last).is_some_and(|last| (*last as usize) <= image.len());
        fits.then_some((place, count as usize))
    };
    let places = (0..words.len()).rev().filter_map(is_count).take(MOST_PLACES);
    for (place, count) in places {
        let Some(names) = names(image.get(4 * place + 4..end)?, count, tokens) else { continue };
        let offsets = words.get(place - count..place)?;
        return Some(offsets.iter().copied().zip(names).collect());
    }
    None
}

/// `count` names at the start of `bytes`, at the end of which their markers are.
fn names(bytes: &[u8], count: usize, tokens: &[&[u8]]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut markers: Vec<u8> = Vec::new();
    let mut at = 0;
    for index in 0..count {
        if index % 256 == 0 {
            markers.extend(u32::try_from(at).ok()?.to_le_bytes());
        }
        let len = usize::from(*bytes.get(at)?);
        let packed = bytes.get(at + 1..at + 1 + len)?;
        let text = packed.iter().filter_map(|token| tokens.get(usize::from(*token)));
        let text: Vec<u8> = text.copied().flatten().copied().collect();
        names.push(String::from_utf8_lossy(text.get(1..).unwrap_or_default()).into_owned());
        at += 1 + len;
    }
    // The last marker lies before the tokens, with padding of up to 12 bytes.
    let behind = bytes.get(at..)?;
    let padding = (0..=12).step_by(4).any(|n| {
        behind
            .len()
            .checked_sub(n)
            .and_then(|end| behind.get(..end))
            .is_some_and(|b| b.ends_with(&markers))
    });
    padding.then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_testkit::xen_symbols;

    const ROOM: u64 = 0xffff_82d0_4000_0000;

    /// 600 functions of 16 bytes, the variables of the ring, and an end without a name.
    fn image() -> Vec<u8> {
        let functions: Vec<String> = (0..600).map(|n| format!("tfile{n}.c#f{n}")).collect();
        let mut symbols: Vec<(u32, &str)> = vec![(0, "T__image_base__"), (0, "T_start")];
        symbols.extend((0x1000..).step_by(16).zip(functions.iter().map(String::as_str)));
        symbols.extend([
            (0x1000 + 600 * 16, ""),
            (0x4000, "ddrivers/char/console.c#conring"),
            (0x4008, "ddrivers/char/console.c#conring_size"),
        ]);
        // As far as the symbols reach, the tables somewhere in between.
        let mut image = vec![0x90; 0x2000];
        image.extend(xen_symbols(&symbols));
        image.resize(0x9000, 0);
        image
    }

    #[test]
    fn symbols_by_name_and_by_address() {
        let found = find(&image(), ROOM).unwrap();
        assert_eq!(found.all.len(), 605);
        assert_eq!(found.address("conring"), Some(ROOM + 0x4000));
        assert_eq!(found.address("conring_size"), Some(ROOM + 0x4008));
        assert_eq!(found.address("conringp"), None);
        let at = |offset: u64| found.at(ROOM + offset).map(|symbol| symbol.to_string());
        assert_eq!(at(0x1000).unwrap(), "f0+0x0");
        assert_eq!(at(0x1000 + 599 * 16 + 15).unwrap(), "f599+0xf");
        assert_eq!(at(0x1000 + 600 * 16), None);
        // Of two at one address the first.
        assert_eq!(at(5).unwrap(), "__image_base__+0x5");
        assert!(found.at(ROOM - 1).is_none() && found.at(u64::MAX).is_none());
    }

    #[test]
    fn what_are_no_tables_is_refused() {
        assert!(find(&[], ROOM).is_err());
        assert!(find(&[0; 1 << 16], ROOM).is_err());
        let digits: Vec<u8> = (b'0'..=b'9').flat_map(|digit| [digit, 0]).collect();
        assert!(find(&digits.repeat(4000), ROOM).is_err());
        // Words that all could be a count, behind words that all ascend.
        let mut words: Vec<u8> = (300u32..100_000).flat_map(u32::to_le_bytes).collect();
        let image = image();
        let tokens = memchr::memmem::find(&image, &digits).unwrap();
        words.extend(&image[tokens - 200..]);
        assert!(find(&words, ROOM).is_err());
    }

    #[test]
    fn damage_does_no_harm() {
        let sound = image();
        let from = 0x2000;
        for seed in 0..400u64 {
            let mut random = kmortem_testkit::mutate::Random::new(seed);
            let mut image = sound.clone();
            for _ in 0..3 {
                let at = from + random.below((image.len() - from) as u64) as usize;
                image[at] = random.draw() as u8;
            }
            image.truncate(sound.len() - random.below(0x4000) as usize);
            if let Ok(found) = find(&image, ROOM) {
                found.at(ROOM + 0x1234);
                found.address("conring");
            }
        }
    }
}
