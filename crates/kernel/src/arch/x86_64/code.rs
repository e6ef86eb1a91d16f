//! x86_64 code as text, in the syntax of objdump and gdb (AT&T).
//!
//! The text of an instruction is iced-x86's, brought to what binutils
//! (opcodes/i386-dis.c) writes where the two differ: see [`text_of`].

use iced_x86::{
    Decoder, DecoderOptions, Formatter, GasFormatter, Instruction, Mnemonic, OpKind, Register,
};

use crate::SymbolAt;
use crate::arch::CodeWriter;
use crate::disassembly::{CodeLine, CodeText};

/// What makes text of code.
pub(super) fn writer() -> CodeWriter {
    let mut formatter = formatter();
    Box::new(move |bytes, address| {
        let instruction = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
        if instruction.is_invalid() {
            return CodeText { length: 1, text: "(bad)".into(), target: None, is_branch: false };
        }
        let (text, target) = text_of(&mut formatter, &instruction, bytes);
        CodeText { length: instruction.len(), text, target, is_branch: is_branch(&instruction) }
    })
}

/// How many of a function's lines are no padding.
pub(super) fn lines_of_function(lines: &[CodeLine]) -> usize {
    // What has a label of its own is no padding.
    let is_label = |line: &CodeLine| line.symbol.as_ref().is_some_and(|s| s.offset == 0);
    let is_code = |line: &CodeLine| !is_padding(line) || is_label(line);
    let Some(last) = lines.iter().rposition(is_code) else { return 0 };
    // Room for a call in front of a function (`__pfx_f`) is nothing else.
    if last == 0 && lines.iter().all(is_padding) {
        return lines.len();
    }
    let behind = lines.iter().skip(last + 1);
    let traps = behind.take_while(|line| line.text == "int3").count();
    last + 1 + lines.get(last).map_or(0, |line| traps.min(traps_behind(line)))
}

/// What fills the room between two functions: `nop` in all its forms, `int3`,
/// zeros behind the last one.
fn is_padding(line: &CodeLine) -> bool {
    let mut names = line.text.split_whitespace().filter(|word| !matches!(*word, "data16" | "cs"));
    let name = names.next().unwrap_or_default();
    name.starts_with("nop")
        || name == "int3"
        || (name == "xchg" && line.text.ends_with(" %ax,%ax"))
        || line.bytes == "0000"
}

/// How many `int3` behind the last instruction belong to the function: a return
/// has room for a jump of 5 bytes (arch/x86/kernel/alternative.c,
/// `apply_returns`), and one stands behind an indirect jump (-mharden-sls).
fn traps_behind(last: &CodeLine) -> usize {
    let thunk = |symbol: &SymbolAt| symbol.name.starts_with("__x86_indirect_thunk");
    match last.text.split_whitespace().next() {
        Some("ret") => 4,
        Some("jmp") if last.target.is_none() || last.target_symbol.as_ref().is_some_and(thunk) => 1,
        _ => 0,
    }
}

fn formatter() -> GasFormatter {
    let mut formatter = GasFormatter::new();
    let options = formatter.options_mut();
    options.set_space_after_operand_separator(false);
    options.set_uppercase_hex(false);
    options.set_first_operand_char_index(7);
    options.set_rip_relative_addresses(true);
    options.set_small_hex_numbers_in_decimal(false);
    options.set_show_zero_displacements(true);
    options.set_branch_leading_zeros(false);
    options.set_always_show_scale(true);
    options.set_show_useless_prefixes(true);
    formatter
}

fn is_branch(instruction: &Instruction) -> bool {
    instruction.op_count() > 0
        && matches!(
            instruction.op0_kind(),
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
        )
}

/// The text of an instruction as binutils writes it, and the address in it.
fn text_of(
    formatter: &mut GasFormatter,
    instruction: &Instruction,
    bytes: &[u8],
) -> (String, Option<u64>) {
    let mut text = String::new();
    formatter.format(instruction, &mut text);
    // The formatter leaves the comma of a scale where there is no index.
    let mut text = text.replace(",)", ")");
    if instruction.is_string_instruction() && instruction.segment_prefix() == Register::None {
        text = text.replace("(%rdi)", "%es:(%rdi)").replace("(%rsi)", "%ds:(%rsi)");
    }
    text = text.replace("repe ", "repz ").replace("repne ", "repnz ");
    match instruction.mnemonic() {
        Mnemonic::In | Mnemonic::Out => text = text.replace("%dx", "(%dx)"),
        // The form with two registers is named in full, also where they are one.
        Mnemonic::Imul if instruction.op_count() == 3 => {
            if let [_, _] = *text.split(',').collect::<Vec<_>>()
                && let Some((_, register)) = text.rsplit_once(',')
            {
                text = format!("{text},{register}");
            }
        }
        // Named with 32 bits, of which it takes 16.
        Mnemonic::Lkgs if instruction.op0_kind() == OpKind::Register => {
            let register = instruction.op0_register().full_register32();
            text = format!("lkgs   %{register:?}").to_lowercase();
        }
        // 64 bits are the only size that they have.
        Mnemonic::Push | Mnemonic::Pop => {
            for (long, short) in [("pushq  ", "push   "), ("popq   ", "pop    ")] {
                text = text.replace(long, short);
            }
        }
        // Shifts by one have a form without the number.
        Mnemonic::Shl | Mnemonic::Shr | Mnemonic::Sar | Mnemonic::Rol | Mnemonic::Ror
            if format!("{:?}", instruction.code()).ends_with("_1") =>
        {
            text = text.replace("$0x1,", "$1,");
        }
        _ => {}
    }
    if text.contains("%cs:") {
        let words = text.replace("%cs:", "");
        text = format!("cs {}", words.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    // One operand size prefix means 16 bits, each more stands for itself.
    let prefixes = bytes.iter().take_while(|byte| **byte == 0x66).count();
    for _ in text.matches("data16").count() + 1..prefixes {
        let words: Vec<&str> = text.split_whitespace().collect();
        text = format!("data16 {}", words.join(" "));
    }
    let target = if is_branch(instruction) {
        Some(instruction.near_branch_target())
    } else if instruction.is_ip_rel_memory_operand() {
        Some(instruction.ip_rel_memory_address())
    } else {
        None
    };
    (text.trim_end().to_owned(), target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> String {
        let instruction = Decoder::with_ip(64, bytes, 0x1000, DecoderOptions::NONE).decode();
        text_of(&mut formatter(), &instruction, bytes).0
    }

    /// Instructions of a function `f`, one to a byte.
    fn function(texts: &[&str]) -> Vec<CodeLine> {
        let lines = (0_u64..).zip(texts).map(|(offset, text)| CodeLine {
            address: 0x1000 + offset,
            symbol: Some(SymbolAt { name: "f".into(), offset, size: 64, module: None }),
            bytes: "90".to_owned(),
            text: (*text).to_owned(),
            target: None,
            target_symbol: None,
            target_in_text: false,
        });
        lines.collect()
    }

    #[test]
    fn padding_behind_a_function_is_none_of_it() {
        let lines = |texts: &[&str]| lines_of_function(&function(texts));
        assert_eq!(lines(&["endbr64", "ud2", "nopl   0x0(%rax)", "nop"]), 2);
        // A return has room for a jump, an indirect jump one trap.
        assert_eq!(lines(&["endbr64", "ret", "int3", "int3", "int3", "int3", "int3", "nop"]), 6);
        assert_eq!(lines(&["endbr64", "jmp    *%rax", "int3", "int3"]), 3);
        assert_eq!(lines(&[]), 0);
    }

    #[test]
    fn room_for_a_call_in_front_of_a_function_is_all_padding() {
        assert_eq!(lines_of_function(&function(&["nop"; 16])), 16);
        assert_eq!(lines_of_function(&function(&["int3"; 16])), 16);
    }

    #[test]
    fn text_is_that_of_binutils() {
        for (bytes, expected) in [
            (&[0xf3, 0x0f, 0x1e, 0xfa][..], "endbr64"),
            (&[0x0f, 0x1f, 0x44, 0, 0], "nopl   0x0(%rax,%rax,1)"),
            (&[0x66, 0x66, 0x66, 0x66, 0x90], "data16 data16 data16 xchg %ax,%ax"),
            (&[0x66, 0x90], "xchg   %ax,%ax"),
            (&[0x2e, 0x0f, 0x1f, 0x44, 0, 0], "cs nopl 0x0(%rax,%rax,1)"),
            (&[0xf3, 0x48, 0xab], "rep stos %rax,%es:(%rdi)"),
            (&[0x48, 0xa5], "movsq  %ds:(%rsi),%es:(%rdi)"),
            (&[0xf3, 0xa6], "repz cmpsb %es:(%rdi),%ds:(%rsi)"),
            (&[0x48, 0x69, 0xc0, 0x10, 3, 0, 0], "imul   $0x310,%rax,%rax"),
            (&[0x48, 0xd1, 0xe8], "shr    $1,%rax"),
            (&[0xff, 0x75, 0xf8], "push   -0x8(%rbp)"),
            (&[0xed], "in     (%dx),%eax"),
            (&[0xf0, 0x0f, 0xc1, 0x02], "lock xadd %eax,(%rdx)"),
            (&[0x48, 0x8b, 0x05, 0x10, 0, 0, 0], "mov    0x10(%rip),%rax"),
            (&[0x65, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0], "mov    %gs:0x28,%rax"),
            (&[0xff, 0xe0], "jmp    *%rax"),
            (&[0xf2, 0x0f, 0x00, 0xf7], "lkgs   %edi"),
        ] {
            assert_eq!(text(bytes), expected);
        }
    }

    #[test]
    fn addresses_of_jumps_and_data_are_known() {
        let of = |bytes: &[u8]| {
            let instruction = Decoder::with_ip(64, bytes, 0x1000, DecoderOptions::NONE).decode();
            text_of(&mut formatter(), &instruction, bytes).1
        };
        assert_eq!(of(&[0xeb, 0x10]), Some(0x1012));
        assert_eq!(of(&[0x48, 0x8b, 0x05, 0x10, 0, 0, 0]), Some(0x1017));
        assert_eq!(of(&[0xff, 0xe0]), None);
    }
}
