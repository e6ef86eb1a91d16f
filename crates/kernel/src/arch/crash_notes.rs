//! Registers that the kernel itself saved when it crashed.
//!
//! `crash_notes` (kernel/crash_core.c) has one ELF note per possible CPU, in
//! per-CPU memory: three words (size of the name, size of the contents, type),
//! the padded name "CORE", and a `struct elf_prstatus`
//! (include/linux/elfcore.h), which is alike on all 64-bit architectures up to
//! the registers.

use crate::Kernel;

/// Bytes before a note's contents.
const NOTE_HEADER: u64 = 12 + 8;
/// Offset of the registers in `struct elf_prstatus`.
const PR_REG: u64 = 112;

/// The first `size` bytes of the registers in the note of `cpu`, if it left one.
pub(super) fn registers(kernel: &Kernel, cpu: u32, size: u64) -> Option<Vec<u8>> {
    let notes = kernel.symbol("crash_notes").and_then(|at| kernel.read_u64(at)).ok()?;
    let note = kernel.per_cpu_ptr(notes, cpu).ok().filter(|_| notes != 0)?;
    let header = kernel.read_bytes(note, NOTE_HEADER).ok()?;
    // namesz 5, type NT_PRSTATUS (1), name "CORE"
    if header[..4] != [5, 0, 0, 0] || header[8..12] != [1, 0, 0, 0] || &header[12..16] != b"CORE" {
        return None;
    }
    kernel.read_bytes(note + NOTE_HEADER + PR_REG, size).ok()
}
