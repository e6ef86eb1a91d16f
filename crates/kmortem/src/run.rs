//! `kmortem run`: crash(8)'s commands on a dump.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::Args;
use kmortem_shell::{Outcome, Output, Session};

use crate::Dump;
use crate::error::CliError;

/// Runs crash(8)'s commands on a dump
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    dump: Dump,
    /// A command, as one argument; may be given several times
    #[arg(short, long = "command", value_name = "COMMAND", required = true, action = clap::ArgAction::Append)]
    command: Vec<String>,
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
  kmortem run vmcore -c help                  the commands; -c 'help bt' explains one

Exit codes: 0 all commands answered, 1 one of them could not, 2 one was not understood.";

pub(crate) fn run(args: &RunArgs) -> Result<ExitCode, CliError> {
    let kernel = args.dump.open()?;
    let incomplete = kernel.image().completeness().incomplete;
    let mut session = Session::new(kernel);
    let mut data = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut notes = io::stderr().lock();
    if let Some(why) = incomplete {
        writeln!(notes, "kmortem: the dump is incomplete: {why}")?;
    }
    let mut out = match args.json {
        true => Output::json(&mut data, &mut notes),
        false => Output::text(&mut data, &mut notes),
    };
    let outcome = session.run_all(&args.command, &mut out)?;
    data.flush()?;
    Ok(match outcome {
        Outcome::Answered => ExitCode::SUCCESS,
        Outcome::Failed => ExitCode::from(1),
        Outcome::Misused => ExitCode::from(2),
    })
}
