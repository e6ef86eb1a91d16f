//! What both programs answer, made comparable:
//!
//! - blanks at the ends of lines, and empty lines at the end of an answer, do
//!   not count;
//! - in `bt`, frames have no numbers: one frame more moves all others.
//!   kmortem's must count up from 0, which is checked here;
//! - in `bt`, a block of registers is one line, so that no line of one block is
//!   taken for that of another.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use kmortem_lab::LabDump;

use crate::common::kmortem;

/// Stands between the answers of one session.
const MARK: &str = "=== end of answer ===";

/// crash's answers to `commands`, of one session.
pub(crate) fn of_crash(
    crash: &Path,
    vmlinux: &Path,
    dump: &LabDump,
    commands: &[&str],
) -> Result<Vec<Vec<String>>, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let input = folder.path().join("commands");
    let mark = format!("!echo '{MARK}'\n");
    let script: String = commands.iter().map(|c| format!("{c}\n{mark}")).collect();
    // A first mark, behind what crash says of the dump by itself.
    let script = mark + &script;
    std::fs::write(&input, script).map_err(|e| e.to_string())?;
    let output = Command::new(crash)
        .arg("-s")
        .arg(vmlinux)
        .args(&dump.files)
        .stdin(Stdio::from(File::open(&input).map_err(|e| e.to_string())?))
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let end = format!("{MARK}\n");
    let answers: Vec<&str> = text.split_terminator(&end).skip(1).collect();
    if answers.len() != commands.len() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("crash answers {} of {}: {said}", answers.len(), commands.len()));
    }
    Ok(answers.iter().zip(commands).map(|(text, command)| comparable(command, text)).collect())
}

/// kmortem's answer to `command`.
pub(crate) fn of_kmortem(dump: &LabDump, command: &str) -> Result<Vec<String>, String> {
    let mut args = vec!["run".into(), "-c".into(), command.into()];
    args.extend(dump.files.iter().map(|file| file.clone().into_os_string()));
    let done = kmortem(args);
    if done.code != 0 || !done.stderr.is_empty() {
        return Err(format!("{command}: exit code {}: {}", done.code, done.stderr));
    }
    if is_bt(command) {
        frames_count_up(&done.stdout).map_err(|why| format!("{command}: {why}"))?;
    }
    Ok(comparable(command, &done.stdout))
}

fn is_bt(command: &str) -> bool {
    command.split(' ').any(|word| word == "bt")
}

fn comparable(command: &str, text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.trim_end().lines().map(str::trim_end) {
        if !is_bt(command) {
            lines.push(line.to_owned());
            continue;
        }
        let line = frame_number(line).map_or(line, |(_, rest)| rest);
        match lines.last_mut() {
            // The block begins with `[exception RIP: ...]`, or with `RIP:`
            // where user space was left.
            Some(last) if is_register(line) && in_block(last) => {
                last.push('\n');
                last.push_str(line);
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

/// `   RIP: ffff...  RSP: ...`
fn is_register(line: &str) -> bool {
    let mut words = line.split_whitespace();
    line.starts_with("    ")
        && words.next().is_some_and(|name| name.len() > 1 && name.ends_with(':'))
        && words.next().is_some_and(|value| value.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn in_block(unit: &str) -> bool {
    let last = unit.rsplit('\n').next().unwrap_or(unit);
    last.starts_with("    [exception RIP: ") || is_register(last)
}

/// ` #3 [sp] function at pc`: the number, and the rest.
fn frame_number(line: &str) -> Option<(usize, &str)> {
    let (number, rest) = line.trim_start().strip_prefix('#')?.split_once(' ')?;
    Some((number.parse().ok()?, rest))
}

fn frames_count_up(text: &str) -> Result<(), String> {
    let mut next = 0;
    for line in text.lines() {
        if line.starts_with("PID: ") {
            next = 0;
        }
        if let Some((number, _)) = frame_number(line) {
            if number != next {
                return Err(format!("frame {next} is missing before `{line}`"));
            }
            next += 1;
        }
    }
    Ok(())
}
