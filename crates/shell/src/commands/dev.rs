//! `dev`: devices.

use std::io::{self, Write};

use kmortem_kernel::block::Disk;

use super::failed;
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "dev",
    summary: "lists disks with what is in flight to them",
    arguments: "",
    options: &[
        Opt::flag('d', "disks and their requests in flight"),
        Opt::flag('D', "as -d, disks with requests in flight only"),
        Opt::later('i'),
        Opt::later('p'),
        Opt::later('V'),
        Opt::later('v'),
    ],
    details: "\
Idle loop devices and RAM disks are left out of the text.
A request is in flight from when the driver got it until it completed it. JSON
has the requests themselves, with their age.",
    examples: &[("-d", "all disks"), ("-D", "disks that have something to do")],
    takes_all: false,
    rows: &[Rows {
        options: "-d",
        row: "a disk",
        members: "`addr` `name` `major` `minor` `queue` `sectors` `driver` `in_flight` `completed` `requests` `operations` `scheduler` `virtqueues` `partitions`",
    }],
    each: None,
    run,
};

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    if !args.has('d') && !args.has('D') {
        let what = "say which devices are wanted (-d: disks)".to_owned();
        return Err(CommandError::Usage { command: COMMAND.name, what });
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
