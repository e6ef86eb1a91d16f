//! `mach`: what is particular to the machine's architecture.

use std::collections::BTreeSet;
use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::arch::{CpuStack, StackKind};
use kmortem_kernel::e820::E820Range;
use kmortem_kernel::stack::{hex, hex_option};
use serde::Serialize;

use super::{failed, size};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::value::{Reader, Shown, Style};

pub(crate) const COMMAND: Command = Command {
    name: "mach",
    summary: "shows the machine: memory layout, CPU structures, stacks",
    arguments: "",
    options: &[
        Opt::flag('m', "the firmware's map of physical memory"),
        Opt::flag('c', "what the kernel knows of each CPU (`struct cpuinfo_x86`)"),
        Opt::flag('x', "with -c: numbers in hexadecimal"),
        Opt::flag('d', "with -c: numbers in decimal"),
        Opt::flag('o', "the console log of OPAL firmware: POWER machines only"),
    ],
    details: "\
A stack is [unavailable] where the kernel has mapped no memory for it, or the
dump has none of it.",
    examples: &[
        ("", "memory layout and stacks"),
        ("-m", "the firmware's memory map"),
        ("-c -x", "each CPU's structure, in hexadecimal"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "the machine (one row)",
            members: "`machine` `memory_bytes` `cpus` `offline` `hypervisor` `mhz` `hz` `page_size` `virtual_base` `vmalloc_base` `vmemmap_base` `start_map` `modules_base` `stack_size` `stacks` (of each CPU: `cpu` `kind` `start` `size` `available`)",
        },
        Rows {
            options: "-m",
            row: "a range of physical memory",
            members: "`start` `end` (the address behind) `kind` `name`",
        },
        Rows { options: "-c", row: "a CPU", members: "`cpu` `addr` `cpuinfo`" },
    ],
    each: None,
    run,
};

/// All that `mach` shows: a row of JSON.
#[derive(Serialize)]
struct Machine {
    machine: Option<String>,
    memory_bytes: Option<u64>,
    cpus: usize,
    offline: usize,
    /// One that the kernel has an interface with.
    hypervisor: Option<String>,
    mhz: Option<u32>,
    hz: Option<u32>,
    page_size: u64,
    #[serde(serialize_with = "hex_option")]
    virtual_base: Option<u64>,
    #[serde(serialize_with = "hex_option")]
    vmalloc_base: Option<u64>,
    #[serde(serialize_with = "hex_option")]
    vmemmap_base: Option<u64>,
    #[serde(serialize_with = "hex_option")]
    start_map: Option<u64>,
    #[serde(serialize_with = "hex_option")]
    modules_base: Option<u64>,
    stack_size: Option<u64>,
    stacks: Vec<StackRow>,
}

/// A stack of a CPU.
#[derive(Serialize)]
struct StackRow {
    cpu: u32,
    kind: StackKind,
    #[serde(serialize_with = "hex")]
    start: u64,
    size: u64,
    /// Whether it can be read.
    available: bool,
}

/// A CPU: a row of JSON.
#[derive(Serialize)]
struct CpuRow {
    cpu: u32,
    #[serde(serialize_with = "hex")]
    addr: u64,
    cpuinfo: Shown,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let kernel = session.kernel();
    if args.has('o') {
        let what = "only POWER machines have an OPAL console log".to_owned();
        return Err(CommandError::Failed { command: COMMAND.name, what });
    }
    if args.has('m') {
        let map = kernel.e820().map_err(failed(COMMAND.name))?;
        if out.is_json() { out.rows(&map) } else { render_map(out, &map) }?;
    }
    if args.has('c') {
        cpus(session, out, Style::of(session.settings(), args))?;
    }
    if args.has('m') || args.has('c') {
        return Ok(());
    }
    let machine = machine(kernel)?;
    Ok(if out.is_json() { out.row(&machine) } else { render(out, &machine) }?)
}

fn machine(kernel: &Kernel) -> Result<Machine, CommandError> {
    let system = kernel.system().map_err(failed(COMMAND.name))?;
    let areas = kernel.arch().areas(kernel);
    let pages = |nodes: Vec<kmortem_kernel::vmstat::Node>| nodes.iter().map(|n| n.present).sum();
    let present: Option<u64> = kernel.nodes().ok().map(pages);
    let hypervisor = system.platform.hypervisor;
    Ok(Machine {
        machine: system.machine,
        memory_bytes: present.map(|n| n.saturating_mul(kernel.page_size())),
        cpus: system.cpus.present,
        offline: system.cpus.present.saturating_sub(system.cpus.online),
        hypervisor: hypervisor.filter(|h| h.evidence.starts_with("x86_hyper_type")).map(|h| h.name),
        mhz: kernel.symbol("cpu_khz").and_then(|at| kernel.read_u32(at)).ok().map(|k| k / 1000),
        hz: kernel.clock().ok().and_then(|clock| clock.hz),
        page_size: kernel.page_size(),
        virtual_base: kernel.space().direct_map().map(|map| map.start),
        vmalloc_base: areas.vmalloc,
        vmemmap_base: kernel.vmemmap().ok(),
        start_map: areas.image,
        modules_base: areas.modules,
        stack_size: kernel.thread_size().ok(),
        stacks: stacks(kernel),
    })
}

fn stacks(kernel: &Kernel) -> Vec<StackRow> {
    let row = |stack: &CpuStack| {
        let mut byte = [0];
        StackRow {
            cpu: stack.cpu,
            kind: stack.kind,
            start: stack.range.start,
            size: stack.range.end - stack.range.start,
            available: kernel.read(stack.range.start, &mut byte).is_ok(),
        }
    };
    let mut rows: Vec<StackRow> = kernel.cpu_stacks().iter().map(row).collect();
    rows.sort_by_key(|row| (row.cpu, row.start));
    rows
}

fn cpus(session: &Session, out: &mut Output<'_>, style: Style) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let hidden = session.hidden_cpus();
    for (i, cpu) in kernel.cpus("present").map_err(failed(COMMAND.name))?.into_iter().enumerate() {
        if hidden.contains(&cpu) {
            if !out.is_json() {
                writeln!(out, "{}CPU {cpu}: [OFFLINE]", if i > 0 { "\n" } else { "" })?;
            }
            continue;
        }
        let addr = kernel.per_cpu("cpu_info", cpu).map_err(failed(COMMAND.name))?;
        let object = kernel.object_at("cpuinfo_x86", addr).map_err(failed(COMMAND.name))?;
        let cpuinfo = Shown::whole(&mut Reader::of(session, out.is_json()), &object);
        if out.is_json() {
            out.row(&CpuRow { cpu, addr, cpuinfo })?;
            continue;
        }
        writeln!(out, "{}CPU {cpu}:", if i > 0 { "\n" } else { "" })?;
        cpuinfo.render(out, style)?;
    }
    Ok(())
}

fn render(out: &mut dyn Write, machine: &Machine) -> io::Result<()> {
    let mut line = |name: &str, value: String| writeln!(out, "{name:>22}: {value}");
    let or = |value: Option<String>| value.unwrap_or_else(|| "(unknown)".to_owned());
    let addr = |value: Option<u64>| or(value.map(|value| format!("{value:x}")));
    line("MACHINE TYPE", or(machine.machine.clone()))?;
    line("MEMORY SIZE", or(machine.memory_bytes.map(size::bytes)))?;
    let offline = match machine.offline {
        0 => String::new(),
        n => format!(" [OFFLINE: {n}]"),
    };
    line("CPUS", format!("{}{offline}", machine.cpus))?;
    if let Some(hypervisor) = &machine.hypervisor {
        line("HYPERVISOR", hypervisor.clone())?;
    }
    line("PROCESSOR SPEED", or(machine.mhz.map(|mhz| format!("{mhz} Mhz"))))?;
    line("HZ", or(machine.hz.map(|hz| hz.to_string())))?;
    line("PAGE SIZE", machine.page_size.to_string())?;
    line("KERNEL VIRTUAL BASE", addr(machine.virtual_base))?;
    line("KERNEL VMALLOC BASE", addr(machine.vmalloc_base))?;
    line("KERNEL VMEMMAP BASE", addr(machine.vmemmap_base))?;
    line("KERNEL START MAP", addr(machine.start_map))?;
    line("KERNEL MODULES BASE", addr(machine.modules_base))?;
    line("KERNEL STACK SIZE", or(machine.stack_size.map(|size| size.to_string())))?;
    render_stacks(out, &machine.stacks)
}

/// The stacks kind by kind, in the order in which they lie in memory.
fn render_stacks(out: &mut dyn Write, stacks: &[StackRow]) -> io::Result<()> {
    for kind in StackKind::SHOWN {
        let mut shown = BTreeSet::new();
        // #VC has two: the second is for when the first is in use.
        let rows: Vec<&StackRow> =
            stacks.iter().filter(|s| s.kind == kind && shown.insert(s.cpu)).collect();
        let Some(first) = rows.first() else { continue };
        let name = kind.name();
        writeln!(out, "{:>22}: {}", format!("{name} STACK SIZE"), first.size)?;
        writeln!(out, "{:>22}:", format!("{name} STACKS"))?;
        for row in rows {
            let mark = if row.available { "" } else { " [unavailable]" };
            writeln!(out, "{:>22}: {:016x}{mark}", format!("CPU {}", row.cpu), row.start)?;
        }
    }
    Ok(())
}

fn render_map(out: &mut dyn Write, map: &[E820Range]) -> io::Result<()> {
    writeln!(out, "      PHYSICAL ADDRESS RANGE         TYPE")?;
    for range in map {
        let kind = match range.name {
            Some(name) => format!("E820_{name}"),
            None => format!("type {}", range.kind),
        };
        writeln!(out, "{:016x} - {:016x}  {kind}", range.start, range.end)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overview() {
        let stack =
            |cpu, kind, start, available| StackRow { cpu, kind, start, size: 8192, available };
        let machine = Machine {
            machine: Some("x86_64".into()),
            memory_bytes: Some(267_911_168),
            cpus: 2,
            offline: 1,
            hypervisor: Some("KVM".into()),
            mhz: Some(2596),
            hz: Some(250),
            page_size: 4096,
            virtual_base: Some(0xffff_90a0_0000_0000),
            vmalloc_base: Some(0xffff_b611_0000_0000),
            vmemmap_base: None,
            start_map: Some(0xffff_ffff_8000_0000),
            modules_base: Some(0xffff_ffff_c000_0000),
            stack_size: Some(16384),
            stacks: vec![
                stack(0, StackKind::Nmi, 0xffff_fe00_0000_c000, true),
                stack(0, StackKind::Vc, 0xffff_fe00_0001_5000, false),
                stack(0, StackKind::Vc, 0xffff_fe00_0001_8000, false),
                stack(1, StackKind::Nmi, 0xffff_fe00_0004_7000, true),
            ],
        };
        let mut out = Vec::new();
        render(&mut out, &machine).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }

    #[test]
    fn types_without_a_name_are_numbers() {
        let range = |kind, name| E820Range { start: 0, end: 0x1000, kind, name };
        let mut out = Vec::new();
        render_map(&mut out, &[range(2, Some("RESERVED")), range(9, None)]).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("0000000000000000 - 0000000000001000  E820_RESERVED\n"), "{text}");
        assert!(text.ends_with("  type 9\n"), "{text}");
    }
}
