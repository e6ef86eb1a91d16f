//! Decompression of single pages.
//!
//! Each page of a dump is compressed on its own, so its size afterwards is known, and a stream
//! that gives another size is damaged. Contexts are kept per thread: setting one up costs more
//! than a page.

use std::cell::RefCell;

use serde::Serialize;

/// How a page is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// A zlib stream (RFC 1950).
    Zlib,
    /// LZO1X, as liblzo2 writes it.
    Lzo,
    /// Snappy's raw format, no frames.
    Snappy,
    /// One Zstandard frame (RFC 8878).
    Zstd,
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Codec::Zlib => "zlib",
            Codec::Lzo => "lzo",
            Codec::Snappy => "snappy",
            Codec::Zstd => "zstd",
        })
    }
}

thread_local! {
    static ZLIB: RefCell<flate2::Decompress> = RefCell::new(flate2::Decompress::new(true));
    static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> =
        RefCell::new(zstd::bulk::Decompressor::new().ok());
}

/// Fills `page` from `data`. The error says what is wrong with the stream.
pub(crate) fn decompress(codec: Codec, data: &[u8], page: &mut [u8]) -> Result<(), String> {
    let got = match codec {
        Codec::Zlib => zlib(data, page)?,
        Codec::Lzo => lzokay::decompress::decompress(data, page)
            .map_err(|error| format!("bad lzo stream: {error}"))?,
        Codec::Snappy => {
            // The length in front of the stream decides how much is written: look before.
            let len = snap::raw::decompress_len(data)
                .map_err(|error| format!("bad snappy stream: {error}"))?;
            if len != page.len() {
                return Err(wrong_size(codec, len, page.len()));
            }
            snap::raw::Decoder::new()
                .decompress(data, page)
                .map_err(|error| format!("bad snappy stream: {error}"))?
        }
        Codec::Zstd => ZSTD.with_borrow_mut(|context| match context {
            Some(context) => context
                .decompress_to_buffer(data, page)
                .map_err(|error| format!("bad zstd stream: {error}")),
            None => Err("no memory for a zstd context".to_owned()),
        })?,
    };
    if got == page.len() { Ok(()) } else { Err(wrong_size(codec, got, page.len())) }
}

/// What a snappy stream that starts like this holds.
pub(crate) fn snappy_len(data: &[u8]) -> Option<u64> {
    snap::raw::decompress_len(data).ok().map(|len| len as u64)
}

fn zlib(data: &[u8], page: &mut [u8]) -> Result<usize, String> {
    ZLIB.with_borrow_mut(|context| {
        context.reset(true);
        let status = context
            .decompress(data, page, flate2::FlushDecompress::Finish)
            .map_err(|error| format!("bad zlib stream: {error}"))?;
        match status {
            flate2::Status::StreamEnd => Ok(context.total_out() as usize),
            _ => Err("zlib stream does not end with its page".to_owned()),
        }
    })
}

fn wrong_size(codec: Codec, got: usize, want: usize) -> String {
    format!("{codec} stream holds {got} bytes, a page has {want}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_testkit::Compression;
    use proptest::prelude::*;

    const CODECS: [(Codec, Compression); 4] = [
        (Codec::Zlib, Compression::Zlib),
        (Codec::Lzo, Compression::Lzo),
        (Codec::Snappy, Compression::Snappy),
        (Codec::Zstd, Compression::Zstd),
    ];

    /// Streams of "AAAA" written by hand after the formats' documents, so that a compressor and a
    /// decompressor of one library can't agree on a mistake.
    #[test]
    fn streams_written_by_hand() {
        let stored: &[u8] =
            &[0x78, 0x01, 1, 4, 0, 0xfb, 0xff, b'A', b'A', b'A', b'A', 2, 0x8e, 1, 5];
        let literals: &[u8] = &[17 + 4, b'A', b'A', b'A', b'A', 0x11, 0, 0];
        let snappy: &[u8] = &[4, 3 << 2, b'A', b'A', b'A', b'A'];
        // Single segment, content size 4, one raw block that is the last.
        let raw_block: &[u8] =
            &[0x28, 0xb5, 0x2f, 0xfd, 0x20, 4, 4 << 3 | 1, 0, 0, b'A', b'A', b'A', b'A'];
        let streams = [
            (Codec::Zlib, stored),
            (Codec::Lzo, literals),
            (Codec::Snappy, snappy),
            (Codec::Zstd, raw_block),
        ];
        for (codec, stream) in streams {
            let mut page = [0; 4];
            decompress(codec, stream, &mut page).unwrap_or_else(|error| panic!("{codec}: {error}"));
            assert_eq!(&page, b"AAAA", "{codec}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn what_was_compressed_comes_back(
            seed in proptest::collection::vec(any::<u8>(), 1..200),
            size in prop::sample::select(vec![4096usize, 16384, 65536]),
        ) {
            let page: Vec<u8> = seed.iter().copied().cycle().take(size).collect();
            for (codec, compression) in CODECS {
                let mut out = vec![0; size];
                prop_assert_eq!(decompress(codec, &compression.compress(&page), &mut out), Ok(()));
                prop_assert_eq!(&out, &page);
                // The next smaller and larger page would be damage.
                let stream = compression.compress(&page);
                prop_assert!(decompress(codec, &stream, &mut vec![0; size - 1]).is_err());
                prop_assert!(decompress(codec, &stream, &mut vec![0; size + 1]).is_err());
            }
        }

        #[test]
        fn garbage_is_an_error_or_a_page(data in proptest::collection::vec(any::<u8>(), 0..600)) {
            for (codec, _) in CODECS {
                let _ = decompress(codec, &data, &mut [0; 4096]);
            }
        }

        #[test]
        fn damage_is_an_error_or_a_page(at in any::<prop::sample::Index>(), bit in 0u32..8) {
            for (codec, compression) in CODECS {
                let mut stream = compression.compress(&kmortem_testkit::page(5));
                let at = at.index(stream.len());
                stream[at] ^= 1u8 << bit;
                let _ = decompress(codec, &stream, &mut [0; 4096]);
            }
        }
    }
}
