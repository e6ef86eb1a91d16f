//! lzop: LZO1X blocks that each say their size, so they are read in place.
//!
//! Layout, all numbers big-endian (libarchive, archive_read_support_filter_lzop.c; lzop writes
//! versions 0x1010 to 0x1040):
//!
//! ```text
//!   0  magic, 9 bytes
//!   9  version u16, library version u16, [version needed u16], method u8, [level u8], flags u32,
//!      [filter u32 if flags & 0x800], mode u32, mtime u32, [mtime's upper half u32],
//!      length of name u8, name, checksum of the header u32
//!      [ ] from version 0x940 on
//!      if flags & 0x40: an extra field: length u32, bytes, checksum u32
//!   blocks: unpacked size u32 (0: the end), packed size u32,
//!      [adler32 (flags & 1) and crc32 (flags & 0x100) of the unpacked bytes, u32 each]
//!      [adler32 (flags & 2) and crc32 (flags & 0x200) of the packed bytes, u32 each;
//!       left out where both sizes are the same: then the bytes are stored as they are]
//! ```

use std::io::{self, BufRead, Read};

use super::blocks::Block;
use crate::codec::{self, Codec};
use crate::source::Source;

pub(super) const MAGIC: &[u8] = b"\x89LZO\0\r\n\x1a\n";

const F_ADLER32_D: u32 = 1;
const F_ADLER32_C: u32 = 2;
const F_EXTRA_FIELD: u32 = 0x40;
const F_CRC32_D: u32 = 0x100;
const F_CRC32_C: u32 = 0x200;
const F_FILTER: u32 = 0x800;

/// lzop's largest block is 64 MiB (`MAX_BLOCK_SIZE`); 256 KiB is what it uses.
const LARGEST_BLOCK: u32 = 64 << 20;

/// Blocks beyond this are not indexed: 4 TiB at lzop's block size.
const MAX_BLOCKS: usize = 16 << 20;

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn be32(reader: &mut impl Read) -> io::Result<u32> {
    let mut raw = [0; 4];
    reader.read_exact(&mut raw)?;
    Ok(u32::from_be_bytes(raw))
}

fn be16(reader: &mut impl Read) -> io::Result<u16> {
    let mut raw = [0; 2];
    reader.read_exact(&mut raw)?;
    Ok(u16::from_be_bytes(raw))
}

fn skip(reader: &mut impl Read, len: u64) -> io::Result<()> {
    match io::copy(&mut reader.take(len), &mut io::sink())? {
        copied if copied == len => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Reads the header. Returns its flags.
fn read_header(reader: &mut impl Read) -> io::Result<u32> {
    let mut magic = [0; MAGIC.len()];
    reader.read_exact(&mut magic)?;
    if magic != MAGIC {
        return Err(bad("no lzop header"));
    }
    let version = be16(reader)?;
    let is_new = version >= 0x940;
    // The library's version, the version needed, the method, the level.
    skip(reader, if is_new { 2 + 2 + 1 + 1 } else { 2 + 1 })?;
    let flags = be32(reader)?;
    if flags & F_FILTER != 0 {
        return Err(bad("an lzop file with a filter, which nobody writes"));
    }
    // The mode and both halves of the time.
    skip(reader, if is_new { 12 } else { 8 })?;
    let mut name_len = [0; 1];
    reader.read_exact(&mut name_len)?;
    skip(reader, u64::from(name_len[0]) + 4)?;
    if flags & F_EXTRA_FIELD != 0 {
        let len = be32(reader)?;
        skip(reader, u64::from(len) + 4)?;
    }
    Ok(flags)
}

/// The head of a block, and how many bytes it has.
struct Head {
    len: u32,
    packed: u32,
    adler32: Option<u32>,
    crc32: Option<u32>,
    size: u64,
}

/// Reads the head of a block; `None` at the end of the blocks.
fn read_head(reader: &mut impl Read, flags: u32) -> io::Result<Option<Head>> {
    let len = be32(reader)?;
    if len == 0 {
        return Ok(None);
    }
    let packed = be32(reader)?;
    if len > LARGEST_BLOCK || packed > len || packed == 0 {
        return Err(bad("an lzop block of an impossible size"));
    }
    let mut size = 8;
    let mut word = |wanted: bool| {
        if !wanted {
            return Ok(None);
        }
        size += 4;
        be32(reader).map(Some)
    };
    let adler32 = word(flags & F_ADLER32_D != 0)?;
    let crc32 = word(flags & F_CRC32_D != 0)?;
    word(packed < len && flags & F_ADLER32_C != 0)?;
    word(packed < len && flags & F_CRC32_C != 0)?;
    Ok(Some(Head { len, packed, adler32, crc32, size }))
}

/// Unpacks what follows a block's head into `out`.
fn unpack(head: &Head, packed: &[u8], out: &mut [u8]) -> Result<(), String> {
    if head.packed == head.len {
        out.copy_from_slice(packed);
    } else {
        codec::decompress(Codec::Lzo, packed, out)?;
    }
    if head.adler32.is_some_and(|sum| sum != adler32(out)) {
        return Err("its checksum (adler32) does not match".to_owned());
    }
    if head.crc32.is_some_and(|sum| sum != crc32(out)) {
        return Err("its checksum (crc32) does not match".to_owned());
    }
    Ok(())
}

/// RFC 1950, section 9.
fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1u32, 0u32);
    // The most bytes for which the sums can't overflow.
    for chunk in bytes.chunks(5552) {
        for byte in chunk {
            a += u32::from(*byte);
            b += a;
        }
        a %= 65521;
        b %= 65521;
    }
    b << 16 | a
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A stream of blocks, one after the other.
pub(super) struct Reader<R> {
    reader: R,
    flags: u32,
    block: Vec<u8>,
    used: usize,
    is_done: bool,
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(mut reader: R) -> io::Result<Reader<R>> {
        let flags = read_header(&mut reader)?;
        Ok(Reader { reader, flags, block: Vec::new(), used: 0, is_done: false })
    }

    fn next_block(&mut self) -> io::Result<()> {
        let Some(head) = read_head(&mut self.reader, self.flags)? else {
            self.is_done = true;
            return Ok(());
        };
        let mut packed = Vec::new();
        (&mut self.reader).take(head.packed.into()).read_to_end(&mut packed)?;
        if packed.len() as u64 != u64::from(head.packed) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.block.clear();
        self.block.resize(head.len as usize, 0);
        self.used = 0;
        if let Err(why) = unpack(&head, &packed, &mut self.block) {
            self.block.clear();
            return Err(bad(&why));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.used == self.block.len() && !self.is_done {
            self.block.clear();
            self.used = 0;
            self.next_block()?;
        }
        let n = (self.block.len() - self.used).min(buf.len());
        if self.is_done {
            return Ok(0);
        }
        buf[..n].copy_from_slice(&self.block[self.used..self.used + n]);
        self.used += n;
        Ok(n)
    }
}

/// Unpacks one block, given with its head.
pub(super) fn unpack_block(stored: &[u8], flags: u32, len: usize) -> Result<Vec<u8>, String> {
    let mut rest = stored;
    let head = read_head(&mut rest, flags).map_err(|error| error.to_string())?;
    let head = head.filter(|head| head.len as usize == len).ok_or("it has changed")?;
    let packed = rest.get(..head.packed as usize).ok_or("it is cut off")?;
    let mut out = vec![0; len];
    unpack(&head, packed, &mut out)?;
    Ok(out)
}

/// All blocks of a file that is whole: `None` where it is not, so that what there is of it is
/// looked at in order.
pub(super) fn index(source: &dyn Source) -> Option<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut offset, mut at) = (0u64, 0u64);
    let window = |offset: u64, len: u64| {
        let len = source.len().checked_sub(offset)?.min(len) as usize;
        let mut bytes = vec![0; len];
        source.copy_to(offset, &mut bytes).ok().map(|()| bytes)
    };
    while offset < source.len() {
        // A member's header: its name is the longest part, an extra field is never there.
        let bytes = window(offset, 512)?;
        let mut rest = bytes.as_slice();
        let flags = match read_header(&mut rest) {
            Ok(flags) => flags,
            // Whatever follows the last member.
            Err(_) if !blocks.is_empty() => break,
            Err(_) => return None,
        };
        offset += (bytes.len() - rest.len()) as u64;
        loop {
            let bytes = window(offset, 24)?;
            let Some(head) = read_head(&mut bytes.as_slice(), flags).ok()? else { break };
            let stored_len = head.size + u64::from(head.packed);
            if blocks.len() == MAX_BLOCKS || offset.checked_add(stored_len)? > source.len() {
                return None;
            }
            let len = u64::from(head.len);
            blocks.push(Block { at, len, stored_at: offset, stored_len, flags });
            at = at.checked_add(len)?;
            offset += stored_len;
        }
        offset += 4;
    }
    Some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adler32_of_the_rfc() {
        assert_eq!(adler32(b""), 1);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
        assert_eq!(adler32(&[0xff; 20_000]), flate2_adler(&[0xff; 20_000]));
    }

    /// The last four bytes of a zlib stream.
    fn flate2_adler(bytes: &[u8]) -> u32 {
        use std::io::Write;
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(bytes).unwrap();
        u32::from_be_bytes(*zlib.finish().unwrap().last_chunk().unwrap())
    }
}
