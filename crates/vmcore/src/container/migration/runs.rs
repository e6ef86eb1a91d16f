//! Where pages lie in the stream, as runs of pages that follow one another.
//!
//! A run takes 16 bytes, and at least 9 bytes of the file: the index of a hostile file stays below
//! twice its size. A guest of 64 GiB that was stopped has some 100,000 of them.

/// What the pages of a run are in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Pages, each behind a header of 8 bytes.
    Pages,
    /// One byte each, which fills the page, behind such a header.
    Fill,
    /// Pages right behind one another.
    Mapped,
    /// Nothing: the pages are zeros.
    Zeros,
}

/// Size of the header in front of each page of a stream.
const HEADER: u64 = 8;
/// The upper bits of a place say what it is.
const WHAT_SHIFT: u32 = 62;

/// Pages that follow one another in the machine and in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    first: u32,
    count: u32,
    /// What it is, and where its first content lies.
    place: u64,
}

impl Run {
    /// `None` for numbers that no machine has.
    pub(super) fn new(first: u64, count: u64, what: What, offset: u64) -> Option<Run> {
        let what = what as u64;
        (offset >> WHAT_SHIFT == 0).then_some(Run {
            first: u32::try_from(first).ok()?,
            count: u32::try_from(count).ok()?,
            place: what << WHAT_SHIFT | offset,
        })
    }

    pub(super) fn start(&self) -> u64 {
        u64::from(self.first)
    }

    pub(super) fn end(&self) -> u64 {
        u64::from(self.first) + u64::from(self.count)
    }

    pub(super) fn what(&self) -> What {
        match self.place >> WHAT_SHIFT {
            0 => What::Pages,
            1 => What::Fill,
            2 => What::Mapped,
            _ => What::Zeros,
        }
    }

    fn offset(&self) -> u64 {
        self.place & ((1 << WHAT_SHIFT) - 1)
    }

    /// Where the content of a page of the run lies.
    pub(super) fn offset_of(&self, page: u64, page_size: u64) -> u64 {
        let stride = match self.what() {
            What::Pages => HEADER + page_size,
            What::Fill => HEADER + 1,
            What::Mapped => page_size,
            What::Zeros => 0,
        };
        self.offset() + (page - self.start()) * stride
    }

    /// What is left of the run from `page` on.
    fn from(&self, page: u64, page_size: u64) -> Option<Run> {
        let skipped = page.checked_sub(self.start())?;
        let count = u64::from(self.count).checked_sub(skipped).filter(|count| *count > 0)?;
        Run::new(page, count, self.what(), self.offset_of(page, page_size))
    }

    fn until(&self, page: u64) -> Option<Run> {
        let count = page.min(self.end()).checked_sub(self.start()).filter(|count| *count > 0)?;
        Some(Run { count: u32::try_from(count).ok()?, ..*self })
    }
}

/// Runs in the order of the stream.
#[derive(Debug, Default)]
pub(super) struct Builder {
    runs: Vec<Run>,
    pub(super) page_size: u64,
    pub(super) is_cut_off: bool,
}

impl Builder {
    pub(super) fn with_pages_of(page_size: u64) -> Builder {
        Builder { page_size, ..Builder::default() }
    }

    /// Adds a page, or pages. `false` if they have impossible numbers.
    #[must_use]
    pub(super) fn add(&mut self, first: u64, count: u64, what: What, offset: u64) -> bool {
        let Some(run) = Run::new(first, count, what, offset) else { return false };
        if let Some(last) = self.runs.last_mut()
            && last.end() == first
            && last.what() == what
            && last.offset_of(first, self.page_size) == offset
            && let Some(count) = last.count.checked_add(run.count)
        {
            last.count = count;
            return true;
        }
        self.runs.push(run);
        true
    }

    /// Sorts the runs, and cuts from each what a later one has too.
    pub(super) fn finish(self) -> Runs {
        let Builder { runs, page_size, is_cut_off } = self;
        let is_sorted = runs.windows(2).all(|pair| pair[0].end() <= pair[1].start());
        let runs = if is_sorted { runs } else { lay_over_one_another(runs, page_size) };
        Runs { runs, is_cut_off }
    }
}

/// A sweep over the runs by their starts: of those that cover a page the latest one counts.
fn lay_over_one_another(runs: Vec<Run>, page_size: u64) -> Vec<Run> {
    let mut order: Vec<u32> = (0..u32::try_from(runs.len()).unwrap_or(u32::MAX)).collect();
    let run = |index: u32| runs.get(index as usize).copied();
    order.sort_by_key(|index| run(*index).map(|run| run.start()));
    // Runs that have begun, the latest on top.
    let mut open = std::collections::BinaryHeap::new();
    let mut out: Vec<Run> = Vec::with_capacity(runs.len());
    let mut order = order.into_iter().peekable();
    let mut at = 0;
    loop {
        while let Some(&top) = open.peek()
            && run(top).is_none_or(|run| run.end() <= at)
        {
            open.pop();
        }
        let next_start = order.peek().and_then(|index| run(*index)).map(|run| run.start());
        match (open.peek().copied(), next_start) {
            (None, None) => break,
            // The next one begins: here, or behind a gap.
            (top, Some(start)) if start <= at || top.is_none() => {
                at = at.max(start);
                open.extend(order.next());
            }
            (Some(top), next) => {
                let Some(covering) = run(top) else { break };
                let end = next.map_or(covering.end(), |next| next.min(covering.end()));
                if let Some(piece) = covering.from(at, page_size).and_then(|run| run.until(end)) {
                    push_merged(&mut out, piece, page_size);
                }
                at = end;
            }
            (None, Some(_)) => break,
        }
    }
    out
}

fn push_merged(out: &mut Vec<Run>, piece: Run, page_size: u64) {
    if let Some(last) = out.last_mut()
        && last.end() == piece.start()
        && last.what() == piece.what()
        && last.offset_of(piece.start(), page_size) == piece.offset()
        && let Some(count) = last.count.checked_add(piece.count)
    {
        last.count = count;
        return;
    }
    out.push(piece);
}

/// Runs in ascending order, no two overlap.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: Vec<Run>,
    is_cut_off: bool,
}

impl Runs {
    /// Whether the stream ended before its end.
    pub(super) fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    /// The run that has the page.
    pub(super) fn find(&self, page: u64) -> Option<&Run> {
        self.from(page).next().filter(|run| run.start() <= page)
    }

    /// The runs that end behind the page, in ascending order.
    pub(super) fn from(&self, page: u64) -> std::slice::Iter<'_, Run> {
        let index = self.runs.partition_point(|run| run.end() <= page);
        self.runs.get(index..).unwrap_or_default().iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_copies_lie_over_earlier_ones() {
        let mut builder = Builder::with_pages_of(4096);
        assert!(builder.add(0, 10, What::Pages, 100));
        assert!(builder.add(4, 2, What::Fill, 50_000));
        assert!(builder.add(20, 1, What::Zeros, 0));
        assert!(builder.add(5, 1, What::Mapped, 60_000));
        assert!(builder.add(8, 14, What::Mapped, 70_000));
        let runs = builder.finish();
        let place = |page| runs.find(page).map(|run| (run.what(), run.offset_of(page, 4096)));
        assert_eq!(place(3), Some((What::Pages, 100 + 3 * 4104)));
        assert_eq!(place(4), Some((What::Fill, 50_000)));
        assert_eq!(place(5), Some((What::Mapped, 60_000)));
        assert_eq!(place(6), Some((What::Pages, 100 + 6 * 4104)));
        assert_eq!(place(9), Some((What::Mapped, 70_000 + 4096)));
        assert_eq!(place(20), Some((What::Mapped, 70_000 + 12 * 4096)));
        assert_eq!(place(22), None);
    }

    #[test]
    fn pages_in_any_order_give_what_a_map_would() {
        let mut builder = Builder::with_pages_of(4096);
        let mut map = std::collections::BTreeMap::new();
        let mut seed = 7u64;
        for n in 0..2000u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (first, count) = (seed >> 40 & 0x1ff, 1 + (seed >> 33 & 7));
            let offset = 10_000 * (n + 1);
            assert!(builder.add(first, count, What::Pages, offset));
            map.extend((0..count).map(|i| (first + i, offset + i * 4104)));
        }
        let runs = builder.finish();
        for page in 0..0x210 {
            let found = runs.find(page).map(|run| run.offset_of(page, 4096));
            assert_eq!(found, map.get(&page).copied(), "{page}");
        }
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let mut builder = Builder::with_pages_of(4096);
        assert!(!builder.add(1 << 33, 1, What::Pages, 0));
        assert!(!builder.add(0, 1, What::Pages, 1 << 63));
    }
}
