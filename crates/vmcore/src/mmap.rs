//! Files mapped into memory: the only `unsafe` of the project.
//!
//! A dump is far larger than what an analysis touches of it, so it is mapped, not read.

#![allow(unsafe_code)]

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

use crate::source::{Source, SourceError};

/// A file that is mapped read-only.
pub struct MappedFile {
    #[cfg_attr(not(unix), expect(dead_code))]
    file: File,
    map: Option<Mmap>,
}

impl MappedFile {
    /// Maps a regular file or a block device. Anything else has no bytes at offsets, and opening
    /// a FIFO would wait for a writer, hence the look before the opening.
    pub fn open(path: &Path) -> io::Result<MappedFile> {
        let kind = std::fs::metadata(path)?.file_type();
        if kind.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
        }
        if !kind.is_file() && !is_block_device(kind) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is neither a regular file nor a block device; copy it into a file first",
            ));
        }
        let mut file = File::open(path)?;
        // A block device has no length in its metadata; the end can be sought in both.
        let len = io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
        if len == 0 {
            return Ok(MappedFile { file, map: None });
        }
        let len = usize::try_from(len)
            .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "too large to map"))?;
        // SAFETY: the map is read-only and private to this struct. The bytes can change under us
        // only when somebody writes to the dump while it is analysed, or truncates it (the
        // process then gets SIGBUS). No invariant of ours rests on two reads giving the same
        // bytes: all of them are checked where they are used. A dump is not written to after it
        // was taken; copying hundreds of gigabytes to be safe from that is no alternative.
        let map = unsafe { memmap2::MmapOptions::new().len(len).map(&file)? };
        // No advice is given: the kernel's read-ahead stops by itself where access is random, and
        // without it a scan of a dump that is not cached takes many times as long.
        Ok(MappedFile { file, map: Some(map) })
    }

    fn as_slice(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

#[cfg(unix)]
fn is_block_device(kind: std::fs::FileType) -> bool {
    std::os::unix::fs::FileTypeExt::is_block_device(&kind)
}

#[cfg(not(unix))]
fn is_block_device(_: std::fs::FileType) -> bool {
    false
}

impl Source for MappedFile {
    fn len(&self) -> u64 {
        Source::len(self.as_slice())
    }

    fn bytes(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>, SourceError> {
        self.as_slice().bytes(offset, len)
    }

    /// Without touching the map: a page fault takes twice as long as this, and maps 64 KiB.
    #[cfg(unix)]
    fn copy_to(&self, offset: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buf, offset).map_err(|_| {
            SourceError::OutOfRange { offset, len: buf.len(), size: Source::len(self) }
        })
    }
}
