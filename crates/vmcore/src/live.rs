//! Files of `/proc` that are the machine's memory: `/proc/kcore` and `/proc/vmcore`.
//!
//! They are ELF cores, but can't be mapped (kcore), or only on some machines (vmcore), and kcore's
//! size may be 0 or that of the whole address space (fs/proc/kcore.c). So the size is what the
//! program headers reach to, and bytes are read when they are asked for.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::source::{Fields, Source, SourceError, in_range};

const EHDR: usize = 64;
const PHDR: usize = 56;
/// Program headers beyond this are not looked at.
const MAX_HEADERS: usize = 65535;

/// A core that is read as it goes.
pub(crate) struct LiveCore {
    file: File,
    len: u64,
}

/// Whether the path leads to such a file.
pub(crate) fn is_live(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|path| path.starts_with("/proc"))
}

impl LiveCore {
    pub(crate) fn open(path: &Path) -> io::Result<LiveCore> {
        let file = File::open(path)?;
        let len = end_of_segments(&file)?;
        Ok(LiveCore { file, len })
    }
}

/// Where the last segment ends.
fn end_of_segments(file: &File) -> io::Result<u64> {
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "it is no ELF core");
    let mut header = [0; EHDR];
    file.read_exact_at(&mut header, 0)?;
    let fields = Fields(&header);
    let (Some(phoff), Some(count)) = (fields.u64(32), fields.u16(56)) else { return Err(odd()) };
    if !header.starts_with(b"\x7fELF") {
        return Err(odd());
    }
    let count = usize::from(count).min(MAX_HEADERS);
    let mut table = vec![0; count * PHDR];
    file.read_exact_at(&mut table, phoff)?;
    let mut end = phoff.saturating_add(table.len() as u64);
    for phdr in table.chunks_exact(PHDR) {
        let fields = Fields(phdr);
        let (offset, size) = fields.u64(8).zip(fields.u64(32)).ok_or_else(odd)?;
        end = end.max(offset.saturating_add(size));
    }
    Ok(end)
}

impl Source for LiveCore {
    fn len(&self) -> u64 {
        self.len
    }

    fn bytes(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>, SourceError> {
        if !in_range(offset, len, self.len) {
            return Err(SourceError::OutOfRange { offset, len, size: self.len });
        }
        let mut bytes = vec![0; len];
        self.copy_to(offset, &mut bytes)?;
        Ok(Cow::Owned(bytes))
    }

    fn copy_to(&self, offset: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        self.file.read_exact_at(buf, offset).map_err(|error| {
            let what = format!("{} bytes at {offset:#x} can't be read: {error}", buf.len());
            SourceError::Damaged { what }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_say_how_long_it_is() {
        let core = kmortem_testkit::Elf::default().load(0x1000, vec![7; 8192]).build();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &core).unwrap();
        let live = LiveCore::open(file.path()).unwrap();
        assert_eq!(live.len(), core.len() as u64);
        assert_eq!(*live.bytes(0, core.len()).unwrap(), *core);
        assert!(live.bytes(1, core.len()).is_err());
        std::fs::write(file.path(), b"text").unwrap();
        assert!(LiveCore::open(file.path()).is_err());
        assert!(is_live(Path::new("/proc/version")));
        assert!(!is_live(file.path()));
    }
}
