//! `trace`: what ftrace had recorded.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};

use kmortem_kernel::ftrace::{CpuEvent, FieldValue, TraceBuffer, TraceCpu};
use serde::Serialize;

use super::{failed, trace_dat, trace_format, trace_text};
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;
use crate::target;

pub(crate) const COMMAND: Command = Command {
    name: "trace",
    summary: "shows what ftrace had recorded (crash needs an extension for it)",
    arguments: "[show | dump] [INSTANCE]",
    options: &[
        Opt::value('c', "CPUS", "with show: events of these CPUs only"),
        Opt::value('n', "COUNT", "with show: the newest so many events"),
        Opt::value('o', "FILE", "with dump: the file to write (trace.dat)"),
    ],
    details: "\
Without a word: the buffers of ftrace and its instances, with events and losses.
show writes the events of a buffer, oldest first, in the words of the kernel's own formats; an
event whose format is beyond what is understood here shows its fields. dump writes a buffer to a file
that trace-cmd and KernelShark read. Without INSTANCE: the global buffer.",
    examples: &[
        ("", "tracers, buffers, events in them"),
        ("show -n 20", "the 20 newest events"),
        ("dump -o /dev/null", "writes trace.dat files (here: throws it away)"),
    ],
    takes_all: false,
    rows: &[
        Rows {
            options: "",
            row: "a buffer",
            members: "`addr` `buffer` `name` `tracer` `recording` `page_bytes` `cpus` (`cpu` `addr` `pages` `entries` `bytes` `overrun` `commit_overrun` `dropped` `read`) `gaps`",
        },
        Rows {
            options: "show",
            row: "an event",
            members: "`time` (of the buffer's clock, ns as a rule), `cpu` `pid` `comm` `flags` `preempt_count` `system` `event` `fields` `text` (in the words of its format)",
        },
        Rows {
            options: "dump",
            row: "the file",
            members: "`file` `instance` `events_formats` `pages`",
        },
    ],
    each: None,
    run,
};

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let (buffers, gaps) = session.kernel().trace_buffers().map_err(failed(COMMAND.name))?;
    super::note_gaps(out, buffers.iter().map(|buffer| &buffer.gaps).chain([&gaps]))?;
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => status(&buffers, out),
        ["show", rest @ ..] => show(session, chosen(&buffers, rest)?, args, out),
        ["dump", rest @ ..] => dump(session, chosen(&buffers, rest)?, args, out),
        [word, ..] => {
            let what = format!("`{word}` is neither show nor dump");
            Err(CommandError::Usage { command: COMMAND.name, what })
        }
    }
}

/// The buffer that `words` name.
fn chosen<'b>(buffers: &'b [TraceBuffer], words: &[&str]) -> Result<&'b TraceBuffer, CommandError> {
    let found = match words {
        [] => buffers.iter().find(|buffer| buffer.name.is_none()),
        [name] => buffers.iter().find(|buffer| buffer.name.as_deref() == Some(*name)),
        _ => None,
    };
    found.ok_or_else(|| CommandError::Failed {
        command: COMMAND.name,
        what: format!("no trace buffer is called `{}`; `trace` lists them", words.join(" ")),
    })
}

fn status(buffers: &[TraceBuffer], out: &mut Output<'_>) -> Result<(), CommandError> {
    match out.is_json() {
        true => out.rows(buffers)?,
        false => render_status(out, buffers)?,
    }
    Ok(())
}

fn render_status(out: &mut dyn Write, buffers: &[TraceBuffer]) -> io::Result<()> {
    for (i, buffer) in buffers.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        let name = buffer.name.as_deref().unwrap_or("(global)");
        let tracer = buffer.tracer.as_deref().unwrap_or("-");
        let recording = if buffer.recording { "on" } else { "off" };
        writeln!(
            out,
            "BUFFER: {name}  TRACE_ARRAY: {:016x}  TRACER: {tracer}  RECORDING: {recording}",
            buffer.addr
        )?;
        writeln!(
            out,
            "CPU  RING_BUFFER_PER_CPU    PAGES   EVENTS      BYTES  OVERWRITTEN     LOST"
        )?;
        for cpu in &buffer.cpus {
            writeln!(
                out,
                "{:>3}  {:016x}    {:>8} {:>8} {:>10} {:>12} {:>8}",
                cpu.cpu,
                cpu.addr,
                cpu.pages,
                cpu.entries,
                cpu.bytes,
                cpu.overrun,
                cpu.commit_overrun.saturating_add(cpu.dropped)
            )?;
        }
    }
    Ok(())
}

/// A row of JSON of `trace show`.
#[derive(Serialize)]
struct EventRow<'a> {
    time: u64,
    cpu: u32,
    pid: i32,
    comm: &'a str,
    flags: u8,
    preempt_count: u8,
    system: Option<&'a str>,
    event: String,
    fields: serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

fn show(
    session: &Session,
    buffer: &TraceBuffer,
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let cpus: Vec<&TraceCpu> = match args.value('c') {
        None => buffer.cpus.iter().collect(),
        Some(word) => {
            let known: Vec<u32> = buffer.cpus.iter().map(|cpu| cpu.cpu).collect();
            let wanted = target::cpus(COMMAND.name, word, &known)?;
            buffer.cpus.iter().filter(|cpu| wanted.contains(&cpu.cpu)).collect()
        }
    };
    let newest = match args.value('n').map(str::parse::<usize>) {
        None => None,
        Some(Ok(count)) => Some(count),
        Some(Err(_)) => {
            let what = "-n needs a number".to_owned();
            return Err(CommandError::Usage { command: COMMAND.name, what });
        }
    };
    let formats = kernel.event_formats().map_err(failed(COMMAND.name))?;
    let printers = trace_format::Printers::new(kernel);
    let names = kernel.trace_names().map_err(failed(COMMAND.name))?;
    let mut reader = kernel.trace_events(buffer, &cpus);
    if !out.is_json() {
        render_head(out, buffer)?;
    }
    let line = |event: &CpuEvent, out: &mut Output<'_>| -> io::Result<()> {
        let one = trace_text::Event::new(&event.event, &formats);
        let comm = names.get(&one.pid).map_or("<...>", String::as_str);
        let text = one.format.and_then(|format| printers.print(format, &one.fields));
        if out.is_json() {
            let fields = one.fields.iter().map(|(name, value)| (name.clone(), json(value)));
            return out.row(&EventRow {
                time: event.event.time,
                cpu: event.cpu,
                pid: one.pid,
                comm,
                flags: one.flags,
                preempt_count: one.preempt_count,
                system: one.format.map(|format| format.system.as_str()),
                event: one.name(),
                fields: fields.collect(),
                text,
            });
        }
        trace_text::render(out, kernel, event.cpu, event.event.time, comm, &one, text.as_deref())
    };
    match newest {
        None => {
            for event in &mut reader {
                line(&event, out)?;
            }
        }
        Some(count) => {
            let mut last = VecDeque::new();
            for event in &mut reader {
                if last.len() == count {
                    last.pop_front();
                }
                if count > 0 {
                    last.push_back(event);
                }
            }
            last.iter().try_for_each(|event| line(event, out))?;
        }
    }
    super::note_gaps(out, [&formats.gaps, reader.gaps()].into_iter())
}

fn json(value: &FieldValue) -> serde_json::Value {
    match value {
        FieldValue::Signed(n) => (*n).into(),
        FieldValue::Unsigned(n) => (*n).into(),
        FieldValue::Pointer(text) | FieldValue::Text(text) => text.as_str().into(),
        FieldValue::Numbers(all) => all.iter().copied().collect(),
    }
}

fn render_head(out: &mut dyn Write, buffer: &TraceBuffer) -> io::Result<()> {
    writeln!(out, "# tracer: {}", buffer.tracer.as_deref().unwrap_or("-"))?;
    writeln!(out, "#")?;
    writeln!(
        out,
        "# entries-in-buffer/entries-written: {}/{}   #P:{}",
        buffer.entries(),
        buffer.written(),
        buffer.cpus.len()
    )?;
    writeln!(out, "#")?;
    writeln!(out, "#           TASK-PID     CPU#  FLAGS  TIMESTAMP    EVENT")?;
    writeln!(out, "#              | |         |     |       |           |")
}

/// A row of JSON of `trace dump`.
#[derive(Serialize)]
struct DumpRow<'a> {
    file: &'a str,
    instance: Option<&'a str>,
    events_formats: usize,
    pages: u64,
}

fn dump(
    session: &Session,
    buffer: &TraceBuffer,
    args: &Args,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let file = args.value('o').unwrap_or("trace.dat");
    let formats = kernel.event_formats().map_err(failed(COMMAND.name))?;
    let names = kernel.trace_names().map_err(failed(COMMAND.name))?;
    let cannot = |error: io::Error| CommandError::Failed {
        command: COMMAND.name,
        what: format!("{file} can't be written: {error}"),
    };
    let mut writer = BufWriter::new(File::create(file).map_err(cannot)?);
    let written = trace_dat::write(&mut writer, kernel, buffer, &formats, &names);
    let written = written.and_then(|written| writer.flush().map(|()| written)).map_err(cannot)?;
    match out.is_json() {
        true => out.row(&DumpRow {
            file,
            instance: buffer.name.as_deref(),
            events_formats: formats.list.len(),
            pages: written.pages,
        })?,
        false => writeln!(
            out,
            "{file}: {} pages of events, read it with `trace-cmd report {file}`",
            written.pages
        )?,
    }
    super::note_gaps(out, [&formats.gaps, &written.gaps].into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::gaps::Gaps;

    #[test]
    fn a_buffer_shows_what_it_has_and_lost() {
        let cpu = |cpu, overrun| TraceCpu {
            cpu,
            addr: 0xffff_9adf_4561_0000,
            pages: 354,
            entries: 573,
            bytes: 25144,
            overrun,
            commit_overrun: 1,
            dropped: 2,
            read: 0,
        };
        let buffer = TraceBuffer {
            addr: 0xffff_ffff_9612_b800,
            buffer: 0,
            name: None,
            tracer: Some("function_graph".to_owned()),
            recording: true,
            page_bytes: 4096,
            cpus: vec![cpu(0, 0), cpu(1, 37546)],
            gaps: Gaps::default(),
        };
        let mut text = Vec::new();
        render_status(&mut text, std::slice::from_ref(&buffer)).unwrap();
        render_head(&mut text, &buffer).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}
