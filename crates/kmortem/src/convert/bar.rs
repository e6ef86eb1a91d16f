//! The bar on standard error while a dump is written: how much is done, how fast, for how long.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kmortem_vmcore::writer::Progress;

use super::summary::bytes;

const STEP: Duration = Duration::from_millis(200);
/// To the start of the line, and clear it (ECMA-48 EL).
const CLEAR: &str = "\r\x1b[K";
const WIDTH: usize = 20;

/// A bar that is gone when this is dropped.
pub(super) struct Bar {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bar {
    /// Shows a bar over `total` bytes of memory, if there is a terminal for it.
    pub(super) fn show(progress: &Arc<Progress>, total: u64) -> Bar {
        let ended = Arc::new(AtomicBool::new(false));
        let thread = io::stderr().is_terminal().then(|| {
            let (progress, ended) = (Arc::clone(progress), Arc::clone(&ended));
            thread::spawn(move || {
                let start = Instant::now();
                while !ended.load(Ordering::Relaxed) {
                    thread::park_timeout(STEP);
                    let done = progress.done.load(Ordering::Relaxed);
                    write(&format!("{CLEAR}{}", line(done, total, start.elapsed())));
                }
                write(CLEAR);
            })
        });
        Bar { ended, thread }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn write(text: &str) {
    let mut out = io::stderr();
    // A closed standard error leaves nobody to tell.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn line(done: u64, total: u64, time: Duration) -> String {
    let part = if total == 0 { 1.0 } else { (done as f64 / total as f64).min(1.0) };
    let full = (part * WIDTH as f64) as usize;
    let bar: String = (0..WIDTH).map(|at| if at < full { '█' } else { '░' }).collect();
    let rate = done as f64 / time.as_secs_f64().max(0.001);
    let mut line = format!("convert {bar} {:3.0} %, {}/s", part * 100.0, bytes(rate as u64));
    // The first moments tell nothing about the rest.
    if time > Duration::from_secs(1) && rate > 0.0 {
        let left = (total.saturating_sub(done) as f64 / rate).ceil() as u64;
        line.push_str(&match left {
            0..100 => format!(", {left} s left"),
            100..6000 => format!(", {} min left", left / 60),
            _ => format!(", {} h {} min left", left / 3600, left / 60 % 60),
        });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_much_how_fast_and_how_long() {
        let second = Duration::from_secs(1);
        assert_eq!(line(0, 100, second / 2), "convert ░░░░░░░░░░░░░░░░░░░░   0 %, 0 bytes/s");
        assert_eq!(
            line(512 << 20, 2 << 30, 2 * second),
            "convert █████░░░░░░░░░░░░░░░  25 %, 256.0 MB/s, 6 s left"
        );
        assert!(line(1 << 30, 1 << 40, 10 * second).ends_with("2 h 50 min left"));
        assert!(line(0, 0, second).contains("100 %"));
    }
}
