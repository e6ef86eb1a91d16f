//! `irq`: interrupts of devices, the descriptor table, softirqs.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::irq::{Gate, Irq, IrqAction, Irqs};
use kmortem_kernel::softirq::Softirq;
use kmortem_kernel::symbol::SymbolAt;

use super::failed;
use crate::align::{Lean, center};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::target;

pub(crate) const COMMAND: Command = Command {
    name: "irq",
    summary: "shows interrupts, their handlers, counts and CPUs",
    arguments: "[INDEX...]",
    options: &[
        Opt::flag('u', "interrupts that have a descriptor only"),
        Opt::flag('d', "the interrupt descriptor table"),
        Opt::flag('b', "softirqs (bottom halves)"),
        Opt::flag('a', "the CPUs that may get each interrupt in use"),
        Opt::flag('s', "how often each CPU got each interrupt in use"),
        Opt::value('c', "CPU", "with -s: of these CPUs (`1,3-5`, `all`)"),
    ],
    details: "\
Without options all interrupts that the machine could have. -s counts since the
boot; interrupts of the CPU itself (timer, IPIs) are not among them.",
    examples: &[
        ("-u", "interrupts in use with their handlers"),
        ("1", "one interrupt"),
        ("-s -c 0", "how often CPU 0 got each"),
        ("-b", "what softirqs run"),
        ("-d", "where each vector leads to"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "an interrupt with a descriptor",
            members: "`irq` `addr` `hwirq` `chip` `flow` `flow_handler` `actions` `affinity` `effective_affinity` `counts` `depth` `unhandled` `gaps`",
        },
        Rows { options: "-d", row: "a gate", members: "`vector` `handler` `symbol`" },
        Rows {
            options: "-b",
            row: "a softirq",
            members: "`vector` `name` `action` `symbol` `pending_on` (CPUs on which it waits to run)",
        },
    ],
    each: None,
    run,
};

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let kernel = session.kernel();
    if args.has('c') && !args.has('s') {
        let what = "-c goes with -s".to_owned();
        return Err(CommandError::Usage { command: COMMAND.name, what });
    }
    if args.has('d') {
        let gates = kernel.idt().map_err(failed(COMMAND.name))?;
        let done = if out.is_json() { out.rows(&gates) } else { render_gates(out, &gates) };
        return done.map_err(CommandError::from);
    }
    if args.has('b') {
        let softirqs = kernel.softirqs().map_err(failed(COMMAND.name))?;
        let done =
            if out.is_json() { out.rows(&softirqs) } else { render_softirqs(out, &softirqs) };
        return done.map_err(CommandError::from);
    }
    let mut irqs = kernel.irqs().map_err(failed(COMMAND.name))?;
    let chosen = numbers(&args.words, irqs.count)?;
    if args.has('a') || args.has('s') {
        irqs.list.retain(|irq| !irq.actions.is_empty());
    }
    if !chosen.is_empty() {
        irqs.list.retain(|irq| chosen.contains(&irq.irq));
    }
    if out.is_json() {
        out.rows(&irqs.list)?;
    } else if args.has('a') {
        render_affinity(out, &irqs.list)?;
    } else if args.has('s') {
        let hidden = session.hidden_cpus();
        let mut cpus = cpus(kernel, args)?;
        for cpu in cpus.extract_if(.., |cpu| hidden.contains(cpu)) {
            out.note(format_args!("CPU{cpu} is OFFLINE."))?;
        }
        render_counts(out, &irqs.list, &cpus)?;
    } else {
        render(out, &irqs, &chosen, args.has('u'))?;
    }
    super::note_gaps(out, irqs.list.iter().map(|irq| &irq.gaps).chain([&irqs.gaps]))
}

/// The interrupts named on the command line.
fn numbers(words: &[String], count: u32) -> Result<Vec<u32>, CommandError> {
    let number = |word: &String| {
        word.parse::<u32>().ok().filter(|n| *n < count).ok_or_else(|| CommandError::Failed {
            command: COMMAND.name,
            what: format!("invalid IRQ value: {word}  ({} max)", count.saturating_sub(1)),
        })
    };
    words.iter().map(number).collect()
}

fn cpus(kernel: &Kernel, args: &Args) -> Result<Vec<u32>, CommandError> {
    let present = kernel.cpus("present").map_err(failed(COMMAND.name))?;
    match args.value('c') {
        Some(word) => target::cpus(COMMAND.name, word, &present),
        None => Ok(present),
    }
}

fn render(out: &mut dyn Write, irqs: &Irqs, chosen: &[u32], in_use: bool) -> io::Result<()> {
    writeln!(out, " IRQ   IRQ_DESC/_DATA      IRQACTION      NAME")?;
    let all: Vec<u32> = match (chosen, in_use) {
        ([], true) => irqs.list.iter().map(|irq| irq.irq).collect(),
        ([], false) => (0..irqs.count).collect(),
        (chosen, _) => chosen.to_vec(),
    };
    let unused = center("(unused)", 16, Lean::Left);
    for number in all {
        let label = center(&number.to_string(), 4, Lean::Right);
        match irqs.list.iter().find(|irq| irq.irq == number) {
            None if in_use => {}
            None => writeln!(out, "{label}  {unused}  {unused}  ")?,
            Some(irq) => {
                write!(out, "{label}  {:016x}  ", irq.addr)?;
                if irq.actions.is_empty() {
                    write!(out, "{unused}  ")?;
                }
                for (i, action) in irq.actions.iter().enumerate() {
                    if i > 0 {
                        write!(out, "\n{:24}", "")?;
                    }
                    write!(out, "{:016x}  \"{}\"", action.addr, name(action))?;
                }
                writeln!(out)?;
            }
        }
    }
    Ok(())
}

fn name(action: &IrqAction) -> &str {
    action.name.as_deref().unwrap_or("<unreadable>")
}

fn names(irq: &Irq) -> String {
    irq.actions.iter().map(name).collect::<Vec<_>>().join(",")
}

fn render_affinity(out: &mut dyn Write, irqs: &[Irq]) -> io::Result<()> {
    writeln!(out, "IRQ NAME                 AFFINITY")?;
    for irq in irqs {
        let cpus = irq.affinity.as_ref().map_or("-".to_owned(), |cpus| target::ranges(cpus));
        writeln!(out, "{:>3} {:<20} {cpus}", irq.irq, names(irq))?;
    }
    Ok(())
}

fn render_counts(out: &mut dyn Write, irqs: &[Irq], cpus: &[u32]) -> io::Result<()> {
    write!(out, "     ")?;
    for cpu in cpus {
        write!(out, "{:>10} ", format!("CPU{cpu}"))?;
    }
    writeln!(out)?;
    for irq in irqs {
        write!(out, "{:>3}: ", irq.irq)?;
        for cpu in cpus {
            let counts = irq.counts.iter().flatten().find(|c| c.cpu == *cpu);
            write!(out, "{:>10} ", counts.map_or("-".to_owned(), |c| c.count.to_string()))?;
        }
        write!(out, "{:>8}", irq.chip.as_deref().unwrap_or(""))?;
        if let Some(flow) = &irq.flow {
            write!(out, "-{flow:<8}")?;
        }
        writeln!(out, " {}", names(irq))?;
    }
    Ok(())
}

/// `name`, `name+12` (decimal, as crash has it), or the bare address.
fn symbol(addr: u64, symbol: Option<&SymbolAt>) -> String {
    match symbol {
        Some(s) if s.offset == 0 => s.name.clone(),
        Some(s) => format!("{}+{}", s.name, s.offset),
        None => format!("{addr:x}"),
    }
}

fn render_gates(out: &mut dyn Write, gates: &[Gate]) -> io::Result<()> {
    for gate in gates {
        let vector = format!("[{}]", gate.vector);
        writeln!(out, "{vector:>5} {}", symbol(gate.handler, gate.symbol.as_ref()))?;
    }
    Ok(())
}

fn render_softirqs(out: &mut dyn Write, softirqs: &[Softirq]) -> io::Result<()> {
    writeln!(out, "SOFTIRQ_VEC      ACTION     ")?;
    for softirq in softirqs {
        let action = match softirq.action {
            0 => "(none)".to_owned(),
            at => format!("{at:016x}  <{}>", symbol(at, softirq.symbol.as_ref())),
        };
        writeln!(out, "{:>7}     {action}", format!("[{}]", softirq.vector))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::gaps::Gaps;
    use kmortem_kernel::irq::IrqCount;

    fn irq(number: u32, names: &[&str]) -> Irq {
        let action = |name: &&str| IrqAction {
            addr: 0xffff_8880_0124_6d80,
            name: Some((*name).to_owned()),
            handler: None,
            thread_handler: None,
            thread: 0,
            dev_id: 0,
            flags: 0,
        };
        Irq {
            irq: number,
            addr: 0xffff_8880_0114_a400,
            hwirq: Some(1),
            chip: Some("IO-APIC".into()),
            flow: Some("edge".into()),
            flow_handler: None,
            actions: names.iter().map(action).collect(),
            affinity: Some(vec![0, 1, 3]),
            effective_affinity: None,
            counts: Some(vec![IrqCount { cpu: 0, count: 86 }, IrqCount { cpu: 1, count: 9 }]),
            depth: Some(0),
            unhandled: Some(0),
            gaps: Gaps::default(),
        }
    }

    #[test]
    fn tables() {
        let list = vec![irq(0, &["timer"]), irq(2, &[]), irq(3, &["usb1", "usb2"])];
        let irqs = Irqs { count: 4, list, gaps: Gaps::default() };
        let mut out = Vec::new();
        render(&mut out, &irqs, &[], false).unwrap();
        render(&mut out, &irqs, &[], true).unwrap();
        render_affinity(&mut out, &irqs.list).unwrap();
        render_counts(&mut out, &irqs.list, &[0, 1]).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap().replace(" \n", " |\n"));
    }

    #[test]
    fn numbers_are_checked() {
        let words = |word: &str| [word.to_owned()];
        assert_eq!(numbers(&words("3"), 4).unwrap(), [3]);
        let error = numbers(&words("4"), 4).unwrap_err().to_string();
        assert_eq!(error, "irq: invalid IRQ value: 4  (3 max)");
        assert!(numbers(&words("x"), 4).is_err());
    }
}
