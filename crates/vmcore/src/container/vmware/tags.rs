//! Groups and tags of a VMware checkpoint: see the layout in [`super`].

use std::borrow::Cow;

use crate::source::{Fields, Source, text_until_nul};

const HEADER: u64 = 12;
const GROUP: u64 = 80;
/// Real files have about a hundred.
const MAX_GROUPS: u32 = 4096;
/// Tags of one group beyond this are not read: real ones have some thousand per virtual CPU.
const MAX_TAGS: usize = 4 << 20;

/// Sizes of a tag's data that stand for a block with its size behind the indices.
const COMPRESSED_BLOCK: u8 = 62;
const BLOCK: u8 = 63;

/// The version of the format, if the bytes start with one of its magic numbers.
pub(super) fn version(head: &[u8]) -> Option<u8> {
    match Fields(head).u32(0)? {
        0xbed0_bed0 | 0xbed2_bed0 => Some(0),
        0xbad1_bad1 => Some(1),
        0xbad2_bad2 | 0xbed2_bed2 => Some(2),
        0xbed3_bed3 => Some(3),
        _ => None,
    }
}

/// A named list of tags.
pub(super) struct Group {
    pub(super) name: String,
    /// Where its first tag is.
    pub(super) start: u64,
}

/// A named value.
pub(super) struct Tag {
    pub(super) name: String,
    pub(super) indices: Vec<u32>,
    /// Where its data is, and how many bytes.
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) is_compressed: bool,
}

impl Tag {
    /// The data as a number, if it is one.
    pub(super) fn number(&self, source: &dyn Source) -> Option<u64> {
        let len = usize::try_from(self.len).ok().filter(|len| (1..=8).contains(len))?;
        let mut bytes = [0; 8];
        source.copy_to(self.offset, bytes.get_mut(..len)?).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    /// The data as a block of just that many bytes.
    pub(super) fn block<'a>(&self, source: &'a dyn Source, len: usize) -> Option<Cow<'a, [u8]>> {
        let is_one = !self.is_compressed && self.len == len as u64;
        is_one.then(|| source.bytes(self.offset, len).ok()).flatten()
    }

    /// The only index, or the first of several.
    pub(super) fn index(&self) -> u32 {
        self.indices.first().copied().unwrap_or(0)
    }
}

/// The groups of a file. The error says what is wrong, or where it ends.
pub(super) fn read_groups(source: &dyn Source) -> Result<Vec<Group>, String> {
    let header =
        source.bytes(0, HEADER as usize).map_err(|_| "it ends in its header".to_owned())?;
    let count = Fields(&header).u32(8).unwrap_or_default();
    if count == 0 || count > MAX_GROUPS {
        return Err(format!("its header is for {count} groups of tags"));
    }
    let read = |index: u64| {
        let at = HEADER + index * GROUP;
        let bytes = source
            .bytes(at, GROUP as usize)
            .map_err(|_| format!("it ends in the list of its {count} groups at {at:#x}"))?;
        let name = text_until_nul(bytes.get(..64).unwrap_or_default());
        let start = Fields(&bytes).u64(64).unwrap_or_default();
        Ok(Group { name, start })
    };
    (0..u64::from(count)).map(read).collect()
}

/// Gives each tag of a group to `each`, up to the end of the group. The error says why that was
/// not reached, or what `each` refused.
pub(super) fn walk(
    source: &dyn Source,
    group: &Group,
    version: u8,
    mut each: impl FnMut(&Tag) -> Result<(), String>,
) -> Result<(), String> {
    let mut at = group.start;
    for _ in 0..MAX_TAGS {
        let Some(tag) = read_tag(source, at, version)
            .map_err(|what| format!("{what} of a tag of the group {} at {at:#x}", group.name))?
        else {
            return Ok(());
        };
        each(&tag)?;
        at = tag.offset.checked_add(tag.len).ok_or_else(|| {
            let Tag { name, len, .. } = &tag;
            format!("the tag {}/{name} at {at:#x} has {len} bytes", group.name)
        })?;
    }
    Err(format!("the group {} has more than {MAX_TAGS} tags", group.name))
}

/// The tag at an offset; `None` at the end of a group. The error names the field that is cut off.
fn read_tag(source: &dyn Source, at: u64, version: u8) -> Result<Option<Tag>, String> {
    let mut cursor = Cursor { source, at };
    let start = cursor.take(2, "the start")?;
    let (flags, name_len) = match *start {
        [0, 0] => return Ok(None),
        [flags, name_len] => (flags, name_len),
        _ => return Ok(None),
    };
    // Errors quote it, in one line.
    let name = String::from_utf8_lossy(&cursor.take(name_len.into(), "the name")?)
        .replace(|letter: char| letter.is_control(), "?");
    let indices = cursor.take(usize::from(flags >> 6) * 4, "the indices")?;
    let indices =
        indices.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    let size = flags & 0x3f;
    let is_compressed = size == COMPRESSED_BLOCK;
    let len = if is_compressed || size == BLOCK {
        let width = if version == 0 { 4 } else { 8 };
        let len = cursor.number(width, "the size")?;
        cursor.number(width, "the size in memory")?;
        let padding = cursor.number(2, "the padding's size")?;
        cursor.at = cursor.at.saturating_add(padding);
        len
    } else {
        size.into()
    };
    Ok(Some(Tag { name, indices, offset: cursor.at, len, is_compressed }))
}

struct Cursor<'a> {
    source: &'a dyn Source,
    at: u64,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize, what: &str) -> Result<Cow<'a, [u8]>, String> {
        let cut_off = |_| format!("it ends in {what}");
        let bytes = self.source.bytes(self.at, len).map_err(cut_off)?;
        self.at = self.at.saturating_add(len as u64);
        Ok(bytes)
    }

    /// A number of up to 8 bytes.
    fn number(&mut self, len: usize, what: &str) -> Result<u64, String> {
        let bytes = self.take(len, what)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}
