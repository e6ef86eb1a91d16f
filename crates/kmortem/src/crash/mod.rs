//! `kmortem crash`, and kmortem under the name `crash`: what scripts and people
//! that call crash(8) expect.

pub(crate) mod namelist;
mod options;

use std::io::{self, BufReader, BufWriter, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use kmortem_shell::script::{Echo, Script};
use kmortem_shell::{Outcome, Output, Session, date};

use crate::error::CliError;
use crate::run::exit_code;
use crate::{start, terminal};
use options::{Instead, Options};

/// Takes the place of crash(8), with crash's own command line
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct CrashArgs {
    /// What crash takes: options, the dump, and (not needed) its vmlinux
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    words: Vec<String>,
}

const USAGE: &str = "\
Usage: crash [OPTION]... [NAMELIST] MEMORY-IMAGE...

NAMELIST (a vmlinux or System.map) is not needed: the dump's own symbols and types are used. It is
accepted, and told of where it does not belong to the dump.

  -i FILE            runs the commands of FILE first; they may be added while it runs
  -s                 silent: no banner, no prompt where commands come from a file or pipe
  -h, --help [CMD]   this page, or that of a command
  -v, --version      the version
  -t                 the date of the crash, and nothing else
  -e vi|emacs        how lines are edited
  --hex, --dec       the base of numbers
  --no_scroll, --less, --more, --CRASHPAGER    the pager
  --no_crashrc       without .crashrc and .kmortemrc
  --no_panic         the idle task of CPU 0 is the current one
  --offline show|hide
  --osrelease FILE, --build-id FILE, --log FILE    what the dump FILE says

crash's other options are accepted; they help crash to find what kmortem finds by itself.
Commands come from the terminal, or from standard input.

Exit codes: 0 all commands answered, 1 one could not (or the dump can't be opened), 2 one, or the
command line, was not understood. A session on a terminal ends with 0.";

pub(crate) fn run(args: &CrashArgs) -> Result<ExitCode, CliError> {
    run_words(&args.words)
}

/// Runs crash's command line without the program's name.
pub(crate) fn run_words(words: &[String]) -> Result<ExitCode, CliError> {
    let options = match Options::parse(words) {
        Ok(options) => options,
        Err(what) => {
            writeln!(io::stderr(), "crash: {what}; `crash --help` lists them")?;
            return Ok(ExitCode::from(2));
        }
    };
    if let Some(instead) = &options.instead {
        return answer(instead);
    }
    if options.debug_query {
        let what = "kmortem needs no debuginfo: the dump's own symbols and types are used";
        writeln!(io::stdout(), "crash: {what}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut session = start::session(&options.files)?;
    if options.date_only {
        return date_of(&session);
    }
    for note in &options.notes {
        writeln!(io::stderr(), "crash: {note}")?;
    }
    run_session(&mut session, &options)
}

fn run_session(session: &mut Session, options: &Options) -> Result<ExitCode, CliError> {
    let interactive = io::stdin().is_terminal();
    terminal::show_progress(session.progress());
    let mut data = BufWriter::with_capacity(1 << 16, io::stdout());
    let mut notes = io::stderr();
    let mut out = Output::text(&mut data, &mut notes).on_stdout();
    let worst = begin(session, options, &mut out)?;
    if session.has_ended() {
        out.flush()?;
        return Ok(exit_code(worst));
    }
    if interactive {
        out.flush()?;
        terminal::interact(session, "crash> ", false)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut stdin = BufReader::new(io::stdin());
    let echo = if options.silent { Echo::Nothing } else { Echo::Prompts };
    let done =
        session.run_script(&mut Script::new(&mut stdin, "standard input", echo), &mut out)?;
    out.flush()?;
    Ok(exit_code(worst.max(done)))
}

/// What comes before the first prompt.
fn begin(
    session: &mut Session,
    options: &Options,
    out: &mut Output<'_>,
) -> Result<Outcome, CliError> {
    session.settings_mut().silent = options.silent;
    // crash: no pager in silent sessions.
    session.settings_mut().scroll = !options.silent;
    if options.no_panic {
        quietly(session, "set 0")?;
    }
    if !options.silent {
        writeln!(out, "\nkmortem {} (crash commands)\n", env!("CARGO_PKG_VERSION"))?;
        start::banner(session, out)?;
    }
    if !options.no_rc {
        start::run_rc_files(session, out)?;
    }
    // The command line's word is the last one.
    for line in &options.settings {
        quietly(session, line)?;
    }
    let mut worst = Outcome::Answered;
    for path in &options.inputs {
        if session.has_ended() {
            break;
        }
        let echo = session.echo();
        worst = worst.max(start::run_file(session, path, echo, out)?);
    }
    Ok(worst)
}

/// Runs a command whose answer nobody asked for.
fn quietly(session: &mut Session, line: &str) -> io::Result<Outcome> {
    session.run_told(line, &mut Output::text(&mut io::sink(), &mut io::stderr()))
}

/// `-t`: the date of the crash.
fn date_of(session: &Session) -> Result<ExitCode, CliError> {
    match session.kernel().clock() {
        Ok(clock) => {
            let seconds = clock.realtime_ns.max(0) as u64 / 1_000_000_000;
            writeln!(io::stdout(), "{}", date::utc(seconds))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            writeln!(io::stderr(), "crash: the date of the crash can't be read: {error}")?;
            Ok(ExitCode::from(1))
        }
    }
}

/// What is wanted in place of a session.
fn answer(instead: &Instead) -> Result<ExitCode, CliError> {
    let mut data = io::stdout();
    match instead {
        Instead::Version => writeln!(data, "kmortem {}", env!("CARGO_PKG_VERSION"))?,
        Instead::BuildInfo => writeln!(
            data,
            "   build_command: kmortem\n    build_target: X86_64\n   build_version: {}",
            env!("CARGO_PKG_VERSION")
        )?,
        Instead::Help(None) => writeln!(data, "{USAGE}")?,
        Instead::Help(Some(topic)) => {
            let mut notes = io::stderr();
            let mut out = Output::text(&mut data, &mut notes);
            return Ok(exit_code(kmortem_shell::help(topic, &mut out)?));
        }
        Instead::OsRelease(path) => return tell(path, |v| v.osrelease().map(str::to_owned)),
        Instead::BuildId(path) => return tell(path, |v| v.build_id().map(str::to_owned)),
        Instead::Log(path) => {
            let mut session = start::session(std::slice::from_ref(path))?;
            let mut data = BufWriter::new(data);
            let done = session.run_told("log", &mut Output::text(&mut data, &mut io::stderr()))?;
            data.flush()?;
            return Ok(exit_code(done));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Something of the dump's VMCOREINFO, `unknown` where it is not there.
fn tell(
    path: &Path,
    what: impl Fn(&kmortem_vmcore::VmcoreInfo) -> Option<String>,
) -> Result<ExitCode, CliError> {
    let image = crate::open::image(&[path])?;
    let known = image.vmcoreinfo().and_then(what);
    writeln!(io::stdout(), "{}", known.as_deref().unwrap_or("unknown"))?;
    Ok(if known.is_some() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
