//! Stacks, chains and charts as lines of text.

use crate::finding::{Bar, Section};
use crate::text::bytes;
use crate::view::{FrameView, StackView};

use super::line::{Line, Role, cut, wrap};

/// A section's heading and lines, at most `width` columns wide.
pub(super) fn section(section: &Section, width: usize, full: bool) -> (String, Vec<Line>) {
    match section {
        Section::Stack { title, stack } => (title.clone(), self::stack(stack, width, full)),
        Section::Lines { title, lines } => {
            let lines = lines
                .iter()
                .flat_map(|text| {
                    let indent = text.len() - text.trim_start().len();
                    wrap(text, width.saturating_sub(indent + 2)).into_iter().enumerate().map(
                        move |(i, part)| {
                            let more = if i > 0 { 2 } else { 0 };
                            Line::new().plain(" ".repeat(indent + more)).plain(part)
                        },
                    )
                })
                .collect();
            (title.clone(), lines)
        }
        Section::Bars { title, full_bytes, bars } => {
            (title.clone(), chart(bars, *full_bytes, width))
        }
    }
}

/// Widest that the section wants to be.
pub(super) fn natural_width(section: &Section) -> usize {
    match section {
        Section::Stack { stack, .. } => {
            let lines = self::stack(stack, 200, false);
            lines.iter().map(Line::width).max().unwrap_or(0)
        }
        Section::Lines { lines, .. } => lines.iter().map(|l| l.chars().count()).max().unwrap_or(0),
        Section::Bars { .. } => 36,
    }
}

/// Frames that carry meaning, the others folded.
pub(super) fn stack(stack: &StackView, width: usize, full: bool) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut at = 0;
    let visible = |f: &FrameView| full || f.noise.is_none();
    let column = stack
        .frames
        .iter()
        .filter(|f| visible(f))
        .map(|f| frame_name(f).chars().count() + 5)
        .max()
        .unwrap_or(0)
        .min(width.saturating_sub(14));
    while at < stack.frames.len() {
        let frame = &stack.frames[at];
        if visible(frame) {
            lines.push(frame_line(frame, column, width));
            at += 1;
            continue;
        }
        let end =
            stack.frames[at..].iter().position(visible).map_or(stack.frames.len(), |n| at + n);
        lines.push(folded(&stack.frames[at..end], width));
        at = end;
    }
    if let Some(broken) = &stack.broken {
        for part in wrap(&format!("the stack can't be followed further: {broken}"), width - 2) {
            lines.push(Line::of(Role::Warn, part));
        }
    }
    if lines.is_empty() {
        lines.push(Line::of(Role::Dim, "no kernel frames: it was in user space"));
    }
    lines
}

fn frame_name(frame: &FrameView) -> String {
    match frame.offset {
        0 => frame.function.clone(),
        offset => format!("{}+{offset:#x}", frame.function),
    }
}

fn frame_line(frame: &FrameView, column: usize, width: usize) -> Line {
    let number = format!("#{:<3} ", frame.number);
    let name = cut(&frame_name(frame), width.saturating_sub(5));
    let mut line = Line::of(Role::Dim, number);
    let marked = frame.note.as_ref().is_some_and(|n| !n.starts_with("interrupted"));
    line = line.and(if marked { Role::Strong } else { Role::Plain }, name);
    if let Some(module) = &frame.module {
        line = line.pad(column + 1).and(Role::Label, format!("[{module}]"));
    }
    if let Some(note) = &frame.note {
        let room = width.saturating_sub(line.width() + 4);
        if room > 6 {
            line = line.and(Role::Bad, "  ◀ ").and(Role::Bad, cut(note, room));
        }
    }
    line
}

fn folded(frames: &[FrameView], width: usize) -> Line {
    if let [first, .., last] = frames
        && first.function == last.function
        && frames.len() > 2
    {
        return Line::of(Role::Dim, format!("┆    {} more of {}", frames.len(), first.function));
    }
    let names: Vec<&str> = frames.iter().map(|f| f.function.as_str()).collect();
    let all = format!("┆    {}", names.join(" · "));
    let text = if all.chars().count() <= width {
        all
    } else {
        let first = names.first().copied().unwrap_or("");
        let last = names.last().copied().unwrap_or("");
        format!("┆    {first} · {} more · {last}", names.len().saturating_sub(2))
    };
    Line::of(Role::Dim, cut(&text, width))
}

const EIGHTHS: [&str; 9] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"];

fn chart(bars: &[Bar], full: u64, width: usize) -> Vec<Line> {
    let label = bars.iter().map(|b| b.label.chars().count()).max().unwrap_or(0).max(6);
    let room = width.saturating_sub(label + 12).clamp(4, 24);
    bars.iter()
        .map(|bar| {
            let share = u128::from(bar.bytes) * (room as u128 * 8) / u128::from(full.max(1));
            let eighths = (share as usize).min(room * 8);
            let eighths = if eighths == 0 && bar.bytes > 0 { 1 } else { eighths };
            let drawn = format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8]);
            Line::new()
                .plain(format!("{:<label$} {:>9}  ", bar.label, bytes(bar.bytes)))
                .and(Role::Label, drawn)
        })
        .collect()
}
