//! Damage to a file: bit flips, extreme values in fields, cut ends. The same for the same seed.

/// One way to damage a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mutation {
    /// Bytes replaced at an offset.
    Set(u64, Vec<u8>),
    /// One bit flipped, counted from the start of the file.
    Flip(u64),
    /// The file ends here.
    Truncate(u64),
}

/// A stream of pseudo-random numbers (xorshift64*).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A stream that depends on `seed` only.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.draw() % bound }
    }
}

/// Values that sizes, offsets and counts break at.
const EXTREMES: [u64; 14] = [
    0,
    1,
    7,
    0x7f,
    0xff,
    0xfff,
    0x1000,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_f000,
    0xffff_ffff_ffff_ffff,
];

/// One to four mutations of a file of `len` bytes. Half of them fall into the first `head` bytes,
/// where the headers are.
pub fn mutations(seed: u64, len: u64, head: u64) -> Vec<Mutation> {
    let mut random = Random::new(seed);
    let count = 1 + random.below(4);
    (0..count)
        .map(|_| {
            let area = if random.below(2) == 0 { head.min(len) } else { len };
            match random.below(8) {
                0..=2 => Mutation::Flip(random.below(area * 8)),
                3 => Mutation::Truncate(random.below(area)),
                kind => {
                    let width = [1, 2, 4, 8][random.below(4) as usize];
                    let at = random.below(area) / width * width;
                    let value = match kind {
                        4..=6 => EXTREMES[random.below(EXTREMES.len() as u64) as usize],
                        _ => random.draw(),
                    };
                    Mutation::Set(at, value.to_le_bytes()[..width as usize].to_vec())
                }
            }
        })
        .collect()
}
