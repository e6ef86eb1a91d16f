//! LZO1X, fast: one look at a hash table per position, as LZO1X-1 does.
//!
//! The stream is that of the kernel's Documentation/staging/lzo.rst:
//!
//! ```text
//! 17 + n               as the first byte: n literals follow (n up to 238)
//! n - 3                4 to 18 literals follow; 0: more, n - 18 in zeros and a byte
//! L L L D D D S S, H   M2: length L + 1 (3 to 8), distance up to 2048: (H << 3) + D + 1
//! 0 0 1 L L L L L ...  M3: length L + 2, 0: more, length - 33 in zeros and a byte; then 16 bits:
//!                      distance - 1 (up to 16384) << 2, S
//! 0 0 0 1 H L L L ...  M4: the same with distance - 16384 (H its bit 14), length - 9
//! 17, 0, 0             the end
//! ```
//!
//! S is the number of literals, up to 3, that follow a match. A run of them that is longer has an
//! instruction of its own.

const HASH_BITS: u32 = 12;
const MAX_DISTANCE: usize = 0xbfff;
/// The last match ends before this many bytes from the end: four are read at each position.
const TAIL: usize = 8;

/// Positions of sequences of four bytes, by their hash.
pub(super) struct Lzo {
    table: Box<[u16; 1 << HASH_BITS]>,
}

impl Lzo {
    pub(super) fn new() -> Lzo {
        Lzo { table: Box::new([0; 1 << HASH_BITS]) }
    }

    /// Appends the compressed page to `out`. Pages have at most 64 KiB: positions fit in 16 bits.
    pub(super) fn compress(&mut self, page: &[u8], out: &mut Vec<u8>) {
        self.table.fill(0);
        let start = out.len();
        // Everything before it is written; from it on to `at` there are literals.
        let (mut from, mut at) = (0, 1);
        while at + TAIL < page.len().min(1 << 16) {
            let Some(word) = word_at(page, at) else { break };
            let slot =
                &mut self.table[(word.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize];
            // An empty slot is position 0, which is as good as any: it is looked at.
            let found = usize::from(std::mem::replace(slot, at as u16));
            let distance = at - found.min(at);
            if distance == 0 || distance > MAX_DISTANCE || word_at(page, found) != Some(word) {
                // What did not match for long may not for longer.
                at += 1 + ((at - from) >> 6);
                continue;
            }
            let len = 4 + matching(page.get(found + 4..), page.get(at + 4..));
            literals(out, start, page.get(from..at).unwrap_or_default());
            put_match(out, distance, len);
            at += len;
            from = at;
        }
        literals(out, start, page.get(from..).unwrap_or_default());
        out.extend([17, 0, 0]);
    }
}

fn word_at(page: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(page.get(at..at + 4)?.try_into().ok()?))
}

/// Bytes at the start that both have.
fn matching(a: Option<&[u8]>, b: Option<&[u8]>) -> usize {
    let (a, b) = (a.unwrap_or_default(), b.unwrap_or_default());
    let mut len = 0;
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        if a != b {
            break;
        }
        len += 8;
    }
    let rest = a.iter().skip(len).zip(b.iter().skip(len));
    len + rest.take_while(|(a, b)| a == b).count()
}

/// What is left of a length that does not fit in its bits: a zero for each 255, and the rest.
fn put_rest(out: &mut Vec<u8>, mut len: usize) {
    while len > 255 {
        out.push(0);
        len -= 255;
    }
    out.push(len as u8);
}

fn literals(out: &mut Vec<u8>, start: usize, bytes: &[u8]) {
    let len = bytes.len();
    match len {
        0 => return,
        1..=238 if out.len() == start => out.push(17 + len as u8),
        // In the low bits of the match before, whose last two bytes have them.
        1..=3 => {
            let at = out.len() - 2;
            out[at] |= len as u8;
        }
        4..=18 => out.push(len as u8 - 3),
        _ => {
            out.push(0);
            put_rest(out, len - 18);
        }
    }
    out.extend_from_slice(bytes);
}

fn put_match(out: &mut Vec<u8>, distance: usize, len: usize) {
    if len <= 8 && distance <= 0x800 {
        let distance = distance - 1;
        out.push(((len - 1) << 5 | (distance & 7) << 2) as u8);
        out.push((distance >> 3) as u8);
        return;
    }
    let (marker, most, bits) = match distance {
        ..=0x4000 => (0x20, 33, distance - 1),
        _ => (0x10 | (distance - 0x4000) >> 11 & 8, 9, distance - 0x4000),
    };
    if len <= most {
        out.push((marker | (len - 2)) as u8);
    } else {
        out.push(marker as u8);
        put_rest(out, len - most);
    }
    out.extend((((bits & 0x3fff) << 2) as u16).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn there_and_back(page: &[u8]) {
        let mut out = b"before".to_vec();
        Lzo::new().compress(page, &mut out);
        let mut back = vec![0; page.len()];
        let got = lzokay::decompress::decompress(&out[6..], &mut back);
        assert_eq!(got.ok(), Some(page.len()));
        assert!(back == page);
    }

    #[test]
    fn lengths_and_distances_at_their_limits() {
        let mut noise = kmortem_testkit::mutate::Random::new(3);
        let noise: Vec<u8> = (0..8192).flat_map(|_| noise.draw().to_le_bytes()).collect();
        for distance in [1, 7, 8, 9, 2047, 2048, 2049, 16383, 16384, 16385, 32768, 49151, 49152] {
            for len in [4, 8, 9, 10, 33, 34, 288, 289, 290, 600] {
                for gap in [0, 1, 3, 4, 18, 19, 273, 274] {
                    let mut page = noise[..distance.max(gap + 1)].to_vec();
                    page.extend_from_within(
                        page.len() - distance..page.len() - distance + len.min(distance),
                    );
                    page.extend(&noise[50_000..50_000 + gap]);
                    page.extend_from_within(
                        page.len() - distance..page.len() - distance + len.min(distance),
                    );
                    page.extend(&noise[60_000..60_009]);
                    page.truncate(65_536);
                    there_and_back(&page);
                }
            }
        }
        for len in [4, 5, 17, 238, 239, 255 + 18, 4096, 65_536] {
            there_and_back(&noise[..len]);
            there_and_back(&vec![7; len]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        #[test]
        fn any_page_comes_back(
            pieces in proptest::collection::vec((any::<[u8; 5]>(), 0usize..40), 1..400),
            size in prop::sample::select(vec![4096usize, 16384, 65536]),
        ) {
            let mut page = Vec::new();
            for (bytes, again) in pieces.iter().cycle().take(size / 5) {
                page.extend(bytes);
                let from = page.len().saturating_sub(again * 37);
                page.extend_from_within(from..(from + again).min(page.len()));
                if page.len() >= size {
                    break;
                }
            }
            page.resize(size, 1);
            there_and_back(&page);
        }
    }
}
