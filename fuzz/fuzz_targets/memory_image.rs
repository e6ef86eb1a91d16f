//! Any bytes as a LiME or AVML image, or as raw memory with a kernel's banner in it.
#![no_main]

mod image;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 3 {
        0 => image::check([b"EMiL\x01\0\0\0", rest].concat()),
        1 => image::check([b"AVML\x02\0\0\0", rest].concat()),
        _ => {
            // As large as such a file has to be at least.
            let mut memory = b"\xffLinux version 6.1.0 (a@b) (gcc) #1 SMP".to_vec();
            memory.resize(4096, 0);
            memory.extend(rest);
            memory.resize(memory.len().max(1 << 20), 0);
            image::check(memory);
        }
    }
});
