//! A bug in kmortem, told in one sentence instead of a stack trace.

use std::io::Write;
use std::panic::PanicHookInfo;

/// Replaces the standard library's message. The exit code stays 101.
pub(crate) fn install_hook() {
    std::panic::set_hook(Box::new(report));
}

fn report(info: &PanicHookInfo<'_>) {
    let what = info
        .payload_as_str()
        .unwrap_or("something that can't happen has happened")
        .replace('\n', " ");
    let place = info.location().map_or(String::new(), |l| format!(" at {}:{}", l.file(), l.line()));
    // A closed standard error leaves nobody to tell.
    let _ = writeln!(
        std::io::stderr(),
        "kmortem: a bug in kmortem {} ({what}{place}); please report this line, the command line \
         and what `kmortem info` says of the dump at \
         https://github.com/kmortem/kmortem/issues",
        env!("CARGO_PKG_VERSION"),
    );
}
