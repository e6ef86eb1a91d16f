//! Several sources, one behind the other.

use std::borrow::Cow;
use std::sync::Arc;

use crate::source::{Source, SourceError, in_range};

/// Sources as one.
#[derive(Default)]
pub(super) struct Chain {
    /// Each with its end.
    links: Vec<(u64, Arc<dyn Source>)>,
}

impl Chain {
    /// Adds a source. Returns where its first byte is.
    pub(super) fn push(&mut self, source: Arc<dyn Source>) -> u64 {
        let start = self.len();
        self.links.push((start.saturating_add(source.len()), source));
        start
    }

    /// The link that has `offset`, and where it starts.
    fn link(&self, offset: u64) -> Option<(u64, &dyn Source)> {
        let index = self.links.partition_point(|(end, _)| *end <= offset);
        let (end, source) = self.links.get(index)?;
        Some((end - source.len(), source.as_ref()))
    }
}

impl Source for Chain {
    fn len(&self) -> u64 {
        self.links.last().map_or(0, |(end, _)| *end)
    }

    fn bytes(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>, SourceError> {
        if !in_range(offset, len, self.len()) {
            return Err(SourceError::OutOfRange { offset, len, size: self.len() });
        }
        match self.link(offset) {
            Some((start, source)) if in_range(offset - start, len, source.len()) => {
                source.bytes(offset - start, len)
            }
            _ => {
                let mut bytes = vec![0; len];
                self.copy_to(offset, &mut bytes)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }

    fn copy_to(&self, offset: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        if !in_range(offset, buf.len(), self.len()) {
            return Err(SourceError::OutOfRange { offset, len: buf.len(), size: self.len() });
        }
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let Some((start, source)) = self.link(at) else { break };
            let there = source.len() - (at - start);
            let n = there.min(rest.len() as u64) as usize;
            let (head, tail) = rest.split_at_mut(n);
            source.copy_to(at - start, head)?;
            rest = tail;
            at += n as u64;
        }
        Ok(())
    }
}
