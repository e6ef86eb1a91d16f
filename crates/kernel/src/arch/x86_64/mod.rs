//! x86_64.

mod active;
mod areas;
mod code;
mod core_registers;
mod exceptions;
mod height;
mod instruction;
mod last_call;
mod locate;
pub mod paging;
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
use crate::arch::page_table::Entries;
use crate::disassembly::CodeLine;
use crate::error::{OpenError, Result};
use crate::instruction::Instruction;
use crate::search::KernelPart;
use crate::stack::Stack;
use crate::task::Task;
use crate::translation::EntryMeaning;
use crate::user_core::CoreRegisters;

/// `__START_KERNEL_map`: where the kernel's image is linked to
/// (arch/x86/include/asm/page_64_types.h).
pub const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// End of the range in which KASLR may place the image; modules follow
/// (`KERNEL_IMAGE_SIZE` with KASLR, arch/x86/include/asm/page_64_types.h).
pub const KERNEL_IMAGE_SIZE: u64 = 1 << 30;

/// The architecture.
pub struct X86_64;

impl Architecture for X86_64 {
    fn name(&self) -> &'static str {
        "x86_64"
    }

    fn elf_machine(&self) -> u16 {
        62
    }

    fn register_set(&self) -> &'static RegisterSet {
        &registers::SET
    }

    fn locate(&self, image: &Image) -> Result<Located, OpenError> {
        locate::locate(image)
    }

    fn direct_map(&self, kernel: &Kernel) -> Option<DirectMap> {
        Some(areas::direct_map(kernel))
    }

    fn vmemmap(&self, kernel: &Kernel) -> Result<u64> {
        areas::vmemmap(kernel)
    }

    fn kaslr_offset(&self, kernel: &Kernel) -> Option<u64> {
        areas::kaslr_offset(kernel)
    }

    fn mapped_areas(&self, kernel: &Kernel) -> Result<Vec<(Range<u64>, KernelPart)>> {
        areas::mapped(kernel)
    }

    fn areas(&self, kernel: &Kernel) -> Areas {
        areas::areas(kernel)
    }

    fn level_name(&self, level: u8, levels: u8) -> &'static str {
        paging::level_name(level, levels)
    }

    fn entry_meaning(&self, kernel: &Kernel, entry: u64) -> EntryMeaning {
        let encryption = match kernel.space().tables().entries {
            Entries::X86_64 { encryption_mask } => encryption_mask,
            Entries::Arm64(_) => 0,
        };
        match paging::meaning(entry, encryption) {
            EntryMeaning::Page { physical, flags } => {
                // Of memory that is not the guest's own the machine's address is all there is.
                let physical = kernel.image().physical(physical).unwrap_or(physical);
                EntryMeaning::Page { physical, flags }
            }
            other => other,
        }
    }

    fn cpu_stacks(&self, kernel: &Kernel) -> Result<Vec<CpuStack>> {
        stacks::cpu_stacks(kernel)
    }

    fn cpu_registers(&self, kernel: &Kernel) -> Result<Vec<(u32, Registers)>> {
        active::cpu_registers(kernel)
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
        exception: bool,
    ) -> Option<bool> {
        exceptions::kind_of(kernel, registers, addr, exception)
    }

    fn is_exception_entry(&self, function: &str) -> bool {
        function.starts_with("asm_")
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
        instruction::LONGEST
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

    fn data_references(&self, _kernel: &Kernel, _range: Range<u64>) -> Vec<u64> {
        // Every x86_64 kernel of a distribution has symbols of data.
        Vec::new()
    }

    fn code_pointer(&self, _kernel: &Kernel, pointer: u64) -> u64 {
        pointer
    }
}

/// Bytes that are pushed at `ip` in the function that starts at `entry`.
#[cfg(fuzzing)]
pub(crate) fn stack_height(
    entry: u64,
    ip: u64,
    read: impl Fn(u64, &mut [u8; 15]) -> Option<usize>,
) -> Option<i64> {
    height::count(entry, ip, read).map(|height| height.pushed)
}
