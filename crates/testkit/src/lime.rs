//! LiME images and AVML's, after LiME's doc/README.md, AVML's src/image.rs and snappy's
//! framing_format.txt.

/// Ranges as LiME writes them: first address and bytes.
pub fn lime(ranges: &[(u64, Vec<u8>)]) -> Vec<u8> {
    ranges
        .iter()
        .flat_map(|(addr, bytes)| [header(b"EMiL", 1, *addr, bytes), bytes.clone()].concat())
        .collect()
}

/// The same as AVML writes them when it compresses.
pub fn avml(ranges: &[(u64, Vec<u8>)]) -> Vec<u8> {
    use std::io::Write;
    let mut out = Vec::new();
    for (addr, bytes) in ranges {
        out.extend(header(b"AVML", 2, *addr, bytes));
        let mut encoder = snap::write::FrameEncoder::new(Vec::new());
        encoder.write_all(bytes).expect("memory takes all");
        let stream = encoder.into_inner().expect("memory takes all");
        out.extend(&stream);
        out.extend((stream.len() as u64).to_le_bytes());
    }
    out
}

fn header(magic: &[u8; 4], version: u32, addr: u64, bytes: &[u8]) -> Vec<u8> {
    let last = addr.wrapping_add(bytes.len() as u64).wrapping_sub(1);
    let mut out = magic.to_vec();
    out.extend(version.to_le_bytes());
    out.extend(addr.to_le_bytes());
    out.extend(last.to_le_bytes());
    out.extend([0; 8]);
    out
}
