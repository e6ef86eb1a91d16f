//! Archives: a dump in large blocks that zstd unpacks and a reader can seek in.
//!
//! The zstd seekable format (facebook/zstd, contrib/seekable_format/
//! zstd_seekable_compression_format.md, version 0.1.0): independent zstd frames (RFC 8878), here
//! of 2 MiB of the dump each, and behind them a skippable frame with the seek table:
//!
//! ```text
//! u32 0x184D2A5E, u32 size of what follows
//! for each frame: u32 compressed size, u32 size (0: a skippable frame)
//! u32 number of frames, u8 descriptor (0: no checksums), u32 0x8F92EAB1
//! ```
//!
//! `zstd -d` passes over skippable frames and gives the dump: an ELF core, in which notes of ours
//! keep what ELF can't say. Each frame has its size and a checksum of its own.
//!
//! In front is a skippable frame (0x184D2A50) with text: `kmortem archive`, then one KEY=value per
//! line. `format` is 1. With a base it says which: `base` (name of the file), `base_size`,
//! `base_dir` (where it lay, as seen from the archive's folder). A base is the raw content of a
//! dictionary that all frames refer to: what many dumps have in common, kept once. To unpack
//! without kmortem: `zstd -d -D BASE`.

use std::io::Write;
use std::sync::atomic::Ordering;

use super::output::Output;
use super::pipeline::{Pipeline, Worker};
use super::{Progress, WriteError};
use crate::codec::Codec;

/// Level where none is asked for: 15 takes three times as long for two percent, 19 ten
/// times for fifteen (twenty with a base).
pub const DEFAULT_LEVEL: i32 = 12;

/// Bytes of the dump in a frame.
const FRAME: usize = 2 << 20;

const MAGIC_TEXT: u32 = 0x184d_2a50;
const MAGIC_TABLE: u32 = 0x184d_2a5e;
const MAGIC_FOOTER: u32 = 0x8f92_eab1;

/// First line of the text in front.
pub(crate) const SIGNATURE: &str = "kmortem archive\n";

/// What many dumps have in common, kept in a file of its own.
#[derive(Debug, Clone, Copy)]
pub struct Base<'a> {
    /// Name of the file, without folders.
    pub name: &'a str,
    /// Its folder, as seen from the archive's.
    pub dir: Option<&'a str>,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// How to write an archive.
#[derive(Debug, Clone, Copy)]
pub struct Archive<'a> {
    /// zstd's level, 1 to 22.
    pub level: i32,
    /// Threads that compress, each with some 100 MiB at high levels.
    pub threads: usize,
    /// The base, if there is one.
    pub base: Option<Base<'a>>,
}

/// A frame, compressed.
type Packed = Result<(u32, Vec<u8>), WriteError>;

impl Archive<'_> {
    /// Writes what `body` puts, which must be in order, as an archive. Gives what `body` gave,
    /// and the archive's size.
    pub fn write<T>(
        &self,
        stream: &mut dyn Write,
        progress: &Progress,
        body: impl FnOnce(&mut dyn Output) -> Result<T, WriteError>,
    ) -> Result<(T, u64), WriteError> {
        let range = zstd::compression_level_range();
        if !range.contains(&self.level) {
            return Err(refuse(format!("level {} is not in 1 to {}", self.level, range.end())));
        }
        let base = self.base.as_ref();
        let dictionary =
            base.map(|base| zstd::dict::EncoderDictionary::copy(base.bytes, self.level));
        std::thread::scope(|scope| {
            let dictionary = dictionary.as_ref();
            let level = self.level;
            // One thread puts, so that it reads ahead while others compress.
            let pipeline =
                Pipeline::start(scope, self.threads.max(2), || packer(level, dictionary));
            let mut frames = Frames {
                stream,
                pipeline,
                progress,
                frame: Vec::with_capacity(FRAME),
                at: 0,
                table: Vec::new(),
                written: 0,
            };
            frames.put_text(base)?;
            let done = body(&mut frames)?;
            frames.end()?;
            Ok((done, frames.written))
        })
    }
}

fn refuse(what: impl ToString) -> WriteError {
    WriteError::Codec { codec: Codec::Zstd, what: what.to_string() }
}

/// One thread's work.
fn packer<'a>(
    level: i32,
    dictionary: Option<&'a zstd::dict::EncoderDictionary<'static>>,
) -> Worker<'a, Vec<u8>, Packed> {
    let mut context: Option<zstd::bulk::Compressor<'a>> = None;
    Box::new(move |frame: Vec<u8>| {
        if context.is_none() {
            let made = match dictionary {
                Some(dictionary) => zstd::bulk::Compressor::with_prepared_dictionary(dictionary),
                None => zstd::bulk::Compressor::new(level),
            };
            let made = made.and_then(|mut made| made.include_checksum(true).map(|()| made));
            context = Some(made.map_err(refuse)?);
        }
        let Some(context) = &mut context else { return Err(refuse("no memory")) };
        let packed = context.compress(&frame).map_err(refuse)?;
        Ok((frame.len() as u32, packed))
    })
}

/// Cuts what is put into frames.
struct Frames<'scope, 'a> {
    stream: &'a mut dyn Write,
    pipeline: Pipeline<'scope, Vec<u8>, Packed>,
    progress: &'a Progress,
    frame: Vec<u8>,
    /// Of the dump.
    at: u64,
    /// Compressed size and size of each frame.
    table: Vec<(u32, u32)>,
    written: u64,
}

impl Frames<'_, '_> {
    fn put_text(&mut self, base: Option<&Base<'_>>) -> Result<(), WriteError> {
        let mut text = format!("{SIGNATURE}format=1\n");
        if let Some(base) = base {
            text.push_str(&format!("base={}\nbase_size={}\n", base.name, base.bytes.len()));
            if let Some(dir) = base.dir {
                text.push_str(&format!("base_dir={dir}\n"));
            }
        }
        self.put_skippable(MAGIC_TEXT, text.as_bytes())?;
        self.table.push((text.len() as u32 + 8, 0));
        Ok(())
    }

    fn put_skippable(&mut self, magic: u32, content: &[u8]) -> Result<(), WriteError> {
        let len = u32::try_from(content.len()).map_err(|_| refuse("too many frames"))?;
        self.stream.write_all(&magic.to_le_bytes())?;
        self.stream.write_all(&len.to_le_bytes())?;
        self.stream.write_all(content)?;
        self.written += 8 + content.len() as u64;
        Ok(())
    }

    fn push_frame(&mut self) -> Result<(), WriteError> {
        let frame = std::mem::replace(&mut self.frame, Vec::with_capacity(FRAME));
        self.pipeline.push(frame);
        while self.pipeline.is_full() {
            self.take()?;
        }
        Ok(())
    }

    /// Writes the oldest frame that is on its way; false if there is none.
    fn take(&mut self) -> Result<bool, WriteError> {
        let Some(packed) = self.pipeline.pop() else { return Ok(false) };
        let (len, bytes) = packed?;
        self.stream.write_all(&bytes)?;
        self.written += bytes.len() as u64;
        self.table.push((bytes.len() as u32, len));
        if self.progress.stop.load(Ordering::Relaxed) {
            return Err(WriteError::Interrupted);
        }
        Ok(true)
    }

    fn push(&mut self, mut bytes: &[u8]) -> Result<(), WriteError> {
        while !bytes.is_empty() {
            let (here, rest) = bytes.split_at(bytes.len().min(FRAME - self.frame.len()));
            self.frame.extend_from_slice(here);
            self.at += here.len() as u64;
            bytes = rest;
            if self.frame.len() == FRAME {
                self.push_frame()?;
            }
        }
        Ok(())
    }

    fn fill(&mut self, to: u64) -> Result<(), WriteError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while self.at < to {
            let len = (to - self.at).min(ZEROS.len() as u64);
            self.push(&ZEROS[..len as usize])?;
        }
        Ok(())
    }

    /// Writes what is on its way, and the seek table.
    fn end(&mut self) -> Result<(), WriteError> {
        if !self.frame.is_empty() {
            self.push_frame()?;
        }
        while self.take()? {}
        let mut table = Vec::with_capacity(8 * self.table.len() + 9);
        for (compressed, len) in &self.table {
            table.extend(compressed.to_le_bytes());
            table.extend(len.to_le_bytes());
        }
        let count = u32::try_from(self.table.len()).map_err(|_| refuse("too many frames"))?;
        table.extend(count.to_le_bytes());
        table.push(0);
        table.extend(MAGIC_FOOTER.to_le_bytes());
        self.put_skippable(MAGIC_TABLE, &table)?;
        Ok(self.stream.flush()?)
    }
}

impl Output for Frames<'_, '_> {
    fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        if offset < self.at {
            let what = "this form is written out of order, which an archive can't be";
            return Err(WriteError::Unfit(what.to_owned()));
        }
        self.fill(offset)?;
        self.push(bytes)
    }

    fn finish(&mut self, len: u64) -> Result<(), WriteError> {
        self.fill(len)
    }
}
