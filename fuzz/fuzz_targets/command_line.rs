//! Any text as a command line of crash(8), up to what the command would get.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| kmortem_shell::fuzzing::line(text));
