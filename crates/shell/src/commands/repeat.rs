//! `repeat`: a command again and again.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::Command;
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "repeat",
    summary: "runs a command again and again",
    arguments: "[-SECONDS] COMMAND",
    options: &[],
    details: "\
It ends when it is interrupted (Ctrl-C), when nobody reads on, or when the command fails;
-SECONDS waits as long between two runs. A dump does not change: this is for files that do,
and for scripts that were written for a live system.",
    examples: &[("set | head -n 10", "the current task, until `head` has its 10 lines")],
    takes_all: true,
    rows: &[],
    each: None,
    run,
};

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let usage = |what: &str| CommandError::Usage { command: COMMAND.name, what: what.to_owned() };
    let raw = args.raw();
    let (delay, line) = match raw.strip_prefix('-') {
        None => (Duration::ZERO, raw),
        Some(rest) => {
            let (digits, line) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let seconds: u32 = digits
                .parse()
                .map_err(|_| usage(&format!("`-{digits}` is no number of seconds")))?;
            (Duration::from_secs(seconds.into()), line)
        }
    };
    if line.trim().is_empty() {
        return Err(usage("no command to repeat"));
    }
    loop {
        session.run(line, out)?;
        // Each answer shows before the next one is there.
        out.flush()?;
        if session.has_ended() {
            return Ok(());
        }
        wait(session, delay)?;
    }
}

/// Waits in small steps, to end soon after an interrupt.
fn wait(session: &Session, delay: Duration) -> Result<(), CommandError> {
    let end = Instant::now() + delay;
    loop {
        if session.kernel().is_interrupted() {
            return Err(CommandError::Interrupted);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}
