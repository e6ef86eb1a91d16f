//! Where the bytes of a dump go.

use std::fs::File;
use std::io::{self, Write};

use super::WriteError;

/// Takes bytes at offsets. A writer says at which offset each piece belongs; pieces of those forms
/// that can be streamed come in order.
pub trait Output {
    /// Puts `bytes` at `offset`.
    fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError>;

    /// Ends the dump, which is `len` bytes long; what no piece covers reads as zeros.
    fn finish(&mut self, len: u64) -> Result<(), WriteError>;
}

/// A file. Pieces that are not written are holes.
pub struct FileOutput {
    file: File,
    at: u64,
}

impl FileOutput {
    /// Writes into `file`, which is empty.
    pub fn new(file: File) -> FileOutput {
        FileOutput { file, at: 0 }
    }

    /// The file.
    pub fn into_file(self) -> File {
        self.file
    }
}

impl Output for FileOutput {
    fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        if self.at != offset {
            io::Seek::seek(&mut self.file, io::SeekFrom::Start(offset))?;
        }
        self.file.write_all(bytes)?;
        self.at = offset + bytes.len() as u64;
        Ok(())
    }

    fn finish(&mut self, len: u64) -> Result<(), WriteError> {
        Ok(self.file.set_len(len)?)
    }
}

/// A stream that can't be sought: a pipe, a socket. Takes pieces in order only; gaps between them
/// are filled with zeros.
pub struct Stream<W> {
    stream: W,
    at: u64,
}

impl<W: Write> Stream<W> {
    /// Writes into `stream`.
    pub fn new(stream: W) -> Stream<W> {
        Stream { stream, at: 0 }
    }

    /// The stream.
    pub fn into_inner(self) -> W {
        self.stream
    }

    fn fill(&mut self, to: u64) -> Result<(), WriteError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while self.at < to {
            let len = (to - self.at).min(ZEROS.len() as u64);
            self.stream.write_all(&ZEROS[..len as usize])?;
            self.at += len;
        }
        Ok(())
    }
}

impl<W: Write> Output for Stream<W> {
    fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        if offset < self.at {
            let what = "this form is written out of order, which a stream can't be; flatten it";
            return Err(WriteError::Unfit(what.to_owned()));
        }
        self.fill(offset)?;
        self.stream.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn finish(&mut self, len: u64) -> Result<(), WriteError> {
        self.fill(len)?;
        Ok(self.stream.flush()?)
    }
}

/// Pieces that follow one another, put as one.
pub(super) struct Buffered {
    offset: u64,
    bytes: Vec<u8>,
}

/// As much is put at once.
const PUT: usize = 256 << 10;

impl Buffered {
    pub(super) fn at(offset: u64) -> Buffered {
        Buffered { offset, bytes: Vec::new() }
    }

    /// Where the next piece goes.
    pub(super) fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }

    pub(super) fn push(&mut self, bytes: &[u8], out: &mut dyn Output) -> Result<(), WriteError> {
        if self.bytes.len() + bytes.len() > PUT {
            self.flush(out)?;
        }
        if bytes.len() >= PUT {
            out.put(self.offset, bytes)?;
            self.offset += bytes.len() as u64;
            return Ok(());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn flush(&mut self, out: &mut dyn Output) -> Result<(), WriteError> {
        if !self.bytes.is_empty() {
            out.put(self.offset, &self.bytes)?;
            self.offset += self.bytes.len() as u64;
            self.bytes.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_fills_gaps_and_refuses_to_go_back() {
        let mut stream = Stream::new(Vec::new());
        stream.put(2, b"ab").unwrap();
        stream.put(5, b"c").unwrap();
        assert!(matches!(stream.put(5, b"d"), Err(WriteError::Unfit(_))));
        stream.finish(8).unwrap();
        assert_eq!(stream.into_inner(), b"\0\0ab\0c\0\0");
    }

    #[test]
    fn pieces_are_gathered_in_order() {
        let mut stream = Stream::new(Vec::new());
        let mut buffered = Buffered::at(0);
        let mut expected = Vec::new();
        for (n, len) in [5, PUT - 3, PUT + 7, 0, 1, 3 * PUT].into_iter().enumerate() {
            let piece = vec![n as u8; len];
            buffered.push(&piece, &mut stream).unwrap();
            expected.extend(piece);
            assert_eq!(buffered.end(), expected.len() as u64);
        }
        buffered.flush(&mut stream).unwrap();
        assert!(stream.into_inner() == expected);
    }
}
