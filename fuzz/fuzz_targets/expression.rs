//! Any text as an expression of C, over the bundled dump.
#![no_main]

mod sample;
mod session;

use kmortem_shell::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| session::ask(|session, out| fuzzing::expression(session, text, out)));
