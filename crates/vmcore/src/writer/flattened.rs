//! Flattened streams: dumps through a pipe.
//!
//! Layout as [`crate::container`]'s reader has it (makedumpfile.h: `struct makedumpfile_header`,
//! `makedumpfile_data_header`): a header of 4096 bytes ("makedumpfile", type 1, version 1), then
//! records of offset, size and data, ended by -1, -1; all numbers are 64-bit and big-endian. What
//! is written twice counts as it was written last, and what no record covers reads as zeros.

use std::io::Write;
use std::sync::Arc;

use super::output::Output;
use super::{Progress, WriteError, compress};
use crate::container::{self, Input};
use crate::error::OpenError;
use crate::source::Source;

const HEADER: usize = 4096;
/// As much is copied at once.
const COPY: u64 = 256 << 10;

/// Flattens what is put into it.
pub struct Flattened<W> {
    stream: W,
    begun: bool,
    /// End of the dump as far as it was put.
    len: u64,
}

impl<W: Write> Flattened<W> {
    /// Writes into `stream`.
    pub fn new(stream: W) -> Flattened<W> {
        Flattened { stream, begun: false, len: 0 }
    }

    /// The stream.
    pub fn into_inner(self) -> W {
        self.stream
    }

    fn begin(&mut self) -> Result<(), WriteError> {
        if !std::mem::replace(&mut self.begun, true) {
            let mut header = [0; HEADER];
            header[..12].copy_from_slice(b"makedumpfile");
            header[16..24].copy_from_slice(&1u64.to_be_bytes());
            header[24..32].copy_from_slice(&1u64.to_be_bytes());
            self.stream.write_all(&header)?;
        }
        Ok(())
    }

    fn record(&mut self, offset: u64, size: u64) -> Result<(), WriteError> {
        self.stream.write_all(&offset.to_be_bytes())?;
        Ok(self.stream.write_all(&size.to_be_bytes())?)
    }
}

impl<W: Write> Output for Flattened<W> {
    fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        self.begin()?;
        if !bytes.is_empty() {
            self.record(offset, bytes.len() as u64)?;
            self.stream.write_all(bytes)?;
            self.len = self.len.max(offset + bytes.len() as u64);
        }
        Ok(())
    }

    fn finish(&mut self, len: u64) -> Result<(), WriteError> {
        if self.len < len {
            self.put(len - 1, &[0])?;
        }
        self.begin()?;
        self.record(u64::MAX, u64::MAX)?;
        Ok(self.stream.flush()?)
    }
}

/// Copies a dump byte for byte; runs of zeros are left out where the output fills them in itself.
/// A flattened stream is put back in order on the way. Gives the length, and how the stream was
/// cut off, if it was.
pub fn copy(
    name: &str,
    source: &Arc<dyn Source>,
    progress: &Progress,
    out: &mut dyn Output,
) -> Result<(u64, Option<String>), CopyError> {
    let input = Input { name: name.to_owned(), source: Arc::clone(source), base: None };
    let (source, cut_off) = container::rearranged(input)?;
    let len = source.len();
    let mut buf = vec![0; COPY as usize];
    let mut at = 0;
    loop {
        // What no record wrote may be very long.
        at = source.next_written(at);
        if at >= len {
            break;
        }
        let here = &mut buf[..COPY.min(len - at) as usize];
        source.copy_to(at, here).map_err(|error| {
            CopyError::Write(WriteError::Unfit(format!("{name} can't be read: {error}")))
        })?;
        if !compress::is_zero(here) || at == 0 {
            out.put(at, here)?;
        }
        at += here.len() as u64;
        progress.add(here.len() as u64, here.len() as u64)?;
    }
    out.finish(len)?;
    Ok((len, cut_off))
}

/// Why a dump could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It is no stream that can be put in order.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}
