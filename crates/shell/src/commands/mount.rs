//! `mount`: the mounted file systems.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::gaps::Gaps;
use kmortem_kernel::stack::hex;
use kmortem_kernel::vfs::{Mount, Mounts, OpenFile};
use serde::Serialize;

use super::{failed, tasks};
use crate::address;
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
        Opt::flag('f', "with the files that tasks have open on each"),
        Opt::flag('i', "with the inodes of each that are to be written back"),
    ],
    details: "\
Without -n: what the first process sees. A word shows only the mounts whose
`struct mount`, `struct vfsmount`, superblock, device or directory it is, or
that have the file system of the inode or dentry at that address.",
    examples: &[
        ("", "what the first process sees"),
        ("-n 1", "what PID 1 sees"),
        ("/srv", "what is mounted there"),
    ],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "a mount",
        members: "`addr` `vfsmount` `super_block` `id` `fs_type` `device` `dev` `path` `options` `gaps`; with -f `open_files` (as `list` of `files`), with -i `dirty_inodes`",
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
    let wanted = |mount: &&Mount| {
        args.words.is_empty() || args.words.iter().any(|word| is(kernel, &mounts, mount, word))
    };
    let list: Vec<&Mount> = mounts.list.iter().filter(wanted).collect();
    if list.is_empty() && !args.words.is_empty() {
        let what = format!("nothing mounted is {}; `mount` lists all", args.words.join(" or "));
        return Err(CommandError::Failed { command: COMMAND.name, what });
    }
    let open = match args.has('f') {
        true => Some(kernel.files_by_super_block().map_err(failed(COMMAND.name))?),
        false => None,
    };
    let rows = list.iter().map(|mount| {
        let open = open.as_ref().map(|open| {
            let of_this = mount.super_block.and_then(|sb| open.by_super_block.get(&sb));
            of_this.map(Vec::as_slice).unwrap_or_default()
        });
        let dirty = args.has('i').then(|| match mount.super_block {
            Some(sb) => kernel.dirty_inodes(sb),
            None => Ok(Default::default()),
        });
        let dirty = dirty.transpose().map_err(failed(COMMAND.name))?;
        let dirty = dirty.map(|(dirty, gaps)| (dirty.into_iter().map(Inode).collect(), gaps));
        let (dirty_inodes, gaps) = dirty.unzip();
        Ok((Row { mount, open_files: open, dirty_inodes }, gaps))
    });
    let rows = rows.collect::<Result<Vec<(Row<'_>, Option<Gaps>)>, CommandError>>()?;
    if out.is_json() {
        out.rows(rows.iter().map(|(row, _)| row))?;
    } else if args.has('f') || args.has('i') {
        rows.iter().try_for_each(|(row, _)| render_long(out, row))?;
    } else {
        render(out, &list)?;
    }
    let gaps = list.iter().map(|mount| &mount.gaps).chain([&mounts.gaps]);
    let gaps = gaps.chain(open.as_ref().map(|open| &open.gaps));
    super::note_gaps(out, gaps.chain(rows.iter().flat_map(|(_, gaps)| gaps)))
}

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    mount: &'a Mount,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_files: Option<&'a [OpenFile]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dirty_inodes: Option<Vec<Inode>>,
}

/// Address of a `struct inode`.
#[derive(Serialize)]
#[serde(transparent)]
struct Inode(#[serde(serialize_with = "hex")] u64);

/// Whether `word` names the mount. In an address it may be that of the mount,
/// of its superblock, or of an inode or dentry of its file system.
fn is(kernel: &Kernel, mounts: &Mounts, mount: &Mount, word: &str) -> bool {
    if [&mount.device, &mount.path].into_iter().flatten().any(|text| text == word) {
        return true;
    }
    let Some(addr) = address::hex(word) else { return false };
    addr == mount.addr
        || addr == mount.vfsmount
        || mount.super_block.is_some_and(|sb| {
            sb == addr || kernel.super_block_of(addr, &mounts.list).is_ok_and(|of| of == Some(sb))
        })
}

/// A mount with what is open on it, or to be written back.
fn render_long(out: &mut dyn Write, row: &Row<'_>) -> io::Result<()> {
    render(out, &[row.mount])?;
    if let Some(open) = row.open_files {
        writeln!(out, "OPEN FILES:")?;
        if open.is_empty() {
            writeln!(out, "(none)")?;
        } else {
            writeln!(out, "     DENTRY           INODE       TYPE PATH")?;
        }
        for file in open {
            let address = |at: Option<u64>| at.map_or("-".to_owned(), |at| format!("{at:016x}"));
            writeln!(
                out,
                "{:<16} {:<16} {:<4} {}",
                address(file.dentry),
                address(file.inode),
                file.kind.map_or("-", |kind| kind.crash_code()),
                file.path.as_deref().unwrap_or("-")
            )?;
        }
    }
    if let Some(dirty) = &row.dirty_inodes {
        writeln!(out, "DIRTY INODES")?;
        if dirty.is_empty() {
            writeln!(out, "(none)")?;
        }
        dirty.iter().try_for_each(|inode| writeln!(out, "{:016x}", inode.0))?;
    }
    writeln!(out)
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
