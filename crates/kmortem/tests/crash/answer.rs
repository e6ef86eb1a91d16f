//! What both programs answer, made comparable:
//!
//! - blanks at the ends of lines, and empty lines at the end of an answer, do
//!   not count;
//! - in `bt`, frames have no numbers: one frame more moves all others.
//!   kmortem's must count up from 0, which is checked here;
//! - values that `p` and `gdb` show have no numbers (`$7`): crash counts on, a
//!   new kmortem begins;
//! - symbols at one address have no order in the lists of `sym`;
//! - errors are lines of the answer: crash writes them there, kmortem to
//!   standard error, with an exit code;
//! - in `bt`, a block of registers is one line, so that no line of one block is
//!   taken for that of another.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kmortem_lab::LabDump;

use crate::common::kmortem;

/// Stands between the answers of one session.
const MARK: &str = "=== end of answer ===";

/// crash's answers on one dump. They are kept beside the dump, and go with it:
/// crash's start takes ten seconds.
pub(crate) struct Crash<'a> {
    pub program: &'a Path,
    pub vmlinux: &'a Path,
    pub dump: &'a LabDump,
}

impl Crash<'_> {
    /// Its answers to `commands`; `None` where it dies of one.
    pub(crate) fn answers(&self, commands: &[String]) -> Result<Vec<Option<Vec<String>>>, String> {
        let folder = self.folder()?;
        let file = |command: &str| folder.join(format!("{:016x}", hash(command)));
        let mut new: Vec<&str> = commands.iter().map(String::as_str).collect();
        new.retain(|command| !file(command).exists());
        while !new.is_empty() {
            let answers = self.session(&new)?;
            for (command, text) in new.iter().zip(&answers) {
                std::fs::write(file(command), text).map_err(|e| e.to_string())?;
            }
            let answered = answers.len();
            if let Some(killer) = new.get(answered) {
                std::fs::write(file(killer), DIED).map_err(|e| e.to_string())?;
            }
            new.drain(..(answered + 1).min(new.len()));
        }
        let read = |command: &String| {
            let text = std::fs::read(file(command)).map_err(|e| e.to_string())?;
            let text = String::from_utf8_lossy(&text);
            Ok((text != DIED).then(|| comparable(command, &text)))
        };
        commands.iter().map(read).collect()
    }

    /// The answers of one session to `commands`, or to the first of them.
    fn session(&self, commands: &[&str]) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let input = folder.path().join("commands");
        let mark = format!("!echo '{MARK}'\n");
        let script: String = commands.iter().map(|c| format!("{c}\n{mark}")).collect();
        // A first mark, behind what crash says of the dump by itself.
        std::fs::write(&input, mark + &script).map_err(|e| e.to_string())?;
        let output = Command::new(self.program)
            .arg("-s")
            .arg(self.vmlinux)
            .args(&self.dump.files)
            .current_dir(folder.path())
            .stdin(Stdio::from(File::open(&input).map_err(|e| e.to_string())?))
            .output()
            .map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let parts: Vec<&str> = text.split(&format!("{MARK}\n")).collect();
        // Behind the last mark stands what was being answered when it ended.
        let [_, answers @ .., _] = &parts[..] else {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("crash does not start: {said}"));
        };
        Ok(answers.iter().map(|text| (*text).to_owned()).collect())
    }

    /// Where its answers are kept: beside the dump, one folder per build of crash.
    fn folder(&self) -> Result<PathBuf, String> {
        let beside = self.dump.files.first().and_then(|file| file.parent());
        let size = std::fs::metadata(self.program).map_err(|e| e.to_string())?.len();
        let folder = beside.ok_or("a dump without a folder")?.join(format!("crash-{size:x}"));
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        Ok(folder)
    }
}

/// In place of the answer of which crash died.
const DIED: &str = "\0died\n";

/// FNV-1a.
fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// kmortem's answer to `command`. What it says elsewhere, and how it ends, are
/// lines of the answer too: they have to be explained like any other.
pub(crate) fn of_kmortem(dump: &LabDump, command: &str) -> Vec<String> {
    let mut args = vec!["run".into(), "-c".into(), command.into()];
    args.extend(dump.files.iter().map(|file| file.clone().into_os_string()));
    let done = kmortem(args);
    let mut lines = comparable(command, &done.stdout);
    if is_bt(command)
        && let Err(why) = frames_count_up(&done.stdout)
    {
        lines.push(why);
    }
    let silent = done.stderr.is_empty();
    lines.extend(done.stderr.lines().map(|line| line.trim_end().to_owned()));
    if done.code != 0 && silent {
        lines.push(format!("exit code {} without a word", done.code));
    }
    lines
}

fn is_bt(command: &str) -> bool {
    command.split(' ').any(|word| word == "bt")
}

fn comparable(command: &str, text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.trim_end().lines().map(str::trim_end) {
        if !is_bt(command) {
            lines.push(unnumbered(line));
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
    if command == "sym -M" || command.starts_with("sym -m ") {
        lines.sort_by_cached_key(|line| place_and_name(line));
    }
    lines
}

/// Of `ffff... (t) name.isra.0`, what it is sorted by.
fn place_and_name(line: &str) -> (u64, String) {
    let (address, rest) = line.split_once(' ').unwrap_or((line, ""));
    let name = rest.get(4..).unwrap_or(rest);
    let name = name.split('.').next().unwrap_or(name);
    (u64::from_str_radix(address, 16).unwrap_or(u64::MAX), name.to_owned())
}

/// `$7 = 1` and `jiffies = $7 = 1`, without the number.
fn unnumbered(line: &str) -> String {
    let numbered = line.split_once('$').and_then(|(before, rest)| {
        // An array begins on the next line.
        let open = rest.strip_suffix(" =").map(|number| (number, ""));
        let (number, value) = rest.split_once(" = ").or(open)?;
        let starts = before.is_empty() || before.ends_with(" = ");
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        (starts && digits).then(|| format!("{before}$ = {value}"))
    });
    numbered.unwrap_or_else(|| line.to_owned())
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
