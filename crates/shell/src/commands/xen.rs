//! `xen`: the hypervisor below the dom0 of a Xen host.

use std::io::{self, Write};

use kmortem_kernel::xen::XenHypervisor;
use serde::Serialize;

use super::failed;
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "xen",
    summary: "shows the hypervisor that dom0 ran on: its CPUs, its log",
    arguments: "",
    options: &[Opt::flag('l', "the hypervisor's log (its console ring)")],
    details: "\
For the dump of a Xen host, whose kernel is dom0's: guests of Xen have their
hypervisor in no dump. CPUs are those of the machine, in the order of the dump's
notes. DOM0 is the instruction of dom0 from which a CPU entered the hypervisor,
where the page tables it ran on are dom0's. Functions and the log come from the
symbols that Xen carries in its own image.",
    examples: &[("", "version and CPUs"), ("-l", "the log")],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "the hypervisor (one row)",
            members: "`version` `tainted` `no_symbols` (why) `cpus` (`index` `ip` `symbol`: `name` `offset` `size`; `sp` `cr3` `dom0_ip`)",
        },
        Rows { options: "-l", row: "a line of the log", members: "`text`" },
    ],
    each: None,
    run,
};

#[derive(Serialize)]
struct Line<'a> {
    text: &'a str,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let Some(hypervisor) = kernel.xen_hypervisor() else {
        if !out.is_json() {
            writeln!(out, "no hypervisor: the dump is not that of a Xen host")?;
        }
        return Ok(());
    };
    if args.has('l') {
        let log = kernel.xen_log().map_err(failed(COMMAND.name))?;
        match out.is_json() {
            true => log.lines().try_for_each(|text| out.row(&Line { text }))?,
            false => log.lines().try_for_each(|line| writeln!(out, "{line}"))?,
        }
        return Ok(());
    }
    match out.is_json() {
        true => out.row(&hypervisor)?,
        false => render(out, &hypervisor)?,
    }
    Ok(())
}

fn render(out: &mut dyn Write, hypervisor: &XenHypervisor) -> io::Result<()> {
    writeln!(out, "XEN {}  TAINTED: {:#x}", hypervisor.version, hypervisor.tainted)?;
    if let Some(why) = &hypervisor.no_symbols {
        writeln!(out, "(no functions: {why})")?;
    }
    for cpu in &hypervisor.cpus {
        let function = cpu.symbol.as_ref().map(|symbol| format!(" ({symbol})"));
        let function = function.unwrap_or_default();
        writeln!(out, "CPU {}  IP: {:016x}{function}", cpu.index, cpu.ip)?;
        writeln!(out, "  SP: {:016x}  CR3: {:x}", cpu.sp, cpu.cr3)?;
        if let Some(place) = &cpu.dom0_ip {
            writeln!(out, "  DOM0: {place}")?;
        }
    }
    Ok(())
}
