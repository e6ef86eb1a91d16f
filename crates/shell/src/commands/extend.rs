//! `extend`: what became of crash's extensions.
//!
//! crash loads shared objects into itself. kmortem has no such interface: what
//! people loaded extensions for are commands of its own.

use std::io::{self, Write};

use serde::Serialize;

use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows, find};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "extend",
    summary: "names the commands that take the place of crash's extensions",
    arguments: "[EXTENSION]...",
    options: &[
        Opt::flag('s', "all extensions that are known"),
        Opt::flag('u', "crash's unloading; there is nothing to unload"),
    ],
    details: "\
Shared objects can't be loaded: they are made of crash's insides. An EXTENSION whose work a
command here does is accepted (exit code 0), so that rc files and scripts go on; any other one
is refused.",
    examples: &[("", "all extensions that are known"), ("gcore.so", "what answers for gcore.so")],
    takes_all: false,
    rows: &[Rows { options: "", row: "an extension", members: "`extension` `use` `what`" }],
    each: None,
    run,
};

/// An extension of crash, and what to type here.
#[derive(Debug, Clone, Copy, Serialize)]
struct Extension {
    /// Its file's name without `.so`.
    extension: &'static str,
    /// A command line of ours.
    r#use: &'static str,
    /// What that does.
    what: &'static str,
}

const fn known(extension: &'static str, r#use: &'static str, what: &'static str) -> Extension {
    Extension { extension, r#use, what }
}

const EXTENSIONS: &[Extension] = &[
    known("gcore", "gcore", "writes the core file of a process"),
    known("trace", "trace", "shows ftrace's buffers"),
    known("ccat", "pagecache", "shows what the page cache holds of a file"),
    known("dminfo", "blk", "shows disks and what is in flight"),
    known("sdinfo", "blk", "shows disks and what is in flight"),
    known("scsishow", "blk", "shows disks and what is in flight"),
    known("cgroup", "cgroup", "shows control groups"),
    known("cgget", "cgroup", "shows control groups"),
    known("hanginfo", "locks", "shows who waits for whom"),
    known("workqueue", "wq", "shows workqueues"),
    known("ipcs", "ipcs", "shows System V IPC"),
    known("mpykdump", "sys", "crashinfo: see also `ps -m`, `locks`, `blk`, `kmortem report`"),
    known("pykdump", "sys", "crashinfo: see also `ps -m`, `locks`, `blk`, `kmortem report`"),
    known("crashinfo", "sys", "see also `ps -m`, `locks`, `blk`, `kmortem report`"),
    known("nfsshow", "mount", "shows mounts, NFS among them"),
    known("virtio", "virtio", "shows virtio devices and their queues"),
    known("eppic", "struct", "--json and jq take the place of its scripts"),
    known("sial", "struct", "--json and jq take the place of its scripts"),
    known("echo", "!echo", "prints its words"),
];

fn run(_: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    if args.has('u') {
        if !out.is_json() {
            writeln!(out, "no shared object is loaded: there is nothing to unload")?;
        }
        return Ok(());
    }
    let mut chosen = Vec::new();
    let mut unknown = Vec::new();
    for word in &args.words {
        let file = word.rsplit('/').next().unwrap_or(word);
        let name = file.strip_suffix(".so").unwrap_or(file);
        match EXTENSIONS.iter().find(|e| e.extension == name && is_here(e)) {
            Some(extension) => chosen.push(extension),
            None => unknown.push(word.as_str()),
        }
    }
    if args.words.is_empty() {
        chosen.extend(EXTENSIONS.iter().filter(|e| is_here(e)));
    }
    if out.is_json() {
        out.rows(chosen)?;
    } else {
        render(out, &chosen)?;
    }
    match unknown.as_slice() {
        [] => Ok(()),
        names => Err(CommandError::Failed {
            command: COMMAND.name,
            what: format!(
                "{}: crash's shared objects can't be loaded, and no command is known that does the \
                 same (`extend` lists those that are)",
                names.join(", ")
            ),
        }),
    }
}

/// Whether the command that answers for it is there.
fn is_here(extension: &Extension) -> bool {
    extension.r#use.starts_with('!') || find(extension.r#use).is_ok()
}

fn render(out: &mut dyn Write, extensions: &[&Extension]) -> io::Result<()> {
    if !extensions.is_empty() {
        writeln!(out, "{:<14} {:<10} WHAT IT DOES", "EXTENSION", "USE")?;
    }
    for e in extensions {
        writeln!(out, "{:<14} {:<10} {}", e.extension, e.r#use, e.what)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_extension_leads_to_a_command() {
        for e in EXTENSIONS {
            assert!(e.r#use.starts_with('!') || find(e.r#use).is_ok(), "{e:?}");
        }
    }

    #[test]
    fn the_table_names_what_to_type() {
        let mut text = Vec::new();
        render(&mut text, &[&known("a", "b", "does c")]).unwrap();
        render(&mut text, &[]).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap(), @r"
        EXTENSION      USE        WHAT IT DOES
        a              b          does c
        ");
    }
}
