//! `mount`: the mounted file systems.

use std::io::{self, Write};

use kmortem_kernel::vfs::Mount;

use super::{failed, tasks};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::target;

pub(crate) const COMMAND: Command = Command {
    name: "mount",
    summary: "lists the mounted file systems",
    arguments: "[ADDRESS | DEVICE | DIRECTORY]",
    options: &[
        Opt::value('n', "PID | TASK", "those that this task sees"),
        Opt::later('f'),
        Opt::later('i'),
    ],
    details: "\
Without -n: what the first process sees. A word shows only the mount whose
`struct mount`, superblock, device or directory it is.",
    examples: &[
        ("", "what the first process sees"),
        ("-n 1", "what PID 1 sees"),
        ("/srv", "what is mounted there"),
    ],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "a mount",
        members: "`addr` `vfsmount` `super_block` `id` `fs_type` `device` `dev` `path` `options`",
    }],
    each: None,
    run,
};

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let mounts = match args.value('n') {
        None => kernel.mounts(),
        Some(word) => {
            let table = tasks(COMMAND.name, session, out)?;
            let found = target::find(COMMAND.name, table, word)?;
            match found.first() {
                Some(task) => kernel.mounts_of(task),
                None => kernel.mounts(),
            }
        }
    };
    let mounts = mounts.map_err(failed(COMMAND.name))?;
    let list: Vec<&Mount> = mounts
        .list
        .iter()
        .filter(|mount| args.words.is_empty() || args.words.iter().any(|word| is(mount, word)))
        .collect();
    if list.is_empty() && !args.words.is_empty() {
        let what = format!("nothing mounted is {}; `mount` lists all", args.words.join(" or "));
        return Err(CommandError::Failed { command: COMMAND.name, what });
    }
    match out.is_json() {
        true => out.rows(list.iter().copied())?,
        false => render(out, &list)?,
    }
    let gaps = list.iter().map(|mount| &mount.gaps).chain([&mounts.gaps]);
    super::note_gaps(out, gaps)
}

fn is(mount: &Mount, word: &str) -> bool {
    let address = u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    address.is_some_and(|a| a == mount.addr || Some(a) == mount.super_block)
        || [&mount.device, &mount.path].into_iter().flatten().any(|text| text == word)
}

fn render(out: &mut dyn Write, mounts: &[&Mount]) -> io::Result<()> {
    writeln!(out, "     MOUNT           SUPERBLK     TYPE   DEVNAME   DIRNAME")?;
    for mount in mounts {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let (fs_type, device) = (text(&mount.fs_type), text(&mount.device));
        // A long type takes its room from the device's column.
        let room = 9 - fs_type.len().saturating_sub(6).min(9);
        let superblock = mount.super_block.map_or("-".to_owned(), |at| format!("{at:016x}"));
        writeln!(
            out,
            "{:016x} {superblock:<16} {fs_type:<6} {device:<room$} {:<10}",
            mount.addr,
            text(&mount.path)
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::gaps::Gaps;

    #[test]
    fn a_long_type_leaves_directories_in_their_column() {
        let mount = |fs_type: &str, device: &str, path: Option<&str>| Mount {
            addr: 0xffff_8880_011c_6dc0,
            vfsmount: 0,
            super_block: path.map(|_| 0xffff_8880_0104_a800),
            id: None,
            fs_type: Some(fs_type.to_owned()),
            device: Some(device.to_owned()),
            dev: None,
            path: path.map(str::to_owned),
            options: Vec::new(),
            gaps: Gaps::default(),
        };
        let mounts = [
            mount("proc", "proc", Some("/proc")),
            mount("devtmpfs", "dev", Some("/dev")),
            mount("fuse.sshfs", "host:/a/long/one", Some("/mnt")),
            mount("ext4", "/dev/vda", None),
        ];
        let mut text = Vec::new();
        render(&mut text, &mounts.each_ref()).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}
