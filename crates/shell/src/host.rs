//! Commands of the host: beside ours, or reading the answer of one.

use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::error::CommandError;
use crate::output::{Notes, Output};

/// Runs `command` by the host's shell; without any, an interactive shell.
pub(crate) fn run(command: &str, out: &mut Output<'_>) -> Result<(), CommandError> {
    let terminal = io::stdin().is_terminal();
    let mut host = if command.is_empty() {
        if !terminal {
            return Err(CommandError::Line("!: an interactive shell needs a terminal".into()));
        }
        Command::new(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()))
    } else {
        shell(command)
    };
    // Lines that come from a pipe or file are ours to read.
    host.stdin(if terminal { Stdio::inherit() } else { Stdio::null() });
    out.flush()?;
    let shared = out.is_shared();
    let mut child = spawn(host.stdout(if shared { Stdio::inherit() } else { Stdio::piped() }))?;
    if let Some(mut answer) = child.stdout.take() {
        io::copy(&mut answer, out)?;
    }
    finish(command, child)
}

/// Runs `answer` with its output going to `command`.
pub(crate) fn pipe(
    command: &str,
    out: &mut Output<'_>,
    notes_too: bool,
    answer: impl FnOnce(&mut Output<'_>) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    out.flush()?;
    let shared = out.is_shared();
    let mut host = shell(command);
    host.stdin(Stdio::piped());
    let mut child = spawn(host.stdout(if shared { Stdio::inherit() } else { Stdio::piped() }))?;
    // Read beside the answer: who waits for its reader would wait for ever.
    let shown = child.stdout.take().map(|mut stdout| {
        std::thread::spawn(move || {
            let mut shown = Vec::new();
            stdout.read_to_end(&mut shown).map(|_| shown)
        })
    });
    let answered = match child.stdin.take() {
        Some(stdin) => {
            let mut data = BufWriter::with_capacity(1 << 16, stdin);
            let notes = if notes_too { Notes::WithData } else { Notes::Here };
            let mut piped = out.redirected(&mut data, notes);
            let answered = answer(&mut piped);
            // An answer that broke off shows as far as it came.
            let answered = {
                let flushed = piped.flush().map_err(CommandError::from);
                answered.and(flushed)
            };
            // What can't be written any more is not tried again.
            drop(data.into_parts());
            answered
        }
        None => Ok(()),
    };
    let finished = finish(command, child);
    if let Some(shown) = shown {
        let shown = shown.join().map_err(|_| CommandError::Host(format!("{command}: lost")))?;
        out.write_all(&shown?)?;
    }
    match answered {
        // Who reads has seen enough.
        Err(CommandError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => finished,
        Err(error) => Err(error),
        Ok(()) => finished,
    }
}

fn shell(command: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command);
    shell
}

fn spawn(command: &mut Command) -> Result<Child, CommandError> {
    command.spawn().map_err(|error| {
        let program = command.get_program().to_string_lossy();
        CommandError::Host(format!("{program} can't be run: {error}"))
    })
}

fn finish(command: &str, mut child: Child) -> Result<(), CommandError> {
    let status = child.wait()?;
    match ending(status) {
        None => Ok(()),
        Some(how) => Err(CommandError::Host(format!("{command}: {how}"))),
    }
}

/// How a command ended that did not end well.
fn ending(status: ExitStatus) -> Option<String> {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("exit status {code}")),
        (None, Some(signal)) => Some(format!("killed by signal {signal}")),
        (None, None) => Some(status.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_output<R>(f: impl FnOnce(&mut Output<'_>) -> R) -> (R, String) {
        let (mut data, mut notes) = (Vec::new(), Vec::new());
        let result = f(&mut Output::text(&mut data, &mut notes));
        (result, String::from_utf8(data).unwrap())
    }

    #[test]
    fn a_pipe_carries_the_answer() {
        let lines = |out: &mut Output<'_>| Ok((0..3).try_for_each(|i| writeln!(out, "{i}"))?);
        let (done, shown) = with_output(|out| pipe("sort -r | tr '\\n' ,", out, false, lines));
        done.unwrap();
        assert_eq!(shown, "2,1,0,");
    }

    #[test]
    fn a_reader_that_ends_early_is_no_error() {
        let endless = |out: &mut Output<'_>| loop {
            writeln!(out, "again")?;
        };
        let (done, shown) = with_output(|out| pipe("head -n 2", out, false, endless));
        done.unwrap();
        assert_eq!(shown, "again\nagain\n");
    }

    #[test]
    fn how_the_host_ended_is_told() {
        let (done, _) = with_output(|out| pipe("cat > /dev/null; exit 3", out, false, |_| Ok(())));
        assert_eq!(done.unwrap_err().to_string(), "cat > /dev/null; exit 3: exit status 3");
        let (done, _) = with_output(|out| run("kill -9 $$", out));
        assert!(done.unwrap_err().to_string().ends_with("killed by signal 9"));
    }

    #[test]
    fn an_error_of_the_answer_comes_first() {
        let fails = |_: &mut Output<'_>| Err(CommandError::Interrupted);
        let (done, _) = with_output(|out| pipe("false", out, false, fails));
        assert!(matches!(done, Err(CommandError::Interrupted)));
    }

    #[test]
    fn the_host_alone() {
        let (done, shown) = with_output(|out| run("echo a; echo b >&2", out));
        done.unwrap();
        assert_eq!(shown, "a\n");
    }
}
