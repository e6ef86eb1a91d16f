//! Files mapped into memory: the only `unsafe` of the project.
//!
//! A dump is far larger than what an analysis touches of it, so it is mapped, not read. Each touch
//! of a map makes 64 KiB resident (the fault-around of Linux, mm/memory.c), for good: an analysis
//! of a hundred thousand tasks would drag gigabytes along. So once [`MOST_BLOCKS`] blocks were
//! touched the whole map is dropped from the process, and faults in again where it is needed.

#![allow(unsafe_code)]

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::Path;
#[cfg(unix)]
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use memmap2::Mmap;

use crate::source::{Source, SourceError};

/// A file that is mapped read-only.
pub struct MappedFile {
    #[cfg_attr(not(unix), expect(dead_code))]
    file: File,
    map: Option<Mmap>,
    #[cfg(unix)]
    touched: Touched,
}

/// What one fault makes resident, as a power of two.
#[cfg(unix)]
const BLOCK_SHIFT: u32 = 16;
/// Blocks (16 MiB) that may be resident.
#[cfg(unix)]
const MOST_BLOCKS: usize = 256;

/// The blocks of a map that were touched lately: about as many as are resident.
#[cfg(unix)]
struct Touched {
    /// Each block has one place here that it shares with others: the last one stands in it (its
    /// number and 1). Who finds another there counts it, so none is missed, and some of those
    /// that share a place are counted more than once.
    last: Box<[AtomicU64; MOST_BLOCKS]>,
    count: AtomicUsize,
}

#[cfg(unix)]
impl Default for Touched {
    fn default() -> Touched {
        Touched {
            last: Box::new([const { AtomicU64::new(0) }; MOST_BLOCKS]),
            count: AtomicUsize::new(0),
        }
    }
}

#[cfg(unix)]
impl Touched {
    /// Notes a touch. Whether it is time to drop the map.
    fn touch(&self, offset: u64, len: usize) -> bool {
        let last = offset.saturating_add((len as u64).saturating_sub(1));
        let mut is_full = false;
        for block in offset >> BLOCK_SHIFT..=last >> BLOCK_SHIFT {
            let place = &self.last[block as usize % MOST_BLOCKS];
            if place.load(Ordering::Relaxed) == block + 1 {
                continue;
            }
            place.store(block + 1, Ordering::Relaxed);
            // One thread finds the very number. Should it not come to drop the map (others may
            // keep the processor from it), the next one does.
            let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
            is_full |= count.is_multiple_of(MOST_BLOCKS);
        }
        is_full
    }

    /// The map was dropped.
    fn clear(&self) {
        self.last.iter().for_each(|place| place.store(0, Ordering::Relaxed));
        self.count.store(0, Ordering::Relaxed);
    }
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
        MappedFile::of(file, len)
    }

    /// Maps the first `len` bytes of a file, which it has.
    pub(crate) fn of(file: File, len: u64) -> io::Result<MappedFile> {
        if len == 0 {
            return Ok(MappedFile {
                file,
                map: None,
                #[cfg(unix)]
                touched: Touched::default(),
            });
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
        Ok(MappedFile {
            file,
            map: Some(map),
            #[cfg(unix)]
            touched: Touched::default(),
        })
    }

    /// Drops what of the map is resident.
    #[cfg(unix)]
    fn drop_resident(&self) {
        self.touched.clear();
        if let Some(map) = &self.map {
            // SAFETY: a file's map that nobody writes through has nothing to lose: the next touch,
            // be it by a slice that is borrowed at this moment, finds the file's bytes again.
            // A refusal costs memory only.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
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
        let bytes = self.as_slice().bytes(offset, len)?;
        #[cfg(unix)]
        if self.touched.touch(offset, len) {
            self.drop_resident();
        }
        Ok(bytes)
    }

    /// Without touching the map: a page fault takes twice as long as this, and maps 64 KiB.
    #[cfg(unix)]
    fn copy_to(&self, offset: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buf, offset).map_err(|_| {
            SourceError::OutOfRange { offset, len: buf.len(), size: Source::len(self) }
        })
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn many_blocks_are_too_many() {
        let touched = Touched::default();
        let block = |n: u64| n << BLOCK_SHIFT;
        for n in 0..MOST_BLOCKS as u64 - 1 {
            assert!(!touched.touch(block(n), 4096), "{n}");
            assert!(!touched.touch(block(n) + 8192, 4096), "the same block counts once");
        }
        assert!(touched.touch(block(1 << 30), 4096));
        touched.clear();
        // A long piece is many blocks.
        assert!(touched.touch(0, MOST_BLOCKS << BLOCK_SHIFT));
    }

    #[test]
    fn borrowed_bytes_outlive_the_dropping() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![7; 3 << BLOCK_SHIFT]).unwrap();
        let mapped = MappedFile::open(file.path()).unwrap();
        let bytes = mapped.bytes(1 << BLOCK_SHIFT, 4096).unwrap();
        assert_eq!(bytes[17], 7);
        mapped.drop_resident();
        assert!(bytes.iter().all(|byte| *byte == 7));
    }
}
