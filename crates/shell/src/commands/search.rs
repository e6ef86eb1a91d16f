//! `search`: where in memory a number or text is.

use std::io::{self, Write};
use std::ops::Range;

use kmortem_kernel::arch::mapped::Run;
use kmortem_kernel::search::{Hit, KernelPart, Pattern, Runs};
use kmortem_kernel::stack::{hex, hex_option};
use kmortem_kernel::task::Task;
use serde::Serialize;

use super::rd_text::{self, Base, Format, Names};
use super::{failed, task_header, tasks};
use crate::address::{self, number, with_expressions};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::memory::{Memory, is_user};
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "search",
    summary: "finds numbers or text in memory",
    arguments: "VALUE...",
    options: &[
        Opt::flag('k', "kernel virtual memory (if nothing else is said)"),
        Opt::flag('K', "of it, the direct map and the kernel's image"),
        Opt::flag('V', "of it, vmalloc memory, modules and the array of pages"),
        Opt::flag('u', "user memory of the current task"),
        Opt::flag('p', "physical memory"),
        Opt::flag('t', "the kernel stacks of all tasks"),
        Opt::flag('T', "the kernel stacks of the tasks that the CPUs were running"),
        Opt::value('s', "START", "from this address on"),
        Opt::value('e', "END", "up to this address"),
        Opt::value('l', "LENGTH", "so many bytes"),
        Opt::value('m', "MASK", "bits that don't count (hexadecimal)"),
        Opt::flag('c', "values are text"),
        Opt::flag('w', "numbers of 4 bytes"),
        Opt::flag('h', "numbers of 2 bytes"),
        Opt::value('x', "COUNT", "with so many numbers before and behind"),
    ],
    details: "\
VALUE is a hexadecimal number, a symbol, or an expression in parentheses; with -c
it is text, in quotes if it has blanks. Numbers are found at multiples of their
size. What the dump does not have is not searched.",
    examples: &[
        ("-K init_task", "who points to a symbol"),
        ("-t init_task", "on which stacks its address is"),
        ("-p -c \"Linux version\"", "text in physical memory"),
        ("-s init_task -l 1k -m ffff dead0000", "in a range, whatever the low bits are"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "a place",
            members: "`address` `value` `of` (the value as typed) `pid` `task` (-t, -T)",
        },
        Rows { options: "-c", row: "a place", members: "`address` `text` `of` `pid` `task`" },
    ],
    each: None,
    run,
};

/// Characters shown of what was found.
const SHOWN: usize = 56;

/// A row of JSON.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(serialize_with = "hex")]
    address: u64,
    #[serde(serialize_with = "hex_option", skip_serializing_if = "Option::is_none")]
    value: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    of: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(serialize_with = "hex_option", skip_serializing_if = "Option::is_none")]
    task: Option<u64>,
}

/// What is searched for, as typed and as found.
struct Wanted {
    /// As typed.
    word: String,
    /// Whether that is no number by itself.
    named: bool,
}

struct Search<'s> {
    session: &'s Session,
    memory: Memory<'s>,
    patterns: Vec<Pattern>,
    wanted: Vec<Wanted>,
    text: bool,
    /// Bytes of a number.
    size: u32,
    /// Numbers shown before and behind.
    context: u64,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let kernel = session.kernel();
    let usage = |what: &str| CommandError::Usage { command: COMMAND.name, what: what.to_owned() };
    if args.letters().filter(|l| "kKVuptT".contains(*l)).count() > 1 {
        return Err(usage("only one of -k, -K, -V, -u, -p, -t and -T can be meant"));
    }
    let place = args.letters().find(|l| "kKVuptT".contains(*l));
    let (patterns, wanted) = patterns(session, args)?;
    let range = range(session, args)?;
    let user = place == Some('u') || (place.is_none() && args.has('s') && is_user(range.start));
    let memory = match place {
        Some('p') => Memory::Physical(kernel),
        _ if user => Memory::user(COMMAND.name, session, range.start)?,
        _ => Memory::Kernel(kernel),
    };
    let context = args.value('x').map(|n| number(n).filter(|n| (1..=1 << 16).contains(n)));
    let context = match context {
        None => 0,
        Some(n) => {
            n.filter(|_| !args.has('c')).ok_or_else(|| usage("-x takes a count, and no -c"))?
        }
    };
    let size = size(args);
    let text = args.has('c');
    let search = Search { session, memory, patterns, wanted, text, size, context };
    let whole = kernel.image().completeness().filtered.is_none_or(|pages| pages == 0);
    match place {
        Some('t' | 'T') => {
            let table = tasks(COMMAND.name, session, out)?;
            let active = place == Some('T');
            let chosen = table.list.iter().filter(|task| !active || task.active);
            search.stacks(chosen, &range, out)?;
        }
        Some('p') => search.all(kernel.physical_runs(range), out)?,
        _ if user => search.all(Box::new(user_runs(session, &range)?.into_iter()), out)?,
        part => {
            let part = match part {
                Some('K') => KernelPart::Linear,
                Some('V') => KernelPart::Mapped,
                _ => KernelPart::All,
            };
            let runs = kernel.kernel_runs(range, part).map_err(failed(COMMAND.name))?;
            search.all(runs, out)?;
        }
    }
    if kernel.is_interrupted() {
        out.note("interrupted: what follows was not searched")?;
    }
    if !whole {
        out.note("pages that a filter left out of the dump were not searched")?;
    }
    Ok(())
}

fn size(args: &Args) -> u32 {
    match args.letters().filter(|l| "wh".contains(*l)).last() {
        Some('h') => 2,
        Some(_) => 4,
        None => 8,
    }
}

fn patterns(session: &Session, args: &Args) -> Result<(Vec<Pattern>, Vec<Wanted>), CommandError> {
    let usage = |what: String| CommandError::Usage { command: COMMAND.name, what };
    let size = size(args);
    let ignore = match args.value('m') {
        None => 0,
        Some(mask) => address::hex(mask)
            .ok_or_else(|| usage(format!("-m {mask} is no hexadecimal number")))?,
    };
    if args.words.is_empty() {
        return Err(usage("say what to search for".to_owned()));
    }
    if args.has('c') {
        if args.words.iter().any(String::is_empty) {
            return Err(usage("no text is everywhere".to_owned()));
        }
        let patterns = args.words.iter().map(|word| Pattern::text(word.as_bytes())).collect();
        let wanted = args.words.iter().cloned().map(|word| Wanted { word, named: false });
        return Ok((patterns, wanted.collect()));
    }
    let mut patterns = Vec::new();
    let mut wanted = Vec::new();
    for word in with_expressions(&args.words) {
        let value = address::address(COMMAND.name, session.kernel(), &word)?;
        if size < 8 && value >> (size * 8) != 0 {
            return Err(usage(format!("{word} ({value:#x}) has more than {size} bytes")));
        }
        patterns.push(Pattern::Number { value, ignore, size });
        wanted.push(Wanted { named: address::hex(&word).is_none(), word });
    }
    Ok((patterns, wanted))
}

/// The addresses that -s, -e and -l mean.
fn range(session: &Session, args: &Args) -> Result<Range<u64>, CommandError> {
    let usage = |what: String| CommandError::Usage { command: COMMAND.name, what };
    let at = |word: &str| address::address(COMMAND.name, session.kernel(), word);
    let start = args.value('s').map(at).transpose()?;
    let end = match (args.value('e'), args.value('l')) {
        (Some(_), Some(_)) => return Err(usage("-e and -l exclude each other".to_owned())),
        (Some(end), None) => Some(at(end)?),
        (None, Some(len)) => {
            let value = crate::arithmetic::number(len).ok().flatten();
            let value = value.ok_or_else(|| usage(format!("-l {len} is no length")))?;
            Some(start.unwrap_or(0).saturating_add(value))
        }
        (None, None) => None,
    };
    let start = start.unwrap_or(0);
    let end = end.unwrap_or(u64::MAX);
    if end <= start {
        return Err(usage(format!("it ends ({end:#x}) before it starts ({start:#x})")));
    }
    Ok(start..end)
}

/// The current task's memory, page by page as its page tables have it.
fn user_runs(session: &Session, range: &Range<u64>) -> Result<Vec<Run>, CommandError> {
    let kernel = session.kernel();
    let task = session.current_task(COMMAND.name)?;
    let space = kernel.user_space(task).map_err(failed(COMMAND.name))?;
    let vmas = kernel.vmas(task.mm).map_err(failed(COMMAND.name))?;
    let mut runs: Vec<Run> = Vec::new();
    for vma in &vmas.list {
        let (mut addr, end) = (vma.start.max(range.start), vma.end.min(range.end));
        while addr < end && !kernel.is_interrupted() {
            let len = (4096 - addr % 4096).min(end - addr);
            if let Ok(phys) = space.translate(addr) {
                match runs.last_mut() {
                    Some(last) if last.addr + last.len == addr && last.phys + last.len == phys => {
                        last.len += len;
                    }
                    _ => runs.push(Run { addr, phys, len }),
                }
            }
            addr += len;
        }
    }
    Ok(runs)
}

impl Search<'_> {
    fn all(&self, runs: Runs<'_>, out: &mut Output<'_>) -> Result<(), CommandError> {
        let session = self.session;
        let total: u64 =
            session.kernel().image().present().map(|range| range.end - range.start).sum();
        let progress = session.progress().clone();
        progress.expect(total);
        let count = |bytes| progress.add(bytes);
        session
            .kernel()
            .find_patterns(runs, &self.patterns, &count, |hit| self.show(hit, None, out))
    }

    fn stacks<'t>(
        &self,
        tasks: impl Iterator<Item = &'t Task>,
        range: &Range<u64>,
        out: &mut Output<'_>,
    ) -> Result<(), CommandError> {
        let kernel = self.session.kernel();
        let mut some = false;
        for task in tasks {
            let Ok(stack) = kernel.stack_range(task) else { continue };
            let mut addr = stack.start.max(range.start);
            let end = stack.end.min(range.end);
            let mut runs = Vec::new();
            while addr < end {
                let len = (4096 - addr % 4096).min(end - addr);
                if let Ok(phys) = kernel.space().translate(addr) {
                    runs.push(Run { addr, phys, len });
                }
                addr += len;
            }
            let mut first = true;
            let runs = Box::new(runs.into_iter());
            kernel.find_patterns(runs, &self.patterns, &|_| {}, |hit| {
                if std::mem::take(&mut first) && !out.is_json() {
                    if std::mem::replace(&mut some, true) {
                        writeln!(out)?;
                    }
                    task_header::render(out, task)?;
                }
                self.show(hit, Some(task), out)
            })?;
        }
        Ok(())
    }

    fn show(
        &self,
        hit: &Hit,
        task: Option<&Task>,
        out: &mut Output<'_>,
    ) -> Result<(), CommandError> {
        let Some(wanted) = self.wanted.get(hit.pattern) else { return Ok(()) };
        let text = self.text.then(|| self.text_at(hit.addr));
        if out.is_json() {
            return Ok(out.row(&Row {
                address: hit.addr,
                value: (!self.text).then_some(hit.value),
                text,
                of: &wanted.word,
                pid: task.map(|t| t.pid),
                task: task.map(|t| t.addr),
            })?);
        }
        if self.context > 0 {
            let bytes = self.context * u64::from(self.size);
            self.around(hit.addr.saturating_sub(bytes), bytes, out)?;
            writeln!(out, "{:16x}:  {:x} {}", hit.addr, hit.value, name(wanted))?;
            self.around(hit.addr.saturating_add(u64::from(self.size)), bytes, out)?;
            return Ok(writeln!(out)?);
        }
        match text {
            Some(text) => writeln!(out, "{:x}: {text}", hit.addr)?,
            None => writeln!(out, "{:x}: {:x} {}", hit.addr, hit.value, name(wanted))?,
        }
        Ok(())
    }

    /// Numbers around a place, as `rd` shows them.
    fn around(&self, start: u64, bytes: u64, out: &mut dyn Write) -> io::Result<()> {
        let (text, characters, network_order) = (false, true, false);
        let (size, base, names) = (self.size, Base::Hex, Names::None);
        let format = Format { size, base, names, text, characters, network_order };
        rd_text::pieces(&self.memory, start, Some(bytes), &format, &mut |piece| {
            rd_text::render(out, &piece, &format, &|_, _| None)
        })
    }

    /// What stands at `addr`, as characters, as far as it can be read.
    fn text_at(&self, addr: u64) -> String {
        let mut bytes = [0; SHOWN];
        let in_page = (4096 - addr % 4096) as usize;
        let read = match self.memory.read(addr, &mut bytes) {
            Ok(()) => SHOWN,
            Err(_) if in_page < SHOWN => match self.memory.read(addr, &mut bytes[..in_page]) {
                Ok(()) => in_page,
                Err(_) => 0,
            },
            Err(_) => 0,
        };
        bytes[..read]
            .iter()
            .map(|b| if (b' '..=b'~').contains(b) { char::from(*b) } else { '.' })
            .collect()
    }
}

fn name(wanted: &Wanted) -> String {
    match (wanted.named, wanted.word.starts_with('(')) {
        (false, _) => String::new(),
        (true, true) => wanted.word.clone(),
        (true, false) => format!("({})", wanted.word),
    }
}
