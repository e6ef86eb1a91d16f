//! `ipcs`: System V IPC.

use std::io::{self, Write};

use kmortem_kernel::gaps::Gaps;
use kmortem_kernel::ipc::{IpcObjects, MessageQueue, SemaphoreArray, SharedMemory};
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
    name: "ipcs",
    summary: "lists System V shared memory, semaphores and message queues",
    arguments: "[ID | ADDRESS]",
    options: &[
        Opt::flag('s', "semaphore arrays"),
        Opt::flag('m', "shared memory segments"),
        Opt::flag('M', "shared memory segments with their pages"),
        Opt::flag('q', "message queues"),
        Opt::value('n', "PID | TASK", "those of this task's IPC namespace"),
    ],
    details: "\
Without options: all three kinds, of the first IPC namespace. A word shows only
the object that has it as its ID or address. JSON has the values of semaphores,
PIDs and times, too.",
    examples: &[("", "all of them"), ("-M", "shared memory with pages in memory and in swap")],
    takes_all: false,
    rows: &[
        Rows {
            options: "-m, -M, and without options",
            row: "a shared memory segment",
            members: "`kind`, `addr` `key` `id` `uid` `gid` `creator_uid` `mode` `bytes` `pages` `attached` `destroyed` `locked` `inode` `resident_pages` `swapped_pages` `creator_pid` `last_pid` `attach_time` `detach_time` `change_time` `gaps`",
        },
        Rows {
            options: "-s, and without options",
            row: "an array of semaphores",
            members: "`kind`, `addr` `key` `id` `uid` `gid` `creator_uid` `mode` `count` `values` `change_time` `gaps`",
        },
        Rows {
            options: "-q, and without options",
            row: "a message queue",
            members: "`kind`, `addr` `key` `id` `uid` `gid` `creator_uid` `mode` `bytes` `messages` `limit_bytes` `last_sender_pid` `last_receiver_pid` `send_time` `receive_time` `change_time` `gaps`",
        },
    ],
    each: None,
    run,
};

/// A row of JSON: the object, and which kind it is.
#[derive(Serialize)]
struct Row<'a, T: Serialize> {
    kind: &'static str,
    #[serde(flatten)]
    object: &'a T,
}

/// One of the three kinds of objects, as it is shown.
trait Object: Serialize {
    const KIND: &'static str;
    const HEADER: &'static str;
    fn id(&self) -> i32;
    fn addr(&self) -> u64;
    fn gaps(&self) -> &Gaps;
    fn render(&self, out: &mut dyn Write) -> io::Result<()>;
    /// What the long form has besides.
    fn render_more(&self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

impl Object for SharedMemory {
    const KIND: &'static str = "shared_memory";
    const HEADER: &'static str =
        "SHMID_KERNEL     KEY      SHMID      UID   PERMS BYTES      NATTCH STATUS";

    fn id(&self) -> i32 {
        self.permissions.id
    }

    fn addr(&self) -> u64 {
        self.addr
    }

    fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    fn render(&self, out: &mut dyn Write) -> io::Result<()> {
        let p = &self.permissions;
        writeln!(
            out,
            "{:016x} {:08x} {:<10} {:<5} {:<5o} {:<10} {:<6} {} {}",
            self.addr,
            p.key,
            p.id,
            p.uid,
            p.mode,
            self.bytes,
            self.attached,
            if self.destroyed { "dest" } else { "" },
            if self.locked { "locked" } else { "" },
        )
    }

    fn render_more(&self, out: &mut dyn Write) -> io::Result<()> {
        let pages = |pages: Option<u64>| pages.map_or("-".to_owned(), |pages| pages.to_string());
        writeln!(
            out,
            "PAGES ALLOCATED/RESIDENT/SWAPPED: {}/{}/{}",
            self.pages,
            pages(self.resident_pages),
            pages(self.swapped_pages)
        )?;
        let inode = self.inode.map_or("-".to_owned(), |inode| format!("{inode:x}"));
        writeln!(out, "INODE: {inode}")
    }
}

impl Object for SemaphoreArray {
    const KIND: &'static str = "semaphores";
    const HEADER: &'static str = "SEM_ARRAY        KEY      SEMID      UID   PERMS NSEMS     ";

    fn id(&self) -> i32 {
        self.permissions.id
    }

    fn addr(&self) -> u64 {
        self.addr
    }

    fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    fn render(&self, out: &mut dyn Write) -> io::Result<()> {
        let p = &self.permissions;
        writeln!(
            out,
            "{:016x} {:08x} {:<10} {:<5} {:<5o} {:<10}",
            self.addr,
            p.key,
            p.id,
            p.uid,
            p.mode & 0o777,
            self.count
        )
    }
}

impl Object for MessageQueue {
    const KIND: &'static str = "message_queue";
    const HEADER: &'static str =
        "MSG_QUEUE        KEY      MSQID      UID   PERMS USED-BYTES   MESSAGES    ";

    fn id(&self) -> i32 {
        self.permissions.id
    }

    fn addr(&self) -> u64 {
        self.addr
    }

    fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    fn render(&self, out: &mut dyn Write) -> io::Result<()> {
        let p = &self.permissions;
        writeln!(
            out,
            "{:016x} {:08x} {:<10} {:<5} {:<5o} {:<12} {:<12}",
            self.addr,
            p.key,
            p.id,
            p.uid,
            p.mode & 0o777,
            self.bytes,
            self.messages
        )
    }
}

/// What the command line asks for.
struct Wanted {
    /// ID and address that the words name; `None`: all objects.
    words: Option<Vec<(Option<i32>, Option<u64>)>>,
    /// Shared memory with its pages.
    long: bool,
}

impl Wanted {
    fn has(&self, object: &impl Object) -> bool {
        self.words.as_ref().is_none_or(|words| {
            let is = |word: &(Option<i32>, Option<u64>)| {
                word.0 == Some(object.id()) || word.1 == Some(object.addr())
            };
            words.iter().any(is)
        })
    }
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let task = match args.value('n') {
        None => None,
        Some(word) => {
            let table = tasks(COMMAND.name, session, out)?;
            target::find(COMMAND.name, table, word)?.first().copied()
        }
    };
    let namespace = kernel.ipc_namespace(task).map_err(failed(COMMAND.name))?;
    let number = |word: &String| {
        let id = address::number(word).and_then(|n| i32::try_from(n).ok());
        (id, address::hex(word).filter(|addr| *addr > u64::from(u32::MAX)))
    };
    let words = (!args.words.is_empty()).then(|| args.words.iter().map(number).collect());
    let wanted = Wanted { words, long: args.has('M') };
    let all = !['s', 'm', 'M', 'q'].into_iter().any(|letter| args.has(letter));
    let mut shown = 0;
    if all || args.has('m') || args.has('M') {
        shown += show(kernel.shared_memory(namespace), &wanted, wanted.long, out)?;
    }
    if all || args.has('s') {
        shown += show(kernel.semaphores(namespace), &wanted, false, out)?;
    }
    if all || args.has('q') {
        shown += show(kernel.message_queues(namespace), &wanted, false, out)?;
    }
    if shown == 0 && wanted.words.is_some() {
        let what = format!("no object is {}; `ipcs` lists all", args.words.join(" or "));
        return Err(CommandError::Failed { command: COMMAND.name, what });
    }
    Ok(())
}

/// Shows the wanted objects of a kind; returns how many those are.
fn show<T: Object>(
    objects: kmortem_kernel::Result<IpcObjects<T>>,
    wanted: &Wanted,
    long: bool,
    out: &mut Output<'_>,
) -> Result<usize, CommandError> {
    let objects = objects.map_err(failed(COMMAND.name))?;
    let list: Vec<&T> = objects.list.iter().filter(|object| wanted.has(*object)).collect();
    if out.is_json() {
        for object in &list {
            out.row(&Row { kind: T::KIND, object: *object })?;
        }
    } else {
        render(out, &list, long, wanted.words.is_some())?;
    }
    super::note_gaps(out, list.iter().map(|object| object.gaps()).chain([&objects.gaps]))?;
    Ok(list.len())
}

/// One table; in the long form, or where objects were named, a table for each.
fn render<T: Object>(out: &mut dyn Write, list: &[&T], long: bool, named: bool) -> io::Result<()> {
    if !long && !named {
        writeln!(out, "{}", T::HEADER)?;
        if list.is_empty() {
            writeln!(out, "(none allocated)")?;
        }
        list.iter().try_for_each(|object| object.render(out))?;
        return writeln!(out);
    }
    for object in list {
        writeln!(out, "{}", T::HEADER)?;
        object.render(out)?;
        if long {
            object.render_more(out)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::ipc::IpcPermissions;

    fn permissions(id: i32, key: u32, mode: u32) -> IpcPermissions {
        IpcPermissions { key, id, uid: 1000, gid: 1000, creator_uid: 0, mode }
    }

    #[test]
    fn each_kind_has_a_table() {
        let segment = SharedMemory {
            addr: 0xff12_8a83_42a6_a500,
            permissions: permissions(3, 0, 0o604),
            bytes: 20000,
            pages: 5,
            attached: 2,
            destroyed: true,
            locked: false,
            inode: Some(0xff12_8a83_42b1_de30),
            resident_pages: Some(1),
            swapped_pages: None,
            creator_pid: None,
            last_pid: None,
            attach_time: 0,
            detach_time: 0,
            change_time: 0,
            gaps: Gaps::default(),
        };
        let array = SemaphoreArray {
            addr: 0xff12_8a83_4121_dc00,
            permissions: permissions(1, 0x3001, 0o666),
            count: 5,
            values: vec![1, 2, 0, 4, 5],
            change_time: 0,
            gaps: Gaps::default(),
        };
        let mut text = Vec::new();
        render(&mut text, &[&segment], false, false).unwrap();
        render(&mut text, &[&segment], true, false).unwrap();
        render(&mut text, &[&array], false, true).unwrap();
        render::<MessageQueue>(&mut text, &[], false, false).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}
