//! The host's programs and the lab's messages on stderr.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{LabError, Result};

/// One line of progress.
pub(crate) fn note(message: &str) {
    eprintln!("lab: {message}");
}

/// Whether a program is on the PATH.
pub(crate) fn has(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()))
}

/// Runs a command to its end; its output is shown only when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    output(command).map(|_| ())
}

/// Runs a command and returns what it wrote to its standard output.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failure(command, &start_reason(command, &error)))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = [output.stdout, output.stderr].concat();
    let tail = tail(&String::from_utf8_lossy(&text), 20);
    Err(failure(command, &format!("{}\n{tail}", output.status)))
}

/// Runs a command with its standard output in a file.
pub(crate) fn run_to_file(command: &mut Command, path: &Path) -> Result<()> {
    let file = std::fs::File::create(path).map_err(LabError::io("create", path))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failure(command, &start_reason(command, &error)))?;
    let mut errors = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut errors);
    }
    let status = child.wait().map_err(LabError::io("wait for", path))?;
    if status.success() {
        return Ok(());
    }
    Err(failure(command, &format!("{status}\n{}", tail(&errors, 20))))
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn start_reason(command: &Command, error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::NotFound {
        let program = command.get_program().to_string_lossy().into_owned();
        return format!("{program} is not installed; scripts/setup.sh names the packages");
    }
    error.to_string()
}

fn failure(command: &Command, reason: &str) -> LabError {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    LabError::Tool { command: line, reason: reason.to_owned() }
}
