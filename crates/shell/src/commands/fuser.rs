//! `fuser`: who uses a file.

use std::io::{self, Write};

use kmortem_kernel::vfs::{FileTarget, FileUser};

use super::failed;
use crate::address;
use crate::args::Args;
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "fuser",
    summary: "lists the tasks that use a file",
    arguments: "PATH | INODE | DENTRY",
    options: &[],
    details: "\
A task uses a file as its root or working directory (root, cwd), by a file
descriptor (fd), or by a mapping (mmap). What has no path is named as `files`
names it: pipe:[1605].",
    examples: &[("/", "whose root or working directory it is, or who has it open")],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "a task",
        members: "`pid` `task` `comm` `root` `cwd` `fds` `mmap`",
    }],
    each: None,
    run,
};

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let [word] = args.words.as_slice() else {
        let what = "one path, or one address of an inode or dentry".to_owned();
        return Err(CommandError::Usage { command: COMMAND.name, what });
    };
    // A relative path can't be meant: nothing says relative to what.
    let target = match address::hex(word) {
        Some(address) => FileTarget::Address(address),
        None => FileTarget::Path(word.clone()),
    };
    let users = session.kernel().file_users(&target).map_err(failed(COMMAND.name))?;
    if out.is_json() {
        out.rows(&users.list)?;
    } else if users.list.is_empty() {
        writeln!(out, "No users of {word} found")?;
    } else {
        render(out, &users.list)?;
    }
    super::note_gaps(out, [&users.gaps].into_iter())
}

fn render(out: &mut dyn Write, users: &[FileUser]) -> io::Result<()> {
    writeln!(out, " PID         TASK        COMM             USAGE")?;
    for user in users {
        // The quotes are part of the column: they are what a long name loses.
        let comm: String = format!("\"{}\"", user.comm).chars().take(15).collect();
        write!(out, "{:>5}  {:016x}  {comm:<15}  ", user.pid, user.task)?;
        let uses = [
            (user.root, "root "),
            (user.cwd, "cwd "),
            (!user.fds.is_empty(), "fd "),
            (user.mmap, "mmap "),
        ];
        let usage: String = uses.iter().filter(|(used, _)| *used).map(|(_, name)| *name).collect();
        writeln!(out, "{usage}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_stand_behind_the_name() {
        let user = |pid, comm: &str, fds: Vec<u32>, cwd| FileUser {
            pid,
            task: 0xff12_8a83_41e3_0000,
            comm: comm.to_owned(),
            root: cwd,
            cwd,
            mmap: !fds.is_empty(),
            fds,
        };
        let users =
            [user(203, "busyd", vec![4], false), user(12345, "sessiond-queue", vec![], true)];
        let mut text = Vec::new();
        render(&mut text, &users).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}
