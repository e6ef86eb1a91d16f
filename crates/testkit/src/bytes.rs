//! A buffer that is written at offsets, and grows as it is.

/// Bytes under construction.
#[derive(Default)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    /// Writes at an offset; what lies between the end and there becomes zero.
    pub(crate) fn put(&mut self, at: u64, bytes: &[u8]) {
        let at = at as usize;
        let end = at + bytes.len();
        if self.0.len() < end {
            self.0.resize(end, 0);
        }
        self.0[at..end].copy_from_slice(bytes);
    }

    pub(crate) fn put16(&mut self, at: u64, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    pub(crate) fn put32(&mut self, at: u64, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    pub(crate) fn put64(&mut self, at: u64, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.len() as u64
    }
}
