//! Any bytes as Firecracker's state, with memory beside it.
#![no_main]

mod image;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let magic = 0x0710_1984_8664_0000u64;
    let start = match kind % 3 {
        // bincode, versionize, bitcode.
        0 => magic.to_le_bytes().to_vec(),
        1 => (magic | 1).to_le_bytes().to_vec(),
        _ => [[0].as_slice(), &magic.to_le_bytes()].concat(),
    };
    image::check_all(vec![[start.as_slice(), rest].concat(), vec![0x5a; 64 << 10]]);
});
