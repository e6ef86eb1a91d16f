//! Any bytes as a pair of ORC tables.
#![no_main]

mod memory;

use kmortem_debuginfo::orc::OrcTable;
use libfuzzer_sys::fuzz_target;
use memory::{Bytes, START};

fuzz_target!(|data: &[u8]| {
    let Some((pc, tables)) = data.split_first_chunk() else { return };
    let pc = START.wrapping_add_signed(i64::from(i32::from_le_bytes(*pc)));
    let memory = Bytes(tables);
    // An address of 4 bytes and an entry of 6 each.
    let count = tables.len() as u64 / 10;
    if let Ok(mut table) = OrcTable::open(&memory, START, START + 4 * count, count, None) {
        assert!(table.lookup(&memory, pc).is_ok());
        table.count *= 3;
        let _ = table.lookup(&memory, pc);
    }
});
