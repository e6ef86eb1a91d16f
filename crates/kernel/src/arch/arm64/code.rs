//! arm64 code as text.
//!
//! The text of an instruction is yaxpeax-arm's; addresses relative to the
//! instruction are brought to what binutils writes: the address itself.

use yaxpeax_arch::{Decoder, U8Reader};
use yaxpeax_arm::armv8::a64::InstDecoder;

use super::instruction::{LENGTH, relative};
use crate::arch::CodeWriter;
use crate::disassembly::{CodeLine, CodeText};

/// What makes text of code.
pub(super) fn writer() -> CodeWriter {
    Box::new(|bytes, address| {
        let Some(code) = bytes.first_chunk().map(|raw| u32::from_le_bytes(*raw)) else {
            return CodeText {
                length: bytes.len(),
                text: "(cut off)".into(),
                target: None,
                is_branch: false,
            };
        };
        let (text, target) = text_of(code, address);
        CodeText {
            length: LENGTH,
            text,
            target: target.map(|(to, _)| to),
            is_branch: target.is_some_and(|(_, branch)| branch),
        }
    })
}

/// An instruction's text, the address in it, and whether that is where it jumps to.
pub(super) fn text_of(code: u32, address: u64) -> (String, Option<(u64, bool)>) {
    let bytes = code.to_le_bytes();
    let mut text = match InstDecoder::default().decode(&mut U8Reader::new(&bytes)) {
        Ok(instruction) => instruction.to_string(),
        Err(_) => String::new(),
    };
    if text.is_empty() || text.starts_with("invalid") {
        return (format!(".inst   0x{code:08x}"), None);
    }
    let target = relative(code, address);
    if let Some((to, _)) = target
        && let Some(at) = text.find("$+").or_else(|| text.find("$-"))
    {
        text.truncate(at);
        text.push_str(&format!("0x{to:x}"));
    }
    // The name stands in a column of its own.
    if let Some((name, operands)) = text.split_once(' ') {
        text = format!("{name:<7} {operands}");
    }
    (text, target)
}

/// Padding behind a function: `nop`, zeros (`udf #0`).
pub(super) fn lines_of_function(lines: &[CodeLine]) -> usize {
    let padding = |line: &CodeLine| matches!(line.bytes.as_str(), "1f2003d5" | "00000000");
    lines.iter().rposition(|line| !padding(line)).map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_addresses() {
        for (code, expected) in [
            (0xa9bf_7bfdu32, "stp     x29, x30, [sp, #-0x10]!"),
            (0x97ff_ff00, "bl      0xffff800007fffc00"),
            (0xb400_0060, "cbz     x0, 0xffff80000800000c"),
            (0xd65f_03c0, "ret"),
            (0xf940_0c20, "ldr     x0, [x1, #0x18]"),
        ] {
            assert_eq!(text_of(code, 0xffff_8000_0800_0000).0, expected);
        }
    }
}
