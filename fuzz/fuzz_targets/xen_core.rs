//! Any sections and bytes behind the ELF header of a Xen dump-core.
#![no_main]

mod image;

use libfuzzer_sys::fuzz_target;

/// As Xen writes it for a guest of x86_64: no segments, seven sections, the names in the first.
const HEADER: [u8; 64] = {
    let mut header = [0; 64];
    let start = *b"\x7fELF\x02\x01\x01";
    let mut n = 0;
    while n < start.len() {
        header[n] = start[n];
        n += 1;
    }
    header[16] = 4;
    header[18] = 62;
    header[20] = 1;
    header[40] = 64;
    header[52] = 64;
    header[54] = 56;
    header[58] = 64;
    header[60] = 7;
    header[62] = 1;
    header
};

fuzz_target!(|data: &[u8]| image::check([&HEADER, data].concat()));
