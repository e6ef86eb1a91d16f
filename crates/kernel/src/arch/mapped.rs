//! What a range of virtual addresses maps, in ascending order.
//!
//! Tables are read as a whole, each once: a range costs as much as it has
//! tables, however sparse it is. Tables that lead to themselves or are shared
//! without end (a damaged dump) are bounded by their number: each real one is a
//! page of memory.

use std::ops::Range;

use kmortem_vmcore::Image;

use super::page_table::{PageTables, Step};

/// 64 GiB of page tables: they map 32 TiB in pages of 4 KiB.
const MOST_TABLES: u64 = 1 << 24;

/// A run of virtual memory over consecutive physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// First virtual address.
    pub addr: u64,
    /// Its physical address.
    pub phys: u64,
    /// Bytes.
    pub len: u64,
}

/// Iterator over the mapped pages of a range, as runs of one page each.
pub struct Mapped<'i> {
    image: &'i Image,
    tables: PageTables,
    range: Range<u64>,
    /// (entries of the table, next entry, address of its first, level)
    stack: Vec<(Box<[u8]>, usize, u64, u8)>,
    read: u64,
}

impl<'i> Mapped<'i> {
    /// Of the pages in `range`, by `tables`.
    pub fn new(image: &'i Image, tables: &PageTables, range: Range<u64>) -> Mapped<'i> {
        let mut mapped = Mapped { image, tables: *tables, range, stack: Vec::new(), read: 0 };
        // The upper half begins where the sign bit of an address is set.
        let span = u32::from(tables.va_bits);
        let base = mapped.range.start & u64::MAX.checked_shl(span).unwrap_or(0);
        mapped.descend(tables.root, base, tables.levels);
        mapped
    }

    fn descend(&mut self, table: u64, base: u64, level: u8) {
        self.read += 1;
        let len = self.tables.table_len(level);
        let mut entries = vec![0; len * 8].into_boxed_slice();
        if self.read > MOST_TABLES || self.image.read(table, &mut entries).is_err() {
            return;
        }
        let first = self.range.start.saturating_sub(base) >> self.tables.shift(level);
        self.stack.push((entries, first.min(len as u64) as usize, base, level));
    }
}

impl Iterator for Mapped<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        loop {
            let (entries, next, base, level) = self.stack.last_mut()?;
            let (base, level, slot) = (*base, *level, *next);
            let Some(entry) = entries.chunks_exact(8).nth(slot) else {
                self.stack.pop();
                continue;
            };
            *next += 1;
            let entry = entry.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
            let shift = self.tables.shift(level);
            let addr = base.wrapping_add((slot as u64) << shift);
            if addr >= self.range.end {
                self.stack.pop();
                continue;
            }
            let target = match self.tables.step(level, entry) {
                Step::Page(target) => target,
                Step::Table(table) if level > 1 => {
                    self.descend(table, addr, level - 1);
                    continue;
                }
                Step::Table(_) | Step::Absent => continue,
            };
            let size = 1u64 << shift;
            let run = Run { addr, phys: target & !(size - 1), len: size };
            if let Some(run) = clip(run, &self.range) {
                return Some(run);
            }
        }
    }
}

/// The part of `run` that is in `range`.
pub fn clip(run: Run, range: &Range<u64>) -> Option<Run> {
    let start = run.addr.max(range.start);
    let end = run.addr.saturating_add(run.len).min(range.end);
    (start < end).then(|| Run {
        addr: start,
        phys: run.phys + (start - run.addr),
        len: end - start,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_clipped_on_both_sides() {
        let run = Run { addr: 0x1000, phys: 0x8000, len: 0x3000 };
        assert_eq!(
            clip(run, &(0x2000..0x3000)),
            Some(Run { addr: 0x2000, phys: 0x9000, len: 0x1000 })
        );
        assert_eq!(clip(run, &(0..0x9000)), Some(run));
        assert_eq!(clip(run, &(0x4000..0x9000)), None);
    }
}
