//! Any bytes as Firecracker's state, with memory beside it.
#![no_main]

mod image;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    // The first byte is that of the magic number's end: how the rest is written.
    let magic = 0x0710_1984_8664_0000 | u64::from(kind % 2);
    let state = [magic.to_le_bytes().as_slice(), rest].concat();
    image::check_all(vec![state, vec![0x5a; 64 << 10]]);
});
