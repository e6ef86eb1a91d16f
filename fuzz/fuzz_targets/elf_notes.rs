//! Any bytes as ELF notes, and the registers in them.
#![no_main]

use kmortem_vmcore::{cpu, elf_note};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (notes, _) = elf_note::parse(data);
    let bytes: usize = notes.iter().map(|note| note.desc.len()).sum();
    assert!(bytes <= data.len());
    assert!(cpu::parse_cpus(&notes).len() <= notes.len());
});
