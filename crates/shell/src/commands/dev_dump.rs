//! `dev -V`, `dev -v`: what drivers added to the dump.
//!
//! A driver's data is a note of type `NT_VMCOREDD` (fs/proc/vmcore.c,
//! include/uapi/linux/vmcore.h): the dump's name in 44 bytes, then the data.

use std::fs::File;
use std::io::Write;

use kmortem_kernel::Kernel;
use serde::Serialize;

use super::dev::COMMAND;
use crate::error::CommandError;
use crate::output::Output;
use crate::session::Session;

/// `NT_VMCOREDD`
const DEVICE_DUMP: u32 = 0x700;
/// `VMCOREDD_MAX_NAME_BYTES`
const NAME: usize = 44;

/// A device's dump: a row of JSON.
#[derive(Serialize)]
struct DeviceDump<'k> {
    index: usize,
    name: String,
    size: usize,
    #[serde(skip)]
    data: &'k [u8],
}

fn dumps<'k>(kernel: &'k Kernel) -> Result<Vec<DeviceDump<'k>>, CommandError> {
    let notes = kernel.image().notes().iter().filter(|note| note.kind == DEVICE_DUMP);
    let dump = |(index, desc): (usize, &'k Vec<u8>)| {
        let (name, data) = desc.split_at(NAME.min(desc.len()));
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        let name = String::from_utf8_lossy(&name[..end]).into_owned();
        DeviceDump { index, name, size: data.len(), data }
    };
    let all: Vec<DeviceDump<'k>> = notes.map(|note| &note.desc).enumerate().map(dump).collect();
    if all.is_empty() {
        return Err(failed("no device dumps found in this dumpfile".into()));
    }
    Ok(all)
}

fn failed(what: String) -> CommandError {
    CommandError::Failed { command: COMMAND.name, what }
}

/// The list of all.
pub(super) fn list(session: &Session, out: &mut Output<'_>) -> Result<(), CommandError> {
    let dumps = dumps(session.kernel())?;
    if out.is_json() {
        return Ok(out.rows(&dumps)?);
    }
    writeln!(out, "INDEX  SIZE             NAME")?;
    for dump in &dumps {
        writeln!(out, "{:>3}    {:<15}  {}", dump.index, dump.size, dump.name)?;
    }
    Ok(())
}

/// One of them: copied to `file`, or shown.
pub(super) fn show(
    session: &Session,
    index: &str,
    file: Option<&String>,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let dumps = dumps(session.kernel())?;
    let dump = index.parse::<usize>().ok().and_then(|index| dumps.get(index));
    let dump =
        dump.ok_or_else(|| failed(format!("no device dump {index} (`dev -V` lists them)")))?;
    if out.is_json() {
        return Ok(out.row(dump)?);
    }
    writeln!(out, "DEVICE: {}", dump.name)?;
    let Some(path) = file else {
        for (line, at) in dump.data.chunks(16).zip((0u64..).step_by(16)) {
            writeln!(out, "{at:>16x}:  {}", hex_line(line))?;
        }
        return Ok(());
    };
    let written = File::create_new(path).and_then(|mut file| file.write_all(dump.data));
    written.map_err(|e| failed(format!("{path}: {e}")))?;
    Ok(writeln!(out, "{} bytes copied to {path}", dump.size)?)
}

/// Two words, then the bytes as text.
fn hex_line(line: &[u8]) -> String {
    let word = |bytes: &[u8]| bytes.iter().rev().map(|b| format!("{b:02x}")).collect::<String>();
    let words: Vec<String> = line.chunks(8).map(word).collect();
    let text = line.iter().map(|b| if matches!(b, b' '..=b'~') { char::from(*b) } else { '.' });
    format!("{:<33}   {}", words.join(" "), text.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::hex_line;

    #[test]
    fn words_are_little_endian_and_text_is_in_order() {
        assert_eq!(
            hex_line(b"\xe2\x69\x0b\x04\x38\0\0\0abcdefgh"),
            "00000038040b69e2 6867666564636261   .i..8...abcdefgh"
        );
    }
}
