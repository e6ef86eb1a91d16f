//! Code as text, in the syntax of objdump and gdb. Addresses
//! that an instruction names get their symbols from kallsyms. What is decoded
//! is the dead kernel's memory, with the alternatives, static calls and static
//! keys that were patched in, not the file that was built.

use serde::Serialize;

use crate::arch::CodeWriter;
use crate::error::{Error, Result};
use crate::stack::{hex, hex_option};
use crate::{Kernel, SymbolAt};

/// No function of a kernel is longer; what follows has no symbols.
const LONGEST_FUNCTION: u64 = 1 << 20;

/// Functions in assembler begin at multiples of it at least (`__ALIGN`,
/// arch/x86/include/asm/linkage.h).
const ALIGNED: u64 = 16;

/// One instruction as text.
#[derive(Debug, Clone, Serialize)]
pub struct CodeLine {
    /// Where it is.
    #[serde(serialize_with = "hex")]
    pub address: u64,
    /// The function that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<SymbolAt>,
    /// Its bytes, as hexadecimal digits.
    pub bytes: String,
    /// Its text, without the names of addresses.
    pub text: String,
    /// What it jumps to, calls, or means relative to itself.
    #[serde(serialize_with = "hex_option")]
    pub target: Option<u64>,
    /// The symbol that `target` is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_symbol: Option<SymbolAt>,
    /// Whether `target` ends the text (jumps, calls), or has to be told besides.
    #[serde(skip)]
    pub target_in_text: bool,
}

/// The text of one instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeText {
    /// Bytes that it takes.
    pub length: usize,
    /// Its text, without the names of addresses.
    pub text: String,
    /// What it jumps to, calls, or means relative to itself.
    pub target: Option<u64>,
    /// Whether it is a jump or call, whose text `target` ends.
    pub is_branch: bool,
}

/// Bytes of the longest instruction of any architecture.
const LONGEST: usize = 16;

/// What BUG() compiles to on x86 (arch/x86/include/asm/bug.h).
const BUG: &str = "ud2";

/// Memory that holds code: fills the buffer from an address on.
pub type ReadCode<'r> = &'r dyn Fn(u64, &mut [u8]) -> Result<()>;

/// Decodes instructions one after the other.
pub struct Disassembler<'k> {
    kernel: &'k Kernel,
    read: ReadCode<'k>,
    writer: CodeWriter,
    at: u64,
    /// Bytes behind a BUG's ud2 that are no code.
    bug_bytes: u64,
}

impl<'k> Disassembler<'k> {
    /// From `start` on, of the memory that `read` reads.
    pub fn new(kernel: &'k Kernel, read: ReadCode<'k>, start: u64) -> Disassembler<'k> {
        Disassembler { kernel, read, writer: kernel.arch().code_writer(), at: start, bug_bytes: 0 }
    }

    /// Goes on so many bytes behind each ud2 (x86): kernels before v2.6.20 had
    /// the file and line of a BUG there.
    pub fn skipping(self, bug_bytes: u64) -> Disassembler<'k> {
        Disassembler { bug_bytes, ..self }
    }

    /// The instruction at the next address.
    pub fn next_line(&mut self) -> Result<CodeLine> {
        let address = self.at;
        let mut buf = [0; LONGEST];
        let longest = self.kernel.arch().longest_instruction().min(LONGEST);
        let bytes = self.code(address, &mut buf[..longest])?;
        let code = (self.writer)(bytes, address);
        let length = code.length.clamp(1, bytes.len().max(1));
        let symbols = |addr: u64| self.kernel.symbol_at(addr);
        let skipped = if code.text == BUG { self.bug_bytes } else { 0 };
        self.at = address.wrapping_add(length as u64).wrapping_add(skipped);
        Ok(CodeLine {
            address,
            symbol: symbols(address),
            bytes: bytes.iter().take(length).map(|b| format!("{b:02x}")).collect(),
            text: code.text,
            target: code.target,
            target_symbol: code.target.and_then(symbols),
            target_in_text: code.is_branch,
        })
    }

    /// The bytes at `address`, as many as an instruction may have, fewer at the
    /// end of what can be read.
    fn code<'b>(&self, address: u64, buf: &'b mut [u8]) -> Result<&'b [u8]> {
        let in_page = (4096 - (address & 0xfff)) as usize;
        match (self.read)(address, buf) {
            Ok(()) => Ok(buf),
            Err(_) if in_page < buf.len() => {
                (self.read)(address, &mut buf[..in_page])?;
                Ok(&buf[..in_page])
            }
            Err(error) => Err(error),
        }
    }
}

impl Kernel {
    /// First address and end of the function that `addr` is in, as far as its
    /// symbols tell: up to the next symbol.
    pub fn function_at(&self, addr: u64) -> Result<std::ops::Range<u64>> {
        let unknown = || Error::Unavailable(format!("{addr:#x} is in no known function"));
        let found = self.symbol_at(addr).ok_or_else(unknown)?;
        let start = addr.wrapping_sub(found.offset);
        let mut end = start.wrapping_add(found.size.max(1));
        let entry = self.entry_text();
        let is_label =
            |at: u64| entry.contains(&start) && entry.contains(&at) && !at.is_multiple_of(ALIGNED);
        // Sizes are capped: what is behind the cap still has this symbol.
        while let Some(next) = self.symbol_at(end)
            && (end.wrapping_sub(next.offset) == start || next.offset == 0 && is_label(end))
            && end - start < LONGEST_FUNCTION
        {
            end = match next.offset {
                0 => end.wrapping_add(next.size.max(1)),
                offset => start.wrapping_add(next.size.max(offset + 4096)),
            };
        }
        Ok(start..end)
    }

    /// The entry code: all of it is in assembler, where functions are aligned
    /// and labels inside of them are symbols, too (`SYM_INNER_LABEL`,
    /// include/linux/linkage.h).
    fn entry_text(&self) -> std::ops::Range<u64> {
        match (self.symbol("__entry_text_start"), self.symbol("__entry_text_end")) {
            (Ok(start), Ok(end)) => start..end,
            _ => 0..0,
        }
    }

    /// The instructions of `range`, a function, without the padding behind it.
    /// `bug_bytes` behind each ud2 are skipped.
    pub fn function_lines(
        &self,
        range: std::ops::Range<u64>,
        bug_bytes: u64,
    ) -> Result<Vec<CodeLine>> {
        let mut lines = self.code_lines(range, bug_bytes)?;
        lines.truncate(self.arch().lines_of_function(&lines));
        Ok(lines)
    }

    /// The instructions of kernel memory that begin in `range`. What lies before
    /// memory that can't be read is no error, and `bug_bytes` behind each ud2 are
    /// skipped.
    pub fn code_lines(&self, range: std::ops::Range<u64>, bug_bytes: u64) -> Result<Vec<CodeLine>> {
        let read = |addr: u64, buf: &mut [u8]| self.read(addr, buf);
        let mut code = Disassembler::new(self, &read, range.start).skipping(bug_bytes);
        let mut lines = Vec::new();
        while code.at < range.end {
            match code.next_line() {
                Ok(line) => lines.push(line),
                Err(error) if lines.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(lines)
    }
}
