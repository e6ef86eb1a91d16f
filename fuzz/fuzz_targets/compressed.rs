//! Any bytes as a compressed file: the first one says by which method.
#![no_main]

mod image;

use libfuzzer_sys::fuzz_target;

const MAGICS: [&[u8]; 6] = [
    b"\x1f\x8b\x08\0",
    b"BZh1",
    b"\xfd7zXZ\0",
    b"\x28\xb5\x2f\xfd",
    b"\x04\x22\x4d\x18",
    b"\x89LZO\0\r\n\x1a\n",
];

fuzz_target!(|data: &[u8]| {
    let Some((method, rest)) = data.split_first() else { return };
    image::check([MAGICS[usize::from(*method) % MAGICS.len()], rest].concat());
});
