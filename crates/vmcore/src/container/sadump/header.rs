//! sadump's headers (crash, sadump.h).
//!
//! ```text
//! media header      0 sadump_id 16, 16 disk_set_id 16, 32 time 16, 48 sequential_num u8,
//!                   49 term_cord u8, 50 disk_set_header_size u8, 51 disks_in_use u8
//! partition header  0 "sadump\0\0", 8 enable, 12 reboot, 16 compress, 20 recycle u32 each, 24 label,
//!                   88 sadump_id 16, 104 disk_set_id 16, 120 vol_id 16, 136 time 16,
//!                   152 set_disk_set u32 (0: no set, else the disk's number), 160 used_device u64,
//!                   168 up to the end of the block: u32 each, the one before plus 7, times 11
//! disk set header   0 its size in blocks u32, 4 disk_num u32, 8 size u64, 16 each further disk:
//!                   vol_id 16, size u64, status u32, cache size u32
//! dump header       0 "sadump\0\0", 8 header_version u32, 16 time 16, then u32 each: 32 status,
//!                   36 compress, 40 block_size, 44 extra_hdr_size, 48 sub_hdr_size,
//!                   52 bitmap_blocks, 56 dumpable_bitmap_blocks, 60 max_mapnr,
//!                   64 total_ram_blocks, 68 device_blocks, 72 written_blocks, 76 current_cpu,
//!                   80 nr_cpus; version 1 has max_mapnr and the three behind it again: 88 u64 each
//! ```

use crate::container::Input;
use crate::error::OpenError;
use crate::source::{Fields, Source, in_range};

const SIGNATURE: &[u8] = b"sadump\0\0";
const MEDIA: u64 = 4096;
const BLOCK_SIZES: [u64; 5] = [4096, 8192, 16384, 32768, 65536];
const MAGIC: usize = 168;
const PART: usize = 4096;
/// A set has at most 16 disks.
const MAX_DISKS: u32 = 16;
/// 64 PiB in pages of 4 KiB.
const MAX_MAPNR: u64 = 1 << 44;

/// Whether the bytes start with a partition header.
pub(super) fn is_part(head: &[u8]) -> bool {
    head.starts_with(SIGNATURE)
}

/// Whether they start with a media header, which has no signature of its own.
pub(super) fn is_media(head: &[u8]) -> bool {
    head.get(MEDIA as usize..).is_some_and(is_part)
}

/// What a partition header says.
pub(super) struct PartHeader {
    sadump_id: Vec<u8>,
    disk_set_id: Vec<u8>,
    vol_id: Vec<u8>,
    /// Number of the disk in its set, from 1; 0: no set.
    pub(super) disk: u32,
    pub(super) used_device: u64,
}

fn cut_off(input: &Input, what: &str) -> OpenError {
    let what = format!("the sadump ends in its {what}");
    OpenError::Truncated { name: input.name.clone(), what }
}

/// The partition header, and whether it is a medium's.
pub(super) fn read_part(input: &Input) -> Result<(PartHeader, bool), OpenError> {
    let corrupt = |what: String| OpenError::Corrupt {
        name: input.name.clone(),
        what: format!("sadump's {what}"),
    };
    let source = input.source.as_ref();
    let starts = source.bytes(0, SIGNATURE.len()).map_err(|_| cut_off(input, "header"))?;
    let is_media = !is_part(&starts);
    let at = if is_media { MEDIA } else { 0 };
    let bytes = source.bytes(at, PART).map_err(|_| cut_off(input, "partition header"))?;
    let fields = Fields(&bytes);
    let id = |at: usize| bytes.get(at..at + 16).unwrap_or_default().to_vec();
    let part = PartHeader {
        sadump_id: id(88),
        disk_set_id: id(104),
        vol_id: id(120),
        disk: if is_media { 0 } else { fields.u32(152).unwrap_or_default() },
        used_device: fields.u64(160).unwrap_or_default(),
    };
    let words = bytes.get(MAGIC..).unwrap_or_default().as_chunks::<4>().0;
    let words = words.iter().map(|word| u32::from_le_bytes(*word));
    let follows = |(before, word): (u32, u32)| before.wrapping_add(7).wrapping_mul(11) == word;
    if !words.clone().zip(words.skip(1)).all(follows) {
        return Err(corrupt("partition header: magicnum is wrong".to_owned()));
    }
    if part.disk > MAX_DISKS {
        return Err(corrupt(format!("partition header: set_disk_set is {}", part.disk)));
    }
    if is_media {
        let media = source.bytes(0, 52).map_err(|_| cut_off(input, "media header"))?;
        if media.get(..32) != bytes.get(88..120) {
            return Err(corrupt(
                "media header: its sadump_id or disk_set_id is not that of the partition header"
                    .to_owned(),
            ));
        }
        match media.get(48) {
            Some(1) => {}
            number => {
                let number = number.copied().unwrap_or_default();
                return Err(corrupt(format!(
                    "media header: sequential_num is {number}; only the first medium starts a dump"
                )));
            }
        }
    }
    Ok((part, is_media))
}

impl PartHeader {
    /// Whether this further disk belongs to the set of the `first` one.
    pub(super) fn check(&self, first: &PartHeader, volumes: &[Vec<u8>]) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("is of another set: its {what} is another one"));
        if self.sadump_id != first.sadump_id {
            return wrong("sadump_id");
        }
        if self.disk_set_id != first.disk_set_id {
            return wrong("disk_set_id");
        }
        let volume = (self.disk as usize).checked_sub(2).and_then(|index| volumes.get(index));
        match volume {
            Some(id) if *id != self.vol_id => wrong("vol_id"),
            _ => Ok(()),
        }
    }
}

/// A piece of the first file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// What the headers behind the partition's say.
pub(super) struct DumpHeader {
    pub(super) block_size: u64,
    pub(super) max_mapnr: u64,
    pub(super) nr_cpus: u32,
    pub(super) sub_header: Place,
    pub(super) ram: Place,
    pub(super) dumped: Place,
    /// Where pages start.
    pub(super) data: u64,
    /// IDs of the further disks of a set.
    pub(super) volumes: Vec<Vec<u8>>,
    pub(super) oddities: Vec<String>,
}

impl DumpHeader {
    pub(super) fn read(
        input: &Input,
        part: &PartHeader,
        is_media: bool,
    ) -> Result<DumpHeader, OpenError> {
        let source = input.source.as_ref();
        let corrupt = |what: String| OpenError::Corrupt {
            name: input.name.clone(),
            what: format!("sadump's {what}"),
        };
        if part.disk > 1 {
            let what = format!("is disk {} of a set; the first one is needed too", part.disk);
            return Err(OpenError::Split { name: input.name.clone(), what });
        }
        let start = if is_media { MEDIA } else { 0 };
        // The header says the size of a block, and which block it is in depends on that.
        let mut found = None;
        for block_size in BLOCK_SIZES {
            let set = start + block_size;
            let blocks = if part.disk == 1 {
                let head = source.bytes(set, 8).map_err(|_| cut_off(input, "disk set header"))?;
                u64::from(Fields(&head).u32(0).unwrap_or_default())
            } else {
                0
            };
            let at = set + blocks * block_size;
            let Ok(head) = source.bytes(at, 120) else { continue };
            let says = Fields(&head).u32(40).map(u64::from);
            if head.starts_with(SIGNATURE) && says == Some(block_size) {
                found = Some((block_size, set, at, head));
                break;
            }
            if head.starts_with(SIGNATURE) && !says.is_some_and(|says| BLOCK_SIZES.contains(&says))
            {
                let says = says.unwrap_or_default();
                return Err(corrupt(format!("dump header: block_size is {says}")));
            }
        }
        let Some((block_size, set, at, head)) = found else {
            return Err(match source.len() < start + 2 * MEDIA {
                true => cut_off(input, "dump header"),
                false => corrupt("partition header is followed by no dump header".to_owned()),
            });
        };
        let fields = Fields(&head);
        let word = |at: usize| fields.u32(at).unwrap_or_default();
        let volumes = match part.disk {
            0 => Vec::new(),
            _ => volumes(input, set, at - set)?,
        };
        let mut oddities = Vec::new();
        let version = word(8);
        if version > 1 {
            oddities.push(format!("sadump's header version is {version}; it was read as 1"));
        }
        let max_mapnr =
            if version == 0 { word(60).into() } else { fields.u64(88).unwrap_or_default() };
        if max_mapnr == 0 || max_mapnr > MAX_MAPNR {
            return Err(corrupt(format!("dump header: max_mapnr is {max_mapnr:#x}")));
        }
        let mut end = at + block_size;
        let mut next = |what: &str, field: usize| {
            let len = u64::from(word(field)) * block_size;
            let place = Place { offset: end, len };
            // Sizes are 32-bit numbers of blocks: this can't overflow.
            end += len;
            if !in_range(place.offset, 0, source.len()) || end > source.len() {
                return Err(cut_off(input, what));
            }
            Ok(place)
        };
        let sub_header = next("sub header", 48)?;
        let ram = next("bitmap", 52)?;
        let dumped = next("dumpable bitmap", 56)?;
        for (place, field) in [(ram, "bitmap_blocks"), (dumped, "dumpable_bitmap_blocks")] {
            if place.len < max_mapnr.div_ceil(8) {
                let blocks = place.len / block_size;
                return Err(corrupt(format!(
                    "dump header: {field} is {blocks}, too few for max_mapnr {max_mapnr:#x}"
                )));
            }
        }
        let nr_cpus = word(80);
        let data = end;
        Ok(DumpHeader {
            block_size,
            max_mapnr,
            nr_cpus,
            sub_header,
            ram,
            dumped,
            data,
            volumes,
            oddities,
        })
    }
}

/// IDs of the disks that follow the first one, out of the disk set header.
fn volumes(input: &Input, at: u64, len: u64) -> Result<Vec<Vec<u8>>, OpenError> {
    let corrupt = |what: String| OpenError::Corrupt {
        name: input.name.clone(),
        what: format!("sadump's disk set header: {what}"),
    };
    let head = input.source.bytes(at, 16).map_err(|_| cut_off(input, "disk set header"))?;
    let disks = Fields(&head).u32(4).unwrap_or_default();
    if !(2..=MAX_DISKS).contains(&disks) {
        return Err(corrupt(format!("disk_num is {disks}")));
    }
    let needed = 16 + 32 * u64::from(disks - 1);
    if needed > len {
        return Err(corrupt(format!("it has {len} bytes, {disks} disks take {needed}")));
    }
    let bytes =
        input.source.bytes(at, needed as usize).map_err(|_| cut_off(input, "disk set header"))?;
    let volumes = bytes.get(16..).unwrap_or_default().chunks_exact(32);
    Ok(volumes.map(|volume| volume.get(..16).unwrap_or_default().to_vec()).collect())
}
