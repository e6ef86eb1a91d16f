//! kdump-compressed dumps, field by field.
//!
//! After makedumpfile's and QEMU's writers: header block, sub-header block, VMCOREINFO and notes
//! in blocks of the sub-header, two bitmaps, descriptors of 24 bytes, pages.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;

use crate::bytes::Bytes;

/// Codec of a page, as a descriptor's flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Compression {
    Raw,
    Zlib,
    Lzo,
    Snappy,
    Zstd,
}

impl Compression {
    /// All of them.
    pub const ALL: [Compression; 5] = [
        Compression::Raw,
        Compression::Zlib,
        Compression::Lzo,
        Compression::Snappy,
        Compression::Zstd,
    ];

    /// The flag of the header's status and of a descriptor.
    pub fn flag(self) -> u32 {
        match self {
            Compression::Raw => 0,
            Compression::Zlib => 1,
            Compression::Lzo => 2,
            Compression::Snappy => 4,
            Compression::Zstd => 0x20,
        }
    }

    /// The bytes, compressed.
    pub fn compress(self, bytes: &[u8]) -> Vec<u8> {
        const WRITING: &str = "compressing into memory does not fail";
        match self {
            Compression::Raw => bytes.to_vec(),
            Compression::Zlib => {
                let level = flate2::Compression::default();
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).expect(WRITING);
                encoder.finish().expect(WRITING)
            }
            Compression::Lzo => lzokay::compress::compress(bytes).expect(WRITING),
            Compression::Snappy => snap::raw::Encoder::new().compress_vec(bytes).expect(WRITING),
            Compression::Zstd => zstd::bulk::compress(bytes, 1).expect(WRITING),
        }
    }
}

/// What stands behind a bit of the second bitmap.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A page, stored as makedumpfile does: raw if it does not shrink.
    Page(Vec<u8>),
    /// A descriptor of zeros: the writer ran out of space.
    Lost,
    /// These bytes with these flags, whatever they are.
    Stored(u32, Vec<u8>),
    /// A descriptor as it is: offset, size, flags.
    Descriptor(u64, u32, u32),
}

/// A dump. The default has no pages and is of version 6.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Kdump {
    pub version: u32,
    pub release: String,
    pub machine: String,
    pub timestamp: u64,
    /// Bits of the status besides the codec's.
    pub status: u32,
    pub block_size: u32,
    pub compression: Compression,
    pub dump_level: u32,
    /// Page frames that were RAM.
    pub ram: Vec<Range<u64>>,
    /// Page frames in the dump.
    pub pages: BTreeMap<u64, Entry>,
    pub max_mapnr: u64,
    /// Page frames of this part: bitmaps are the whole dump's, descriptors these.
    pub split: Option<Range<u64>>,
    pub vmcoreinfo: String,
    pub notes: Vec<u8>,
}

impl Default for Kdump {
    fn default() -> Kdump {
        Kdump {
            version: 6,
            release: "6.1.0".into(),
            machine: "x86_64".into(),
            timestamp: 0,
            status: 0,
            block_size: 4096,
            compression: Compression::Raw,
            dump_level: 31,
            ram: Vec::new(),
            pages: BTreeMap::new(),
            max_mapnr: 0,
            split: None,
            vmcoreinfo: String::new(),
            notes: Vec::new(),
        }
    }
}

impl Kdump {
    /// A dump of the page frames `dumped` with [`crate::page`]'s contents, out of RAM from frame 0
    /// to `max_mapnr`.
    pub fn of(dumped: impl IntoIterator<Item = u64>, max_mapnr: u64) -> Kdump {
        let pages = dumped.into_iter().map(|pfn| (pfn, Entry::Page(crate::page(pfn)))).collect();
        Kdump { pages, max_mapnr, ram: std::iter::once(0..max_mapnr).collect(), ..Kdump::default() }
    }

    /// The same with other pages compressed so.
    #[must_use]
    pub fn compressed(mut self, compression: Compression) -> Kdump {
        self.compression = compression;
        self
    }

    /// The same as one part of a split dump.
    #[must_use]
    pub fn part(&self, pfns: Range<u64>) -> Kdump {
        Kdump { split: Some(pfns), ..self.clone() }
    }

    fn block(&self, number: u64) -> u64 {
        number * u64::from(self.block_size)
    }

    /// The bytes of the file.
    pub fn build(&self) -> Vec<u8> {
        let mut file = Bytes::default();
        let extra = self.vmcoreinfo.len() as u64 + self.notes.len() as u64;
        let sub_blocks = 1 + extra.div_ceil(u64::from(self.block_size));
        let bitmap_blocks = self.max_mapnr.div_ceil(8).div_ceil(u64::from(self.block_size));
        self.put_header(&mut file, sub_blocks, 2 * bitmap_blocks);
        self.put_sub_header(&mut file);

        let bitmap1 = self.block(1 + sub_blocks);
        let bitmap2 = bitmap1 + self.block(bitmap_blocks);
        file.put(bitmap1, &vec![0; self.block(2 * bitmap_blocks) as usize]);
        let mut set = |bitmap: u64, pfn: u64| file.0[(bitmap + pfn / 8) as usize] |= 1 << (pfn % 8);
        self.ram.iter().cloned().flatten().for_each(|pfn| set(bitmap1, pfn));
        self.pages.keys().for_each(|&pfn| set(bitmap2, pfn));
        self.put_pages(&mut file, bitmap2 + self.block(bitmap_blocks));
        file.0
    }

    fn put_header(&self, file: &mut Bytes, sub_blocks: u64, bitmap_blocks: u64) {
        file.put(0, b"KDUMP   ");
        file.put32(8, self.version);
        for (index, text) in
            ["Linux", "node", &self.release, "#1 SMP", &self.machine].iter().enumerate()
        {
            file.put(12 + 65 * index as u64, text.as_bytes());
        }
        file.put64(408, self.timestamp);
        file.put32(424, self.compression.flag() | self.status);
        file.put32(428, self.block_size);
        file.put32(432, sub_blocks as u32);
        file.put32(436, bitmap_blocks as u32);
        file.put32(440, self.max_mapnr.min(u64::from(u32::MAX)) as u32);
        file.put32(460, 1);
        file.put(self.block(1) - 1, &[0]);
    }

    fn put_sub_header(&self, file: &mut Bytes) {
        let at = self.block(1);
        file.put32(at + 8, self.dump_level);
        if let (true, Some(pfns)) = (self.version >= 2, &self.split) {
            file.put32(at + 12, 1);
            file.put64(at + 16, pfns.start);
            file.put64(at + 24, pfns.end);
        }
        let mut extra = self.block(2);
        if self.version >= 3 && !self.vmcoreinfo.is_empty() {
            file.put64(at + 32, extra);
            file.put64(at + 40, self.vmcoreinfo.len() as u64);
            file.put(extra, self.vmcoreinfo.as_bytes());
            extra += self.vmcoreinfo.len() as u64;
        }
        if self.version >= 4 && !self.notes.is_empty() {
            file.put64(at + 48, extra);
            file.put64(at + 56, self.notes.len() as u64);
            file.put(extra, &self.notes);
        }
        if self.version >= 6 {
            let pfns = self.split.clone().unwrap_or(0..self.max_mapnr);
            file.put64(at + 80, pfns.start);
            file.put64(at + 88, pfns.end);
            file.put64(at + 96, self.max_mapnr);
        }
        file.put(self.block(2) - 1, &[0]);
    }

    fn put_pages(&self, file: &mut Bytes, descriptors: u64) {
        let pfns = self.split.clone().unwrap_or(0..u64::MAX);
        let here: Vec<&Entry> = self.pages.range(pfns).map(|(_, entry)| entry).collect();
        let mut data = descriptors + 24 * here.len() as u64;
        // All pages of zeros share one, as in makedumpfile's files.
        let mut zeros = None;
        for (index, entry) in here.into_iter().enumerate() {
            let at = descriptors + 24 * index as u64;
            let (flags, bytes) = match entry {
                Entry::Lost => {
                    file.put(at, &[0; 24]);
                    continue;
                }
                Entry::Descriptor(offset, size, flags) => {
                    put_descriptor(file, at, *offset, *size, *flags);
                    continue;
                }
                Entry::Stored(flags, bytes) => (*flags, bytes.clone()),
                Entry::Page(bytes) if bytes.iter().all(|&byte| byte == 0) => {
                    let offset = *zeros.get_or_insert_with(|| {
                        file.put(data, bytes);
                        data += bytes.len() as u64;
                        data - bytes.len() as u64
                    });
                    put_descriptor(file, at, offset, bytes.len() as u32, 0);
                    continue;
                }
                Entry::Page(bytes) => match self.compression.compress(bytes) {
                    small if small.len() < bytes.len() => (self.compression.flag(), small),
                    _ => (0, bytes.clone()),
                },
            };
            put_descriptor(file, at, data, bytes.len() as u32, flags);
            file.put(data, &bytes);
            data = file.len();
        }
    }
}

fn put_descriptor(file: &mut Bytes, at: u64, offset: u64, size: u32, flags: u32) {
    file.put64(at, offset);
    file.put32(at + 8, size);
    file.put32(at + 12, flags);
    file.put64(at + 16, 0);
}
