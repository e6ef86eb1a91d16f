//! lzop files, after libarchive's archive_read_support_filter_lzop.c.

use crate::Compression;

/// Flags: adler32 of the unpacked bytes.
const F_ADLER32_D: u32 = 1;

/// Bytes as a member of an lzop file, in blocks of `block` bytes.
pub fn lzop(bytes: &[u8], block: usize) -> Vec<u8> {
    let mut file = b"\x89LZO\0\r\n\x1a\n".to_vec();
    for word in [0x1040u16, 0x20a0, 0x0940] {
        file.extend(word.to_be_bytes());
    }
    file.extend([1, 5]);
    for word in [F_ADLER32_D, 0o100_644, 0, 0] {
        file.extend(word.to_be_bytes());
    }
    file.push(6);
    file.extend(b"vmcore");
    // Its checksum, which nobody looks at.
    file.extend([0; 4]);
    for plain in bytes.chunks(block) {
        let packed = Compression::Lzo.compress(plain);
        let stored = if packed.len() < plain.len() { packed.as_slice() } else { plain };
        file.extend((plain.len() as u32).to_be_bytes());
        file.extend((stored.len() as u32).to_be_bytes());
        file.extend(adler32(plain).to_be_bytes());
        file.extend(stored);
    }
    file.extend([0; 4]);
    file
}

fn adler32(bytes: &[u8]) -> u32 {
    let sums = bytes.iter().fold((1u64, 0u64), |(a, b), byte| {
        let a = (a + u64::from(*byte)) % 65521;
        (a, (a + b) % 65521)
    });
    (sums.1 << 16 | sums.0) as u32
}
