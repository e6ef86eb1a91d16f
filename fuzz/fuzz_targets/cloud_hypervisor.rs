//! Any bytes as Cloud Hypervisor's state.json, with memory beside it.
#![no_main]

mod image;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    image::check_all(vec![data.to_vec(), vec![0x5a; 64 << 10]]);
});
