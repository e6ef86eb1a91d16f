//! The decoders, behind one face: each unpacks one member (frame, stream) of a file that may have
//! several, one after the other.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use super::{Kind, lzop};
use crate::source::Source;

/// Memory an xz stream may ask for, in KiB: `xz -9` takes 65 MiB, 1536 MiB is what the format
/// allows.
const XZ_MEMORY_KIB: u32 = 256 << 10;

/// zstd's window, as a power of two: what the command takes without `--long=31`
/// (`ZSTD_WINDOWLOG_LIMIT_DEFAULT`). It is the memory that a frame may ask for.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Bytes of a source, one after the other.
pub(super) struct SourceReader {
    source: Arc<dyn Source>,
    at: u64,
    buffer: Vec<u8>,
    /// What of the buffer was consumed.
    used: usize,
}

const BUFFER: u64 = 256 << 10;

impl SourceReader {
    pub(super) fn new(source: Arc<dyn Source>) -> SourceReader {
        SourceReader { source, at: 0, buffer: Vec::new(), used: 0 }
    }

    /// Bytes consumed so far.
    pub(super) fn position(&self) -> u64 {
        self.at - (self.buffer.len() - self.used) as u64
    }

    /// The next bytes, without consuming them: at most `len`.
    pub(super) fn peek(&self, len: usize) -> Vec<u8> {
        let at = self.position();
        let len = (self.source.len() - at).min(len as u64) as usize;
        self.source.bytes(at, len).map(|bytes| bytes.into_owned()).unwrap_or_default()
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> u64 {
        self.source.len() - self.position()
    }

    /// Goes on behind the next `len` bytes.
    pub(super) fn skip(&mut self, len: u64) {
        self.at = self.position().saturating_add(len).min(self.source.len());
        self.buffer.clear();
        self.used = 0;
    }
}

impl BufRead for SourceReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.buffer.len() {
            let len = (self.source.len() - self.at).min(BUFFER) as usize;
            self.buffer.resize(len, 0);
            self.used = 0;
            self.source.copy_to(self.at, &mut self.buffer).map_err(io::Error::other)?;
            self.at += len as u64;
        }
        Ok(&self.buffer[self.used..])
    }

    fn consume(&mut self, amount: usize) {
        self.used = (self.used + amount).min(self.buffer.len());
    }
}

impl Read for SourceReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let n = bytes.len().min(buf.len());
        buf[..n].copy_from_slice(&bytes[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// Unpacks the member that `reader` stands at the start of.
pub(super) fn member<'a, R: BufRead + 'a>(kind: Kind, reader: R) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match kind {
        Kind::Gzip => Box::new(flate2::bufread::GzDecoder::new(reader)),
        Kind::Bzip2 => Box::new(bzip2::bufread::BzDecoder::new(reader)),
        Kind::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(reader, false, XZ_MEMORY_KIB)),
        Kind::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?.single_frame();
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        Kind::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(reader)),
        Kind::Lzop => Box::new(lzop::Reader::new(reader)?),
    })
}

/// Unpacks a member that is known to hold `len` bytes.
pub(super) fn unpack_member(kind: Kind, stored: &[u8], len: usize) -> Result<Vec<u8>, String> {
    let read = || {
        let mut bytes = vec![0; len];
        let mut decoder = member(kind, stored)?;
        decoder.read_exact(&mut bytes)?;
        // Reading on is what verifies the checksum.
        if decoder.read(&mut [0])? != 0 {
            return Err(io::Error::other("holds more than its index says"));
        }
        Ok(bytes)
    };
    read().map_err(|error: io::Error| error.to_string())
}
