//! How the addresses of the symbols are written.
//!
//! | encoding         | entry | value                                              | kernels |
//! |------------------|-------|----------------------------------------------------|---------|
//! | absolute         | u64   | itself                                             | CONFIG_KALLSYMS_BASE_RELATIVE=n, gone in v6.11 (64e166099b69) |
//! | base-relative    | u32   | `relative_base + offset`                           | v4.6 (2213e9a66bb8) until v7.0 |
//! | absolute-percpu  | i32   | `offset >= 0 ? offset : relative_base - 1 - offset` | x86_64 SMP, v4.6 until v6.15 (01157ddc58dc2) |
//! | place-relative   | i32   | `&offsets[i] + offset`                             | since v7.0 (a081b5789255d) |
//!
//! `relative_base` is relocated at boot, the offsets are not; absolute entries are relocated too.
//! Distributions mix versions and options, so that each encoding is tried and checked.

use super::KallsymsError;
use super::names::Names;
use super::tables::{self, Tables};
use crate::memory::Memory;

/// How the table of addresses (or offsets) is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Addresses {
    /// `kallsyms_addresses`: the addresses themselves.
    Absolute,
    /// Unsigned offsets from `kallsyms_relative_base`.
    BaseRelative {
        /// Its value.
        base: u64,
    },
    /// Negative: relative to `kallsyms_relative_base`; otherwise an offset in the per-CPU area.
    AbsolutePercpu {
        /// Its value.
        base: u64,
    },
    /// Signed offsets from the place of the entry itself.
    PlaceRelative,
}

enum Raw {
    Words(Vec<u32>),
    Longs(Vec<u64>),
}

/// The addresses, sorted, as the kernel keeps them.
pub(super) struct AddressTable {
    raw: Raw,
    /// Where the table is in kernel memory.
    at: u64,
    encoding: Addresses,
}

impl AddressTable {
    pub(super) fn read(
        memory: &dyn Memory,
        tables: &Tables,
        check: &Check,
    ) -> Result<AddressTable, KallsymsError> {
        let at = tables.offsets;
        let mut encodings = Vec::with_capacity(3);
        if let Some(addr) = tables.relative_base {
            let base = tables::read_u64s(memory, "kallsyms_relative_base", addr, 1)?;
            let base = base.first().copied().unwrap_or_default();
            encodings.push(Addresses::BaseRelative { base });
            encodings.push(Addresses::AbsolutePercpu { base });
        }
        encodings.push(Addresses::PlaceRelative);
        let words = tables::read_u32s(memory, "kallsyms_offsets", at, tables.num_syms)?;
        let mut table = AddressTable { raw: Raw::Words(words), at, encoding: Addresses::Absolute };
        let mut why = Vec::new();
        for encoding in encodings {
            table.encoding = encoding;
            match check.agrees(&table) {
                Ok(()) => return Ok(table),
                Err(reason) => why.push(format!("{}: {reason}", encoding.name())),
            }
        }
        // Tried last: a table of words may end where the image does, and this reads twice as much.
        table.encoding = Addresses::Absolute;
        match tables::read_u64s(memory, "kallsyms_addresses", at, tables.num_syms) {
            Ok(longs) => {
                table.raw = Raw::Longs(longs);
                match check.agrees(&table) {
                    Ok(()) => return Ok(table),
                    Err(reason) => why.push(format!("absolute: {reason}")),
                }
            }
            Err(error) => why.push(format!("absolute: {error}")),
        }
        Err(KallsymsError::NoEncoding(why.join("; ")))
    }

    pub(super) fn encoding(&self) -> Addresses {
        self.encoding
    }

    pub(super) fn heap_size(&self) -> usize {
        match &self.raw {
            Raw::Words(words) => words.capacity() * 4,
            Raw::Longs(longs) => longs.capacity() * 8,
        }
    }

    pub(super) fn get(&self, id: u32) -> Option<u64> {
        match &self.raw {
            Raw::Longs(longs) => longs.get(id as usize).copied(),
            Raw::Words(words) => Some(self.decode(id, *words.get(id as usize)?)),
        }
    }

    /// The first symbol for which `before` does not hold.
    pub(super) fn partition_point(&self, before: impl Fn(u64) -> bool) -> u32 {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle).is_some_and(&before) { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn len(&self) -> u32 {
        match &self.raw {
            Raw::Words(words) => words.len() as u32,
            Raw::Longs(longs) => longs.len() as u32,
        }
    }

    fn decode(&self, id: u32, word: u32) -> u64 {
        let signed = i64::from(word as i32);
        match self.encoding {
            Addresses::Absolute => u64::from(word),
            Addresses::BaseRelative { base } => base.wrapping_add(u64::from(word)),
            Addresses::AbsolutePercpu { .. } if signed >= 0 => u64::from(word),
            Addresses::AbsolutePercpu { base } => base.wrapping_add_signed(-1 - signed),
            Addresses::PlaceRelative => {
                self.at.wrapping_add(4 * u64::from(id)).wrapping_add_signed(signed)
            }
        }
    }

    fn is_sorted(&self) -> bool {
        let mut last = 0;
        (0..self.len()).all(|id| {
            let addr = self.get(id).unwrap_or_default();
            std::mem::replace(&mut last, addr) <= addr
        })
    }
}

impl Addresses {
    pub(super) fn has_base(self) -> bool {
        matches!(self, Addresses::BaseRelative { .. } | Addresses::AbsolutePercpu { .. })
    }

    fn name(self) -> &'static str {
        match self {
            Addresses::Absolute => "absolute",
            Addresses::BaseRelative { .. } => "base-relative",
            Addresses::AbsolutePercpu { .. } => "absolute-percpu",
            Addresses::PlaceRelative => "place-relative",
        }
    }
}

/// Symbols between which the tables themselves lie: they are in .rodata.
const AROUND: [(&str, &str); 2] = [("__start_rodata", "__end_rodata"), ("_text", "_end")];

/// Without CONFIG_KALLSYMS_ALL only text is in the table; .rodata follows it at a distance that
/// the size of the kernel image limits.
const TEXT: (&str, &str) = ("_stext", "_etext");
const MAX_IMAGE: u64 = 1 << 30;

/// What a decoded table has to agree with.
pub(super) struct Check {
    /// Where the tables are.
    here: u64,
    /// Numbers of the symbols of a name, and the address that one of them has.
    anchors: Vec<(String, Vec<u32>, u64)>,
    /// Numbers of the symbols of [`AROUND`] and [`TEXT`], where there are such.
    around: [Option<(u32, u32)>; 2],
    text: Option<(u32, u32)>,
}

impl Check {
    /// `here`: where the tables are.
    pub(super) fn new(names: &Names, here: u64, anchors: &[(&str, u64)]) -> Check {
        let wanted: Vec<&str> = anchors.iter().map(|(name, _)| *name).collect();
        let found = if wanted.is_empty() { Vec::new() } else { names.find_few(&wanted) };
        let anchors: Vec<_> = anchors
            .iter()
            .zip(found)
            .filter(|(_, ids)| !ids.is_empty())
            .map(|((name, addr), ids)| ((*name).to_owned(), ids, *addr))
            .collect();
        if !anchors.is_empty() {
            return Check { here, anchors, around: [None; 2], text: None };
        }
        let own: Vec<&str> =
            AROUND.iter().chain([&TEXT]).flat_map(|(start, end)| [*start, *end]).collect();
        let own = names.find_few(&own);
        let pair = |at: usize| Some((*own.get(at)?.first()?, *own.get(at + 1)?.first()?));
        Check { here, anchors, around: [pair(0), pair(2)], text: pair(4) }
    }

    fn agrees(&self, table: &AddressTable) -> Result<(), String> {
        for (name, ids, expected) in &self.anchors {
            let decoded = ids.iter().filter_map(|&id| table.get(id));
            if !decoded.clone().any(|addr| addr == *expected) {
                let decoded = decoded.map(|addr| format!("{addr:#x}")).collect::<Vec<_>>();
                return Err(format!("{name} is {} and not {expected:#x}", decoded.join(", ")));
            }
        }
        if self.anchors.is_empty() {
            self.agrees_with_itself(table)?;
        }
        if table.is_sorted() { Ok(()) } else { Err("the addresses are not sorted".to_owned()) }
    }

    fn agrees_with_itself(&self, table: &AddressTable) -> Result<(), String> {
        let ends = |(start, end)| Some((table.get(start)?, table.get(end)?));
        let mut checked = false;
        for ((name, _), ids) in AROUND.iter().zip(self.around) {
            let Some((start, end)) = ids.and_then(ends) else { continue };
            if !(start..end).contains(&self.here) {
                return Err(format!("the tables do not lie between {name} and its end"));
            }
            checked = true;
        }
        if let (false, Some((start, end))) = (checked, self.text.and_then(ends)) {
            if start > end || end > self.here || self.here - start > MAX_IMAGE {
                return Err("the tables do not follow the text".to_owned());
            }
            checked = true;
        }
        if checked { Ok(()) } else { Err("it has no symbol to check it by".to_owned()) }
    }
}
