//! Opening dumps for all subcommands. Who waits for a compressed one to be unpacked sees how far
//! it is, on a terminal's standard error; Ctrl-C ends it, and leaves nothing behind.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use kmortem_vmcore::{Image, OpenError, OpenOptions, Unpacking};

/// What ends sooner needs no line.
const PATIENCE: Duration = Duration::from_millis(500);
/// To the start of the line, and clear it (ECMA-48 EL).
const CLEAR: &str = "\r\x1b[K";

/// Opens a dump, which may have several parts.
pub(crate) fn image<P: AsRef<Path>>(files: &[P]) -> Result<Image, OpenError> {
    if !io::stderr().is_terminal() {
        return Image::open(files);
    }
    let started = Instant::now();
    let shown = Cell::new(false);
    let show = |state: &Unpacking| {
        if started.elapsed() >= PATIENCE {
            shown.set(true);
            write(&format!("{CLEAR}{}", line(state, started.elapsed())));
        }
        ControlFlow::Continue(())
    };
    let options = OpenOptions { progress: Some(&show), ..OpenOptions::default() };
    let image = Image::open_with(files, &options);
    if shown.get() {
        write(CLEAR);
    }
    image
}

fn write(text: &str) {
    let mut out = io::stderr();
    // A closed standard error leaves nobody to tell.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn line(state: &Unpacking, time: Duration) -> String {
    let part = state.read as f64 / state.total.max(1) as f64;
    let rate = state.unpacked as f64 / time.as_secs_f64().max(0.001) / 1e6;
    let left = time.as_secs_f64() * (1.0 - part) / part.max(0.001);
    format!("unpacking: {:.0} %, {rate:.0} MB/s, {left:.0} s left", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_it_is() {
        let state = Unpacking { read: 25, total: 100, unpacked: 600_000_000 };
        let line = line(&state, Duration::from_secs(3));
        assert_eq!(line, "unpacking: 25 %, 200 MB/s, 9 s left");
        let start = Unpacking { read: 0, total: 0, unpacked: 0 };
        assert!(super::line(&start, Duration::ZERO).starts_with("unpacking: 0 %"));
    }
}
