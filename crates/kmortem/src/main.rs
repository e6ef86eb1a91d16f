//! `kmortem`: one binary, one subcommand per task of a user.
//!
//! Data goes to standard output, everything else to standard error. Exit
//! codes: 0 all was answered, 1 something could not be, 2 the command line was
//! not understood, 101 a bug in kmortem itself.
#![forbid(unsafe_code)]

mod error;
mod info;
mod panic;
mod report;
mod run;
mod sql;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use kmortem_kernel::Kernel;
use kmortem_vmcore::Image;

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
understood, 101 a bug in kmortem.";

#[derive(Subcommand)]
enum Command {
    Report(report::ReportArgs),
    Info(info::InfoArgs),
    Run(run::RunArgs),
    Sql(sql::SqlArgs),
}

/// The dump that a subcommand opens.
#[derive(Args)]
struct Dump {
    /// The dump; of a split dump all its parts, in any order
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
    let image = Image::open(files)?;
    let incomplete = image.completeness().incomplete;
    Kernel::open(image).map_err(|error| CliError::Open { error, incomplete })
}

fn main() -> ExitCode {
    panic::install_hook();
    let done = match Cli::parse().command {
        Command::Report(args) => report::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Sql(args) => sql::run(&args),
    };
    match done {
        Ok(code) => code,
        // Who reads our output has seen enough: nothing to complain about.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            // A closed standard error leaves nobody to tell.
            let _ = writeln!(io::stderr(), "kmortem: {error}");
            ExitCode::from(1)
        }
    }
}
