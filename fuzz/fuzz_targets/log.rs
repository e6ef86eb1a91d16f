//! Any bytes as the kernel's log, in both of its formats.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| kmortem_kernel::fuzzing::logs(data));
