//! Any bytes as VMware's state, and the rest as the memory beside it.
#![no_main]

mod image;

use libfuzzer_sys::fuzz_target;

const MAGICS: [u32; 4] = [0xbed2_bed0, 0xbad1_bad1, 0xbed2_bed2, 0xbed3_bed3];

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let magic = MAGICS[usize::from(kind % 4)].to_le_bytes();
    let state = [magic.as_slice(), rest].concat();
    match kind & 0x80 {
        0 => image::check(state),
        _ => image::check_all(vec![state, vec![0x5a; 64 << 10]]),
    }
});
