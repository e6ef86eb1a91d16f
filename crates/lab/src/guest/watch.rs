//! Watches a guest's console until the guest is dead, under whichever hypervisor it runs.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::LabError;
use crate::guest::console::{PANIC, PANIC_END, READY};
use crate::host;
use crate::matrix::Boot;

/// Much more than a boot and a watchdog need (10 to 40 s): hosts may be busy.
const LIMIT: Duration = Duration::from_secs(240);
/// A kernel that has panicked and says nothing for so long has said its last:
/// 5.10 does not get to the end line after a stack overflow.
const QUIET: Duration = Duration::from_secs(10);
/// A guest that is silent for so long before it is ready is stuck: 7.x sometimes
/// loses its timer under TCG while it starts its second CPU.
const STUCK: Duration = Duration::from_secs(60);
/// Time between two looks.
pub(crate) const POLL: Duration = Duration::from_millis(100);

/// A console that is written to, and what is known of it.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    console: &'a Path,
    started: Instant,
    /// Its length, and since when it has that.
    said: (usize, Instant),
}

impl Watch<'_> {
    /// Of a guest that starts now.
    pub(crate) fn new(console: &Path) -> Watch<'_> {
        let started = Instant::now();
        Watch { console, started, said: (0, started) }
    }

    /// What the console says, as long as the guest lives; none when it has died. An
    /// error when it does neither.
    pub(crate) fn look(&mut self) -> Result<Option<String>, String> {
        if self.started.elapsed() > LIMIT {
            return Err(format!("no panic within {} s", LIMIT.as_secs()));
        }
        let text = read_console(self.console);
        if text.contains(PANIC_END) {
            return Ok(None);
        }
        if text.len() != self.said.0 {
            self.said = (text.len(), Instant::now());
        }
        let silence = self.said.1.elapsed();
        if text.contains(PANIC) && silence > QUIET {
            return Ok(None);
        }
        if !text.contains(READY) && silence > STUCK {
            return Err("stuck while it boots".to_owned());
        }
        Ok(Some(text))
    }
}

/// Why a boot did not give its dump, with the console's last lines.
pub(crate) fn failure(boot: &Boot, console: &Path, reason: &str) -> LabError {
    LabError::Guest {
        dump: boot.name.clone(),
        reason: reason.to_owned(),
        console_tail: host::tail(&read_console(console), 25),
    }
}

pub(crate) fn read_console(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
