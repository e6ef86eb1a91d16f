//! `kmortem`: one binary, one subcommand per task of a user.
//!
//! Data goes to standard output, everything else to standard error. Exit
//! codes: 0 all was answered, 1 something could not be, 2 the command line was
//! not understood, 101 a bug in kmortem itself, 130 Ctrl-C ended it.
#![forbid(unsafe_code)]

mod convert;
mod crash;
mod error;
mod info;
mod interrupt;
mod open;
mod panic;
mod report;
mod run;
mod shell;
mod sql;
mod start;
mod terminal;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use kmortem_kernel::Kernel;

use crate::error::CliError;

/// Takes a Linux kernel crash dump to its cause, without debuginfo
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 all was answered, 1 something could not be answered, 2 the command line was not
understood, 101 a bug in kmortem, 130 Ctrl-C.";

#[derive(Subcommand)]
enum Command {
    Report(report::ReportArgs),
    Info(info::InfoArgs),
    Convert(convert::ConvertArgs),
    Run(run::RunArgs),
    Shell(shell::ShellArgs),
    Crash(crash::CrashArgs),
    Sql(sql::SqlArgs),
}

/// The dump that a subcommand opens.
#[derive(Args)]
struct Dump {
    /// The dump; of a split dump all its parts, in any order; raw memory as FILE@ADDRESS; a
    /// snapshot's folder, or its state and memory
    #[arg(required = true, value_name = "VMCORE")]
    files: Vec<PathBuf>,
}

impl Dump {
    /// Opens the kernel in the dump.
    fn open(&self) -> Result<Kernel, CliError> {
        open(&self.files)
    }
}

/// Opens the kernel in a dump, which may have several parts.
fn open<P: AsRef<Path>>(files: &[P]) -> Result<Kernel, CliError> {
    let image = open::image(files)?;
    let incomplete = image.completeness().incomplete;
    Kernel::open(image).map_err(|error| CliError::Open { error, incomplete })
}

/// The words behind `crash`, where that is what is called: by name, or as the
/// subcommand, whose options clap need not know.
fn crash_words() -> Option<Vec<String>> {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let program = words.next()?;
    let by_name = Path::new(&program).file_name().is_some_and(|name| name == "crash");
    (by_name || words.next()? == "crash").then(|| words.collect())
}

fn run() -> Result<ExitCode, CliError> {
    if let Some(words) = crash_words() {
        return crash::run_words(&words);
    }
    match Cli::parse().command {
        Command::Report(args) => report::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Shell(args) => shell::run(&args),
        Command::Crash(args) => crash::run(&args),
        Command::Sql(args) => sql::run(&args),
    }
}

fn main() -> ExitCode {
    panic::install_hook();
    match run() {
        Ok(code) => code,
        // Who reads our output has seen enough: nothing to complain about.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            // A closed standard error leaves nobody to tell.
            let _ = writeln!(io::stderr(), "kmortem: {error}");
            ExitCode::from(if matches!(error, CliError::NoDump) { 2 } else { 1 })
        }
    }
}
