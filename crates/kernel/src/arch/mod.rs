//! What differs between processor architectures: page tables, registers,
//! exception frames, stacks, the way from one frame to its caller, and code.
//!
//! One trait, [`Architecture`]; a folder for each of those that implement it.
//! The kernel's own objects look the same on all of them.

pub mod arm64;
mod crash_notes;
pub mod mapped;
pub mod page_table;
pub mod registers;
pub mod stacks;
mod vmcoreinfo;
pub mod x86_64;

use std::ops::Range;

use kmortem_vmcore::{Image, Machine, VmcoreInfo};

pub use page_table::{Mapping, PageTables, WalkError};
pub use registers::{RegisterSet, Registers};
pub use stacks::{CpuStack, StackKind, Stacks, Start};

use crate::Kernel;
use crate::disassembly::{CodeLine, CodeText};
use crate::error::{OpenError, Result};
use crate::instruction::Instruction;
use crate::search::KernelPart;
use crate::stack::Stack;
use crate::task::Task;
use crate::translation::EntryMeaning;
use crate::user_core::CoreRegisters;

/// Where the kernel was found, and how.
#[derive(Debug, Clone)]
pub struct Located {
    /// The kernel's own page tables.
    pub tables: PageTables,
    /// What a virtual address in the kernel's image is above its physical one,
    /// when it is known before the symbols are.
    pub image_offset: Option<u64>,
    /// VMCOREINFO, from the container or from memory.
    pub vmcoreinfo: Option<VmcoreInfo>,
    /// Virtual range of the kernel's image, rounded to the pages that map it.
    pub image_range: Range<u64>,
    /// One sentence for people: how it was found.
    pub how: String,
}

/// The linear map of all physical memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectMap {
    /// Its virtual addresses.
    pub range: Range<u64>,
    /// The physical address that the first of them stands for. Where memory
    /// begins high the map may begin "below zero": it wraps.
    pub phys: u64,
}

/// Where virtual memory of the kernel is, for people.
#[derive(Debug, Clone, Copy, Default)]
pub struct Areas {
    /// First address of vmalloc memory.
    pub vmalloc: Option<u64>,
    /// Where the kernel's image is linked to.
    pub image: Option<u64>,
    /// First address of modules.
    pub modules: Option<u64>,
}

/// Makes text of the instruction at the start of the bytes, at an address.
pub type CodeWriter = Box<dyn FnMut(&[u8], u64) -> CodeText>;

/// What differs between processor architectures.
pub trait Architecture: Sync {
    /// Its name, as `uname -m` writes it.
    fn name(&self) -> &'static str;

    /// Its number in ELF files (include/uapi/linux/elf-em.h).
    fn elf_machine(&self) -> u16;

    /// Its registers, as the kernel saves them.
    fn register_set(&self) -> &'static RegisterSet;

    // --- memory -----------------------------------------------------------

    /// Finds the kernel in physical memory, or says what was tried.
    fn locate(&self, image: &Image) -> Result<Located, OpenError>;

    /// The map of all physical memory.
    fn direct_map(&self, kernel: &Kernel) -> Option<DirectMap>;

    /// Address of the record of page frame 0.
    fn vmemmap(&self, kernel: &Kernel) -> Result<u64>;

    /// By how much KASLR moved the kernel's image.
    fn kaslr_offset(&self, kernel: &Kernel) -> Option<u64>;

    /// The areas of virtual memory besides the direct map, ascending. None maps
    /// one page many times.
    fn mapped_areas(&self, kernel: &Kernel) -> Result<Vec<(Range<u64>, KernelPart)>>;

    /// Where the areas are, for people.
    fn areas(&self, kernel: &Kernel) -> Areas;

    /// The kernel's name of a level of page tables.
    fn level_name(&self, level: u8, levels: u8) -> &'static str;

    /// What an entry of the lowest table says.
    fn entry_meaning(&self, kernel: &Kernel, entry: u64) -> EntryMeaning;

    // --- CPUs and stacks --------------------------------------------------

    /// All stacks of all possible CPUs but the tasks', sorted by address.
    fn cpu_stacks(&self, kernel: &Kernel) -> Result<Vec<CpuStack>>;

    /// Registers per possible CPU: (CPU, registers), for those that have some.
    fn cpu_registers(&self, kernel: &Kernel) -> Result<Vec<(u32, Registers)>>;

    /// Where the trace of a task starts that was switched away.
    fn switched_out(&self, kernel: &Kernel, task: &Task) -> Result<Start>;

    /// Where the trace of a running task starts whose CPU has no registers.
    fn last_call(&self, kernel: &Kernel, task: &Task) -> Result<Start>;

    /// Follows a stack from `start` to its end.
    fn unwind(&self, kernel: &Kernel, start: &Start, stacks: &Stacks<'_>) -> Stack;

    /// Whether registers that lie at `addr` of a stack can be what an exception
    /// saved there: of user space, or the kernel's. `exception`: the stack is
    /// one that exceptions begin on.
    fn saved_by_exception(
        &self,
        kernel: &Kernel,
        registers: &Registers,
        addr: u64,
        exception: bool,
    ) -> Option<bool>;

    /// The function through which exceptions come, whose saved registers lie
    /// just above its return address.
    fn is_exception_entry(&self, function: &str) -> bool;

    /// What a core file tells of the registers with which a thread left user
    /// space, and of those that the kernel keeps apart.
    fn core_registers(
        &self,
        kernel: &Kernel,
        task: &Task,
        registers: Option<&Registers>,
    ) -> CoreRegisters;

    // --- code -------------------------------------------------------------

    /// Bytes of the longest instruction.
    fn longest_instruction(&self) -> usize;

    /// Decodes the first instruction of `bytes`, which lie at `address`.
    fn decode(
        &self,
        bytes: &[u8],
        address: u64,
        registers: Option<&Registers>,
    ) -> Option<Instruction>;

    /// What makes text of code.
    fn code_writer(&self) -> CodeWriter;

    /// How many of `lines`, of a function and what follows up to the next, are
    /// the function's: padding is none of it.
    fn lines_of_function(&self, lines: &[CodeLine]) -> usize;

    /// Addresses of data that the code in `range` names, in its order. Asked for
    /// where a kernel's table has no symbols of data.
    fn data_references(&self, kernel: &Kernel, range: Range<u64>) -> Vec<u64>;

    /// A code pointer as it was before it was signed.
    fn code_pointer(&self, kernel: &Kernel, pointer: u64) -> u64;
}

/// All that there are.
const ALL: [&dyn Architecture; 2] = [&x86_64::X86_64, &arm64::Arm64];

/// Finds the kernel in an image: of the machine that its container names, else
/// of any.
pub(crate) fn locate(image: &Image) -> Result<(&'static dyn Architecture, Located), OpenError> {
    let named = image.info().machine.map(|machine| match machine {
        Machine::X86_64 => "x86_64",
        Machine::Aarch64 => "aarch64",
    });
    let mut tried = Vec::new();
    for arch in ALL.into_iter().filter(|arch| named.is_none_or(|name| name == arch.name())) {
        match arch.locate(image) {
            Ok(located) => return Ok((arch, located)),
            Err(OpenError::NoKernel(why)) if named.is_none() => {
                tried.push(format!("as {}: {why}", arch.name()));
            }
            Err(error) => return Err(error),
        }
    }
    Err(OpenError::NoKernel(tried.join("; ")))
}
