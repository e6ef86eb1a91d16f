//! A session for a person or for crash's command line: the dump, the kernel
//! that may be named beside it, rc files, the first lines on the screen.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use kmortem_shell::script::{Echo, Script};
use kmortem_shell::{Outcome, Output, Session, rc};

use crate::crash::namelist::{self, Kind};
use crate::error::CliError;
use crate::open;

/// Opens the dump among `files`; a kernel among them is checked and told of.
pub(crate) fn session(files: &[PathBuf]) -> Result<Session, CliError> {
    let (mut dumps, mut namelists) = (Vec::new(), Vec::new());
    for path in files {
        match namelist::kind(path) {
            Ok(Kind::Dump) => dumps.push(path),
            Ok(kind) => namelists.push((path, kind)),
            // Whoever opens dumps says best why this one can't be.
            Err(_) => dumps.push(path),
        }
    }
    if dumps.is_empty() {
        return Err(CliError::NoDump);
    }
    let kernel = open(&dumps)?;
    let mut notes = io::stderr();
    if let Some(why) = kernel.image().completeness().incomplete {
        writeln!(notes, "kmortem: the dump is incomplete: {why}")?;
    }
    for (path, kind) in &namelists {
        let named = |error| CliError::Input { path: path.to_path_buf(), error };
        if let Some(why) = namelist::mismatch(path, *kind, &kernel).map_err(named)? {
            let path = path.display();
            writeln!(
                notes,
                "kmortem: {path} does not belong to this dump ({why}); the dump's own symbols and \
                 types are used"
            )?;
        }
    }
    let mut session = Session::new(kernel);
    session.settings_mut().namelist = namelists.first().map(|(path, _)| path.display().to_string());
    Ok(session)
}

/// Runs the rc files of the user and of the current directory.
pub(crate) fn run_rc_files(session: &mut Session, out: &mut Output<'_>) -> io::Result<()> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    for file in rc::find(home.as_deref(), Path::new(".")) {
        session.run_rc(&file, out)?;
    }
    Ok(())
}

/// Runs a file of commands, as it grows.
pub(crate) fn run_file(
    session: &mut Session,
    path: &Path,
    echo: Echo,
    out: &mut Output<'_>,
) -> Result<Outcome, CliError> {
    let named = |error| CliError::Input { path: path.to_owned(), error };
    let mut reader = BufReader::new(File::open(path).map_err(named)?);
    Ok(session.run_script(&mut Script::new(&mut reader, &path.to_string_lossy(), echo), out)?)
}

/// The machine and the current task, as crash shows them first.
pub(crate) fn banner(session: &mut Session, out: &mut Output<'_>) -> io::Result<()> {
    session.run_told("sys", out)?;
    let mut context = Vec::new();
    let mut notes = io::stderr();
    session.run_told("set", &mut Output::text(&mut context, &mut notes))?;
    for line in String::from_utf8_lossy(&context).lines() {
        writeln!(out, "     {line}")?;
    }
    writeln!(out)
}
