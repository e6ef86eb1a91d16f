//! Damage laid over a source, for tests and fuzzing.
//!
//! Ten thousand mutations of a dump are ten thousand small patches over one mapped file, not ten
//! thousand copies of it.
//!
//! ```
//! use std::sync::Arc;
//! use kmortem_vmcore::{Source, overlay::Overlay};
//!
//! let dump: Arc<dyn Source> = Arc::new(b"KDUMP   \x06".to_vec());
//! let damaged = Overlay::new(dump).set(8, &[0xff]).flip_bit(0).truncate(9);
//! assert_eq!(damaged.bytes(0, 9).unwrap().as_ref(), b"JDUMP   \xff");
//! ```

use std::borrow::Cow;
use std::sync::Arc;

use crate::source::{Source, SourceError, in_range};

/// A source with some of its bytes replaced, and perhaps its end cut off.
#[derive(Clone)]
pub struct Overlay {
    base: Arc<dyn Source>,
    len: u64,
    /// In the order they were laid: later ones lie on top.
    patches: Vec<(u64, Vec<u8>)>,
}

impl Overlay {
    /// The source as it is.
    pub fn new(base: Arc<dyn Source>) -> Overlay {
        let len = base.len();
        Overlay { base, len, patches: Vec::new() }
    }

    /// Replaces the bytes at `offset`. What lies beyond the end has no effect.
    #[must_use]
    pub fn set(mut self, offset: u64, bytes: &[u8]) -> Overlay {
        self.patches.push((offset, bytes.to_vec()));
        self
    }

    /// Flips bit `bit % 8` of byte `bit / 8`.
    #[must_use]
    pub fn flip_bit(self, bit: u64) -> Overlay {
        match self.bytes(bit / 8, 1).map(|byte| byte.first().copied()) {
            Ok(Some(byte)) => self.set(bit / 8, &[byte ^ (1 << (bit % 8))]),
            _ => self,
        }
    }

    /// Cuts the source off.
    #[must_use]
    pub fn truncate(mut self, len: u64) -> Overlay {
        self.len = self.len.min(len);
        self
    }
}

impl Source for Overlay {
    fn len(&self) -> u64 {
        self.len
    }

    fn bytes(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>, SourceError> {
        if !in_range(offset, len, self.len) {
            return Err(SourceError::OutOfRange { offset, len, size: self.len });
        }
        let mut bytes = self.base.bytes(offset, len)?;
        let end = offset + len as u64;
        for (at, patch) in &self.patches {
            let patch_end = at.saturating_add(patch.len() as u64);
            let (from, to) = ((*at).max(offset), patch_end.min(end));
            if from < to {
                bytes.to_mut()[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&patch[(from - at) as usize..(to - at) as usize]);
            }
        }
        Ok(bytes)
    }

    fn held(&self) -> u64 {
        self.base.held().min(self.len)
    }

    fn is_written(&self, offset: u64, len: usize) -> bool {
        in_range(offset, len, self.len) && self.base.is_written(offset, len)
    }
}
