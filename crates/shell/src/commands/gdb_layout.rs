//! `ptype/o`: a struct with the offset and size of each member, structs in it expanded, and the
//! holes between members.

use std::io::{self, Write};

use kmortem_debuginfo::btf::{DefinitionLine, Part, Type};

/// Where the text of a line begins.
const MARGIN: usize = 27;

/// A struct that is open.
struct Level {
    union: bool,
    /// Bits from its start to the end of its last member.
    end: u64,
    start: u64,
    size: u64,
}

/// Writes the layout of `ty`.
pub(super) fn render(out: &mut dyn Write, ty: Type<'_>) -> io::Result<()> {
    let lines = ty.definition_lines(true);
    if lines.first().is_none_or(|line| line.part != Part::Open) {
        return writeln!(out, "type = {}", ty.definition());
    }
    let mut levels: Vec<Level> = Vec::new();
    for line in &lines {
        let inner_union = levels.last().is_some_and(|level| level.union);
        match line.part {
            Part::Open => {
                if levels.is_empty() {
                    writeln!(out, "/* offset      |    size */  type = {}", line.text)?;
                } else {
                    hole(out, &mut levels, line)?;
                    let text = format!("{:1$}{2}", "", line.depth * 4, line.text);
                    writeln!(out, "{}{text}", place(line, inner_union))?;
                }
                levels.push(Level {
                    union: line.text.contains("union "),
                    end: line.bit_offset,
                    start: line.bit_offset,
                    size: line.size,
                });
            }
            Part::Member => {
                hole(out, &mut levels, line)?;
                writeln!(
                    out,
                    "{}{:2$}{3}",
                    place(line, inner_union),
                    "",
                    line.depth * 4,
                    line.text
                )?;
            }
            Part::Close => {
                let level = levels.pop();
                close(out, level, line, levels.is_empty())?;
            }
            Part::Remark => {
                writeln!(out, "{:1$}{2}", "", MARGIN + line.depth * 4, line.text)?;
            }
        }
        if line.part != Part::Remark
            && let Some(level) = levels.last_mut()
            && line.part != Part::Open
        {
            let bits = line.bit_size.map_or(line.size * 8, u64::from);
            level.end = level.end.max(line.bit_offset.saturating_add(bits));
        }
    }
    Ok(())
}

/// `/*     16: 3   |       4 */`
fn place(line: &DefinitionLine, in_union: bool) -> String {
    let size = line.size;
    if in_union {
        return format!("/*                {size:>6} */");
    }
    let offset = line.bit_offset / 8;
    match line.bit_size {
        Some(_) => format!("/* {offset:>6}:{:>2}   |  {size:>6} */", line.bit_offset % 8),
        None => format!("/* {offset:>6}      |  {size:>6} */"),
    }
}

/// What lies unused between the last member and this one.
fn hole(out: &mut dyn Write, levels: &mut [Level], line: &DefinitionLine) -> io::Result<()> {
    let Some(level) = levels.last().filter(|level| !level.union) else { return Ok(()) };
    let Some(gap) = line.bit_offset.checked_sub(level.end).filter(|gap| *gap > 0) else {
        return Ok(());
    };
    // Up to the next byte the gap is one of bits.
    let bits = if level.end % 8 == 0 { 0 } else { (8 - level.end % 8).min(gap) };
    let (bits, bytes) =
        if line.bit_size.is_some() && gap < 8 { (gap, 0) } else { (bits, (gap - bits) / 8) };
    if bits > 0 {
        writeln!(out, "/* XXX {bits:>2}-bit hole       */")?;
    }
    if bytes > 0 {
        writeln!(out, "/* XXX {bytes:>2}-byte hole      */")?;
    }
    Ok(())
}

fn close(
    out: &mut dyn Write,
    level: Option<Level>,
    line: &DefinitionLine,
    outermost: bool,
) -> io::Result<()> {
    let indent = MARGIN + line.depth * 4 + if outermost { 2 } else { 0 };
    if let Some(level) = level {
        let used = (level.end - level.start).div_ceil(8);
        if let Some(padding) = level.size.checked_sub(used).filter(|n| *n > 0 && !level.union) {
            writeln!(out, "/* XXX {padding:>2}-byte padding   */")?;
        }
        writeln!(out)?;
        let indent = MARGIN + (line.depth + 1) * 4;
        writeln!(out, "{:indent$}/* total size (bytes): {:>4} */", "", level.size)?;
    }
    writeln!(out, "{:indent$}{}", "", line.text)
}
