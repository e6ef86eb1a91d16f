//! Any bytes as the memory in which kallsyms tables are, at any places in it.
#![no_main]

mod memory;

use kmortem_debuginfo::kallsyms::{Kallsyms, Tables};
use libfuzzer_sys::fuzz_target;
use memory::{Bytes, START};

fuzz_target!(|data: &[u8]| {
    let Some((places, data)) = data.split_at_checked(14) else { return };
    let word = |at: usize| u64::from(u16::from_le_bytes([places[2 * at], places[2 * at + 1]]));
    let memory = Bytes(data);
    let mut tables = Tables {
        num_syms: word(0) as u32,
        names: START + word(1),
        markers: START + word(2),
        token_table: START + word(3),
        token_index: START + word(4),
        offsets: START + word(5),
        relative_base: Some(START + word(6)),
        seqs_of_names: None,
    };
    for relative_base in [tables.relative_base, None] {
        tables.relative_base = relative_base;
        if let Ok(kallsyms) = Kallsyms::load(&memory, &tables, &[]) {
            memory::visit(&kallsyms);
        }
    }
});
