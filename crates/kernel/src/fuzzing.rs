//! What `fuzz/` calls of this crate's inside: parsers of bytes that no public
//! function takes. Built with `--cfg fuzzing` only, as cargo-fuzz does.

use crate::arch;
use crate::error::{Error, Result};
use crate::printk;

/// Where `data` lies.
const BASE: u64 = 0xffff_8880_0000_0000;

/// Reads `data` as a log: a `struct printk_ringbuffer` at its start, and a
/// `log_buf` of printk_log records.
pub fn logs(data: &[u8]) {
    printk::fuzz(BASE, &|addr, buf| read(data, addr, buf));
}

/// Counts the height of the stack in `code`, at the instruction at `ip`.
pub fn stack_height(code: &[u8], ip: u64) -> Option<i64> {
    arch::x86_64::stack_height(BASE, BASE.wrapping_add(ip), |addr, buf| {
        let start = usize::try_from(addr.checked_sub(BASE)?).ok()?;
        let rest = code.get(start..)?;
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        (n > 0).then_some(n)
    })
}

fn read(data: &[u8], addr: u64, buf: &mut [u8]) -> Result<()> {
    let start = addr.checked_sub(BASE).and_then(|start| usize::try_from(start).ok());
    let found = start.and_then(|start| data.get(start..)?.get(..buf.len()));
    buf.copy_from_slice(found.ok_or_else(|| Error::corrupt("a read", addr))?);
    Ok(())
}
