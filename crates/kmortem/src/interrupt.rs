//! Ctrl-C while a program answers and ends: the first one ends what runs, so
//! that what it has written is whole; a second one ends the program at once.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What shells give a program that Ctrl-C has ended (128 and SIGINT).
const INTERRUPTED: u8 = 130;

/// Sets `flag` and calls `stop` at Ctrl-C. Where it can't be caught it ends the
/// program, as it does by itself.
pub(crate) fn catch(flag: &Arc<AtomicBool>, stop: impl Fn() + Send + 'static) {
    let flag = flag.clone();
    let _ = ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
        stop();
    });
}

/// `code`, unless Ctrl-C came in between.
pub(crate) fn exit_code(flag: &AtomicBool, code: ExitCode) -> ExitCode {
    match flag.load(Ordering::Relaxed) {
        true => ExitCode::from(INTERRUPTED),
        false => code,
    }
}
