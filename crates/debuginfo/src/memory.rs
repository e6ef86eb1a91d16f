//! How this crate asks for kernel memory: it never knows where the bytes come from.

/// Kernel virtual memory as somebody else reads it.
pub trait Memory: Sync {
    /// Fills `buf` from kernel virtual address `addr`, or says why not. Never a part of it.
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), MemoryError>;
}

/// Why memory could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{addr:#x}: {reason}")]
pub struct MemoryError {
    /// The first address that could not be had.
    pub addr: u64,
    /// The reason as the reader gave it.
    pub reason: String,
}

impl<M: Memory + ?Sized> Memory for &M {
    fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        (**self).read(addr, buf)
    }
}

/// Reads `len` bytes; the callers have checked `len` against what a kernel can hold.
pub(crate) fn read_vec(memory: &dyn Memory, addr: u64, len: usize) -> Result<Vec<u8>, MemoryError> {
    let mut bytes = vec![0; len];
    memory.read(addr, &mut bytes)?;
    Ok(bytes)
}
