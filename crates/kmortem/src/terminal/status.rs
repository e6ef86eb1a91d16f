//! One line on standard error while a command takes long: its name, for how
//! long it has been running, how much of its work is done. It goes before
//! anything else is written.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use kmortem_shell::progress::{Progress, Running};

/// What ends sooner needs no such line.
const PATIENCE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(200);
/// To the start of the line, and clear it (ECMA-48 EL).
const CLEAR: &str = "\r\x1b[K";

/// Shows the progress of the session's commands from now on, if there is a
/// terminal for it.
pub(crate) fn show_progress(progress: &Progress) {
    if !io::stderr().is_terminal() {
        return;
    }
    let shown = Arc::new(Mutex::new(false));
    let hidden = shown.clone();
    progress.on_hide(move || {
        let mut shown = hidden.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *shown) {
            write(CLEAR);
        }
    });
    let progress = progress.clone();
    thread::spawn(move || {
        loop {
            thread::sleep(STEP);
            let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            // Asked for under the lock: who hides it has ended the command before.
            if let Some(running) = progress.running().filter(|r| r.time >= PATIENCE) {
                write(&format!("{CLEAR}{}", line(&running)));
                *shown = true;
            }
        }
    });
}

fn write(text: &str) {
    let mut out = io::stderr();
    // A closed standard error leaves nobody to tell.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn line(running: &Running) -> String {
    let seconds = running.time.as_secs();
    match running.part {
        Some(part) => format!("{}: {seconds} s, {:.0} %", running.command, part * 100.0),
        None => format!("{}: {seconds} s", running.command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_is_known() {
        let mut running = Running { command: "search", time: Duration::from_secs(7), part: None };
        assert_eq!(line(&running), "search: 7 s");
        running.part = Some(0.345);
        assert_eq!(line(&running), "search: 7 s, 34 %");
    }
}
