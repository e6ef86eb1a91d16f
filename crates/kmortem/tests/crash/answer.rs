//! What both programs answer. What is done to the answers before they are
//! compared is in [`normal`](crate::normal).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kmortem_lab::LabDump;

use crate::common::{Done, kmortem};

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
    pub(crate) fn answers(&self, commands: &[String]) -> Result<Vec<Option<String>>, String> {
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
            let text = String::from_utf8_lossy(&text).into_owned();
            Ok((text != DIED).then_some(text))
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

/// What kmortem says to `command`.
pub(crate) fn of_kmortem(dump: &LabDump, command: &str) -> Done {
    let mut args = vec!["run".into(), "-c".into(), command.into()];
    args.extend(dump.files.iter().map(|file| file.clone().into_os_string()));
    kmortem(args)
}
