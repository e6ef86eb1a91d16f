//! `struct printk_log` records in `log_buf` (kernel/printk/printk.c), v3.5 to
//! v5.9.
//!
//! A record is a header, its text and its dictionary (`KEY=value` strings, each
//! ended by NUL but the last); `len` covers all three and padding. The log goes
//! from `log_first_idx` to `log_next_idx`; a header with `len` 0 says that the
//! next record is at the buffer's start. `log_first_seq` numbers the first.

use super::{Caller, Damage, Log, LogDevice, LogFormat, Reader, Record, RecordState, number};
use crate::Kernel;
use crate::error::{Error, Result};

/// Largest buffer that the kernel takes (`LOG_BUF_LEN_MAX`).
const LARGEST: u64 = 1 << 31;

/// The header's members alone take this much; it bounds how many records fit.
const SMALLEST_HEADER: u64 = 16;
/// More records are no log: of a buffer that large each had an empty line.
const MOST_RECORDS: usize = 1 << 22;

/// Where the members of `struct printk_log` lie.
#[derive(Debug, Clone)]
pub(super) struct Offsets {
    size: u64,
    ts_nsec: u64,
    len: u64,
    text_len: u64,
    dict_len: u64,
    facility: u64,
    caller_id: Option<u64>,
}

impl Offsets {
    pub(super) fn of(kernel: &Kernel) -> Result<Offsets> {
        let at = |member: &str| kernel.log_offset("printk_log", member);
        let dict_len = at("dict_len")?;
        Ok(Offsets {
            size: kernel.log_size("printk_log")?,
            ts_nsec: at("ts_nsec")?,
            len: at("len")?,
            text_len: at("text_len")?,
            dict_len,
            // VMCOREINFO leaves it out: it follows dict_len, and the byte of
            // flags (5 bits) and level (3 bits) follows it.
            facility: at("facility").unwrap_or(dict_len + 2),
            caller_id: at("caller_id").ok(),
        })
    }
}

#[cfg(any(test, fuzzing))]
impl Offsets {
    /// Without CONFIG_PRINTK_CALLER.
    pub(super) const fn v5_4() -> Offsets {
        Offsets {
            size: 16,
            ts_nsec: 0,
            len: 8,
            text_len: 10,
            dict_len: 12,
            facility: 14,
            caller_id: None,
        }
    }
}

/// Where the records lie.
#[derive(Debug, Clone)]
pub(super) struct Place {
    buf: u64,
    len: u64,
    first_idx: u64,
    next_idx: u64,
    first_seq: u64,
}

impl Place {
    pub(super) fn of(kernel: &Kernel) -> Result<Place> {
        let word = |name: &str| kernel.read_u32(kernel.log_symbol(name)?).map(u64::from);
        Ok(Place {
            buf: kernel.read_u64(kernel.log_symbol("log_buf")?)?,
            len: word("log_buf_len")?,
            first_idx: word("log_first_idx")?,
            next_idx: word("log_next_idx")?,
            first_seq: kernel.log_symbol("log_first_seq").and_then(|a| kernel.read_u64(a))?,
        })
    }
}

#[cfg(fuzzing)]
impl Place {
    /// Its numbers stand before the buffer, 8 bytes each.
    pub(super) fn fuzz(base: u64, read: &Reader<'_>) -> Place {
        let word = |at: u64| super::read_u64(read, base + at).unwrap_or(0);
        let (len, first_idx, next_idx) = (word(0), word(8), word(16));
        Place { buf: base + 24, len, first_idx, next_idx, first_seq: 0 }
    }
}

/// Reads the records from the first to the next one to be written.
pub(super) fn read(read: &Reader<'_>, at: &Offsets, place: &Place) -> Result<Log> {
    if at.size < SMALLEST_HEADER
        || place.len > LARGEST
        || place.first_idx >= place.len
        || place.next_idx > place.len
    {
        return Err(Error::corrupt("the kernel's log buffer", place.buf));
    }
    let mut log =
        Log { format: LogFormat::LogBuf, records: Vec::new(), damage: Vec::new(), dropped: None };
    let mut index = place.first_idx;
    let mut seq = place.first_seq;
    let mut walked = 0;
    while index != place.next_idx {
        let mut header = vec![0; at.size as usize];
        let mut len = 0;
        // A header that has no room before the buffer's end is not written.
        if index + at.size <= place.len {
            if let Err(e) = read(place.buf.wrapping_add(index), &mut header) {
                log.damage.push(Damage { seq: Some(seq), reason: format!("{e}; the log ends") });
                break;
            }
            len = number::<2>(&header, at.len);
        }
        let wraps = len == 0;
        walked += if wraps { place.len - index } else { len };
        let text_len = number::<2>(&header, at.text_len);
        let dict_len = number::<2>(&header, at.dict_len);
        let sane =
            wraps && index != 0 || len >= at.size + text_len + dict_len && index + len <= place.len;
        if !sane || walked > place.len || log.records.len() >= MOST_RECORDS {
            let reason = "its header is corrupt; the log ends".to_owned();
            log.damage.push(Damage { seq: Some(seq), reason });
            break;
        }
        if wraps {
            index = 0;
            continue;
        }
        let mut body = vec![0; (text_len + dict_len) as usize];
        let body_at = place.buf.wrapping_add(index + at.size);
        let incomplete = read(body_at, &mut body).err().map(|e| format!("its text: {e}"));
        if incomplete.is_some() {
            body.clear();
        }
        let (text, dict) = body.split_at(body.len().min(text_len as usize));
        let flags_level = number::<1>(&header, at.facility + 1) as u8;
        log.records.push(Record {
            seq,
            ts_ns: number::<8>(&header, at.ts_nsec),
            level: flags_level >> 5,
            facility: number::<1>(&header, at.facility) as u8,
            flags: flags_level & 0x1f,
            state: RecordState::Finalized,
            caller: at.caller_id.map(|at| Caller::of(number::<4>(&header, at) as u32, None, None)),
            text: String::from_utf8_lossy(text).into_owned(),
            incomplete,
            device: device(dict),
        });
        index += len;
        seq = seq.wrapping_add(1);
    }
    Ok(log)
}

/// `SUBSYSTEM=` and `DEVICE=` of a record's dictionary.
fn device(dict: &[u8]) -> Option<LogDevice> {
    let value = |key: &[u8]| {
        let found = dict.split(|b| *b == 0).find_map(|entry| entry.strip_prefix(key))?;
        Some(String::from_utf8_lossy(found).into_owned())
    };
    Some(LogDevice {
        subsystem: value(b"SUBSYSTEM=")?,
        device: value(b"DEVICE=").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0xffff_8880_0100_0000;
    const AT: Offsets = Offsets::v5_4();

    fn record(ts: u64, text: &str, dict: &str) -> Vec<u8> {
        let len = (16 + text.len() + dict.len()).next_multiple_of(8);
        let mut raw = ts.to_le_bytes().to_vec();
        for n in [len, text.len(), dict.len()] {
            raw.extend((n as u16).to_le_bytes());
        }
        raw.extend([3, 6 << 5 | 2]);
        raw.extend(text.bytes().chain(dict.bytes()));
        raw.resize(len, 0);
        raw
    }

    fn log(bytes: &[u8], first_idx: u64, next_idx: u64) -> Log {
        let read_at = |addr: u64, buf: &mut [u8]| {
            let start = (addr - BASE) as usize;
            let found = bytes.get(start..start + buf.len());
            buf.copy_from_slice(found.ok_or_else(|| Error::corrupt("a read", addr))?);
            Ok(())
        };
        let place =
            Place { buf: BASE, len: bytes.len() as u64, first_idx, next_idx, first_seq: 40 };
        read(&read_at, &AT, &place).expect("a log")
    }

    #[test]
    fn records_wrap_at_the_marker() {
        let newer = record(9, "newer", "");
        let older = record(7, "older", "SUBSYSTEM=pci\0DEVICE=+pci:0000:00:02.0");
        let mut bytes = newer.clone();
        // The kernel leaves a gap: equal indices mean an empty log.
        bytes.resize(newer.len() + 24, 0xee);
        let first = bytes.len() as u64;
        bytes.extend(older);
        bytes.resize(bytes.len() + 16, 0);
        let log = log(&bytes, first, newer.len() as u64);
        let seen: Vec<_> = log.records.iter().map(|r| (r.seq, r.ts_ns, &*r.text)).collect();
        assert_eq!(seen, [(40, 7, "older"), (41, 9, "newer")]);
        assert_eq!(log.records[0].device.as_ref().map(|d| &*d.subsystem), Some("pci"));
        assert_eq!(
            (log.records[0].level, log.records[0].facility, log.records[0].flags),
            (6, 3, 2)
        );
        assert!(log.damage.is_empty());
    }

    #[test]
    fn a_corrupt_length_ends_the_log_and_says_so() {
        let mut bytes = record(1, "first", "");
        let end = bytes.len() as u64;
        bytes.extend(record(2, "second", ""));
        bytes[end as usize + 8] = 0xff;
        bytes[end as usize + 9] = 0xff;
        let log = log(&bytes, 0, bytes.len() as u64);
        assert_eq!(log.records.len(), 1);
        assert_eq!(log.damage.len(), 1);
    }

    #[test]
    fn a_ring_of_markers_ends() {
        let log = log(&[0; 64], 0, 48);
        assert!(log.records.is_empty());
        assert_eq!(log.damage.len(), 1);
    }
}
