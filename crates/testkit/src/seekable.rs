//! The zstd seekable format, as any program may write it (facebook/zstd,
//! contrib/seekable_format/zstd_seekable_compression_format.md).

/// A file of frames with a seek table. What the table says can be bent before it is built.
#[derive(Debug, Clone, Default)]
pub struct Seekable {
    /// Text of a skippable frame in front.
    pub text: Option<String>,
    /// Frames, compressed, with the size that the table gives.
    pub frames: Vec<(Vec<u8>, u32)>,
    /// Entries of the table with checksums (which nobody looks at).
    pub checksums: bool,
    /// Bits of the descriptor besides that.
    pub descriptor: u8,
    /// Added to the number of frames in the footer.
    pub more_frames: u32,
    /// Leave the table out.
    pub cut_off: bool,
}

impl Seekable {
    /// `bytes` in frames of `frame` bytes.
    pub fn of(bytes: &[u8], frame: usize) -> Seekable {
        const WRITING: &str = "compressing into memory does not fail";
        let pack =
            |piece: &[u8]| (zstd::bulk::compress(piece, 3).expect(WRITING), piece.len() as u32);
        Seekable { frames: bytes.chunks(frame).map(pack).collect(), ..Seekable::default() }
    }

    /// The bytes of the file.
    pub fn build(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let mut table = Vec::new();
        let mut entry = |packed: usize, len: u32| {
            table.extend((packed as u32).to_le_bytes());
            table.extend(len.to_le_bytes());
            if self.checksums {
                table.extend(0xdead_beefu32.to_le_bytes());
            }
        };
        if let Some(text) = &self.text {
            file.extend(0x184d_2a50u32.to_le_bytes());
            file.extend((text.len() as u32).to_le_bytes());
            file.extend(text.as_bytes());
            entry(file.len(), 0);
        }
        for (packed, len) in &self.frames {
            file.extend(packed);
            entry(packed.len(), *len);
        }
        if self.cut_off {
            return file;
        }
        let count = self.frames.len() as u32 + u32::from(self.text.is_some()) + self.more_frames;
        table.extend(count.to_le_bytes());
        table.push(self.descriptor | if self.checksums { 0x80 } else { 0 });
        table.extend(0x8f92_eab1u32.to_le_bytes());
        file.extend(0x184d_2a5eu32.to_le_bytes());
        file.extend((table.len() as u32).to_le_bytes());
        file.extend(table);
        file
    }
}
