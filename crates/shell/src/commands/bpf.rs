//! `bpf`: loaded BPF programs and maps.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::bpf::{Bpf, BpfInstruction, BpfMap, BpfProgram};
use kmortem_kernel::disassembly::{CodeLine, Disassembler};
use serde::Serialize;

use super::failed;
use crate::args::{Args, Opt};
use crate::date;
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::value::{Reader, Shown, Style};

pub(crate) const COMMAND: Command = Command {
    name: "bpf",
    summary: "lists BPF programs and maps",
    arguments: "",
    options: &[
        Opt::value('p', "ID", "more on one program"),
        Opt::flag('P', "more on all programs"),
        Opt::value('m', "ID", "more on one map"),
        Opt::flag('M', "more on all maps"),
        Opt::flag('t', "with -p or -P: the instructions"),
        Opt::flag('T', "with -p or -P: the instructions and their bytes"),
        Opt::flag('j', "with -p or -P: the machine code"),
        Opt::flag('s', "with -p, -P, -m or -M: the structs"),
        Opt::flag('x', "with -s: numbers in hexadecimal"),
        Opt::flag('d', "with -s: numbers in decimal"),
    ],
    details: "\
Without options: a line for each program and each map. MEMLOCK of a map is what
it was charged with; kernels from v5.11 on keep no such number, it is worked out
from the map's sizes as the kernel does.",
    examples: &[("", "all programs and maps"), ("-PM", "all there is to know of them")],
    takes_all: false,
    rows: &[
        Rows {
            options: "-p, -P, and without options",
            row: "a program",
            members: "`object` (program), `id` `addr` `aux` `kind` `tag` `maps` `name` `translated_bytes` `jited_bytes` `function` `memory_bytes` `load_time_ns` `gpl_compatible` `uid` `gaps`; with -t or -T `instructions` (`index` `text`), with -j `code` (`address` `bytes` `text` `target` ...)",
        },
        Rows {
            options: "-m, -M, and without options",
            row: "a map",
            members: "`object` (map), `id` `addr` `kind` `flags` `key_size` `value_size` `max_entries` `name` `memory_bytes` `uid` `gaps`",
        },
    ],
    each: None,
    run,
};

const PROGRAMS: &str =
    " ID      BPF_PROG       BPF_PROG_AUX   BPF_PROG_TYPE       TAG        USED_MAPS";

/// A program with what the options want of it.
#[derive(Serialize)]
struct ProgramRow<'a> {
    object: &'static str,
    #[serde(flatten)]
    program: &'a BpfProgram,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<Vec<BpfInstruction>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Vec<CodeLine>>,
}

#[derive(Serialize)]
struct MapRow<'a> {
    object: &'static str,
    #[serde(flatten)]
    map: &'a BpfMap,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let bpf = kernel.bpf().map_err(failed(COMMAND.name))?;
    let style = Style::of(session.settings(), args);
    let plain = !['p', 'P', 'm', 'M'].into_iter().any(|letter| args.has(letter));
    if plain && ['t', 'T', 'j', 's'].into_iter().any(|letter| args.has(letter)) {
        let what = "-t, -T, -j and -s need a program (-p ID, -P) or a map (-m ID, -M)".to_owned();
        return Err(CommandError::Usage { command: COMMAND.name, what });
    }
    let program = id(args, 'p', bpf.programs.iter().map(|p| p.id), "program")?;
    let map = id(args, 'm', bpf.maps.iter().map(|m| m.id), "map")?;
    super::note_gaps(out, [&bpf.gaps].into_iter())?;
    let programs = plain || args.has('P') || program.is_some();
    if programs {
        let all = plain || args.has('P');
        let wanted = |p: &&BpfProgram| all || Some(p.id) == program;
        for (i, program) in bpf.programs.iter().filter(wanted).enumerate() {
            let long = Long { session, args, plain, first: i == 0, style };
            show_program(kernel, &bpf, program, long, out)?;
        }
    }
    if plain || args.has('M') || map.is_some() {
        if programs && !out.is_json() {
            writeln!(out)?;
        }
        let all = plain || args.has('M');
        let width = type_width(kernel);
        let wanted = |m: &&BpfMap| all || Some(m.id) == map;
        for (i, map) in bpf.maps.iter().filter(wanted).enumerate() {
            let long = Long { session, args, plain, first: i == 0, style };
            show_map(map, width, long, out)?;
        }
    }
    Ok(())
}

/// The ID behind an option, if the option is there.
fn id(
    args: &Args,
    letter: char,
    mut known: impl Iterator<Item = u64>,
    what: &str,
) -> Result<Option<u64>, CommandError> {
    let Some(word) = args.value(letter) else { return Ok(None) };
    match word.parse::<u64>() {
        Ok(id) if known.any(|other| other == id) => Ok(Some(id)),
        _ => {
            let what = format!("{word} is the ID of no {what}; `bpf` lists them");
            Err(CommandError::Failed { command: COMMAND.name, what })
        }
    }
}

/// How much of an object is shown.
#[derive(Clone, Copy)]
struct Long<'a> {
    session: &'a Session,
    args: &'a Args,
    plain: bool,
    /// Whether it is the first of its kind.
    first: bool,
    style: Style,
}

fn show_program(
    kernel: &Kernel,
    bpf: &Bpf,
    program: &BpfProgram,
    long: Long<'_>,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let args = long.args;
    let translated = args.has('t') || args.has('T');
    let instructions = match translated {
        true => Some(kernel.bpf_instructions(program, bpf).map_err(failed(COMMAND.name))?),
        false => None,
    };
    let code = match args.has('j') {
        true => Some(machine_code(kernel, program)?),
        false => None,
    };
    if out.is_json() {
        out.row(&ProgramRow { object: "program", program, instructions, code })?;
        return Ok(());
    }
    if !long.first && !long.plain {
        writeln!(out)?;
    }
    if long.first || !long.plain {
        writeln!(out, "{PROGRAMS}")?;
    }
    render_program(out, program)?;
    if !long.plain {
        let booted = kernel.clock().ok().map(|clock| clock.booted_ns);
        render_program_more(out, program, booted)?;
    }
    if let Some(code) = code {
        writeln!(out)?;
        if code.is_empty() {
            writeln!(out, "(program not jited)")?;
        }
        code.iter().try_for_each(|line| render_code(out, line))?;
    }
    if let Some(instructions) = instructions {
        writeln!(out)?;
        render_instructions(out, &instructions, args.has('T'))?;
    }
    if args.has('s') {
        writeln!(out)?;
        show_struct(long.session, "bpf_prog", program.addr, long.style, out)?;
        writeln!(out)?;
        show_struct(long.session, "bpf_prog_aux", program.aux, long.style, out)?;
    }
    super::note_gaps(out, [&program.gaps].into_iter())
}

fn show_map(
    map: &BpfMap,
    width: usize,
    long: Long<'_>,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    if out.is_json() {
        out.row(&MapRow { object: "map", map })?;
        return Ok(());
    }
    if !long.first && !long.plain {
        writeln!(out)?;
    }
    if long.first || !long.plain {
        writeln!(out, " ID      BPF_MAP      {} MAP_FLAGS", centered("BPF_MAP_TYPE", width))?;
    }
    render_map(out, map, width)?;
    if !long.plain {
        render_map_more(out, map)?;
    }
    if long.args.has('s') {
        writeln!(out)?;
        show_struct(long.session, "bpf_map", map.addr, long.style, out)?;
    }
    super::note_gaps(out, [&map.gaps].into_iter())
}

fn show_struct(
    session: &Session,
    name: &str,
    addr: u64,
    style: Style,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let object = session.kernel().object_at(name, addr).map_err(failed(COMMAND.name))?;
    Ok(Shown::whole(&mut Reader::of(session, false), &object).render(out, style)?)
}

/// The instructions of a program's machine code; none: it is interpreted.
fn machine_code(kernel: &Kernel, program: &BpfProgram) -> Result<Vec<CodeLine>, CommandError> {
    if program.jited_bytes == 0 {
        return Ok(Vec::new());
    }
    let read = |addr: u64, buf: &mut [u8]| kernel.read(addr, buf);
    let mut code = Disassembler::new(kernel, &read, program.function);
    let end = program.function.wrapping_add(program.jited_bytes.into());
    let mut list = Vec::new();
    while list
        .last()
        .is_none_or(|last: &CodeLine| last.address.wrapping_add(last.bytes.len() as u64 / 2) < end)
    {
        list.push(code.next_line().map_err(failed(COMMAND.name))?);
    }
    Ok(list)
}

/// A line as gdb writes it, with a blank at its end where it names no symbol.
fn render_code(out: &mut dyn Write, line: &CodeLine) -> io::Result<()> {
    let symbol = line.target_symbol.as_ref().map_or(String::new(), |symbol| match symbol.offset {
        0 => format!("<{}>", symbol.name),
        offset => format!("<{}+{offset}>", symbol.name),
    });
    writeln!(out, "   {:#x}:\t{} {symbol}", line.address, line.text)
}

/// The longest name of a map's type, by which crash sizes that column (it
/// takes off the length of a program type's prefix).
fn type_width(kernel: &Kernel) -> usize {
    let longest = kernel
        .ty("enum bpf_map_type")
        .ok()
        .and_then(|ty| ty.strip().enumerators().map(|constant| constant.name.len()).max());
    longest.map_or(0, |len| len.saturating_sub("BPF_PROG_TYPE_".len())).max(16)
}

/// `text` in the middle of `width`, the odd blank on the right.
fn centered(text: &str, width: usize) -> String {
    format!("{text:^width$}")
}

fn render_program(out: &mut dyn Write, program: &BpfProgram) -> io::Result<()> {
    let maps: Vec<String> = program.maps.iter().map(u64::to_string).collect();
    writeln!(
        out,
        "{} {:016x} {:016x} {} {} {} ",
        centered(&program.id.to_string(), 4),
        program.addr,
        program.aux,
        centered(&program.kind, 13),
        program.tag,
        centered(&maps.join(","), 9),
    )
}

fn render_program_more(
    out: &mut dyn Write,
    program: &BpfProgram,
    booted_ns: Option<i64>,
) -> io::Result<()> {
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "(unknown)".to_owned());
    let memory = or_unknown(program.memory_bytes.map(|bytes| bytes.to_string()));
    let (translated, jited) = (program.translated_bytes, program.jited_bytes);
    writeln!(out, "     XLATED: {translated}  JITED: {jited}  MEMLOCK: {memory}")?;
    let loaded = booted_ns.zip(program.load_time_ns).map(|(boot, load)| {
        let seconds = (boot.cast_unsigned().wrapping_add(load)) / 1_000_000_000;
        date::utc(seconds).replace(" UTC", "")
    });
    writeln!(out, "     LOAD_TIME: {}", or_unknown(loaded))?;
    let gpl = program.gpl_compatible.map(|gpl| if gpl { "yes" } else { "no" }.to_owned());
    writeln!(
        out,
        "     GPL_COMPATIBLE: {}  NAME: {}  UID: {}",
        or_unknown(gpl),
        quoted(&program.name),
        or_unknown(program.uid.map(|uid| uid.to_string()))
    )
}

fn quoted(name: &str) -> String {
    if name.is_empty() { "(unused)".to_owned() } else { format!("\"{name}\"") }
}

fn render_instructions(
    out: &mut dyn Write,
    instructions: &[BpfInstruction],
    with_bytes: bool,
) -> io::Result<()> {
    for one in instructions {
        writeln!(out, "{:>4}: {}", one.index, one.text)?;
        if with_bytes {
            let bytes: Vec<String> = one.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(out, "       {}", bytes.join(" "))?;
        }
    }
    Ok(())
}

fn render_map(out: &mut dyn Write, map: &BpfMap, width: usize) -> io::Result<()> {
    let (id, kind) = (centered(&map.id.to_string(), 4), centered(&map.kind, width));
    writeln!(out, "{id} {:016x} {kind}  {:08x} ", map.addr, map.flags)
}

fn render_map_more(out: &mut dyn Write, map: &BpfMap) -> io::Result<()> {
    writeln!(
        out,
        "     KEY_SIZE: {}  VALUE_SIZE: {}  MAX_ENTRIES: {}  MEMLOCK: {}",
        map.key_size, map.value_size, map.max_entries, map.memory_bytes
    )?;
    let uid = map.uid.map_or("(unused)".to_owned(), |uid| uid.to_string());
    writeln!(out, "     NAME: {}  UID: {uid}", quoted(&map.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::gaps::Gaps;

    #[test]
    fn programs_and_maps_have_their_columns() {
        let program = BpfProgram {
            id: 34,
            addr: 0xffff_bc00_c073_7000,
            aux: 0xffff_9ff1_b64d_fc00,
            kind: "KPROBE".to_owned(),
            tag: "4abbddae72a6ee17".to_owned(),
            maps: vec![33, 36, 34],
            name: String::new(),
            translated_bytes: 296,
            jited_bytes: 229,
            function: 0,
            memory_bytes: None,
            load_time_ns: Some(5_000_000_000),
            gpl_compatible: Some(true),
            uid: Some(0),
            gaps: Gaps::default(),
        };
        let map = BpfMap {
            id: 13,
            addr: 0xffff_9ff2_60f0_ec00,
            kind: "LPM_TRIE".to_owned(),
            flags: 1,
            key_size: 8,
            value_size: 4,
            max_entries: 64,
            name: "routes".to_owned(),
            memory_bytes: 4096,
            uid: None,
            gaps: Gaps::default(),
        };
        let mut text = Vec::new();
        render_program(&mut text, &program).unwrap();
        render_program_more(&mut text, &program, Some(1_795_440_000_000_000_000)).unwrap();
        render_map(&mut text, &map, 29).unwrap();
        render_map_more(&mut text, &map).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}
