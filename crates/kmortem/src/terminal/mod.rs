//! A session on a terminal: prompt, pager, progress, Ctrl-C.
//!
//! What a command does with its words is the shell crate's; here is only what
//! needs a terminal.

mod history;
mod pager;
mod prompt;
mod status;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use kmortem_shell::{Output, Session};

use history::{Recall, recall};
use pager::Screen;
use prompt::{Prompt, Typed};
pub(crate) use status::show_progress;

/// Runs what is typed until the session ends.
pub(crate) fn interact(session: &mut Session, prompt: &str, json: bool) -> io::Result<()> {
    let interrupt = session.kernel().interrupt();
    let flag = interrupt.clone();
    let catching = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed));
    if let Err(error) = catching {
        writeln!(io::stderr(), "kmortem: Ctrl-C will end the session: {error}")?;
    }
    let mut input = Prompt::new(session)?;
    while !session.has_ended() {
        let shown = if session.settings().gdb { "gdb> " } else { prompt };
        let line = match input.read(shown, session)? {
            Typed::Line(line) => line,
            Typed::Cleared => continue,
            Typed::End => {
                writeln!(io::stdout())?;
                break;
            }
        };
        let line = match recall(&line, &input.history()) {
            Recall::No => line,
            Recall::Again(line) => {
                writeln!(io::stdout(), "{shown}{line}")?;
                line
            }
            Recall::Show => {
                let list = input.history();
                let lines = list.iter().enumerate().map(|(i, l)| format!("[{}] {l}\n", i + 1));
                io::stdout().write_all(lines.collect::<String>().as_bytes())?;
                continue;
            }
            Recall::Unknown => {
                writeln!(io::stderr(), "{line}: no such line in the history; `h` lists it")?;
                continue;
            }
        };
        input.remember(&line);
        interrupt.store(false, Ordering::Relaxed);
        run_guarded(session, &line, json)?;
        interrupt.store(false, Ordering::Relaxed);
    }
    Ok(())
}

/// Runs a line. A bug in a command ends the command, not the session.
fn run_guarded(session: &mut Session, line: &str, json: bool) -> io::Result<()> {
    let done = catch_unwind(AssertUnwindSafe(|| run_line(session, line, json)));
    match done {
        Ok(Ok(())) => Ok(()),
        // Who reads the pager has seen enough.
        Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Ok(Err(error)) => writeln!(io::stderr(), "output can't be written: {error}"),
        Err(_) => {
            session.recover();
            writeln!(io::stderr(), "the command was given up; the session goes on")
        }
    }
}

fn run_line(session: &mut Session, line: &str, json: bool) -> io::Result<()> {
    let mut notes = io::stderr();
    if session.settings().scroll && io::stdout().is_terminal() {
        let mut screen = Screen::new(session.settings().pager);
        let done = tell(session, line, json, &mut screen, &mut notes);
        // The pager is waited for in any case.
        let shown = screen.finish();
        return done.and(shown);
    }
    let mut data = BufWriter::with_capacity(1 << 16, io::stdout());
    let done = tell(session, line, json, &mut data, &mut notes);
    done.and(data.flush())
}

fn tell(
    session: &mut Session,
    line: &str,
    json: bool,
    data: &mut dyn Write,
    notes: &mut dyn Write,
) -> io::Result<()> {
    let out = if json { Output::json(data, notes) } else { Output::text(data, notes) };
    session.run_told(line, &mut out.on_stdout()).map(|_| ())
}
