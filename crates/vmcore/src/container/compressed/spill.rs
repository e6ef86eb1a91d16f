//! A compressed stream unpacked into a file without a name.
//!
//! What is small stays in memory. Zeros become holes: a memory image is often half zeros, and the
//! file then takes half the room. The folder's free space is looked at before and while writing; a
//! reserve of it is left alone, so that a file made to swell (a "bomb") ends in an error and not
//! in a full disk.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::decoder::{self, SourceReader};
use super::{Kind, OpenOptions, Unpacked, Unpacking};
use crate::container::Input;
use crate::error::OpenError;
use crate::mmap::MappedFile;
use crate::source::Source;

/// Unpacked streams up to this stay in memory.
const IN_MEMORY: usize = 1 << 20;

/// No machine has more memory than this: 64 TiB, what four levels of x86_64 page tables map.
const MOST_UNPACKED: u64 = 64 << 40;

/// Room that is left on the disk, whatever happens.
const RESERVE: u64 = 64 << 20;

/// Bytes between two looks at the free space, and two calls of the progress function.
const STEP: u64 = 16 << 20;

const CHUNK: usize = 256 << 10;
const PAGE: usize = 4096;

/// Unpacks an input.
pub(super) fn unpack(
    input: &Input,
    kind: Kind,
    options: &OpenOptions<'_>,
) -> Result<Unpacked, OpenError> {
    let fail = |what: String| OpenError::Unpack { name: input.name.clone(), what };
    let folder = options.temp_dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut sink = Sink::new(folder, kind);
    if let Some(size) = super::stated_size(input, kind) {
        sink.check_room(size).map_err(fail)?;
    }
    let most = options.most_unpacked.unwrap_or(MOST_UNPACKED).min(MOST_UNPACKED);
    let total = input.source.len();
    let mut reader = SourceReader::new(Arc::clone(&input.source));
    let mut next_report = STEP;
    let mut oddities = Vec::new();
    let mut cut_off = None;
    let mut chunk = vec![0; CHUNK];
    loop {
        let ended = copy_member(kind, &mut reader, &mut chunk, &mut |read, bytes| {
            if sink.len + bytes.len() as u64 > most {
                let what = format!(
                    "{read} of its {total} bytes ({}) unpack to more than {most} bytes",
                    kind.name()
                );
                return Err(fail(what));
            }
            sink.write(bytes).map_err(fail)?;
            if sink.len >= next_report {
                next_report = sink.len + STEP;
                let state = Unpacking { read, total, unpacked: sink.len };
                if options.progress.is_some_and(|tell| tell(&state) == ControlFlow::Break(())) {
                    return Err(fail("unpacking was interrupted".to_owned()));
                }
            }
            Ok(())
        })?;
        if let Err(error) = ended {
            cut_off = Some(reason(kind, &error, sink.len));
            break;
        }
        match behind(kind, &mut reader) {
            Behind::Member => {}
            Behind::Nothing => break,
            Behind::Other(left) => {
                oddities.push(format!("{left} bytes behind the {} data are left out", kind.name()));
                break;
            }
        }
    }
    if sink.len == 0 {
        return Err(match cut_off {
            Some(what) => OpenError::Truncated { name: input.name.clone(), what },
            None => OpenError::Foreign {
                name: input.name.clone(),
                looks_like: format!("{} data with nothing in it", kind.name()),
            },
        });
    }
    if sink.file.is_some() {
        oddities.push(format!(
            "{} is unpacked anew each time it is opened; `kmortem convert --to archive` makes a \
             form that is read in place",
            kind.name()
        ));
    }
    let place = if sink.file.is_some() { "a temporary file" } else { "memory" };
    let layer = format!("{} (unpacked to {place})", kind.name());
    let source = sink.finish().map_err(fail)?;
    Ok(Unpacked { source, layer, cut_off, oddities })
}

/// Takes bytes, with how much of the input was read for them.
type Write<'a> = dyn FnMut(u64, &[u8]) -> Result<(), OpenError> + 'a;

/// Unpacks one member. The outer error ends all, the inner one is the stream's.
fn copy_member(
    kind: Kind,
    reader: &mut SourceReader,
    chunk: &mut [u8],
    write: &mut Write<'_>,
) -> Result<io::Result<()>, OpenError> {
    // The decoder borrows the reader: where that stands is known between the members only, so
    // progress counts within a member by what the decoder was given.
    let counter = std::cell::Cell::new(reader.position());
    let counted = Counted { reader, position: &counter };
    let mut decoder = match decoder::member(kind, counted) {
        Ok(decoder) => decoder,
        Err(error) => return Ok(Err(error)),
    };
    loop {
        match decoder.read(chunk) {
            Ok(0) => return Ok(Ok(())),
            Ok(n) => write(counter.get(), chunk.get(..n).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// A reader that says how far it is.
struct Counted<'a> {
    reader: &'a mut SourceReader,
    position: &'a std::cell::Cell<u64>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buf)?;
        self.position.set(self.reader.position());
        Ok(n)
    }
}

impl io::BufRead for Counted<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.reader.consume(amount);
        self.position.set(self.reader.position());
    }
}

fn reason(kind: Kind, error: &io::Error, unpacked: u64) -> String {
    let name = kind.name();
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            format!("the {name} data around it is cut off ({unpacked} bytes came out)")
        }
        _ => format!("the {name} data around it is damaged after {unpacked} bytes: {error}"),
    }
}

/// What follows a member.
enum Behind {
    Member,
    /// Nothing, or zeros up to a block of a tape or disk.
    Nothing,
    /// This many bytes of something else.
    Other(u64),
}

fn behind(kind: Kind, reader: &mut SourceReader) -> Behind {
    let mut zeros = 0;
    loop {
        let head = reader.peek(PAGE);
        if head.is_empty() {
            return Behind::Nothing;
        }
        if super::probe(&head) == Some(kind) {
            return Behind::Member;
        }
        // Skippable frames, of zstd and lz4 alike.
        if matches!(kind, Kind::Zstd | Kind::Lz4)
            && let [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, ..] = *head.as_slice()
        {
            reader.skip(8 + u64::from(u32::from_le_bytes([a, b, c, d])));
            continue;
        }
        let blank = head.iter().take_while(|byte| **byte == 0).count();
        if blank == 0 || zeros > RESERVE {
            return Behind::Other(reader.left());
        }
        zeros += blank as u64;
        reader.skip(blank as u64);
    }
}

/// Where the bytes go.
struct Sink {
    folder: PathBuf,
    kind: Kind,
    memory: Vec<u8>,
    file: Option<File>,
    len: u64,
    /// Bytes that took room on the disk since the last look at it.
    since_look: u64,
}

impl Sink {
    fn new(folder: PathBuf, kind: Kind) -> Sink {
        Sink { folder, kind, memory: Vec::new(), file: None, len: 0, since_look: 0 }
    }

    /// An error that says so if the folder has no room for `size` more bytes.
    fn check_room(&self, size: u64) -> Result<(), String> {
        if size <= IN_MEMORY as u64 {
            return Ok(());
        }
        match free_space(&self.folder) {
            Some(free) if free.saturating_sub(RESERVE) < size => Err(format!(
                "no room to unpack it: {} more bytes are needed, {} has {free} left; set TMPDIR to \
                 a folder with more room, or unpack it by hand ({})",
                size,
                self.folder.display(),
                self.kind.name()
            )),
            _ => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.file.is_none() {
            if self.memory.len() + bytes.len() <= IN_MEMORY {
                self.memory.extend_from_slice(bytes);
                self.len += bytes.len() as u64;
                return Ok(());
            }
            self.check_room(STEP)?;
            self.file = Some(tempfile::tempfile_in(&self.folder).map_err(|e| self.failed(&e))?);
            let head = std::mem::take(&mut self.memory);
            self.write_file(0, &head)?;
        }
        self.write_file(self.len, bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Writes what is not zeros.
    fn write_file(&mut self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut at = 0;
        let mut written = 0;
        while at < bytes.len() {
            // Pages of the file, not of the chunk: a hole is made of whole ones.
            let page = |at: usize| {
                let in_page = ((offset + at as u64) % PAGE as u64) as usize;
                bytes.get(at..(at + PAGE - in_page).min(bytes.len())).unwrap_or_default()
            };
            let is_blank = |page: &[u8]| page.iter().all(|byte| *byte == 0);
            let from = at;
            while at < bytes.len() && !is_blank(page(at)) {
                at += page(at).len();
            }
            if from < at {
                write_at(file, &bytes[from..at], offset + from as u64)
                    .map_err(|error| self.failed(&error))?;
                written += (at - from) as u64;
            }
            while at < bytes.len() && is_blank(page(at)) {
                at += page(at).len();
            }
        }
        self.since_look += written;
        if self.since_look >= STEP {
            self.since_look = 0;
            self.check_room(STEP)?;
        }
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> String {
        format!(
            "can't be unpacked to a temporary file in {}: {error}; set TMPDIR to another folder",
            self.folder.display()
        )
    }

    fn finish(self) -> Result<Arc<dyn Source>, String> {
        let Some(file) = &self.file else { return Ok(Arc::new(self.memory)) };
        file.set_len(self.len).map_err(|error| self.failed(&error))?;
        let file = file.try_clone().map_err(|error| self.failed(&error))?;
        let mapped = MappedFile::of(file, self.len).map_err(|error| self.failed(&error))?;
        Ok(Arc::new(mapped))
    }
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
    io::Write::write_all(&mut file, bytes)
}

/// Bytes that a folder's file system has left for us.
#[cfg(unix)]
fn free_space(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(unix))]
fn free_space(_: &Path) -> Option<u64> {
    None
}
