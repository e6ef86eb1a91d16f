//! arm64 (aarch64).

mod areas;
mod code;
mod core_registers;
mod exceptions;
mod instruction;
mod last_call;
mod locate;
pub mod paging;
mod prologue;
pub mod registers;
mod stacks;
mod unwind;

use std::ops::Range;

use kmortem_vmcore::Image;

use super::{
    Architecture, Areas, CodeWriter, CpuStack, DirectMap, Located, RegisterSet, Registers, Stacks,
    Start,
};
use crate::Kernel;
use crate::disassembly::CodeLine;
use crate::error::{OpenError, Result};
use crate::instruction::Instruction;
use crate::search::KernelPart;
use crate::stack::Stack;
use crate::task::Task;
use crate::translation::EntryMeaning;
use crate::user_core::CoreRegisters;

/// The architecture.
pub struct Arm64;

impl Architecture for Arm64 {
    fn name(&self) -> &'static str {
        "aarch64"
    }

    fn elf_machine(&self) -> u16 {
        183
    }

    fn register_set(&self) -> &'static RegisterSet {
        &registers::SET
    }

    fn locate(&self, image: &Image) -> Result<Located, OpenError> {
        locate::locate(image)
    }

    fn direct_map(&self, kernel: &Kernel) -> Option<DirectMap> {
        areas::direct_map(kernel)
    }

    fn vmemmap(&self, kernel: &Kernel) -> Result<u64> {
        areas::vmemmap(kernel)
    }

    fn kaslr_offset(&self, kernel: &Kernel) -> Option<u64> {
        areas::kaslr_offset(kernel)
    }

    fn mapped_areas(&self, kernel: &Kernel) -> Result<Vec<(Range<u64>, KernelPart)>> {
        Ok(areas::mapped(kernel))
    }

    fn areas(&self, kernel: &Kernel) -> Areas {
        areas::areas(kernel)
    }

    fn level_name(&self, level: u8, levels: u8) -> &'static str {
        paging::level_name(level, levels)
    }

    fn entry_meaning(&self, kernel: &Kernel, entry: u64) -> EntryMeaning {
        paging::meaning(kernel, entry)
    }

    fn cpu_stacks(&self, kernel: &Kernel) -> Result<Vec<CpuStack>> {
        stacks::cpu_stacks(kernel)
    }

    fn cpu_registers(&self, kernel: &Kernel) -> Result<Vec<(u32, Registers)>> {
        registers::of_cpus(kernel)
    }

    fn switched_out(&self, kernel: &Kernel, task: &Task) -> Result<Start> {
        stacks::switched_out(kernel, task)
    }

    fn last_call(&self, kernel: &Kernel, task: &Task) -> Result<Start> {
        last_call::find(kernel, task)
    }

    fn unwind(&self, kernel: &Kernel, start: &Start, stacks: &Stacks<'_>) -> Stack {
        unwind::unwind(kernel, start, stacks)
    }

    fn saved_by_exception(
        &self,
        kernel: &Kernel,
        registers: &Registers,
        addr: u64,
        _exception: bool,
    ) -> Option<bool> {
        exceptions::kind_of(kernel, registers, addr)
    }

    fn is_exception_entry(&self, _function: &str) -> bool {
        // The registers lie where the frame pointer says, not by a return address.
        false
    }

    fn core_registers(
        &self,
        kernel: &Kernel,
        task: &Task,
        registers: Option<&Registers>,
    ) -> CoreRegisters {
        core_registers::read(kernel, task, registers)
    }

    fn longest_instruction(&self) -> usize {
        instruction::LENGTH
    }

    fn decode(
        &self,
        bytes: &[u8],
        address: u64,
        registers: Option<&Registers>,
    ) -> Option<Instruction> {
        instruction::decode(bytes, address, registers)
    }

    fn code_writer(&self) -> CodeWriter {
        code::writer()
    }

    fn lines_of_function(&self, lines: &[CodeLine]) -> usize {
        code::lines_of_function(lines)
    }

    fn data_references(&self, kernel: &Kernel, range: Range<u64>) -> Vec<u64> {
        instruction::data_references(kernel, range)
    }

    fn code_pointer(&self, kernel: &Kernel, pointer: u64) -> u64 {
        strip(pointer, locate::translated_bits(kernel))
    }
}

/// An address without its pointer authentication code (Arm ARM, D8.10): the bits
/// above the translated ones hold the code, but for bit 55, which tells the
/// kernel's half. Without a code the bits are all equal to it, and so they are
/// afterwards. `KERNELPACMASK` of VMCOREINFO says the same bits.
pub(crate) fn strip(pointer: u64, va_bits: u8) -> u64 {
    let above = u64::MAX.checked_shl(u32::from(va_bits)).unwrap_or(0);
    match pointer >> 55 & 1 {
        1 => pointer | above,
        _ => pointer & !above,
    }
}

#[cfg(test)]
mod tests {
    use super::strip;

    #[test]
    fn authentication_codes_are_stripped() {
        assert_eq!(strip(0x5ac1_8000_1012_3456, 48), 0xffff_8000_1012_3456);
        assert_eq!(strip(0xffff_8000_1012_3456, 48), 0xffff_8000_1012_3456);
        // 39 bits: bits 54 to 39 hold the code, too.
        assert_eq!(strip(0x12fe_dcc0_0812_3456, 39), 0xffff_ffc0_0812_3456);
        // 52 bits: only bits 54 to 52 and 63 to 56.
        assert_eq!(strip(0x4bf0_8000_1012_3456, 52), 0xfff0_8000_1012_3456);
        assert_eq!(strip(0x0045_aaaa_0012_3456, 48), 0xaaaa_0012_3456);
    }
}
