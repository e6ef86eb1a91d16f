//! Compression of single pages, with contexts that are kept: setting one up costs more than a
//! page.

use super::lzo::Lzo;
use super::{Compression, WriteError};
use crate::codec::Codec;

/// Levels where none is asked for: pages are small, and what a higher level gains on one is less
/// than it costs. zlib-rs' level 2 is what zlib's 1 is; its own 1 gives a seventh more.
const ZSTD_LEVEL: i32 = 1;
const ZLIB_LEVEL: i32 = 2;

/// Compresses pages, one thread's.
pub(super) enum PageCompressor {
    None,
    Zlib(flate2::Compress),
    Lzo(Lzo),
    Snappy(Box<snap::raw::Encoder>),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl PageCompressor {
    pub(super) fn new(compression: Compression) -> Result<PageCompressor, WriteError> {
        let Some((codec, level)) = compression else { return Ok(PageCompressor::None) };
        let refuse = |what: String| WriteError::Codec { codec, what };
        Ok(match codec {
            Codec::Zlib => {
                let level = level.unwrap_or(ZLIB_LEVEL);
                let Some(level) = u32::try_from(level).ok().filter(|level| (1..=9).contains(level))
                else {
                    return Err(refuse(format!("level {level} is not in 1 to 9")));
                };
                PageCompressor::Zlib(flate2::Compress::new(flate2::Compression::new(level), true))
            }
            Codec::Zstd => {
                let level = level.unwrap_or(ZSTD_LEVEL);
                let range = zstd::compression_level_range();
                if !range.contains(&level) {
                    return Err(refuse(format!("level {level} is not in 1 to {}", range.end())));
                }
                let made = zstd::bulk::Compressor::new(level);
                PageCompressor::Zstd(made.map_err(|error| refuse(error.to_string()))?)
            }
            _ if level.is_some() => return Err(refuse("it has no levels".to_owned())),
            Codec::Lzo => PageCompressor::Lzo(Lzo::new()),
            Codec::Snappy => PageCompressor::Snappy(Box::new(snap::raw::Encoder::new())),
        })
    }

    /// The flag of a descriptor and of the header's status.
    pub(super) fn flag(codec: Codec) -> u32 {
        match codec {
            Codec::Zlib => 0x1,
            Codec::Lzo => 0x2,
            Codec::Snappy => 0x4,
            Codec::Zstd => 0x20,
        }
    }

    /// Appends the compressed page to `out`; false, with nothing appended, if it does not shrink.
    /// A codec that fails counts as that.
    pub(super) fn compress(&mut self, page: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        // Zlib and zstd stop where the page stops to shrink; the others need room for the worst.
        let room = match self {
            PageCompressor::None => return false,
            PageCompressor::Lzo(lzo) => {
                lzo.compress(page, out);
                let shrinks = out.len() - start < page.len();
                if !shrinks {
                    out.truncate(start);
                }
                return shrinks;
            }
            PageCompressor::Zlib(_) | PageCompressor::Zstd(_) => page.len() - 1,
            PageCompressor::Snappy(_) => snap::raw::max_compress_len(page.len()),
        };
        out.resize(start + room, 0);
        let Some(to) = out.get_mut(start..) else { return false };
        let len = match self {
            PageCompressor::None | PageCompressor::Lzo(_) => None,
            PageCompressor::Zlib(context) => {
                context.reset();
                let done = context.compress(page, to, flate2::FlushCompress::Finish);
                let ended = matches!(done, Ok(flate2::Status::StreamEnd));
                ended.then(|| context.total_out() as usize)
            }
            PageCompressor::Snappy(encoder) => encoder.compress(page, to).ok(),
            PageCompressor::Zstd(context) => context.compress_to_buffer(page, to).ok(),
        };
        let len = len.filter(|len| *len > 0 && *len < page.len());
        out.truncate(start + len.unwrap_or(0));
        len.is_some()
    }
}

/// Whether all bytes are zero.
pub(super) fn is_zero(page: &[u8]) -> bool {
    // Nearly every page that has something has it early; whole chunks compare without a branch
    // per byte.
    page.chunks(256).all(|chunk| chunk.iter().fold(0, |or, byte| or | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::decompress;

    const CODECS: [Codec; 4] = [Codec::Zlib, Codec::Lzo, Codec::Snappy, Codec::Zstd];

    #[test]
    fn pages_come_back_and_what_does_not_shrink_is_refused() {
        let mut noise = kmortem_testkit::mutate::Random::new(1);
        let noise: Vec<u8> = (0..8192).flat_map(|_| noise.draw().to_le_bytes()).collect();
        for codec in CODECS {
            let mut compressor = PageCompressor::new(Some((codec, None))).unwrap();
            let mut out = b"before".to_vec();
            for size in [4096, 16384, 65536] {
                let page = kmortem_testkit::page(3).repeat(size / 4096);
                let at = out.len();
                assert!(compressor.compress(&page, &mut out));
                let mut back = vec![0; size];
                decompress(codec, &out[at..], &mut back).unwrap();
                assert!(back == page, "{codec} {size}");
                let at = out.len();
                assert!(!compressor.compress(&noise[..size], &mut out), "{codec}");
                assert_eq!(out.len(), at);
            }
        }
        assert!(!PageCompressor::None.compress(&[0; 4096], &mut Vec::new()));
    }

    #[test]
    fn levels_that_a_codec_has_not_are_refused() {
        for (codec, level) in
            [(Codec::Zlib, 10), (Codec::Zlib, 0), (Codec::Zstd, 99), (Codec::Lzo, 1)]
        {
            assert!(PageCompressor::new(Some((codec, Some(level)))).is_err(), "{codec} {level}");
        }
        assert!(PageCompressor::new(Some((Codec::Zstd, Some(22)))).is_ok());
    }

    #[test]
    fn one_byte_makes_a_page_no_page_of_zeros() {
        let mut page = vec![0; 4096];
        assert!(is_zero(&page));
        for at in [0, 255, 256, 4095] {
            page[at] = 1;
            assert!(!is_zero(&page));
            page[at] = 0;
        }
    }
}
