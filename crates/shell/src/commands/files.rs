//! `files`: open files of tasks.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::task::Task;
use kmortem_kernel::vfs::{FileKind, OpenFile, TaskFiles};
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::{chosen, failed, files_pages, task_header};
use crate::address;
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "files",
    summary: "lists the open files of a task",
    arguments: "[PID | TASK]...",
    options: &[
        Opt::value('R', "REFERENCE", "only files with this in their path, this address or number"),
        Opt::flag('c', "with each file's mapping and its pages in memory"),
        Opt::value('d', "DENTRY", "what is at this address of a dentry"),
        Opt::value('p', "INODE", "the pages of this inode that are in memory"),
    ],
    details: "Without PID or TASK: those of the current task (see `set`).",
    examples: &[
        ("", "of the task that crashed"),
        ("1 -R /dev", "PID 1's files below /dev"),
        ("-c 1", "how many pages of PID 1's files are in memory"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "-d",
            row: "the dentry",
            members: "`dentry` `inode` `super_block` `kind` `path` `gaps`",
        },
        Rows {
            options: "-p",
            row: "a page of the inode",
            members: "`index`, and as a page of `kmem -p`: `addr` `phys` `head` `usage` `flags` `flag_names` `refcount` `mapping`",
        },
        Rows {
            options: "",
            row: "a task",
            members: "as `set`, `unreadable`, and `files`: `root` `cwd` `list` (`fd` `file` `dentry` `inode` `kind` `path` `deleted` `flags` `position` ..., with -c `mapping` and `pages`)",
        },
    ],
    each: Some(show),
    run,
};

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    task: &'a Task,
    files: Option<TaskFiles>,
    unreadable: Option<String>,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    if let Some(word) = args.value('d') {
        return files_pages::dentry(session, word, out);
    }
    if let Some(word) = args.value('p') {
        return files_pages::pages(session, word, out);
    }
    let chosen = chosen(COMMAND.name, session, args, out)?;
    show(session, &chosen, args, out)
}

/// Shows the files of `chosen`. One task whose files can't be read is an
/// error; among several it is a remark.
pub(super) fn show(
    session: &Session,
    chosen: &[&Task],
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let mut first = true;
    for task in chosen {
        let files = session.kernel().files(task);
        if let (Err(error), [_]) = (&files, chosen) {
            return Err(failed(COMMAND.name)(error.clone()));
        }
        let (mut files, unreadable) = match files {
            Ok(files) => (Some(files), None),
            Err(error) => (None, Some(error.to_string())),
        };
        if let (Some(files), Some(text)) = (&mut files, args.value('R')) {
            files.list.retain(|file| has(file, text));
            if files.list.is_empty() {
                continue;
            }
        } else if args.has('R') {
            // What has no files has none that is sought.
            continue;
        }
        if out.is_json() {
            match (args.has('c'), &files) {
                (true, Some(found)) => {
                    let counts = files_pages::counts(session.kernel(), found);
                    out.row(&files_pages::CountsRow { task, files: counts })?;
                }
                _ => out.row(&Row { task, files, unreadable })?,
            }
            continue;
        }
        if !std::mem::take(&mut first) {
            writeln!(out)?;
        }
        task_header::render(out, task)?;
        match &files {
            Some(files) => {
                render_directories(out, files, args.has('R'))?;
                let protocols = protocols(session.kernel(), task, files);
                match args.has('c') {
                    true => files_pages::render_counts(
                        out,
                        &files_pages::counts(session.kernel(), files),
                        |file| path(file, &protocols),
                    )?,
                    false => render(out, files, &protocols)?,
                }
                super::note_gaps(out, files.list.iter().map(|f| &f.gaps).chain([&files.gaps]))?;
            }
            None => writeln!(out, "<unreadable: {}>", unreadable.unwrap_or_default())?,
        }
    }
    Ok(())
}

/// Whether `text` is a number or address of the file, or in the path shown.
fn has(file: &OpenFile, text: &str) -> bool {
    let sought = address::hex(text);
    file.fd.to_string() == text
        || file.path.as_ref().is_some_and(|path| !is_number(path) && path.contains(text))
        || sought.is_some() && [Some(file.file), file.dentry, file.inode].contains(&sought)
}

/// `pipe:[1605]`: what has no path, and tells no more than the address of its inode.
fn is_number(path: &str) -> bool {
    path.starts_with("pipe:[") || path.starts_with("socket:[")
}

/// Protocols of the task's sockets, by file descriptor.
type Protocols = FxHashMap<u32, String>;

fn protocols(kernel: &Kernel, task: &Task, files: &TaskFiles) -> Protocols {
    if !files.list.iter().any(|file| file.kind == Some(FileKind::Socket)) {
        return Protocols::default();
    }
    // Without them a socket shows by its number.
    let sockets = kernel.sockets(task).map(|sockets| sockets.list).unwrap_or_default();
    sockets.into_iter().filter_map(|socket| Some((socket.fd, socket.protocol?))).collect()
}

/// The path, without what the type says already; of a socket its protocol.
fn path(file: &OpenFile, protocols: &Protocols) -> String {
    if let Some(protocol) = protocols.get(&file.fd) {
        return protocol.clone();
    }
    let path = file.path.as_deref().unwrap_or("-");
    if path.starts_with("pipe:[") {
        return String::new();
    }
    let deleted = if file.deleted == Some(true) { " (deleted)" } else { "" };
    format!("{}{deleted}", path.strip_prefix("anon_inode:").unwrap_or(path))
}

/// crash has a blank at the end of this line where it looks for a reference.
fn render_directories(out: &mut dyn Write, files: &TaskFiles, sought: bool) -> io::Result<()> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let end = if sought { " " } else { "" };
    writeln!(out, "ROOT: {}    CWD: {}{end}", text(&files.root), text(&files.cwd))
}

fn render(out: &mut dyn Write, files: &TaskFiles, protocols: &Protocols) -> io::Result<()> {
    if files.list.is_empty() {
        return writeln!(out, "No open files");
    }
    writeln!(out, " FD       FILE            DENTRY           INODE       TYPE PATH")?;
    for file in &files.list {
        let address = |at: Option<u64>| at.map_or("-".to_owned(), |at| format!("{at:016x}"));
        writeln!(
            out,
            "{:>3} {:016x} {:<16} {:<16} {:<4} {}",
            file.fd,
            file.file,
            address(file.dentry),
            address(file.inode),
            file.kind.map_or("-", |kind| kind.crash_code()),
            path(file, protocols)
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::gaps::Gaps;

    fn file(fd: u32, kind: Option<FileKind>, path: Option<&str>, deleted: bool) -> OpenFile {
        OpenFile {
            fd,
            file: 0xff14_9463_c26a_3600,
            dentry: path.map(|_| 0xff14_9463_c219_f480),
            inode: path.map(|_| 0xff14_9463_c146_83c0),
            kind,
            path: path.map(str::to_owned),
            deleted: Some(deleted),
            flags: None,
            position: None,
            close_on_exec: None,
            gaps: Gaps::default(),
        }
    }

    #[test]
    fn a_file_is_found_by_descriptor_address_and_path() {
        let console = file(0, Some(FileKind::CharDevice), Some("/dev/console"), false);
        for text in ["0", "/dev", "console", "ff149463c26a3600", "ff149463c14683c0"] {
            assert!(has(&console, text), "{text}");
        }
        assert!(!has(&console, "1") && !has(&console, "ff149463c26a3601"));
        // The number of an inode is no part of a path.
        for path in ["pipe:[115]", "socket:[115]"] {
            let nameless = file(7, None, Some(path), false);
            assert!(!has(&nameless, "115") && !has(&nameless, "1") && has(&nameless, "7"));
        }
        assert!(!has(&file(7, None, None, false), "ff149463c14683c0"));
    }

    #[test]
    fn each_kind_of_file_has_a_name() {
        let mut files = TaskFiles {
            files_struct: 0,
            root: Some("/".into()),
            cwd: None,
            list: vec![
                file(0, Some(FileKind::CharDevice), Some("/dev/console"), false),
                file(1, Some(FileKind::Regular), Some("/tmp/log"), true),
                file(2, Some(FileKind::Fifo), Some("pipe:[11520]"), false),
                file(3, Some(FileKind::Socket), Some("socket:[11521]"), false),
                file(4, Some(FileKind::Socket), Some("socket:[11522]"), false),
                file(10, Some(FileKind::Other), Some("anon_inode:[eventpoll]"), false),
                file(11, None, None, false),
            ],
            gaps: Gaps::default(),
        };
        let protocols = Protocols::from_iter([(3, "TCPv6".to_owned())]);
        let mut text = Vec::new();
        render_directories(&mut text, &files, false).unwrap();
        render(&mut text, &files, &protocols).unwrap();
        files.list.clear();
        render_directories(&mut text, &files, false).unwrap();
        render(&mut text, &files, &protocols).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}
