//! Any text as a command line of crash(8), asked of the bundled dump.
#![no_main]

mod sample;
mod session;

use kmortem_shell::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &str| session::ask(|session, out| fuzzing::command(session, line, out)));
