//! Bitmaps of page frames, as they are written: bit `n % 8` of byte `n / 8`.

use std::ops::Range;

use crate::writer::WriteError;
use crate::writer::output::Output;

/// Bytes held at a time: 2 GiB of memory in pages of 4 KiB.
const WINDOW: u64 = 64 << 10;

/// Puts a bitmap of `len` bytes with the bits of ascending runs set. Gives their number.
pub(super) fn put(
    at: u64,
    len: u64,
    runs: impl Iterator<Item = Range<u64>>,
    out: &mut dyn Output,
) -> Result<u64, WriteError> {
    let mut count = 0;
    let mut window = vec![0u8; WINDOW.min(len) as usize];
    let mut start = 0;
    for mut run in runs {
        run.end = run.end.min(8 * len);
        while run.start < run.end {
            let window_end = 8 * (start + WINDOW);
            if run.start >= window_end {
                flush(at, len, &mut start, &mut window, out)?;
                continue;
            }
            let piece = run.start..run.end.min(window_end);
            count += piece.end - piece.start;
            set(&mut window, piece.start - 8 * start..piece.end - 8 * start);
            run.start = piece.end;
        }
    }
    while start < len {
        flush(at, len, &mut start, &mut window, out)?;
    }
    Ok(count)
}

fn flush(
    at: u64,
    len: u64,
    start: &mut u64,
    window: &mut [u8],
    out: &mut dyn Output,
) -> Result<(), WriteError> {
    let here = WINDOW.min(len - *start) as usize;
    out.put(at + *start, window.get(..here).unwrap_or_default())?;
    window.fill(0);
    *start += here as u64;
    Ok(())
}

/// Sets bits of a window.
fn set(window: &mut [u8], bits: Range<u64>) {
    let mut bit = bits.start;
    while bit < bits.end {
        let in_byte = bit % 8;
        let here = (8 - in_byte).min(bits.end - bit);
        let mask = (0xffu8 >> (8 - here)) << in_byte;
        if let Some(byte) = window.get_mut((bit / 8) as usize) {
            *byte |= mask;
        }
        bit += here;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::Stream;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn bits_of_runs_are_set_and_no_others(
            steps in proptest::collection::vec((1u64..900_000, 1u64..900_000), 0..6)
        ) {
            let mut runs = Vec::new();
            let mut at = 0;
            for (gap, len) in steps {
                at += gap - 1;
                runs.push(at..at + len);
                at += len + 1;
            }
            let len = at.div_ceil(8) + 5;
            let mut out = Stream::new(Vec::new());
            let count = put(0, len, runs.iter().cloned(), &mut out).unwrap();
            let bytes = out.into_inner();
            prop_assert_eq!(bytes.len() as u64, len);
            prop_assert_eq!(count, runs.iter().map(|run| run.end - run.start).sum::<u64>());
            let ones: u64 = bytes.iter().map(|byte| u64::from(byte.count_ones())).sum();
            prop_assert_eq!(ones, count);
            let is_set = |bit: u64| bytes[(bit / 8) as usize] >> (bit % 8) & 1 == 1;
            for run in &runs {
                prop_assert!(is_set(run.start) && is_set(run.end - 1) && !is_set(run.end));
            }
        }
    }
}
