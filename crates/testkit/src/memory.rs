//! Contents of pages that tell which page they are.

/// Bytes in a page.
pub const PAGE: u64 = 4096;

/// A page of its own for each number: compressible, and no two alike.
pub fn page(number: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PAGE as usize);
    for line in 0..PAGE / 16 {
        // Pseudo-random words in some lines, so that codecs have both matches and literals.
        let word = if line % 4 == 0 {
            (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (line % 32)
        } else {
            line
        };
        bytes.extend(number.to_le_bytes());
        bytes.extend(word.to_le_bytes());
    }
    bytes
}
