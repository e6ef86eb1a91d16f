//! Writes the kernel's tables byte by byte. Nothing here is shared with the code under test: a
//! misunderstanding would have to happen twice.

#![allow(dead_code)] // each test file uses a part
#![allow(clippy::unwrap_used)] // what can't be written is a mistake in the test

pub(crate) mod btf;
pub(crate) mod kallsyms;
pub(crate) mod orc;

use kmortem_debuginfo::{Memory, MemoryError};

/// Kernel memory of a few pieces; between them nothing is there.
#[derive(Clone, Default)]
pub(crate) struct Pieces(pub(crate) Vec<(u64, Vec<u8>)>);

impl Memory for Pieces {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let absent = || MemoryError { addr, reason: "not in this test's memory".to_owned() };
        for (start, bytes) in &self.0 {
            let Some(offset) = addr.checked_sub(*start) else { continue };
            let rest = bytes.get(offset as usize..).unwrap_or_default();
            if let Some(part) = rest.get(..buf.len()) {
                buf.copy_from_slice(part);
                return Ok(());
            }
        }
        Err(absent())
    }
}
