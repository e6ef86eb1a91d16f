//! `kmortem run`: crash(8)'s commands on a dump.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use kmortem_shell::script::{Echo, Script};
use kmortem_shell::{Outcome, Output, Session};

use crate::error::CliError;
use crate::{Dump, interrupt, open, terminal};

/// Runs crash(8)'s commands on a dump
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    dump: Dump,
    /// A command, as one argument; may be given several times
    #[arg(short, long = "command", value_name = "COMMAND", action = clap::ArgAction::Append)]
    command: Vec<String>,
    /// A file of commands, one per line, which run before those of -c; `-` is standard input
    #[arg(short, long = "input", value_name = "FILE", action = clap::ArgAction::Append)]
    input: Vec<PathBuf>,
    /// Answers as JSON, one object per line
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  kmortem run vmcore -c bt                    the stack of the task that crashed
  kmortem run vmcore -c 'bt -a' -c 'log -t'   what each CPU did, then the kernel's log
  kmortem run vmcore.1 vmcore.2 -c ps         a split dump: name all parts before -c
  kmortem run vmcore -c 'ps -u' --json        tasks as JSON, one per line
  kmortem run vmcore -c 'log | grep -i oom'   through commands of the host
  kmortem run vmcore < commands               commands from standard input, one per line
  kmortem run vmcore -c help                  the commands; -c 'help bt' explains one

Exit codes: 0 all commands answered, 1 one of them could not, 2 one was not understood,
130 Ctrl-C ended them. On a terminal a line shows what takes longer than a second.";

pub(crate) fn run(args: &RunArgs) -> Result<ExitCode, CliError> {
    // `-` among the dump's files is standard input, too.
    let (dashes, files): (Vec<&PathBuf>, Vec<&PathBuf>) =
        args.dump.files.iter().partition(|path| is_stdin(path));
    let mut inputs: Vec<&Path> = args.input.iter().map(PathBuf::as_path).collect();
    let nothing = args.command.is_empty() && args.input.is_empty();
    if !dashes.is_empty() || nothing {
        inputs.push(Path::new("-"));
    }
    let mut stdin = BufReader::new(io::stdin());
    let unanswerable = nothing && (io::stdin().is_terminal() || stdin.fill_buf()?.is_empty());
    if files.is_empty() || unanswerable {
        let what = if files.is_empty() { "no dump is named" } else { "no command was given" };
        writeln!(io::stderr(), "kmortem: {what}; `kmortem run --help` shows how")?;
        return Ok(ExitCode::from(2));
    }
    let kernel = open(&files)?;
    let incomplete = kernel.image().completeness().incomplete;
    let interrupted = kernel.interrupt();
    interrupt::catch(&interrupted, || {});
    let mut session = Session::new(kernel);
    terminal::show_progress(session.progress());
    let mut data = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    // Not locked: the progress is shown there by another thread.
    let mut notes = io::stderr();
    if let Some(why) = incomplete {
        writeln!(notes, "kmortem: the dump is incomplete: {why}")?;
    }
    let out = match args.json {
        true => Output::json(&mut data, &mut notes),
        false => Output::text(&mut data, &mut notes),
    };
    let mut out = out.on_stdout();
    let mut worst = Outcome::Answered;
    for path in inputs {
        let done = if is_stdin(path) {
            run_lines(&mut session, &mut stdin, "standard input", &mut out)?
        } else {
            let named = |error| CliError::Input { path: path.to_owned(), error };
            let mut reader = BufReader::new(File::open(path).map_err(named)?);
            run_lines(&mut session, &mut reader, &path.to_string_lossy(), &mut out)?
        };
        worst = worst.max(done);
    }
    if !session.has_ended() && !session.kernel().is_interrupted() {
        worst = worst.max(session.run_all(&args.command, &mut out)?);
    }
    out.flush()?;
    Ok(interrupt::exit_code(&interrupted, exit_code(worst)))
}

fn run_lines(
    session: &mut Session,
    reader: &mut dyn BufRead,
    name: &str,
    out: &mut Output<'_>,
) -> Result<Outcome, CliError> {
    if session.has_ended() || session.kernel().is_interrupted() {
        return Ok(Outcome::Answered);
    }
    Ok(session.run_script(&mut Script::new(reader, name, Echo::Nothing), out)?)
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// What tells a script how the commands went.
pub(crate) fn exit_code(worst: Outcome) -> ExitCode {
    match worst {
        Outcome::Answered => ExitCode::SUCCESS,
        Outcome::Failed => ExitCode::from(1),
        Outcome::Misused => ExitCode::from(2),
    }
}
