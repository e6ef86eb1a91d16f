//! `sbitmapq`: a scalable bitmap, and what its bits stand for.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::sbitmap::SbitmapQueue;
use kmortem_kernel::stack::hex;
use serde::Serialize;

use super::failed;
use crate::address;
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::value::{Reader, Shown, Style, members_exist};

pub(crate) const COMMAND: Command = Command {
    name: "sbitmapq",
    summary: "shows a scalable bitmap (`struct sbitmap_queue`), and what its bits stand for",
    arguments: "ADDRESS|DISK",
    options: &[
        Opt::value('s', "STRUCT[.MEMBER,...]", "what the array of -a is made of"),
        Opt::value('a', "ADDRESS", "the array that the bits count in"),
        Opt::flag('p', "the array holds pointers"),
        Opt::flag('v', "what the structures hold"),
        Opt::flag('x', "numbers in hexadecimal"),
        Opt::flag('d', "numbers in decimal"),
    ],
    details: "\
Block devices give out their tags by such bitmaps. The name of a disk shows
those of its hardware queues. `blk` shows the requests themselves.",
    examples: &[("vda", "tags that the driver of a disk has given out")],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "the bitmap (one row)",
            members: "`addr` `depth` `busy` `cleared` `bits_per_word` `map_nr` `alloc_hint` `wake_batch` `wake_index` `ws_active` `waits` `round_robin` `min_shallow_depth` `used` `bytes`",
        },
        Rows {
            options: "-s",
            row: "a structure whose bit is set",
            members: "`index` `addr` `value` (with -v)",
        },
    ],
    each: None,
    run,
};

/// A structure whose bit is set: a row of JSON.
#[derive(Serialize)]
struct Row {
    index: u32,
    #[serde(serialize_with = "hex")]
    addr: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Shown>,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let kernel = session.kernel();
    let usage = |what: &str| CommandError::Usage { command: COMMAND.name, what: what.to_owned() };
    let [word] = args.words.as_slice() else { return Err(usage("one address or disk is needed")) };
    let bitmaps = match address::address(COMMAND.name, kernel, word) {
        Ok(bitmap) => vec![bitmap],
        Err(why) => of_disk(kernel, word)?.ok_or(why)?,
    };
    let array = match (args.value('s'), args.value('a')) {
        (None, None) if args.has('p') => return Err(usage("-p goes with -a")),
        (None, None) => None,
        (Some(what), Some(at)) => Some((what, address::address(COMMAND.name, kernel, at)?)),
        (Some(_), None) => return Err(usage("-s needs -a")),
        (None, Some(_)) => return Err(usage("-a goes with -s")),
    };
    for (i, bitmap) in bitmaps.into_iter().enumerate() {
        let queue = kernel.sbitmap_queue(bitmap).map_err(failed(COMMAND.name))?;
        match array {
            Some((what, at)) => structures(session, args, &queue, what, at, out)?,
            None if out.is_json() => out.row(&queue)?,
            None => {
                if i > 0 {
                    writeln!(out)?;
                }
                render(out, &queue)?;
            }
        }
    }
    Ok(())
}

/// The bitmaps of the disk's hardware queues; `None` if no disk has that name.
fn of_disk(kernel: &Kernel, name: &str) -> Result<Option<Vec<u64>>, CommandError> {
    let disks = kernel.disks().map_err(failed(COMMAND.name))?;
    let Some(disk) = disks.list.iter().find(|disk| disk.name.as_deref() == Some(name)) else {
        return Ok(None);
    };
    let bitmaps = kernel.disk_tag_bitmaps(disk.addr).map_err(failed(COMMAND.name))?;
    if bitmaps.is_empty() {
        let what = format!("{name} has no tags: its driver takes requests one by one");
        return Err(CommandError::Failed { command: COMMAND.name, what });
    }
    Ok(Some(bitmaps))
}

/// The structures whose bits are set.
fn structures(
    session: &Session,
    args: &Args,
    queue: &SbitmapQueue,
    what: &str,
    array: u64,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let (name, members) = what.split_once('.').unwrap_or((what, ""));
    let members: Vec<&str> = members.split(',').filter(|m| !m.is_empty()).collect();
    let ty = kernel.ty(name).map_err(failed(COMMAND.name))?;
    members_exist(ty, &members).map_err(failed(COMMAND.name))?;
    let pointers = args.has('p');
    let step = if pointers { 8 } else { ty.size().unwrap_or(0) };
    let style = Style::of(session.settings(), args);
    for index in queue.used.iter().copied() {
        let addr = array.wrapping_add(u64::from(index) * step);
        let value = match args.has('v') {
            true => Some(value(
                &mut Reader::of(session, out.is_json()),
                name,
                &members,
                addr,
                pointers,
            )?),
            false => None,
        };
        if out.is_json() {
            out.row(&Row { index, addr, value })?;
            continue;
        }
        match value {
            None => writeln!(out, "{index}: {addr:#010x}")?,
            Some(value) => {
                writeln!(out, "{index} ({addr:#010x}):")?;
                value.render(out, style)?;
            }
        }
    }
    Ok(())
}

fn value(
    reader: &mut Reader<'_>,
    name: &str,
    members: &[&str],
    slot: u64,
    pointers: bool,
) -> Result<Shown, CommandError> {
    let kernel = reader.kernel();
    let mut read = || {
        let addr = if pointers { kernel.read_u64(slot)? } else { slot };
        let object = kernel.object_at(name, addr)?;
        match members {
            [] => Ok(Shown::whole(reader, &object)),
            members => Shown::members(reader, &object, members),
        }
    };
    read().map_err(failed(COMMAND.name))
}

fn render(out: &mut dyn Write, queue: &SbitmapQueue) -> io::Result<()> {
    writeln!(out, "depth = {}", queue.depth)?;
    writeln!(out, "busy = {}", queue.busy)?;
    if let Some(cleared) = queue.cleared {
        writeln!(out, "cleared = {cleared}")?;
    }
    writeln!(out, "bits_per_word = {}", queue.bits_per_word)?;
    writeln!(out, "map_nr = {}", queue.map_nr)?;
    let hints: Vec<String> = queue.alloc_hint.iter().map(u32::to_string).collect();
    writeln!(out, "alloc_hint = {{{}}}", hints.join(", "))?;
    writeln!(out, "wake_batch = {}", queue.wake_batch)?;
    writeln!(out, "wake_index = {}", queue.wake_index)?;
    if let Some(active) = queue.ws_active {
        writeln!(out, "ws_active = {active}")?;
    }
    writeln!(out, "ws = {{")?;
    for wait in &queue.waits {
        let state = if wait.active { "active" } else { "inactive" };
        match wait.count {
            Some(count) => writeln!(out, "\t{{ .wait_cnt = {count}, .wait = {state} }},")?,
            None => writeln!(out, "\t{{ .wait = {state} }},")?,
        }
    }
    writeln!(out, "}}")?;
    if let Some(round_robin) = queue.round_robin {
        writeln!(out, "round_robin = {}", u8::from(round_robin))?;
    }
    if let Some(depth) = queue.min_shallow_depth {
        writeln!(out, "min_shallow_depth = {depth}")?;
    }
    for (line, offset) in queue.bytes.chunks(16).zip((0u32..).step_by(16)) {
        let pairs: Vec<String> =
            line.chunks(2).map(|p| p.iter().map(|b| format!("{b:02x}")).collect()).collect();
        let blank = if offset == 0 { "\n" } else { "" };
        writeln!(out, "{blank}{offset:08x}: {}", pairs.join(" "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::sbitmap::SbitmapWait;

    #[test]
    fn a_bitmap() {
        let queue = SbitmapQueue {
            addr: 0,
            depth: 136,
            busy: 2,
            cleared: Some(26),
            bits_per_word: 32,
            map_nr: 5,
            alloc_hint: vec![74, 36],
            wake_batch: 8,
            wake_index: 0,
            ws_active: Some(0),
            waits: vec![
                SbitmapWait { count: Some(8), active: false },
                SbitmapWait { count: None, active: true },
            ],
            round_robin: Some(false),
            min_shallow_depth: Some(u32::MAX),
            used: vec![76, 77],
            bytes: [vec![0; 9], vec![0x30], vec![0; 7]].concat(),
        };
        let mut out = Vec::new();
        render(&mut out, &queue).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}
