//! `dev`: devices.

use std::io::{self, Write};

use kmortem_kernel::block::Disk;

use super::{dev_dump, dev_io, dev_list, dev_pci, failed};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "dev",
    summary: "lists devices, I/O addresses, PCI, and disks with what is in flight to them",
    arguments: "[FILE]",
    options: &[
        Opt::flag('i', "I/O ports and physical addresses"),
        Opt::flag('p', "PCI buses and devices"),
        Opt::flag('d', "disks and their requests in flight"),
        Opt::flag('D', "as -d, disks with requests in flight only"),
        Opt::flag('V', "what drivers added to the dump"),
        Opt::value('v', "INDEX", "one of these, or its data written to FILE"),
    ],
    details: "\
Without options: character and block devices by major number, with what answers
to the first of a range (GENDISK: of the disk that came last).
-d leaves idle loop devices and RAM disks out of the text. A request is in
flight from when the driver got it until it completed it. JSON has the requests
themselves, with their age; see also `blk`.",
    examples: &[
        ("", "character and block devices"),
        ("-i", "I/O ports and physical addresses"),
        ("-p", "PCI devices"),
        ("-d", "all disks"),
        ("-D", "disks that have something to do"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "a range of character devices, or a block driver",
            members: "`class` (char or block) `major` `first_minor` `minors` `name` `cdev` `operations` `operations_addr` `gendisk`",
        },
        Rows {
            options: "-i",
            row: "a claimed range",
            members: "`space` (port or memory) `addr` `start` `end` `name` `flags` `depth`",
        },
        Rows {
            options: "-p",
            row: "a PCI device",
            members: "`bus` `bus_name` `addr` `name` `class` `vendor` `device` `express` (null: conventional) `is_bridge` `driver` `irq` `enabled` `channel_state`",
        },
        Rows {
            options: "-d, -D",
            row: "a disk",
            members: "`addr` `name` `major` `minor` `queue` `sectors` `driver` `operations` `scheduler` `in_flight` `completed` `requests` `virtqueues` `partitions` `gaps`",
        },
        Rows { options: "-V, -v", row: "a driver's data", members: "`index` `name` `size`" },
    ],
    each: None,
    run,
};

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let wanted = |letter| args.has(letter);
    match () {
        () if wanted('V') => return dev_dump::list(session, out),
        () if wanted('i') => return dev_io::run(session, out),
        () if wanted('p') => return dev_pci::run(session, out),
        () if wanted('d') || wanted('D') => {}
        () => match args.value('v') {
            Some(index) => return dev_dump::show(session, index, args.words.first(), out),
            None => return dev_list::run(session, out),
        },
    }
    let disks = session.kernel().disks().map_err(failed(COMMAND.name))?;
    let busy = |disk: &&Disk| !args.has('D') || disk.in_flight.is_none_or(|n| n.total() > 0);
    let list: Vec<&Disk> = disks.list.iter().filter(busy).collect();
    if out.is_json() {
        out.rows(list.iter().copied())?;
    } else {
        let shown: Vec<&Disk> =
            list.iter().copied().filter(|disk| !is_idle_stand_in(disk)).collect();
        render(out, &shown)?;
    }
    super::note_gaps(out, list.iter().map(|disk| &disk.gaps).chain([&disks.gaps]))
}

/// Loop devices and RAM disks come in dozens and say nothing while idle.
fn is_idle_stand_in(disk: &Disk) -> bool {
    let stand_in = |name: &str| name.starts_with("loop") || name.starts_with("ram");
    disk.name.as_deref().is_some_and(stand_in) && disk.in_flight.is_some_and(|n| n.total() == 0)
}

fn render(out: &mut dyn Write, disks: &[&Disk]) -> io::Result<()> {
    writeln!(out, "MAJOR GENDISK            NAME       REQUEST_QUEUE      TOTAL  READ WRITE ")?;
    for disk in disks {
        let number = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
        writeln!(
            out,
            "{:>5} {:016x}   {:<10} {:<16}   {:>5} {:>5} {:>5} ",
            number(disk.major.map(u64::from)),
            disk.addr,
            disk.name.as_deref().unwrap_or("-"),
            disk.queue.map_or("-".to_owned(), |at| format!("{at:016x}")),
            number(disk.in_flight.map(|n| n.total())),
            number(disk.in_flight.map(|n| n.reads)),
            number(disk.in_flight.map(|n| n.writes)),
        )?;
    }
    Ok(())
}
