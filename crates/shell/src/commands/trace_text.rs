//! A trace event as a line of text, in the shape of /sys/kernel/tracing/trace.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::ftrace::format::EventFormats;
use kmortem_kernel::ftrace::{EventFormat, FieldValue, RawEvent};

/// Fields that are addresses of functions.
const FUNCTIONS: &[&str] = &[
    "ip",
    "parent_ip",
    "func",
    "function",
    "caller",
    "call_site",
    "__probe_ip",
    "__probe_func",
    "__probe_ret_ip",
];

/// An event with what its format says of it.
pub(super) struct Event<'f> {
    /// Its format; none is known of an ID that no event has.
    pub(super) format: Option<&'f EventFormat>,
    id: u16,
    /// `TRACE_FLAG_*` (include/linux/trace_events.h).
    pub(super) flags: u8,
    /// Depth of disabled preemption; in the upper half that of migration.
    pub(super) preempt_count: u8,
    /// Thread that wrote it.
    pub(super) pid: i32,
    /// Its own fields.
    pub(super) fields: Vec<(String, FieldValue)>,
}

impl<'f> Event<'f> {
    /// Each event begins with `struct trace_entry`.
    pub(super) fn new(raw: &RawEvent, formats: &'f EventFormats) -> Event<'f> {
        let data = raw.data.as_slice();
        let byte = |at: usize| data.get(at).copied().unwrap_or(0);
        let id = u16::from_le_bytes([byte(0), byte(1)]);
        let format = formats.find(id.into());
        let fields = format.map(|format| {
            let fields = format.fields.iter();
            let values = fields.filter_map(|f| Some((f.name.clone(), f.value(data)?)));
            values.collect()
        });
        Event {
            format,
            id,
            flags: byte(2),
            preempt_count: byte(3),
            pid: i32::from_le_bytes([byte(4), byte(5), byte(6), byte(7)]),
            fields: fields.unwrap_or_default(),
        }
    }

    /// Its name, or its number.
    pub(super) fn name(&self) -> String {
        self.format.map_or_else(|| format!("unknown-{}", self.id), |format| format.name.clone())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.fields.iter().find(|field| field.0 == name).and_then(|field| match &field.1 {
            FieldValue::Unsigned(n) => Some(*n),
            FieldValue::Signed(n) => Some(n.cast_unsigned()),
            FieldValue::Pointer(text) => {
                u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
            }
            _ => None,
        })
    }
}

/// Writes the line, or lines.
pub(super) fn render(
    out: &mut dyn Write,
    kernel: &Kernel,
    cpu: u32,
    time: u64,
    comm: &str,
    event: &Event<'_>,
    words: Option<&str>,
) -> io::Result<()> {
    let micros = time.saturating_add(500) / 1000;
    write!(
        out,
        "{comm:>16}-{:<7} [{cpu:03}] {} {:>5}.{:06}: ",
        event.pid,
        flags(event.flags, event.preempt_count),
        micros / 1_000_000,
        micros % 1_000_000
    )?;
    let symbol = |addr: u64| kernel.symbol_at(addr).map_or(format!("{addr:#x}"), |s| s.name);
    match event.name().as_str() {
        "function" => {
            let at = |name| event.number(name).map_or("-".to_owned(), symbol);
            writeln!(out, "{} <-{}", at("ip"), at("parent_ip"))
        }
        "kernel_stack" => {
            writeln!(out, "<stack trace>")?;
            let Some((_, FieldValue::Numbers(callers))) =
                event.fields.iter().find(|field| field.0 == "caller")
            else {
                return Ok(());
            };
            let depth = event.number("size").unwrap_or(0);
            let known = callers.iter().take(usize::try_from(depth).unwrap_or(0));
            known.into_iter().try_for_each(|caller| writeln!(out, " => {}", symbol(*caller)))
        }
        name => {
            if let Some(words) = words {
                return writeln!(out, "{name}: {words}");
            }
            write!(out, "{name}:")?;
            for (field, value) in &event.fields {
                let function = FUNCTIONS.contains(&field.as_str());
                match (function, event.number(field)) {
                    (true, Some(addr)) => write!(out, " {field}={}", symbol(addr))?,
                    _ => write!(out, " {field}={}", text(value))?,
                }
            }
            writeln!(out)
        }
    }
}

fn text(value: &FieldValue) -> String {
    match value {
        FieldValue::Signed(n) => n.to_string(),
        FieldValue::Unsigned(n) => n.to_string(),
        FieldValue::Pointer(text) => text.clone(),
        FieldValue::Text(text) => text.trim_end_matches('\n').to_owned(),
        FieldValue::Numbers(all) => {
            let all: Vec<String> = all.iter().map(|n| format!("{n:x}")).collect();
            format!("{{{}}}", all.join(","))
        }
    }
}

/// The five characters of latency (trace_print_lat_fmt): interrupts off, must
/// reschedule, in an interrupt, depth of preemption, of migration.
fn flags(flags: u8, preempt_count: u8) -> String {
    let is = |bit: u8| flags & bit != 0;
    let irqs = match (is(0x01), is(0x80), is(0x02)) {
        (true, true, _) => 'D',
        (true, false, _) => 'd',
        (false, true, _) => 'b',
        (false, false, true) => 'X',
        _ => '.',
    };
    let resched = match (is(0x04), is(0x20)) {
        (true, true) => 'N',
        (true, false) => 'n',
        (false, true) => 'p',
        _ => '.',
    };
    let context = match (is(0x40), is(0x08), is(0x10)) {
        (true, true, _) => 'Z',
        (true, false, _) => 'z',
        (_, true, true) => 'H',
        (_, true, false) => 'h',
        (_, false, true) => 's',
        _ => '.',
    };
    let depth = |n: u8| if n == 0 { '.' } else { char::from_digit(n.into(), 16).unwrap_or('.') };
    let depths = [depth(preempt_count & 15), depth(preempt_count >> 4)];
    [irqs, resched, context].into_iter().chain(depths).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::gaps::Gaps;

    #[test]
    fn latency_is_five_characters() {
        assert_eq!(flags(0, 0), ".....");
        assert_eq!(flags(0x01 | 0x04 | 0x08, 0x12), "dnh21");
        assert_eq!(flags(0x81 | 0x24 | 0x48, 0), "DNZ..");
    }

    #[test]
    fn an_event_without_a_format_keeps_its_number() {
        let formats = EventFormats { list: Vec::new(), common: Vec::new(), gaps: Gaps::default() };
        let raw = RawEvent { time: 0, data: vec![0x3c, 1, 1, 2, 7, 0, 0, 0] };
        let event = Event::new(&raw, &formats);
        assert_eq!((event.name().as_str(), event.pid, event.flags), ("unknown-316", 7, 1));
    }
}
