//! `kmortem shell`: a session on a terminal.

use std::io::{self, BufReader, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use kmortem_shell::Output;
use kmortem_shell::script::{Echo, Script};

use crate::error::CliError;
use crate::run::exit_code;
use crate::{start, terminal};

/// Opens a dump for questions at a prompt: crash(8)'s commands
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ShellArgs {
    /// The dump (of a split dump all its parts); a vmlinux beside it is not needed
    #[arg(required = true, value_name = "VMCORE")]
    files: Vec<PathBuf>,
    /// Answers as JSON, one object per line
    #[arg(long)]
    json: bool,
    /// Without .crashrc and .kmortemrc
    #[arg(long)]
    no_rc: bool,
}

const EXAMPLES: &str = "\
Examples:
  kmortem shell vmcore
  kmortem shell vmcore < commands       the same as `kmortem run vmcore < commands`, with rc files

At the prompt: `help` lists the commands, Tab completes, Ctrl-C ends a command, Ctrl-D the session.";

pub(crate) fn run(args: &ShellArgs) -> Result<ExitCode, CliError> {
    let mut session = start::session(&args.files)?;
    terminal::show_progress(session.progress());
    let interactive = io::stdin().is_terminal();
    let mut data = BufWriter::with_capacity(1 << 16, io::stdout());
    let mut notes = io::stderr();
    let out = match args.json {
        true => Output::json(&mut data, &mut notes),
        false => Output::text(&mut data, &mut notes),
    };
    let mut out = out.on_stdout();
    if interactive && !args.json {
        start::banner(&mut session, &mut out)?;
    }
    if !args.no_rc {
        start::run_rc_files(&mut session, &mut out)?;
    }
    if !interactive {
        let mut stdin = BufReader::new(io::stdin());
        let mut script = Script::new(&mut stdin, "standard input", Echo::Nothing);
        let done = session.run_script(&mut script, &mut out)?;
        out.flush()?;
        return Ok(exit_code(done));
    }
    out.flush()?;
    if !session.has_ended() {
        terminal::interact(&mut session, "kmortem> ", args.json)?;
    }
    Ok(ExitCode::SUCCESS)
}
