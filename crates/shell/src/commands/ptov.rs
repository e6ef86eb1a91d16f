//! `ptov`: kernel virtual addresses of physical ones, and of per-CPU offsets.

use std::io::{self, Write};

use kmortem_kernel::stack::hex;
use serde::Serialize;

use super::btop::{number, numbers};
use super::failed;
use crate::args::Args;
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::target;

pub(crate) const COMMAND: Command = Command {
    name: "ptov",
    summary: "turns physical addresses and per-CPU offsets into virtual addresses",
    arguments: "ADDRESS | OFFSET:CPUS...",
    options: &[],
    details: "\
Numbers are hexadecimal. CPUS is a list (`0,2-3`), `a` for all of them, or nothing
for the CPU of the current task.",
    examples: &[
        ("1000000", "where the direct map has physical 0x1000000"),
        ("b0c0:a", "a per-CPU offset on every CPU"),
    ],
    takes_all: false,
    rows: &[
        Rows { options: "", row: "an address", members: "`virtual` `physical`" },
        Rows { options: "OFFSET:CPUS", row: "a CPU", members: "`virtual` `offset` `cpu`" },
    ],
    each: None,
    run,
};

/// A row of JSON.
#[derive(Serialize)]
struct Physical {
    #[serde(serialize_with = "hex", rename = "virtual")]
    virt: u64,
    #[serde(serialize_with = "hex")]
    physical: u64,
}

/// A row of JSON.
#[derive(Serialize)]
struct PerCpu {
    #[serde(serialize_with = "hex", rename = "virtual")]
    virt: u64,
    #[serde(serialize_with = "hex")]
    offset: u64,
    cpu: u32,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    for (i, word) in numbers(COMMAND.name, args)?.iter().enumerate() {
        if i > 0 && !out.is_json() {
            writeln!(out)?;
        }
        match word.split_once(':') {
            Some((offset, cpus)) => {
                let copies = per_cpu(session, number(COMMAND.name, offset)?, cpus)?;
                match out.is_json() {
                    true => out.rows(&copies)?,
                    false => render_per_cpu(out, &copies)?,
                }
            }
            None => {
                let mapped = physical(session, number(COMMAND.name, word)?)?;
                match out.is_json() {
                    true => out.row(&mapped)?,
                    false => render_physical(out, &mapped)?,
                }
            }
        }
    }
    Ok(())
}

fn physical(session: &Session, physical: u64) -> Result<Physical, CommandError> {
    let virt = session.kernel().space().phys_to_virt(physical).ok_or_else(|| {
        let what = format!("the direct map has no room for a physical address of {physical:#x}");
        CommandError::Failed { command: COMMAND.name, what }
    })?;
    Ok(Physical { virt, physical })
}

fn per_cpu(session: &Session, offset: u64, cpus: &str) -> Result<Vec<PerCpu>, CommandError> {
    let kernel = session.kernel();
    let cpus = match cpus {
        "" => vec![session.current_task(COMMAND.name)?.cpu],
        list => {
            let possible = kernel.possible_cpus().map_err(failed(COMMAND.name))?;
            target::cpus(COMMAND.name, list, &possible)?
        }
    };
    let copy = |cpu| {
        let virt = kernel.per_cpu_ptr(offset, cpu).map_err(failed(COMMAND.name))?;
        Ok(PerCpu { virt, offset, cpu })
    };
    cpus.into_iter().map(copy).collect()
}

fn render_physical(out: &mut dyn Write, mapped: &Physical) -> io::Result<()> {
    writeln!(out, "{:<16}  {:<16}", "VIRTUAL", "PHYSICAL")?;
    writeln!(out, "{:<16x}  {:<16x}", mapped.virt, mapped.physical)
}

fn render_per_cpu(out: &mut dyn Write, copies: &[PerCpu]) -> io::Result<()> {
    let Some(first) = copies.first() else { return Ok(()) };
    writeln!(out, "PER-CPU OFFSET: {:x}", first.offset)?;
    writeln!(out, "  CPU    {:<16}", "VIRTUAL")?;
    for copy in copies {
        writeln!(out, "  [{}]  {:x}", copy.cpu, copy.virt)?;
    }
    Ok(())
}
