//! Any bytes as a dump: opened and read, or refused, within bounds.
#![no_main]

mod image;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| image::check(data.to_vec()));
