//! `rd`: memory as it is.

use std::fs::File;
use std::io::Write;

use kmortem_kernel::Kernel;
use kmortem_kernel::stack::hex;
use serde::Serialize;

use super::rd_text::{self, Base, Format, Names, Piece};
use crate::address::{self, number, with_expressions};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::memory::{Memory, is_user};
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "rd",
    summary: "shows memory",
    arguments: "ADDRESS [COUNT]",
    options: &[
        Opt::flag('p', "a physical address"),
        Opt::flag('u', "a user address of the current task"),
        Opt::flag('d', "signed decimal numbers"),
        Opt::flag('D', "unsigned decimal numbers"),
        Opt::flag('x', "without the characters"),
        Opt::flag('a', "characters only; without COUNT up to the first that is none"),
        Opt::flag('s', "names in place of addresses of symbols"),
        Opt::flag('S', "and of slab caches in place of their objects' addresses; -SS both"),
        Opt::number("8", "bytes"),
        Opt::number("16", "numbers of 2 bytes"),
        Opt::number("32", "numbers of 4 bytes"),
        Opt::number("64", "numbers of 8 bytes (if nothing else is said)"),
        Opt::flag('N', "in network byte order (-16 and -32)"),
        Opt::flag('R', "what lies before ADDRESS, up to it"),
        Opt::value('o', "OFFSET", "added to ADDRESS"),
        Opt::value('e', "END", "up to this address"),
        Opt::value('r', "FILE", "writes the bytes to a file; COUNT is bytes"),
        Opt::flag('f', "an offset in the dump's file"),
        Opt::flag('m', "a Xen machine address: not on this kernel"),
    ],
    details: "\
ADDRESS is hexadecimal, a symbol (also `symbol+offset`, or `symbol:CPU` for a
per-CPU one), or an expression in parentheses. An address in the lower half is
one of the current task. Memory that the dump lacks is told with the reason.",
    examples: &[
        ("linux_banner 4", "4 words of 8 bytes"),
        ("-a linux_banner", "the text at an address"),
        ("-s init_task 16", "with the names of what pointers point to"),
        ("-32 -d jiffies 2", "as decimal numbers of 4 bytes"),
        ("runqueues:0 8", "a per-CPU variable"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "a line of words",
            members: "`address` `size` (bytes of a word) `words` (hexadecimal) `names` (-s, -S: of each word, or null) `text`",
        },
        Rows {
            options: "(unreadable)",
            row: "memory that is not there",
            members: "`address` `end` `unreadable`",
        },
        Rows { options: "-a", row: "text", members: "`address` `text`" },
        Rows { options: "-r", row: "what was written", members: "`address` `bytes` `file`" },
    ],
    each: None,
    run,
};

/// A row of JSON.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(serialize_with = "hex")]
    address: u64,
    bytes: u64,
    file: &'a str,
}

/// What the command line asks for.
struct Request<'s> {
    memory: Memory<'s>,
    start: u64,
    /// Bytes from `start` on; `None` for text up to its end.
    bytes: Option<u64>,
    format: Format,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let session = &*session;
    let request = request(session, args)?;
    if let Some(file) = args.value('r') {
        return write_file(&request, file, out);
    }
    let kernel = session.kernel();
    let mut answered = false;
    let mut first_fault = None;
    let names = names(kernel);
    // In front of what can be read. Alone, they are no answer.
    let mut holes = Vec::new();
    rd_text::pieces(
        &request.memory,
        request.start,
        request.bytes,
        &request.format,
        &mut |piece| {
            match &piece {
                Piece::Hole { reason, .. } => {
                    first_fault.get_or_insert_with(|| reason.clone());
                }
                _ => answered = true,
            }
            if out.is_json() {
                return out.row(&rd_text::row(&piece, &request.format, &names));
            }
            if !answered {
                return rd_text::render(&mut holes, &piece, &request.format, &names);
            }
            out.write_all(&std::mem::take(&mut holes))?;
            rd_text::render(out, &piece, &request.format, &names)
        },
    )?;
    match first_fault {
        Some(what) if !answered => Err(CommandError::Failed { command: COMMAND.name, what }),
        _ => Ok(()),
    }
}

fn request<'s>(session: &'s Session, args: &Args) -> Result<Request<'s>, CommandError> {
    let command = COMMAND.name;
    let usage = |what: String| CommandError::Usage { command, what };
    let failed = |what: &str| CommandError::Failed { command, what: what.to_owned() };
    if args.has('m') {
        return Err(failed("-m option only applies to xen architecture"));
    }
    let kernel = session.kernel();
    let format = format(args)?;
    let words = with_expressions(&args.words);
    let [start, count @ ..] = words.as_slice() else {
        return Err(usage("say from which address on".to_owned()));
    };
    let mut start = address::address(command, kernel, start)?;
    if let Some(offset) = args.value('o') {
        let bad = || usage(format!("-o {offset} is no number"));
        let (sign, digits) = match offset.strip_prefix('-') {
            Some(digits) => (u64::MAX, digits),
            None => (1, offset),
        };
        start = start.wrapping_add(number(digits).ok_or_else(bad)?.wrapping_mul(sign));
    }
    let size = match args.has('r') || format.text {
        true => 1,
        false => u64::from(format.size),
    };
    let mut bytes = match count {
        [] => None,
        [count] => {
            let count = number(count).filter(|n| *n > 0);
            let bad = || usage(format!("{} is no count", words[1]));
            Some(count.ok_or_else(bad)?.saturating_mul(size))
        }
        _ => return Err(usage(format!("{} is too much", words[2]))),
    };
    if let Some(end) = args.value('e') {
        let end = address::address(command, kernel, end)?;
        if end <= start {
            return Err(usage(format!("it ends ({end:#x}) before it starts ({start:#x})")));
        }
        bytes = Some((end - start).div_ceil(size) * size);
    }
    if args.has('R') {
        let before = bytes.map_or(0, |n| n.saturating_sub(size));
        start = start.wrapping_sub(before);
    }
    if bytes.is_none() && args.has('r') {
        return Err(usage("-r needs a count of bytes, or -e".to_owned()));
    }
    let bytes = bytes.or((!format.text).then_some(size));
    let memory = if args.has('p') {
        Memory::Physical(kernel)
    } else if args.has('f') {
        Memory::file(command, session)?
    } else if args.has('u') {
        Memory::user(command, session, start)?
    } else {
        Memory::holding(command, session, start)?
    };
    Ok(Request { memory, start, bytes, format })
}

fn format(args: &Args) -> Result<Format, CommandError> {
    let size = args.number().unwrap_or(64) / 8;
    let names = match (args.has('s'), args.count('S')) {
        (_, 2..) => Names::SymbolsAndObjects,
        (_, 1) => Names::Caches,
        (true, 0) => Names::Symbols,
        (false, 0) => Names::None,
    };
    if names != Names::None && size != 8 {
        let what = "names (-s, -S) are shown in place of 64-bit words only".to_owned();
        return Err(CommandError::Usage { command: COMMAND.name, what });
    }
    let base = match args.letters().filter(|l| "dD".contains(*l)).last() {
        Some('d') => Base::Signed,
        Some('D') => Base::Unsigned,
        _ => Base::Hex,
    };
    Ok(Format {
        size,
        base,
        names: if base == Base::Hex { names } else { Names::None },
        text: args.has('a'),
        characters: !args.has('x'),
        network_order: args.has('N'),
    })
}

/// What a word is the address of, as far as `names` says.
fn names(kernel: &Kernel) -> impl Fn(u64, Names) -> Option<String> {
    move |word, names| {
        if names == Names::None || is_user(word) {
            return None;
        }
        if let Some(symbol) = kernel.symbol_at(word) {
            return Some(match symbol.offset {
                0 => symbol.name,
                offset => format!("{}+{offset}", symbol.name),
            });
        }
        if names == Names::Symbols {
            return None;
        }
        let object = kernel.slab_object(word).ok()??;
        Some(match names {
            Names::Caches => format!("[{}]", object.cache_name),
            _ => format!("[{word:x}:{}]", object.cache_name),
        })
    }
}

/// Bytes that are copied at a time.
const COPIED: u64 = 1 << 20;

fn write_file(request: &Request<'_>, path: &str, out: &mut Output<'_>) -> Result<(), CommandError> {
    let failed = |what: String| CommandError::Failed { command: COMMAND.name, what };
    let bytes = request.bytes.unwrap_or(0);
    // What can't be read leaves no file behind, nor takes one away.
    request.memory.read(request.start, &mut [0]).map_err(|e| failed(e.to_string()))?;
    let unwritten = |e: std::io::Error| failed(format!("{path} can't be written: {e}"));
    let mut file = File::create(path).map_err(unwritten)?;
    let mut done = 0;
    while done < bytes {
        let mut piece = vec![0; COPIED.min(bytes - done) as usize];
        let at = request.start.wrapping_add(done);
        request.memory.read(at, &mut piece).map_err(|e| {
            failed(format!("{e}; what lies before it is in {path}, in pieces of 1 MiB"))
        })?;
        file.write_all(&piece).map_err(unwritten)?;
        done += piece.len() as u64;
    }
    let address = request.start;
    match out.is_json() {
        true => out.row(&Written { address, bytes, file: path })?,
        false => writeln!(out, "{bytes} bytes copied from {address:#x} to {path}")?,
    }
    Ok(())
}
