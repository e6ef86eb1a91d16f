//! Searching memory for numbers and text.
//!
//! Memory comes as runs of virtual (or physical) addresses over physical ones,
//! in ascending order: the direct map from the index of the dump, everything
//! else from the page tables. Runs are cut into blocks that all cores search at
//! once; what they find is handed on in the order of addresses, batch by batch,
//! so that memory stays bounded whatever is searched for.

use std::iter::Peekable;
use std::ops::Range;

use kmortem_vmcore::Image;
use memchr::memmem::Finder;
use rayon::prelude::*;

use crate::Kernel;
use crate::arch::mapped::{Mapped, Run, clip};
use crate::error::Result;

const PAGE: u64 = 4096;
/// What one core searches at a time.
const BLOCK: u64 = 1 << 20;
/// Blocks between two moments at which what was found is handed on.
const BATCH: usize = 64;

/// What is searched for.
pub enum Pattern {
    /// A little-endian number of `size` bytes (2, 4 or 8), at a multiple of its
    /// size. Bits that are set in `ignore` may be anything.
    Number {
        /// The number.
        value: u64,
        /// Bits that don't count.
        ignore: u64,
        /// Its bytes.
        size: u32,
    },
    /// Bytes, anywhere.
    Text(Box<Finder<'static>>),
}

impl Pattern {
    /// Bytes as text.
    pub fn text(bytes: &[u8]) -> Pattern {
        Pattern::Text(Box::new(Finder::new(bytes).into_owned()))
    }

    fn len(&self) -> usize {
        match self {
            Pattern::Number { size, .. } => *size as usize,
            Pattern::Text(finder) => finder.needle().len(),
        }
    }
}

/// Where a pattern was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    /// Address, of the kind that was searched.
    pub addr: u64,
    /// Which of the patterns.
    pub pattern: usize,
    /// The number that stands there (0 for text).
    pub value: u64,
}

/// A part of kernel virtual memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelPart {
    /// All of it.
    All,
    /// The direct map and the kernel's image.
    Linear,
    /// vmalloc memory, modules and the array of `struct page`.
    Mapped,
}

/// Memory to be searched: ascending runs.
pub type Runs<'k> = Box<dyn Iterator<Item = Run> + 'k>;

impl Kernel {
    /// Physical memory in `range`, as far as the dump has it.
    pub fn physical_runs(&self, range: Range<u64>) -> Runs<'_> {
        let runs = self.image().present().filter_map(move |present| {
            let whole =
                Run { addr: present.start, phys: present.start, len: present.end - present.start };
            clip(whole, &range)
        });
        Box::new(runs)
    }

    /// Kernel virtual memory in `range`.
    pub fn kernel_runs(&self, range: Range<u64>, part: KernelPart) -> Result<Runs<'_>> {
        let mut runs: Runs<'_> = Box::new(std::iter::empty());
        if part != KernelPart::Mapped && self.space().linear().is_some() {
            let range = range.clone();
            runs = Box::new(self.image().present().filter_map(move |present| {
                let addr = self.space().phys_to_virt(present.start)?;
                let whole = Run { addr, phys: present.start, len: present.end - present.start };
                clip(whole, &range)
            }));
        }
        for (own, part_of) in self.arch().mapped_areas(self)? {
            if part == KernelPart::All || part == part_of {
                let range = own.start.max(range.start)..own.end.min(range.end);
                if range.start < range.end {
                    let tables = self.space().tables();
                    runs = Box::new(runs.chain(Mapped::new(self.image(), tables, range)));
                }
            }
        }
        Ok(runs)
    }

    /// Searches `runs`; `progress` counts bytes, `found` takes what was found in
    /// the order of addresses and may end the search with an error.
    pub fn find_patterns<E>(
        &self,
        runs: Runs<'_>,
        patterns: &[Pattern],
        progress: &(dyn Fn(u64) + Sync),
        mut found: impl FnMut(&Hit) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut blocks = Blocks { runs: merged(runs).peekable(), rest: None };
        let reach = patterns.iter().map(Pattern::len).max().unwrap_or(1) as u64 - 1;
        loop {
            let batch: Vec<Block> = blocks.by_ref().take(BATCH).collect();
            if batch.is_empty() || self.is_interrupted() {
                return Ok(());
            }
            let hits: Vec<Vec<Hit>> = batch
                .par_iter()
                .map(|block| {
                    let mut hits = Vec::new();
                    if !self.is_interrupted() {
                        search_block(self.image(), block, patterns, reach, &mut hits);
                        progress(block.run.len);
                    }
                    hits.sort_unstable();
                    hits
                })
                .collect();
            for hit in hits.iter().flatten() {
                found(hit)?;
            }
        }
    }
}

/// Runs that follow each other in both kinds of addresses as one: page by page
/// mapped memory often lies in a row.
fn merged<'k>(runs: Runs<'k>) -> impl Iterator<Item = Run> + 'k {
    let mut runs = runs.peekable();
    std::iter::from_fn(move || {
        let mut run = runs.next()?;
        while run.len < BLOCK
            && let Some(next) = runs.next_if(|next| {
                next.addr == run.addr.wrapping_add(run.len)
                    && next.phys == run.phys.wrapping_add(run.len)
            })
        {
            run.len += next.len;
        }
        Some(run)
    })
}

/// A piece of a run, and the physical address of what follows it.
struct Block {
    run: Run,
    after: Option<u64>,
}

struct Blocks<I: Iterator<Item = Run>> {
    runs: Peekable<I>,
    rest: Option<Run>,
}

impl<I: Iterator<Item = Run>> Iterator for Blocks<I> {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        let run = self.rest.take().or_else(|| self.runs.next())?;
        if run.len > BLOCK {
            // Blocks end at multiples of their size: runs begin anywhere.
            let len = BLOCK - run.phys % BLOCK;
            let rest = Run { addr: run.addr + len, phys: run.phys + len, len: run.len - len };
            self.rest = Some(rest);
            return Some(Block { run: Run { len, ..run }, after: Some(rest.phys) });
        }
        let end = run.addr.wrapping_add(run.len);
        let after = self.runs.peek().filter(|next| next.addr == end).map(|next| next.phys);
        Some(Block { run, after })
    }
}

/// Searches a block. Text may reach `reach` bytes into what follows it.
fn search_block(
    image: &Image,
    block: &Block,
    patterns: &[Pattern],
    reach: u64,
    hits: &mut Vec<Hit>,
) {
    let Run { addr, phys, len } = block.run;
    let mut done = 0;
    // The end of the page before, as far as text may begin in it.
    let mut tail: Vec<u8> = Vec::new();
    while done < len {
        let in_page = (phys + done) % PAGE;
        let want = (PAGE - in_page).min(len - done);
        let page_addr = addr.wrapping_add(done);
        let Some(bytes) = page_bytes(image, phys + done) else {
            tail.clear();
            done += want;
            continue;
        };
        let bytes = bytes.get(in_page as usize..(in_page + want) as usize).unwrap_or_default();
        for (which, pattern) in patterns.iter().enumerate() {
            match pattern {
                Pattern::Number { value, ignore, size } => {
                    let from = Number { value: *value & !*ignore, ignore: *ignore, which };
                    from.search(*size, page_addr, bytes, hits);
                }
                Pattern::Text(finder) => {
                    across(finder, which, page_addr, &tail, bytes, hits);
                    let found = finder.find_iter(bytes).map(|at| page_addr.wrapping_add(at as u64));
                    hits.extend(found.map(|addr| Hit { addr, pattern: which, value: 0 }));
                }
            }
        }
        let keep = bytes.len().saturating_sub(reach as usize);
        tail.clear();
        tail.extend_from_slice(&bytes[keep..]);
        done += want;
    }
    let end = addr.wrapping_add(len);
    let Some(next) = block.after.filter(|_| reach > 0 && !tail.is_empty()) else { return };
    let Some(bytes) = page_bytes(image, next) else { return };
    let bytes = bytes.get((next % PAGE) as usize..).unwrap_or_default();
    for (which, pattern) in patterns.iter().enumerate() {
        if let Pattern::Text(finder) = pattern {
            across(finder, which, end, &tail, bytes, hits);
        }
    }
}

/// The page at `phys`, if the dump has it.
fn page_bytes(image: &Image, phys: u64) -> Option<kmortem_vmcore::Page<'_>> {
    image.page(phys).ok().filter(|page| page.len() as u64 == PAGE)
}

/// Text that begins in `tail` and ends in `head`, which starts at `addr`.
fn across(
    finder: &Finder<'_>,
    which: usize,
    addr: u64,
    tail: &[u8],
    head: &[u8],
    hits: &mut Vec<Hit>,
) {
    let reach = finder.needle().len() - 1;
    let before = &tail[tail.len().saturating_sub(reach)..];
    if before.is_empty() {
        return;
    }
    let mut joined = before.to_vec();
    joined.extend_from_slice(&head[..reach.min(head.len())]);
    for at in finder.find_iter(&joined) {
        if at < before.len() {
            let addr = addr.wrapping_sub((before.len() - at) as u64);
            hits.push(Hit { addr, pattern: which, value: 0 });
        }
    }
}

/// A number that is searched for.
struct Number {
    value: u64,
    ignore: u64,
    which: usize,
}

/// What is compared at a time: one cache line.
const LINE: usize = 64;

impl Number {
    fn search(&self, size: u32, addr: u64, bytes: &[u8], hits: &mut Vec<Hit>) {
        match size {
            2 => self.words(addr, bytes, hits, |w: [u8; 2]| u16::from_le_bytes(w)),
            4 => self.words(addr, bytes, hits, |w: [u8; 4]| u32::from_le_bytes(w)),
            _ => self.words(addr, bytes, hits, |w: [u8; 8]| u64::from_le_bytes(w)),
        }
    }

    /// Compares line by line without a branch, which the compiler makes vector
    /// instructions of; only in a line that has the number it is located.
    fn words<W, const N: usize>(
        &self,
        addr: u64,
        bytes: &[u8],
        hits: &mut Vec<Hit>,
        word: impl Fn([u8; N]) -> W,
    ) where
        W: Copy + TryFrom<u64> + Into<u64> + PartialEq + std::ops::BitAnd<Output = W>,
        W: std::ops::Not<Output = W> + Default,
    {
        // A number that is too large for the words is in none of them.
        let Ok(value) = W::try_from(self.value) else { return };
        let narrow = if N == 8 { self.ignore } else { self.ignore & ((1 << (N * 8)) - 1) };
        let keep = !W::try_from(narrow).unwrap_or_default();
        // Words lie at multiples of their size.
        let skip = (addr.wrapping_neg() % N as u64) as usize;
        let aligned = bytes.get(skip..).unwrap_or_default();
        for (i, line) in aligned.chunks(LINE).enumerate() {
            let (words, _) = line.as_chunks::<N>();
            let any = words.iter().fold(false, |any, raw| any | (word(*raw) & keep == value));
            if any {
                let start = addr.wrapping_add((skip + i * LINE) as u64);
                for (at, raw) in words.iter().enumerate() {
                    let found = word(*raw);
                    if found & keep == value {
                        let addr = start.wrapping_add((at * N) as u64);
                        hits.push(Hit { addr, pattern: self.which, value: found.into() });
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_at_multiples_of_their_size() {
        let mut bytes = vec![0; 256];
        bytes[8..16].copy_from_slice(&0xdead_beef_0000_1234u64.to_le_bytes());
        bytes[100..104].copy_from_slice(&0xdead_0034u32.to_le_bytes());
        bytes[201] = 0x34;
        let find = |size, value, ignore: u64| {
            let mut hits = Vec::new();
            let number = Number { value: value & !ignore, ignore, which: 3 };
            number.search(size, 0x1000, &bytes, &mut hits);
            hits.iter().map(|hit| (hit.addr, hit.value)).collect::<Vec<_>>()
        };
        assert_eq!(find(8, 0xdead_beef_0000_1234, 0), [(0x1008, 0xdead_beef_0000_1234)]);
        let halves = [(0x100c, 0xdead_beef), (0x1064, 0xdead_0034)];
        assert_eq!(find(4, 0xdead_0000, 0xffff), halves);
        assert_eq!(find(2, 0x34, 0), [(0x1064, 0x34)]);
        assert_eq!(find(2, 0xdead_beef, 0), []);
    }

    #[test]
    fn text_may_lie_across_two_pages() {
        let finder = Finder::new("panic");
        let mut hits = Vec::new();
        across(&finder, 0, 0x2000, b"..pan", b"ic..panic", &mut hits);
        assert_eq!(hits, [Hit { addr: 0x1ffd, pattern: 0, value: 0 }]);
        hits.clear();
        across(&finder, 0, 0x2000, b"panic", b"....", &mut hits);
        assert!(hits.is_empty());
    }

    #[test]
    fn blocks_know_what_follows_them() {
        let runs = [
            Run { addr: 0x10_0000, phys: 0x10_0000, len: BLOCK + 0x1000 },
            Run { addr: 0x20_1000, phys: 0x9000, len: 0x1000 },
            Run { addr: 0x40_0000, phys: 0xa000, len: 0x1000 },
        ];
        let blocks = Blocks { runs: runs.into_iter().peekable(), rest: None };
        let seen: Vec<_> = blocks.map(|b| (b.run.addr, b.run.len, b.after)).collect();
        assert_eq!(
            seen,
            [
                (0x10_0000, BLOCK, Some(0x20_0000)),
                (0x20_0000, 0x1000, Some(0x9000)),
                (0x20_1000, 0x1000, None),
                (0x40_0000, 0x1000, None),
            ]
        );
    }
}
