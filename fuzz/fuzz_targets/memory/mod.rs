//! Bytes at one place of kernel memory.

#![allow(dead_code)] // each target uses a part

use kmortem_debuginfo::kallsyms::Kallsyms;
use kmortem_debuginfo::{Memory, MemoryError};

/// Where the seeds were taken from: the symbols in them are around it.
pub const START: u64 = 0xffff_ffff_a543_0100;

pub struct Bytes<'a>(pub &'a [u8]);

impl Memory for Bytes<'_> {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let bytes = addr
            .checked_sub(START)
            .and_then(|offset| self.0.get(usize::try_from(offset).ok()?..)?.get(..buf.len()))
            .ok_or_else(|| MemoryError { addr, reason: "outside".to_owned() })?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

/// What loads answers for every symbol.
pub fn visit(kallsyms: &Kallsyms) {
    assert!(!kallsyms.is_empty());
    // Damage can make a name of nothing but empty tokens, which has no type and no name.
    for symbol in kallsyms.iter().filter(|symbol| !symbol.name.is_empty()) {
        assert!(kallsyms.find_all(&symbol.name).contains(&symbol.addr));
        if let Some(found) = kallsyms.lookup(symbol.addr) {
            assert_eq!(found.addr, symbol.addr);
        }
    }
}
