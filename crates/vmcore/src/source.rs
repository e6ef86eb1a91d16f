//! Bytes of an input, whatever holds them.
//!
//! One method, so that a mapped file, a flattened stream put back in order and a damaged overlay
//! in a test all serve alike. Whoever implements [`Source`] checks the range; whoever uses it may
//! therefore pass on offsets that came from a dump.

use std::borrow::Cow;
use std::sync::Arc;

/// Bytes of an input.
pub trait Source: Send + Sync {
    /// Number of bytes that can be asked for.
    fn len(&self) -> u64;

    /// `len` bytes at `offset`: borrowed where they lie together in memory, owned where they had
    /// to be assembled. An error when any of them is out of range, before memory is taken.
    fn bytes(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>, SourceError>;

    /// Copies a few bytes at `offset`. For walks over records that are far apart, where a mapped
    /// file does better to read them.
    fn copy_to(&self, offset: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        buf.copy_from_slice(&self.bytes(offset, buf.len())?);
        Ok(())
    }

    /// Whether nothing can be asked for.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that are really held. A rearranged source may claim a length far beyond this one,
    /// with zeros in its holes, so this is the bound for work in proportion to the input.
    fn held(&self) -> u64 {
        self.len()
    }

    /// The first byte from `offset` on that is no hole of that kind; the length, if there is none.
    fn next_written(&self, offset: u64) -> u64 {
        offset
    }

    /// Whether all of the range was written by whoever made the input, none of it a hole that
    /// reads as zeros for want of anything better.
    fn is_written(&self, offset: u64, len: usize) -> bool {
        in_range(offset, len, self.len())
    }
}

/// Bytes of an input that can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The range leaves the input.
    #[error("{len} bytes at offset {offset:#x} lie beyond the end of the file ({size:#x})")]
    OutOfRange {
        /// First byte asked for.
        offset: u64,
        /// Number of bytes asked for.
        len: usize,
        /// Length of the input.
        size: u64,
    },
    /// The range is there in a form that can't be read.
    #[error("{what}")]
    Damaged {
        /// What is wrong.
        what: String,
    },
}

/// Whether `len` bytes at `offset` lie within `size` bytes.
pub(crate) fn in_range(offset: u64, len: usize, size: u64) -> bool {
    offset.checked_add(len as u64).is_some_and(|end| end <= size)
}

impl Source for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn bytes(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>, SourceError> {
        usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(len)?))
            .map(Cow::Borrowed)
            .ok_or(SourceError::OutOfRange { offset, len, size: Source::len(self) })
    }
}

impl Source for Vec<u8> {
    fn len(&self) -> u64 {
        Source::len(self.as_slice())
    }

    fn bytes(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>, SourceError> {
        self.as_slice().bytes(offset, len)
    }
}

impl<S: Source + ?Sized> Source for Arc<S> {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn bytes(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>, SourceError> {
        (**self).bytes(offset, len)
    }

    fn copy_to(&self, offset: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        (**self).copy_to(offset, buf)
    }

    fn held(&self) -> u64 {
        (**self).held()
    }

    fn next_written(&self, offset: u64) -> u64 {
        (**self).next_written(offset)
    }

    fn is_written(&self, offset: u64, len: usize) -> bool {
        (**self).is_written(offset, len)
    }
}

/// Little-endian fields of a record, at offsets the caller takes from the layout it documents.
/// Out of range reads as `None`, so a short record can't panic.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    pub(crate) fn u16(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    pub(crate) fn be64(self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_be_bytes)
    }
}

/// Text up to the first NUL, with anything that isn't UTF-8 replaced.
pub(crate) fn text_until_nul(bytes: &[u8]) -> String {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_overflow_are_out_of_range() {
        let bytes = vec![1u8, 2, 3];
        assert_eq!(bytes.bytes(1, 2).unwrap().as_ref(), [2, 3]);
        assert_eq!(bytes.bytes(3, 0).unwrap().as_ref(), [0u8; 0]);
        assert!(bytes.bytes(2, 2).is_err());
        assert!(bytes.bytes(u64::MAX, 2).is_err());
        assert!(bytes.bytes(1, usize::MAX).is_err());
        assert!(!in_range(u64::MAX, 1, u64::MAX));
    }

    #[test]
    fn fields_of_a_short_record_are_none() {
        let record = Fields(&[1, 2, 3, 4]);
        assert_eq!(record.u32(0), Some(0x0403_0201));
        assert_eq!(record.u32(1), None);
        assert_eq!(record.u16(usize::MAX), None);
        assert_eq!(record.u64(0), None);
    }
}
