//! A trace buffer as a file that trace-cmd reads: trace.dat, version 6.
//!
//! The format is trace-cmd's own (Documentation/trace-cmd/trace-cmd.dat.v6.5.txt
//! in its source): a magic, the size of pages, then what the kernel tells in
//! its tracing directory (header_page, header_event, the formats of events),
//! symbols, formats of `trace_printk`, names of tasks; then the options, and
//! for each CPU where its pages are. The pages are as the kernel had them.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::ftrace::format::{EventFormat, EventFormats, Field};
use kmortem_kernel::ftrace::{TraceBuffer, TracePage, ring_buffer};
use kmortem_kernel::gaps::Gaps;
use rustc_hash::FxHashMap;

/// What was written.
pub(super) struct Written {
    pub(super) pages: u64,
    pub(super) gaps: Gaps,
}

/// Where the data begins: at a page of the host's size.
const ALIGN: u64 = 4096;

/// Writes `buffer` to `out`.
pub(super) fn write(
    out: &mut dyn Write,
    kernel: &Kernel,
    buffer: &TraceBuffer,
    formats: &EventFormats,
    names: &FxHashMap<i32, String>,
) -> io::Result<Written> {
    let mut gaps = Gaps::default();
    let head = head(buffer.page_bytes, formats);
    out.write_all(&head)?;
    let mut at = head.len() as u64;
    drop(head);
    // By far the largest part of all in front of the pages, and so not kept beside a copy.
    let symbols = symbols(kernel);
    at += (size_of::<u32>() + symbols.len()) as u64;
    out.write_all(&(symbols.len() as u32).to_le_bytes())?;
    out.write_all(symbols.as_bytes())?;
    drop(symbols);
    let mut head = Vec::new();
    // Formats of trace_printk: bprint events show without.
    put_sized32(&mut head, b"");
    put_sized64(&mut head, task_names(names).as_bytes());

    // One place for each number up to the highest CPU, also those without.
    let count = buffer.cpus.iter().map(|cpu| cpu.cpu + 1).max().unwrap_or(0);
    let mut rings: Vec<Vec<TracePage>> = vec![Vec::new(); count as usize];
    for cpu in &buffer.cpus {
        let pages = gaps.keep("a CPU's trace", kernel.trace_pages(cpu)).unwrap_or_default();
        if let Some(ring) = rings.get_mut(cpu.cpu as usize) {
            *ring = pages;
        }
    }
    head.extend(count.to_le_bytes());
    head.extend(b"options  \0");
    head.extend(0u16.to_le_bytes());
    head.extend(b"flyrecord\0");
    let begun = at;
    at = (at + head.len() as u64 + u64::from(count) * 16).next_multiple_of(ALIGN);
    let start = at - begun;
    for ring in &rings {
        let size = ring.len() as u64 * buffer.page_bytes;
        head.extend(at.to_le_bytes());
        head.extend(size.to_le_bytes());
        at += size;
    }
    head.resize(usize::try_from(start).unwrap_or(usize::MAX), 0);
    out.write_all(&head)?;
    let mut pages = 0;
    for page in rings.iter().flatten() {
        let bytes = gaps.keep("a page of the trace", kernel.trace_page(buffer, page));
        // In place of a page that is not there one without events.
        let empty = || vec![0; buffer.page_bytes as usize];
        out.write_all(&bytes.unwrap_or_else(empty))?;
        pages += 1;
    }
    Ok(Written { pages, gaps })
}

/// Everything up to the formats of events.
fn head(page_bytes: u64, formats: &EventFormats) -> Vec<u8> {
    let mut head = b"\x17\x08\x44tracing6\0".to_vec();
    // Little endian, 8 bytes to a long.
    head.extend([0, 8]);
    head.extend(u32::try_from(page_bytes).unwrap_or(4096).to_le_bytes());
    head.extend(b"header_page\0");
    put_sized64(&mut head, header_page(page_bytes).as_bytes());
    head.extend(b"header_event\0");
    put_sized64(&mut head, HEADER_EVENT.as_bytes());
    let own: Vec<&EventFormat> = formats.list.iter().filter(|f| f.system == "ftrace").collect();
    head.extend((own.len() as u32).to_le_bytes());
    for format in own {
        put_sized64(&mut head, format_text(format, &formats.common).as_bytes());
    }
    let mut systems: Vec<&str> = formats.list.iter().map(|f| f.system.as_str()).collect();
    systems.sort_unstable();
    systems.dedup();
    systems.retain(|system| *system != "ftrace");
    head.extend((systems.len() as u32).to_le_bytes());
    for system in systems {
        let events: Vec<&EventFormat> =
            formats.list.iter().filter(|f| f.system == system).collect();
        head.extend(system.as_bytes());
        head.push(0);
        head.extend((events.len() as u32).to_le_bytes());
        for format in events {
            put_sized64(&mut head, format_text(format, &formats.common).as_bytes());
        }
    }
    head
}

fn put_sized32(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend((part.len() as u32).to_le_bytes());
    bytes.extend(part);
}

fn put_sized64(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend((part.len() as u64).to_le_bytes());
    bytes.extend(part);
}

/// events/header_page of the tracing directory (ring_buffer_print_page_header).
fn header_page(page_bytes: u64) -> String {
    let data = page_bytes.saturating_sub(ring_buffer::HEADER as u64);
    format!(
        "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\
         \tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n\
         \tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\
         \tfield: char data;\toffset:16;\tsize:{data};\tsigned:1;\n"
    )
}

/// events/header_event (ring_buffer_print_entry_header).
const HEADER_EVENT: &str = "# compressed entry header\n\
    \ttype_len    :    5 bits\n\
    \ttime_delta  :   27 bits\n\
    \tarray       :   32 bits\n\
    \n\
    \tpadding     : type == 29\n\
    \ttime_extend : type == 30\n\
    \ttime_stamp : type == 31\n\
    \tdata max type_len  == 28\n";

/// events/SYSTEM/NAME/format (f_show, kernel/trace/trace_events.c).
fn format_text(format: &EventFormat, common: &[Field]) -> String {
    let mut text = format!("name: {}\nID: {}\nformat:\n", format.name, format.id);
    common.iter().for_each(|field| push_field(&mut text, field));
    text.push('\n');
    format.fields.iter().for_each(|field| push_field(&mut text, field));
    text.push_str(&format!("\nprint fmt: {}\n", format.print_fmt));
    text
}

/// The size of an array stands behind the name, unless the array is elsewhere.
fn push_field(text: &mut String, field: &Field) {
    let array = match field.ty.split_once('[') {
        Some(parts)
            if !field.ty.starts_with("__data_loc") && !field.ty.starts_with("__rel_loc") =>
        {
            Some(parts)
        }
        _ => None,
    };
    let declared = match array {
        Some((ty, size)) => format!("{ty} {}[{size}", field.name),
        None => format!("{} {}", field.ty, field.name),
    };
    let signed = u8::from(field.signed);
    let (offset, size) = (field.offset, field.size);
    text.push_str(&format!(
        "\tfield:{declared};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n"
    ));
}

/// Lines as in /proc/kallsyms.
fn symbols(kernel: &Kernel) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    if let Ok(kallsyms) = kernel.kallsyms() {
        for symbol in kallsyms.iter() {
            let _ =
                writeln!(text, "{:016x} {} {}", symbol.addr, char::from(symbol.kind), symbol.name);
        }
    }
    for module in kernel.modules().unwrap_or_default() {
        let Ok(symbols) = module.symbols(kernel) else { continue };
        for (address, _, name) in symbols.iter() {
            let _ = writeln!(text, "{address:016x} t {name}\t[{}]", module.name);
        }
    }
    text
}

/// Lines as in saved_cmdlines, by PID.
fn task_names(names: &FxHashMap<i32, String>) -> String {
    let mut sorted: Vec<(&i32, &String)> = names.iter().collect();
    sorted.sort_unstable();
    sorted.iter().map(|(pid, comm)| format!("{pid} {comm}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_as_in_the_tracing_directory() {
        let field = |ty: &str, name: &str, offset, size, signed| Field {
            name: name.to_owned(),
            ty: ty.to_owned(),
            offset,
            size,
            signed,
        };
        let format = EventFormat {
            id: 316,
            name: "sched_wakeup".to_owned(),
            system: "sched".to_owned(),
            fields: vec![
                field("char[16]", "comm", 8, 16, false),
                field("__data_loc char[]", "path", 24, 4, false),
            ],
            print_fmt: "\"comm=%s\", REC->comm".to_owned(),
        };
        let common = [field("unsigned short", "common_type", 0, 2, false)];
        insta::assert_snapshot!(format_text(&format, &common));
    }
}
