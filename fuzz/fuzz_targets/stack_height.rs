//! Any bytes as a function's code: the stack's height at each instruction.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|code: &[u8]| {
    for ip in (0..code.len().min(64) as u64).chain([u64::MAX]) {
        let _ = kmortem_kernel::fuzzing::stack_height(code, ip);
    }
});
