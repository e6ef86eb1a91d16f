//! Any bytes as kernel memory in which kallsyms tables may be.
#![no_main]

mod memory;

use kmortem_debuginfo::kallsyms::Kallsyms;
use libfuzzer_sys::fuzz_target;
use memory::{Bytes, START};

fuzz_target!(|data: &[u8]| {
    let range = START..START + data.len() as u64;
    if let Ok((tables, kallsyms)) = Kallsyms::scan(&Bytes(data), range, &[]) {
        assert_eq!(tables.num_syms as usize, kallsyms.len());
        memory::visit(&kallsyms);
    }
});
