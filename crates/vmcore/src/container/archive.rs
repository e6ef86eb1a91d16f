//! Archives: a dump in a zstd seekable file, unpacked frame by frame where it is read.
//!
//! [`crate::writer::archive`] has the layout. Any zstd file with a seek table at its end is one,
//! whoever wrote it; frames may have up to 64 MiB. Of an archive of ours that was cut off the
//! frames are found without the table, one header after the other.
//!
//! Frames that were unpacked stay in a bounded cache. All that is unpacked is checked against the
//! checksum in its frame; an archive whose base is another file than the one it was made with
//! shows there.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use zstd::zstd_safe;

use super::Input;
use crate::error::OpenError;
use crate::mmap::MappedFile;
use crate::source::{Fields, Source, SourceError, in_range};
use crate::writer::archive::SIGNATURE;

const MAGIC_ZSTD: u32 = 0xfd2f_b528;
/// The lowest of sixteen.
const MAGIC_SKIPPABLE: u32 = 0x184d_2a50;
const MAGIC_TABLE: u32 = 0x184d_2a5e;
const MAGIC_FOOTER: u32 = 0x8f92_eab1;
const FOOTER: u64 = 9;

/// Larger frames are not unpacked.
const MAX_FRAME: u32 = 64 << 20;
/// Frames beyond this are not taken: 256 TiB in frames of 2 MiB.
const MAX_FRAMES: u64 = 1 << 27;
/// Text in front beyond this is not read.
const MAX_TEXT: u32 = 64 << 10;
/// Unpacked frames that are kept, in bytes. One is kept however large.
const CACHE: usize = 32 << 20;
/// Threads that want different frames unpack side by side.
const LOCKS: usize = 16;
/// A base is the image of a kernel.
const MAX_BASE: u64 = 1 << 30;

/// Folders in which bases are looked for, separated as in PATH.
const BASE_PATH: &str = "KMORTEM_BASE";

/// A frame.
#[derive(Debug, Clone, Copy)]
struct Frame {
    /// In the file.
    at: u64,
    packed: u32,
    /// Where its bytes begin in the dump.
    start: u64,
    len: u32,
}

/// An archive as the dump in it.
pub(super) struct Archive {
    file: Arc<dyn Source>,
    /// Those that have bytes, ascending.
    frames: Vec<Frame>,
    len: u64,
    base: Option<MappedFile>,
    cut_off: Option<String>,
    /// The one used last in front.
    cache: Mutex<VecDeque<(usize, Arc<[u8]>)>>,
    locks: [Mutex<()>; LOCKS],
}

/// Whether the input is one.
pub(super) fn probe(input: &Input) -> bool {
    let source = input.source.as_ref();
    let Some(magic) = u32_at(source, 0) else { return false };
    if magic != MAGIC_ZSTD && magic & !0xf != MAGIC_SKIPPABLE {
        return false;
    }
    has_table(source) || text_of(source).is_some()
}

fn has_table(source: &dyn Source) -> bool {
    let footer = source.len().checked_sub(4).and_then(|at| u32_at(source, at));
    footer == Some(MAGIC_FOOTER)
}

fn u32_at(source: &dyn Source, at: u64) -> Option<u32> {
    let mut bytes = [0; 4];
    source.copy_to(at, &mut bytes).ok()?;
    Some(u32::from_le_bytes(bytes))
}

/// The text in front of an archive of ours.
fn text_of(source: &dyn Source) -> Option<String> {
    let len = u32_at(source, 4).filter(|len| *len <= MAX_TEXT)?;
    if u32_at(source, 0) != Some(MAGIC_SKIPPABLE) {
        return None;
    }
    let text = source.bytes(8, len as usize).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.strip_prefix(SIGNATURE).map(str::to_owned)
}

/// Reads the seek table, and finds the base.
pub(super) fn open(input: &Input) -> Result<Archive, OpenError> {
    let source = input.source.as_ref();
    let text = text_of(source).unwrap_or_default();
    let corrupt = |what: String| OpenError::Corrupt { name: input.name.clone(), what };
    let mut cut_off = None;
    let sizes = if has_table(source) {
        read_table(source).map_err(corrupt)?
    } else {
        cut_off = Some("the archive is cut off: it has no seek table".to_owned());
        walk(source)
    };
    let mut frames = Vec::new();
    let (mut at, mut start) = (0u64, 0u64);
    for (packed, len) in sizes {
        if len > MAX_FRAME {
            return Err(corrupt(format!(
                "a zstd frame of {len} bytes; at most {MAX_FRAME} are read"
            )));
        }
        if len > 0 {
            frames.push(Frame { at, packed, start, len });
        }
        at += u64::from(packed);
        start += u64::from(len);
    }
    if frames.is_empty() {
        let what = "an archive without any frame that can be read".to_owned();
        return Err(OpenError::Truncated { name: input.name.clone(), what });
    }
    let archive = Archive {
        base: find_base(&input.name, &text)?,
        file: Arc::clone(&input.source),
        frames,
        len: start,
        cut_off,
        cache: Mutex::default(),
        locks: std::array::from_fn(|_| Mutex::new(())),
    };
    // Headers are in the first frame: without it there is nothing, and its base would be blamed
    // for whatever else is missing.
    if archive.frame(0).is_none() {
        return Err(match archive.base {
            Some(_) => {
                let what = "its first frame can't be unpacked: it was made with another base of the \
                            same name, or is damaged";
                OpenError::Base { name: input.name.clone(), what: what.to_owned() }
            }
            None => corrupt("its first zstd frame can't be unpacked".to_owned()),
        });
    }
    Ok(archive)
}

/// Compressed size and size of each frame, as the seek table has them.
fn read_table(source: &dyn Source) -> Result<Vec<(u32, u32)>, String> {
    const BROKEN: &str = "its seek table makes no sense";
    let footer_at = source.len().checked_sub(FOOTER).ok_or(BROKEN)?;
    let count = u32_at(source, footer_at).ok_or(BROKEN)?;
    let mut descriptor = [0];
    source.copy_to(footer_at + 4, &mut descriptor).map_err(|_| BROKEN)?;
    let [descriptor] = descriptor;
    if descriptor & 0x7c != 0 {
        return Err(format!("its seek table is of an unknown kind ({descriptor:#x})"));
    }
    let entry = if descriptor & 0x80 != 0 { 12 } else { 8 };
    let count = u64::from(count);
    if count > MAX_FRAMES {
        return Err(format!("a seek table of {count} frames"));
    }
    let table_at = footer_at.checked_sub(count * entry).ok_or(BROKEN)?;
    let header_at = table_at.checked_sub(8).ok_or(BROKEN)?;
    let size = u64::from(u32_at(source, header_at + 4).ok_or(BROKEN)?);
    if u32_at(source, header_at) != Some(MAGIC_TABLE) || size != count * entry + FOOTER {
        return Err(BROKEN.to_owned());
    }
    let table = source.bytes(table_at, (count * entry) as usize).map_err(|_| BROKEN)?;
    let mut end = 0u64;
    let mut sizes = Vec::with_capacity(count as usize);
    for bytes in table.chunks_exact(entry as usize) {
        let fields = Fields(bytes);
        let (Some(packed), Some(len)) = (fields.u32(0), fields.u32(4)) else { break };
        end += u64::from(packed);
        sizes.push((packed, len));
    }
    // A frame may be left out of the table only behind all others.
    if end > header_at { Err(BROKEN.to_owned()) } else { Ok(sizes) }
}

/// The same from the frames' own headers, up to the first that is not whole.
fn walk(source: &dyn Source) -> Vec<(u32, u32)> {
    let mut sizes = Vec::new();
    let mut at = 0;
    while let Some(magic) = u32_at(source, at)
        && (sizes.len() as u64) < MAX_FRAMES
    {
        if magic & !0xf == MAGIC_SKIPPABLE {
            let Some(packed) = u32_at(source, at + 4).and_then(|len| len.checked_add(8)) else {
                break;
            };
            if at + u64::from(packed) > source.len() {
                break;
            }
            sizes.push((packed, 0));
            at += u64::from(packed);
            continue;
        }
        // A frame of random bytes is a little larger than those.
        let most = (source.len() - at).min(2 * u64::from(MAX_FRAME)) as usize;
        let Ok(bytes) = source.bytes(at, most) else { break };
        let Ok(packed) = zstd_safe::find_frame_compressed_size(&bytes) else { break };
        let Ok(Some(len)) = zstd_safe::get_frame_content_size(&bytes) else { break };
        let (Ok(packed), Ok(len)) = (u32::try_from(packed), u32::try_from(len)) else { break };
        if packed == 0 || len > MAX_FRAME {
            break;
        }
        sizes.push((packed, len));
        at += u64::from(packed);
    }
    sizes
}

/// The base that the text names: beside the archive, in the folder where it lay, or where the
/// environment says.
fn find_base(archive: &str, text: &str) -> Result<Option<MappedFile>, OpenError> {
    let get = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let Some(base) = get("base") else { return Ok(None) };
    let refuse = |what: String| OpenError::Base { name: archive.to_owned(), what };
    let is_name = Path::new(base).file_name().is_some_and(|name| name == base);
    let size = get("base_size").and_then(|size| size.parse::<u64>().ok());
    let Some(size) = size.filter(|size| is_name && *size <= MAX_BASE) else {
        return Err(refuse("the name or size of its base makes no sense".to_owned()));
    };
    let beside = Path::new(archive).parent().unwrap_or(Path::new("")).to_owned();
    let mut folders = vec![beside.clone()];
    folders.extend(get("base_dir").map(|dir| beside.join(dir)));
    if let Some(path) = std::env::var_os(BASE_PATH) {
        folders.extend(std::env::split_paths(&path));
    }
    let mut other = None;
    for path in folders.iter().map(|folder| folder.join(base)) {
        match MappedFile::open(&path) {
            Ok(file) if file.len() == size => return Ok(Some(file)),
            Ok(file) => other = Some((path, file.len())),
            Err(_) => {}
        }
    }
    Err(refuse(match other {
        Some((path, len)) => {
            format!("its base {} has {len} bytes instead of {size}: another file", path.display())
        }
        None => format!(
            "it needs its base {base} ({size} bytes), which is not beside it; copy it there, or \
             name its folder in {BASE_PATH}"
        ),
    }))
}

impl Archive {
    /// How the archive was cut off, if it was.
    pub(super) fn cut_off(&self) -> Option<String> {
        self.cut_off.clone()
    }

    fn index_of(&self, offset: u64) -> usize {
        self.frames.partition_point(|frame| frame.start + u64::from(frame.len) <= offset)
    }

    /// The bytes of a frame, out of the cache or unpacked. `None`: it is damaged.
    fn frame(&self, index: usize) -> Option<Arc<[u8]>> {
        if let Some(found) = self.cached(index) {
            return Some(found);
        }
        // Who waits here finds it in the cache then.
        let lock = self.locks.get(index % LOCKS)?;
        let _guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = self.cached(index) {
            return Some(found);
        }
        let bytes: Arc<[u8]> = self.unpack(self.frames.get(index)?)?.into();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.push_front((index, Arc::clone(&bytes)));
        let mut held = 0;
        let fits = cache.iter().take_while(|(_, frame)| {
            held += <[u8]>::len(frame);
            held <= CACHE
        });
        let fits = fits.count().max(1);
        cache.truncate(fits);
        Some(bytes)
    }

    fn cached(&self, index: usize) -> Option<Arc<[u8]>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let at = cache.iter().position(|(found, _)| *found == index)?;
        let found = cache.remove(at)?;
        let bytes = Arc::clone(&found.1);
        cache.push_front(found);
        Some(bytes)
    }

    fn unpack(&self, frame: &Frame) -> Option<Vec<u8>> {
        let packed = self.file.bytes(frame.at, frame.packed as usize).ok()?;
        // What the table says is not believed before the frame says it too.
        let len = zstd_safe::get_frame_content_size(&packed).ok()?;
        if len.is_some_and(|len| len != u64::from(frame.len)) {
            return None;
        }
        let mut bytes = vec![0; frame.len as usize];
        let base = match &self.base {
            Some(base) => base.bytes(0, base.len() as usize).ok()?,
            None => Cow::Borrowed([].as_slice()),
        };
        let mut context = zstd_safe::DCtx::try_create()?;
        if !base.is_empty() {
            context.ref_prefix(&base).ok()?;
        }
        let got = context.decompress(bytes.as_mut_slice(), &packed).ok()?;
        (got == bytes.len()).then_some(bytes)
    }

    fn damaged(&self, offset: u64, len: usize) -> SourceError {
        let what =
            format!("{len} bytes at {offset:#x} can't be unpacked: damaged, or another base");
        SourceError::Damaged { what }
    }
}

impl Source for Archive {
    fn len(&self) -> u64 {
        self.len
    }

    fn copy_to(&self, offset: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        if !in_range(offset, buf.len(), self.len) {
            return Err(SourceError::OutOfRange { offset, len: buf.len(), size: self.len });
        }
        let (len, mut done) = (buf.len(), 0);
        let mut index = self.index_of(offset);
        while done < len {
            let at = offset + done as u64;
            let (Some(frame), Some(bytes)) = (self.frames.get(index), self.frame(index)) else {
                return Err(self.damaged(offset, len));
            };
            let from = (at - frame.start) as usize;
            let here = bytes.get(from..).unwrap_or_default();
            let here = &here[..here.len().min(len - done)];
            buf[done..done + here.len()].copy_from_slice(here);
            done += here.len();
            index += 1;
        }
        Ok(())
    }

    fn bytes(&self, offset: u64, len: usize) -> Result<Cow<'_, [u8]>, SourceError> {
        if !in_range(offset, len, self.len) {
            return Err(SourceError::OutOfRange { offset, len, size: self.len });
        }
        let mut bytes = vec![0; len];
        self.copy_to(offset, &mut bytes)?;
        Ok(Cow::Owned(bytes))
    }

    /// Blocks of 128 KiB of one byte take four bytes.
    fn held(&self) -> u64 {
        self.len.min(self.file.held().saturating_mul(32 << 10))
    }
}
