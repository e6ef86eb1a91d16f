//! The instruction that a CPU was at, and the memory it meant.
//!
//! A page fault names an address; which register made it, and whether the
//! instruction read or wrote, only the instruction itself tells. It is decoded
//! from the dead kernel's own text (with the alternatives and static keys that
//! were patched in), in the syntax of objdump and of the kernel's own oops
//! (AT&T). A dump may lack the text: then the error says so.

use serde::Serialize;

use crate::Kernel;
use crate::arch::Registers;
use crate::error::{Error, Result};
use crate::stack::hex;

/// Functions longer than this are not decoded from their start.
const LONGEST_FUNCTION: u64 = 64 << 10;

/// What an instruction does to a memory operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Reads it.
    Read,
    /// Writes it.
    Write,
    /// Reads it and writes it back.
    ReadWrite,
}

/// A memory operand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryOperand {
    /// What it does there.
    pub access: Access,
    /// Bytes, 0 when the instruction alone does not tell.
    pub size: u64,
    /// Base register ("rax"), if any.
    pub base: Option<String>,
    /// Index register, if any.
    pub index: Option<String>,
    /// What the index is multiplied with.
    pub scale: u32,
    /// Added to base and index.
    pub displacement: i64,
    /// Relative to the per-CPU area or to thread-local storage (gs, fs).
    pub segment: Option<String>,
    /// The effective address, where every register that makes it is known.
    /// For a segment: the offset in it.
    pub address: Option<u64>,
}

/// How control goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// To the next instruction.
    Next,
    /// Through a direct or conditional jump.
    Jump,
    /// Through a direct call.
    Call,
    /// Through a call or jump by register or memory.
    Indirect,
    /// Back to the caller.
    Return,
    /// Into an exception: `ud2` (BUG, WARN), `int3`.
    Trap,
}

/// A decoded instruction.
#[derive(Debug, Clone, Serialize)]
pub struct Instruction {
    /// Where it is.
    #[serde(serialize_with = "hex")]
    pub address: u64,
    /// Its text, as objdump writes it.
    pub text: String,
    /// Its length in bytes.
    pub length: usize,
    /// How control goes on.
    pub flow: Flow,
    /// Where a direct call or jump goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<u64>,
    /// Memory it touches (not the stack's implicit pushes and pops).
    pub memory: Vec<MemoryOperand>,
    /// Registers that it changes, by their 64-bit names.
    #[serde(skip)]
    pub writes: Vec<String>,
    /// For a plain 64-bit move between registers: the source.
    #[serde(skip)]
    pub moved_from: Option<String>,
    /// For the sum of a register and a constant: both.
    #[serde(skip)]
    pub added: Option<(String, u64)>,
    /// For `mov $x,%reg` and `lea x(%rip),%reg`: x, a constant of the code.
    #[serde(skip)]
    pub constant: Option<u64>,
}

impl Kernel {
    /// The instruction at `registers`' instruction pointer, its operands
    /// worked out with them.
    pub fn instruction(&self, registers: &Registers) -> Result<Instruction> {
        let ip = registers.ip();
        let bytes = self.text_at(ip, self.arch().longest_instruction())?;
        self.arch()
            .decode(&bytes, ip, Some(registers))
            .ok_or_else(|| Error::corrupt("the instruction", ip))
    }

    /// The instructions from `start` (a function's first) up to, and not
    /// including, `end`. `None` when they do not meet `end` exactly: then
    /// `start` was no beginning, or data lies between.
    pub fn instructions(&self, start: u64, end: u64) -> Result<Option<Vec<Instruction>>> {
        let len = end.checked_sub(start).filter(|n| *n <= LONGEST_FUNCTION);
        let Some(len) = len else { return Ok(None) };
        let bytes = self.text_at(start, len as usize)?;
        if (bytes.len() as u64) < len {
            return Ok(None);
        }
        let mut found = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            match self.arch().decode(&bytes[at..], start + at as u64, None) {
                Some(instruction) => {
                    at += instruction.length;
                    found.push(instruction);
                }
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    /// Up to `len` bytes of text, fewer where the next page is not there.
    fn text_at(&self, addr: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        match self.read(addr, &mut bytes) {
            Ok(()) => Ok(bytes),
            Err(e) => {
                let room = ((4096 - (addr & 0xfff)) as usize).min(len);
                if room == len {
                    return Err(e);
                }
                bytes.truncate(room);
                self.read(addr, &mut bytes)?;
                Ok(bytes)
            }
        }
    }
}
