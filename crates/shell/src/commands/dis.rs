//! `dis`: code as instructions.

use std::io::{self, Write};

use kmortem_kernel::disassembly::{CodeLine, Disassembler};
use kmortem_kernel::{Error, SymbolAt};
use serde::Serialize;

use super::failed;
use crate::address::{self, number, with_expressions};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::memory::Memory;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::settings::Radix;

pub(crate) const COMMAND: Command = Command {
    name: "dis",
    summary: "disassembles code",
    arguments: "ADDRESS [COUNT]",
    options: &[
        Opt::flag('r', "from the start of the function up to ADDRESS"),
        Opt::flag('f', "from ADDRESS to the end of the function"),
        Opt::flag('u', "a user address of the current task"),
        Opt::flag('x', "offsets as hexadecimal numbers"),
        Opt::flag('d', "offsets as decimal numbers"),
        Opt::flag('l', "with source lines (needs debuginfo)"),
        Opt::flag('s', "the source itself (needs debuginfo)"),
        Opt::optional(
            'b',
            "N",
            "bytes to skip behind a ud2 from now on; without N how many they are",
        ),
    ],
    details: "\
Without COUNT the start of a function means all of it, up to the padding behind it,
and another address one instruction. The code is that of the dump, as the kernel had
patched itself. Before v2.6.20 the file and line of a BUG stood behind its ud2, which
`-b` skips; since then nothing stands there.",
    examples: &[
        ("schedule", "a function"),
        ("-r schedule+20", "how control came to an address"),
        ("-x schedule 5", "its first 5 instructions"),
        ("-b", "how many bytes behind a ud2 are skipped"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "an instruction",
            members: "`address` `symbol` `bytes` `text` `target` (what it jumps to, calls or reads relative to itself) `target_symbol`",
        },
        Rows { options: "-b", row: "the setting", members: "`skipped` (bytes behind a ud2)" },
    ],
    each: None,
    run,
};

/// What ftrace leaves of its call at the start of a function that is not traced
/// (`x86_nops[5]`, arch/x86/include/asm/nops.h).
const FTRACE_NOP: &str = "0f1f440000";
/// An instruction that begins before an address ends less than this behind it.
const LONGEST: u64 = 16;
/// More bytes than this behind a ud2 are asked for by mistake.
const MOST_BUG_BYTES: u64 = 64;
/// No count asks for more.
const MOST_LINES: u64 = 1 << 20;

/// What `-b` tells.
#[derive(Serialize)]
struct Skipped {
    skipped: u64,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let usage = |what: &str| CommandError::Usage { command: COMMAND.name, what: what.to_owned() };
    const NO_SOURCE: &str =
        "source lines need the debuginfo of this kernel, which kmortem does not read yet";
    if args.has('s') {
        let what = format!("{NO_SOURCE}; without -s it shows the instructions");
        return Err(CommandError::Failed { command: COMMAND.name, what });
    }
    if args.has('l') {
        out.note(NO_SOURCE)?;
    }
    if let Some(word) = args.value('b') {
        let bytes = word.parse().ok().filter(|bytes| *bytes <= MOST_BUG_BYTES);
        session.bug_bytes = bytes.ok_or_else(|| {
            usage(&format!("{word} is no number of bytes up to {MOST_BUG_BYTES}"))
        })?;
    }
    let session = &*session;
    let words = with_expressions(&args.words);
    let (place, count) = match words.as_slice() {
        [] if args.has('b') => {
            let skipped = session.bug_bytes;
            return match (args.value('b'), out.is_json()) {
                (Some(_), _) => Ok(()),
                (None, true) => Ok(out.row(&Skipped { skipped })?),
                (None, false) => {
                    Ok(writeln!(out, "encoded bytes being skipped after ud2a: {skipped}")?)
                }
            };
        }
        [] => return Err(usage("say which address")),
        [place] => (place, None),
        [place, count] => {
            let count = number(count).filter(|n| (1..=MOST_LINES).contains(n));
            (place, Some(count.ok_or_else(|| usage(&format!("{} is no count", words[1])))?))
        }
        [.., last] => return Err(usage(&format!("{last} is too much"))),
    };
    if args.has('r') && args.has('f') {
        return Err(usage("-r and -f are mutually exclusive"));
    }
    let start = address::address(COMMAND.name, session.kernel(), place)?;
    let (lines, broken) = lines(session, args, start, count)?;
    if out.is_json() {
        out.rows(&lines)?;
    } else {
        let hex = match args.letters().filter(|l| "xd".contains(*l)).last() {
            Some(letter) => letter == 'x',
            None => session.settings().radix == Radix::Hex,
        };
        for line in &lines {
            render(out, line, hex)?;
        }
    }
    match broken {
        Some(error) if lines.is_empty() => Err(failed(COMMAND.name)(error)),
        Some(error) => Ok(out.note(format_args!("no further: {error}"))?),
        None => Ok(()),
    }
}

/// The instructions that are asked for, and why there are no more.
fn lines(
    session: &Session,
    args: &Args,
    start: u64,
    count: Option<u64>,
) -> Result<(Vec<CodeLine>, Option<Error>), CommandError> {
    let kernel = session.kernel();
    let skipped = session.bug_bytes;
    let memory = match args.has('u') {
        true => Memory::user(COMMAND.name, session, start)?,
        false => Memory::Kernel(kernel),
    };
    let function = || kernel.function_at(start).map_err(failed(COMMAND.name));
    let most = count.unwrap_or(MOST_LINES) as usize;
    if args.has('r') && !args.has('u') {
        let function = function()?;
        let range = function.start..start.saturating_add(LONGEST);
        let mut lines = kernel.code_lines(range, skipped).map_err(failed(COMMAND.name))?;
        // As crash does: up to the first instruction at ADDRESS or behind it.
        let last = lines.iter().position(|line| line.address >= start);
        lines.truncate(last.map_or(lines.len(), |last| last + 1));
        lines.drain(..lines.len().saturating_sub(most));
        return Ok((lines, None));
    }
    let at_symbol = kernel.symbol_at(start).is_some_and(|s| s.offset == 0);
    if !args.has('u') && (args.has('f') || (count.is_none() && at_symbol)) {
        let function = function()?;
        // Data has a symbol, too, and no end that would make sense of it.
        if args.has('f') || kernel.is_text(start) {
            // From its start: ADDRESS may lie inside of an instruction.
            let lines = kernel.function_lines(function, skipped);
            let mut lines = lines.map_err(failed(COMMAND.name))?;
            lines.retain(|line| line.address >= start);
            lines.truncate(most);
            return Ok((lines, None));
        }
    }
    let read = |addr: u64, buf: &mut [u8]| memory.read(addr, buf);
    let mut code = Disassembler::new(kernel, &read, start).skipping(skipped);
    let mut lines = Vec::new();
    for _ in 0..count.unwrap_or(1) {
        match code.next_line() {
            Ok(line) => lines.push(line),
            Err(error) => return Ok((lines, Some(error))),
        }
    }
    Ok((lines, None))
}

pub(super) fn name(symbol: &SymbolAt, hex: bool) -> String {
    match (symbol.offset, hex) {
        (0, _) => format!("<{}>", symbol.name),
        (offset, true) => format!("<{}+{offset:#x}>", symbol.name),
        (offset, false) => format!("<{}+{offset}>", symbol.name),
    }
}

fn render(out: &mut dyn Write, line: &CodeLine, hex: bool) -> io::Result<()> {
    match &line.symbol {
        Some(symbol) => write!(out, "{:#x} {}:\t", line.address, name(symbol, hex))?,
        None => write!(out, "   {:#x}:\t", line.address)?,
    }
    render_text(out, line, hex)?;
    if line.bytes == FTRACE_NOP && line.symbol.as_ref().is_some_and(|s| s.offset == 0) {
        write!(out, " [FTRACE NOP]")?;
    }
    writeln!(out)
}

/// The instruction with what it means relative to itself.
pub(super) fn render_text(out: &mut dyn Write, line: &CodeLine, hex: bool) -> io::Result<()> {
    write!(out, "{}", line.text)?;
    if let Some(target) = line.target.filter(|_| !line.target_in_text) {
        write!(out, "        # {target:#x}")?;
    }
    if let Some(symbol) = &line.target_symbol {
        write!(out, " {}", name(symbol, hex))?;
    }
    Ok(())
}
