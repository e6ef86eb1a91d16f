//! `timer`: what is to happen, and when.

use std::io::{self, Write};

use kmortem_kernel::gaps::Gaps;
use kmortem_kernel::hrtimer::{Hrtimer, HrtimerClock, HrtimerCpu};
use kmortem_kernel::symbol::SymbolAt;
use kmortem_kernel::timer::{Timer, TimerBase, Timers};
use serde::Serialize;

use super::failed;
use crate::align::{Lean, center};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::target;

pub(crate) const COMMAND: Command = Command {
    name: "timer",
    summary: "lists timers by when they expire",
    arguments: "",
    options: &[
        Opt::flag('r', "high-resolution timers"),
        Opt::value('C', "CPU", "of these CPUs only (`1,3-5`, `all`)"),
    ],
    details: "\
TTE is the time to expire: in jiffies, with -r in nanoseconds; negative: it was
due. Timers are called out of date by a tick or two at most unless a CPU had
its interrupts off. CURRENT is the clock as of its last update. JSON also has
the work that a timer queues and the task that it wakes.",
    examples: &[
        ("", "the timer wheels of all CPUs"),
        ("-C 0", "those of CPU 0"),
        ("-r", "high-resolution timers"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "a timer",
            members: "`cpu` `base` (its timer base) `base_addr` `jiffies` `addr` `expires` `ticks_left` `expires_in_ns` (negative: due) `function` `symbol` `deferrable` `pinned` `work` (the delayed work that it queues) `wakes` (the task)",
        },
        Rows {
            options: "-r",
            row: "a high-resolution timer",
            members: "`cpu` `clock` `clock_addr` `now_ns` `addr` `soft_expires_ns` `expires_ns` `expires_in_ns` (negative: due) `function` `symbol` `wakes` (the task)",
        },
    ],
    each: None,
    run,
};

/// A timer with where it waits: a row of JSON.
#[derive(Serialize)]
struct TimerRow<'a> {
    cpu: u32,
    base: &'a str,
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    base_addr: u64,
    jiffies: u64,
    #[serde(flatten)]
    timer: &'a Timer,
}

/// A high-resolution timer with where it waits: a row of JSON.
#[derive(Serialize)]
struct HrtimerRow<'a> {
    cpu: u32,
    clock: Option<&'a str>,
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    clock_addr: u64,
    now_ns: Option<i64>,
    #[serde(flatten)]
    timer: &'a Hrtimer,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let hidden = session.hidden_cpus();
    let kernel = session.kernel();
    let present = kernel.cpus("present").map_err(failed(COMMAND.name))?;
    let cpus = match args.value('C') {
        Some(word) => target::cpus(COMMAND.name, word, &present)?,
        None => present,
    };
    if args.has('r') {
        let mut all = kernel.hrtimers(&cpus).map_err(failed(COMMAND.name))?;
        if out.is_json() {
            all.retain(|cpu| !hidden.contains(&cpu.cpu));
            hrtimer_rows(&all).try_for_each(|row| out.row(&row))?;
        } else {
            render_hrtimers(out, &all, &hidden)?;
        }
        let gaps: Vec<&Gaps> = all.iter().flat_map(|cpu| &cpu.clocks).map(|c| &c.gaps).collect();
        return super::note_gaps(out, gaps.into_iter());
    }
    let mut timers = kernel.timers(&cpus).map_err(failed(COMMAND.name))?;
    if out.is_json() {
        timers.bases.retain(|base| !hidden.contains(&base.cpu));
        timer_rows(&timers).try_for_each(|row| out.row(&row))?;
    } else {
        render(out, &timers, &hidden)?;
    }
    super::note_gaps(out, timers.bases.iter().map(|base| &base.gaps))
}

fn timer_rows(timers: &Timers) -> impl Iterator<Item = TimerRow<'_>> {
    timers.bases.iter().flat_map(|base| {
        base.timers.iter().map(|timer| TimerRow {
            cpu: base.cpu,
            base: base.name,
            base_addr: base.addr,
            jiffies: timers.jiffies,
            timer,
        })
    })
}

fn hrtimer_rows(all: &[HrtimerCpu]) -> impl Iterator<Item = HrtimerRow<'_>> {
    let clocks = all.iter().flat_map(|cpu| cpu.clocks.iter().map(|clock| (cpu.cpu, clock)));
    clocks.flat_map(|(cpu, clock)| {
        clock.timers.iter().map(move |timer| HrtimerRow {
            cpu,
            clock: clock.name.as_deref(),
            clock_addr: clock.addr,
            now_ns: clock.now_ns,
            timer,
        })
    })
}

/// `<name>`, with the offset where it does not begin there.
fn function(symbol: Option<&SymbolAt>) -> String {
    match symbol {
        Some(s) if s.offset == 0 => format!("<{}>", s.name),
        Some(s) => format!("<{}+{}>", s.name, s.offset),
        None => "<>".to_owned(),
    }
}

fn render(out: &mut dyn Write, timers: &Timers, hidden: &[u32]) -> io::Result<()> {
    let width = timers.jiffies.to_string().len().max("JIFFIES".len());
    writeln!(out, "{:<width$}\n{:>width$}\n", "JIFFIES", timers.jiffies)?;
    let mut before: Option<u32> = None;
    for base in &timers.bases {
        if before.is_some_and(|cpu| cpu != base.cpu && !hidden.contains(&cpu)) {
            writeln!(out)?;
        }
        let again = before.replace(base.cpu) == Some(base.cpu);
        if hidden.contains(&base.cpu) {
            if !again {
                writeln!(out, "TIMER_BASES[{}]: [OFFLINE]", base.cpu)?;
            }
            continue;
        }
        render_base(out, base, width)?;
    }
    Ok(())
}

fn render_base(out: &mut dyn Write, base: &TimerBase, width: usize) -> io::Result<()> {
    let TimerBase { cpu, name, addr, timers, .. } = base;
    writeln!(out, "TIMER_BASES[{cpu}][BASE_{name}]: {addr:x}")?;
    let longest = timers.iter().map(|t| t.ticks_left.unsigned_abs()).max().unwrap_or(0);
    // Room for a sign.
    let left = (longest.to_string().len() + 1).max("TTE".len());
    writeln!(out, "  {:<width$}     {:<left$}     TIMER_LIST     FUNCTION", "EXPIRES", "TTE")?;
    for timer in timers {
        let Timer { expires, ticks_left, addr, function: at, symbol, .. } = timer;
        let name = function(symbol.as_ref());
        writeln!(out, "  {expires:>width$}  {ticks_left:>left$}  {addr:016x}  {at:>16x}  {name}")?;
    }
    if timers.is_empty() {
        writeln!(out, "  (none)")?;
    }
    Ok(())
}

fn render_hrtimers(out: &mut dyn Write, all: &[HrtimerCpu], hidden: &[u32]) -> io::Result<()> {
    for (i, cpu) in all.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        if hidden.contains(&cpu.cpu) {
            writeln!(out, "CPU: {}  [OFFLINE]", cpu.cpu)?;
            continue;
        }
        writeln!(out, "CPU: {}  HRTIMER_CPU_BASE: {:x}", cpu.cpu, cpu.addr)?;
        for (i, clock) in cpu.clocks.iter().enumerate() {
            if i > 0 {
                writeln!(out)?;
            }
            render_clock(out, clock)?;
        }
    }
    Ok(())
}

fn render_clock(out: &mut dyn Write, clock: &HrtimerClock) -> io::Result<()> {
    let name = clock.name.as_deref().unwrap_or("unknown");
    let HrtimerClock { index, addr, timers, .. } = clock;
    writeln!(out, "  CLOCK: {index}  HRTIMER_CLOCK_BASE: {addr:x}  [{name}]")?;
    // The last to expire has the longest numbers: crash takes its widths.
    let Some(last) = timers.last() else { return writeln!(out, "  (empty)") };
    let left = |timer: &Hrtimer| timer.expires_in_ns.map_or("-".to_owned(), |ns| ns.to_string());
    let now = clock.now_ns.map_or("-".to_owned(), |ns| ns.to_string());
    let soft = last.soft_expires_ns.to_string().len().max("SOFTEXPIRES".len());
    let hard = last.expires_ns.to_string().len().max("EXPIRES".len());
    let tte = left(last).len();
    writeln!(
        out,
        "  {}\n  {}",
        center("CURRENT", soft, Lean::Right),
        center(&now, soft, Lean::Right)
    )?;
    writeln!(
        out,
        "  {}  {}  {}  {}  {}",
        center("SOFTEXPIRES", soft, Lean::Right),
        center("EXPIRES", hard, Lean::Right),
        center("TTE", tte, Lean::Right),
        center("HRTIMER", 16, Lean::Left),
        center("FUNCTION", 16, Lean::Left),
    )?;
    for timer in timers {
        writeln!(
            out,
            "  {}  {}  {:>tte$}  {:x}  {:x}  {}",
            center(&timer.soft_expires_ns.to_string(), soft, Lean::Right),
            center(&timer.expires_ns.to_string(), hard, Lean::Right),
            left(timer),
            timer.addr,
            timer.function,
            function(timer.symbol.as_ref()),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(name: &str) -> Option<SymbolAt> {
        Some(SymbolAt { name: name.into(), offset: 0, size: 64, module: None })
    }

    #[test]
    fn wheels() {
        let timer = |expires: u64, ticks_left| Timer {
            addr: 0xffff_8880_0114_a400,
            expires,
            ticks_left,
            expires_in_ns: None,
            function: 0xffff_ffff_9f51_5030,
            symbol: symbol("process_timeout"),
            deferrable: false,
            pinned: false,
            work: None,
            wakes: None,
        };
        let base = |cpu, name, timers| TimerBase {
            addr: 0xffff_90a0_0f42_4480,
            cpu,
            name,
            clk: None,
            running: 0,
            timers,
            gaps: Gaps::default(),
        };
        let bases = vec![
            base(0, "STD", vec![timer(4_294_893_310, -8), timer(4_305_692_718, 10_799_400)]),
            base(0, "DEF", vec![]),
            base(1, "STD", vec![]),
        ];
        let mut out = Vec::new();
        render(&mut out, &Timers { jiffies: 4_294_893_318, hz: Some(250), bases }, &[]).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }

    #[test]
    fn clocks() {
        let timer = |expires_ns: i64| Hrtimer {
            addr: 0xffff_90a0_0f42_6ec0,
            soft_expires_ns: expires_ns,
            expires_ns,
            expires_in_ns: Some(expires_ns - 4_088_000_000),
            function: 0xffff_ffff_9f52_97c0,
            symbol: symbol("tick_sched_timer"),
            wakes: None,
        };
        let clock = |timers| HrtimerClock {
            addr: 0xffff_90a0_0f42_69c0,
            index: 0,
            name: Some("ktime_get".into()),
            now_ns: Some(4_088_000_000),
            running: 0,
            timers,
            gaps: Gaps::default(),
        };
        let clocks =
            vec![clock(vec![timer(4_000_000_000), timer(100_004_022_751_441)]), clock(vec![])];
        let mut out = Vec::new();
        render_hrtimers(&mut out, &[HrtimerCpu { cpu: 0, addr: 1 << 47, clocks }], &[]).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}
