//! `bt -t`, `-T` and `-r`: the words of stacks. `bt -f`, `-F` and `-FF`: those
//! of each frame.

use std::io::{self, Write};

use kmortem_kernel::Kernel;
use kmortem_kernel::stack::{Stack, StackEnd};
use kmortem_kernel::stack_words::{TextWord, WordMeaning};
use kmortem_kernel::symbol::SymbolAt;
use kmortem_kernel::task::Task;
use serde::Serialize;

use super::stack_registers::{has_own_line, render_registers};
use super::stack_text::{FrameWords, Style, render_exception, render_switch};
use super::task_header;
use crate::error::CommandError;
use crate::output::Output;

/// How the words of a frame are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// As numbers.
    None,
    /// Symbols and the names of slab caches.
    Names,
    /// Of slab objects their addresses, too.
    NamesAndAddresses,
}

/// A row of JSON of `bt -t` and `-T`.
#[derive(Serialize)]
struct TextWords<'a> {
    task: &'a Task,
    words: Vec<TextWord>,
}

/// The words that are addresses of code: from where the trace starts, or
/// (`whole`) of the task's whole stack.
pub(super) fn show_text(
    kernel: &Kernel,
    chosen: &[&Task],
    whole: bool,
    style: Style,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    for (i, task) in chosen.iter().enumerate() {
        let stack = kernel.stack(task);
        let mut parts = kernel.stack_parts(task, &stack);
        if whole && task.stack != 0 {
            let own = kernel.stack_range(task).map_err(super::failed("bt"))?;
            parts.retain(|part| part.range.end == own.end);
            parts.truncate(1);
            parts.iter_mut().for_each(|part| part.range = own.clone());
        }
        let text = !out.is_json();
        // Of a whole stack no word is taken for part of the trace.
        let none = Stack::unavailable("");
        let trace = if whole { &none } else { &stack };
        if text {
            if i > 0 {
                writeln!(out)?;
            }
            task_header::render(out, task)?;
            if task.stack == 0 {
                writeln!(out, "(no stack)")?;
                continue;
            }
            if let Some(first) = stack.frames.first().filter(|_| !whole) {
                let name = first.symbol.as_ref().map(|symbol| named(symbol, style));
                let name = name.unwrap_or_else(|| "(unknown)".to_owned());
                writeln!(out, "              START: {name} at {:x}", first.pc)?;
            }
        }
        let mut all = Vec::new();
        for (n, part) in parts.iter().enumerate() {
            if let (true, Some(left)) = (text && n > 0, parts.get(n.wrapping_sub(1))) {
                render_switch(out, left.kind)?;
            }
            match kernel.text_words(part.range.clone()) {
                Ok(words) if text => render_text(out, &words, trace, style)?,
                Ok(words) => all.extend(words),
                Err(e) => out.note(format_args!("PID {}: {e}", task.pid))?,
            }
        }
        match &stack.end {
            _ if !text => out.row(&TextWords { task, words: all })?,
            StackEnd::User { registers } => render_registers(out, registers, true)?,
            _ => {}
        }
    }
    Ok(())
}

fn named(symbol: &SymbolAt, style: Style) -> String {
    match style.offsets && symbol.offset != 0 {
        true => format!("{}{}", symbol.name, style.offset(symbol.offset)),
        false => symbol.name.clone(),
    }
}

/// The words, and at those that the trace goes through what interrupts saved.
fn render_text(
    out: &mut dyn Write,
    words: &[TextWord],
    stack: &Stack,
    style: Style,
) -> io::Result<()> {
    let mut behind = 0;
    for word in words {
        // What interrupts saved is no address of code, but may look so.
        if word.at < behind {
            continue;
        }
        write!(out, "  [{:016x}] {} at {:x}", word.at, named(&word.symbol, style), word.pc)?;
        match &word.symbol.module {
            Some(module) => writeln!(out, " [{module}]")?,
            None => writeln!(out)?,
        }
        let mut pairs = stack.frames.windows(2);
        let saved = pairs.find_map(|pair| match pair {
            [entry, hit] if entry.at == word.at => hit.registers.as_ref().map(|regs| (hit, regs)),
            _ => None,
        });
        if let Some((frame, registers)) = saved {
            if has_own_line(registers) {
                render_registers(out, registers, true)?;
                continue;
            }
            render_exception(out, frame, style)?;
            render_registers(out, registers, true)?;
            behind = word.at.wrapping_add(8 + registers.set().size());
        }
    }
    Ok(())
}

/// For each frame: the stack words from behind it to its caller's return
/// address, which belong to the caller. `None` where they can't be read.
pub(super) fn frame_words(kernel: &Kernel, stack: &Stack, meaning: Meaning) -> Vec<FrameWords> {
    let frames = &stack.frames;
    (0..frames.len())
        .map(|i| {
            let frame = &frames[i];
            // A running task's first frame is where its stack pointer is: the
            // word there is no return address.
            let first = frame.registers.is_some() && frame.at == frame.sp;
            let from = if first { frame.at } else { frame.at.wrapping_add(8) };
            let next = frames.get(i + 1).map(|f| f.at.wrapping_add(8));
            // A frame on another stack, or the last one, has no end to show.
            let to = next.filter(|to| *to >= from && to - from <= 1 << 16).unwrap_or(from);
            let words = read_words(kernel, from, to);
            let shown =
                words.map(|words| words.iter().map(|w| show(kernel, *w, meaning)).collect());
            (from, shown)
        })
        .collect()
}

/// A word as it is shown: at least as wide as a number.
fn show(kernel: &Kernel, word: u64, meaning: Meaning) -> String {
    let meant = match meaning {
        Meaning::None => WordMeaning::Number,
        _ => kernel.word_meaning(word),
    };
    let text = match meant {
        WordMeaning::Number => format!("{word:016x}"),
        WordMeaning::Symbol(symbol) if symbol.offset == 0 => symbol.name,
        WordMeaning::Symbol(symbol) => format!("{}+{}", symbol.name, symbol.offset),
        WordMeaning::Slab(cache) if meaning == Meaning::NamesAndAddresses => {
            format!("[{word:x}:{cache}]")
        }
        WordMeaning::Slab(cache) => format!("[{cache}]"),
    };
    format!("{text:<16}")
}

fn read_words(kernel: &Kernel, from: u64, to: u64) -> Option<Vec<u64>> {
    let bytes = kernel.read_bytes(from, to.checked_sub(from)?).ok()?;
    let word = |raw: &[u8]| raw.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
    Some(bytes.chunks_exact(8).map(word).collect())
}

/// A row of JSON of `bt -r`.
#[derive(Serialize)]
struct RawStack<'a> {
    task: &'a Task,
    /// Address of the first word.
    #[serde(serialize_with = "kmortem_kernel::stack::hex")]
    from: u64,
    /// `symbol+offset` where a word is an address in the kernel's image or a
    /// module, else the word in hexadecimal.
    words: Vec<String>,
}

/// The memory of whole stacks, two words a line.
pub(super) fn show_raw(
    kernel: &Kernel,
    chosen: &[&Task],
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    for (i, task) in chosen.iter().enumerate() {
        if task.stack == 0 && !out.is_json() {
            if i > 0 {
                writeln!(out)?;
            }
            task_header::render(out, task)?;
            writeln!(out, "(no stack)")?;
            continue;
        }
        let from = kernel.stack_range(task).map_err(super::failed("bt"))?;
        let Some(words) = read_words(kernel, from.start, from.end) else {
            out.note(format_args!("the stack at {:#x} can't be read", from.start))?;
            continue;
        };
        let named = |word: &u64| match kernel.symbol_at(*word) {
            Some(symbol) if symbol.offset == 0 => symbol.name,
            Some(symbol) => format!("{}+{}", symbol.name, symbol.offset),
            None => format!("{word:016x}"),
        };
        let words: Vec<String> = words.iter().map(named).collect();
        if out.is_json() {
            out.row(&RawStack { task, from: from.start, words })?;
            continue;
        }
        if i > 0 {
            writeln!(out)?;
        }
        task_header::render(out, task)?;
        render_raw(out, from.start, &words)?;
    }
    Ok(())
}

/// A whole stack's memory: symbols where a word is the address of one.
fn render_raw(out: &mut dyn Write, from: u64, words: &[String]) -> io::Result<()> {
    for (at, pair) in (from..).step_by(16).zip(words.chunks(2)) {
        write!(out, "{at:016x}:  ")?;
        for word in pair {
            write!(out, "{word:<16} ")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::stack_text::Radix;

    #[test]
    fn text_words_name_their_module() {
        let symbol = |name: &str, offset, module: Option<&str>| SymbolAt {
            name: name.to_owned(),
            offset,
            size: 0x100,
            module: module.map(str::to_owned),
        };
        let word = |at, pc, symbol| TextWord { at, pc, symbol };
        let words = [
            word(0xff52_5e03_0011_fe90, 0xffff_ffff_8fc0_90f2, symbol("watchdog", 754, None)),
            word(0xff52_5e03_0011_fe98, 0xffff_ffff_c010_0000, symbol("spin", 0, Some("crasher"))),
        ];
        let mut text = Vec::new();
        let stack = Stack::unavailable("");
        for offsets in [false, true] {
            render_text(
                &mut text,
                &words,
                &stack,
                Style { offsets, radix: Radix::Hex, doubts: true },
            )
            .unwrap();
        }
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
    }
}
