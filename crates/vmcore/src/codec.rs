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
