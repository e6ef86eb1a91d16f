//! Runs the built binary.

// A helper of tests: its panic is the failure.
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a run left.
#[derive(Debug)]
pub(crate) struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `kmortem` with `args`.
pub(crate) fn kmortem<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Done {
    kmortem_in(Path::new("."), args)
}

/// Runs `kmortem` with `args` in `folder`.
pub(crate) fn kmortem_in<A: AsRef<OsStr>>(
    folder: &Path,
    args: impl IntoIterator<Item = A>,
) -> Done {
    let output = Command::new(env!("CARGO_BIN_EXE_kmortem"))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Done {
        // No code: killed by a signal, which no test expects.
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
