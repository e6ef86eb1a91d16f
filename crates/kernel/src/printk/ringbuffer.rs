//! `struct printk_ringbuffer` (kernel/printk/printk_ringbuffer.h), v5.10 on.
//!
//! Descriptors lie in an array of 2^`count_bits`; descriptor ID n is at index
//! n modulo that. `state_var` holds the ID (62 bits) and the state (2 bits):
//! 0 reserved, 1 committed, 2 finalized, 3 reusable. `infos` is an array beside
//! it with the record's data, the same index. IDs go from `tail_id` to
//! `head_id`, and wrap.
//!
//! Text lies in a ring of 2^`size_bits` bytes. A record has the logical
//! positions `begin` and `next` of its block; the position modulo the size is
//! the place. A block is the descriptor's ID (8 bytes) and the text. One that
//! would cross the ring's end lies at its start instead (`begin` then keeps the
//! ID only). Both positions odd: no block (1: the text was lost because the
//! ring was full, 3: an empty line).
//!
//! The machine may have stopped in the middle of a write: a descriptor with
//! another ID, or a block with another descriptor's ID, is such damage.

use super::{
    Caller, Damage, Log, LogDevice, LogFormat, Reader, Record, RecordState, number, read_u32,
    read_u64, text_field,
};
use crate::Kernel;
use crate::error::{Error, Result};

const ID_MASK: u64 = (1 << 62) - 1;
/// `FAILED_LPOS`: the text could not be stored.
const FAILED_LPOS: u64 = 1;
/// log_buf_len is at most 2^31 bytes; a descriptor stands for 2^5 of them.
const MOST_COUNT_BITS: u32 = 26;
const MOST_SIZE_BITS: u32 = 31;
/// Records that can't be shown and are told of one by one. A ring whose size
/// was overwritten has millions.
const MOST_DAMAGE: usize = 1 << 12;
/// After so many it is given up: to try them all would take minutes.
const MOST_UNTOLD: u64 = 1 << 20;
/// Text that is kept: blocks that overlap could give the ring's text many times.
const MOST_TEXT: usize = 256 << 20;
/// `text_len` is 16 bits wide; no block is longer.
const LONGEST_BLOCK: u64 = 1 << 17;

/// Where the members lie.
#[derive(Debug, Clone, Default)]
pub(super) struct Offsets {
    desc_ring: u64,
    text_data_ring: u64,
    fail: Option<u64>,
    count_bits: u64,
    descs: u64,
    infos: u64,
    head_id: u64,
    tail_id: u64,
    size_bits: u64,
    data: u64,
    head_lpos: u64,
    tail_lpos: u64,
    desc_size: u64,
    state_var: u64,
    begin: u64,
    next: u64,
    info_size: u64,
    seq: u64,
    ts_nsec: u64,
    text_len: u64,
    facility: u64,
    caller_id: u64,
    caller_id2: Option<u64>,
    comm: Option<u64>,
    subsystem: u64,
    device: u64,
    subsystem_len: usize,
    device_len: usize,
}

impl Offsets {
    pub(super) fn of(kernel: &Kernel) -> Result<Offsets> {
        let at = |ty: &str, member: &str| kernel.log_offset(ty, member);
        let lpos = at("prb_desc", "text_blk_lpos")?;
        let dev_info = at("printk_info", "dev_info")?;
        let subsystem = at("dev_printk_info", "subsystem")?;
        let device = at("dev_printk_info", "device")?;
        let dev_info_size = kernel.log_size("dev_printk_info")?;
        let text_len = at("printk_info", "text_len")?;
        Ok(Offsets {
            desc_ring: at("printk_ringbuffer", "desc_ring")?,
            text_data_ring: at("printk_ringbuffer", "text_data_ring")?,
            fail: at("printk_ringbuffer", "fail").ok(),
            count_bits: at("prb_desc_ring", "count_bits")?,
            descs: at("prb_desc_ring", "descs")?,
            infos: at("prb_desc_ring", "infos")?,
            head_id: at("prb_desc_ring", "head_id")?,
            tail_id: at("prb_desc_ring", "tail_id")?,
            size_bits: at("prb_data_ring", "size_bits")?,
            data: at("prb_data_ring", "data")?,
            head_lpos: at("prb_data_ring", "head_lpos")?,
            tail_lpos: at("prb_data_ring", "tail_lpos")?,
            desc_size: kernel.log_size("prb_desc")?,
            state_var: at("prb_desc", "state_var")?,
            begin: lpos + at("prb_data_blk_lpos", "begin")?,
            next: lpos + at("prb_data_blk_lpos", "next")?,
            info_size: kernel.log_size("printk_info")?,
            seq: at("printk_info", "seq")?,
            ts_nsec: at("printk_info", "ts_nsec")?,
            text_len,
            // VMCOREINFO leaves it out: it has always followed text_len, and
            // the byte of flags (5 bits) and level (3 bits) follows it.
            facility: at("printk_info", "facility").unwrap_or(text_len + 2),
            caller_id: at("printk_info", "caller_id")?,
            caller_id2: at("printk_info", "caller_id2").ok(),
            comm: at("printk_info", "comm").ok(),
            subsystem: dev_info + subsystem,
            device: dev_info + device,
            subsystem_len: device.saturating_sub(subsystem) as usize,
            device_len: dev_info_size.saturating_sub(device) as usize,
        })
    }
}

#[cfg(any(test, fuzzing))]
impl Offsets {
    /// As v6.1 has them.
    pub(super) const fn v6_1() -> Offsets {
        Offsets {
            desc_ring: 0,
            text_data_ring: 48,
            fail: Some(80),
            count_bits: 0,
            descs: 8,
            infos: 16,
            head_id: 24,
            tail_id: 32,
            size_bits: 0,
            data: 8,
            head_lpos: 16,
            tail_lpos: 24,
            desc_size: 24,
            state_var: 0,
            begin: 8,
            next: 16,
            info_size: 88,
            seq: 0,
            ts_nsec: 8,
            text_len: 16,
            facility: 18,
            caller_id: 20,
            caller_id2: None,
            comm: None,
            subsystem: 24,
            device: 40,
            subsystem_len: 16,
            device_len: 48,
        }
    }
}

/// The ring's own fields.
struct Ring {
    descs: u64,
    infos: u64,
    count: u64,
    head_id: u64,
    tail_id: u64,
    data: u64,
    size: u64,
    head_lpos: u64,
    tail_lpos: u64,
}

impl Ring {
    fn read(read: &Reader<'_>, at: &Offsets, prb: u64) -> Result<Ring> {
        let desc_ring = prb.wrapping_add(at.desc_ring);
        let text_ring = prb.wrapping_add(at.text_data_ring);
        let count_bits = read_u32(read, desc_ring.wrapping_add(at.count_bits))?;
        let size_bits = read_u32(read, text_ring.wrapping_add(at.size_bits))?;
        if count_bits > MOST_COUNT_BITS || !(4..=MOST_SIZE_BITS).contains(&size_bits) {
            return Err(Error::corrupt("the printk ring buffer", prb));
        }
        Ok(Ring {
            descs: read_u64(read, desc_ring.wrapping_add(at.descs))?,
            infos: read_u64(read, desc_ring.wrapping_add(at.infos))?,
            count: 1 << count_bits,
            head_id: read_u64(read, desc_ring.wrapping_add(at.head_id))? & ID_MASK,
            tail_id: read_u64(read, desc_ring.wrapping_add(at.tail_id))? & ID_MASK,
            data: read_u64(read, text_ring.wrapping_add(at.data))?,
            size: 1 << size_bits,
            head_lpos: read_u64(read, text_ring.wrapping_add(at.head_lpos))?,
            tail_lpos: read_u64(read, text_ring.wrapping_add(at.tail_lpos))?,
        })
    }

    /// The place of a block's text in the ring: (offset, length).
    fn text_place(&self, begin: u64, next: u64) -> Result<(u64, u64), String> {
        let wrap = |lpos: u64| lpos / self.size;
        let index = |lpos: u64| lpos % self.size;
        // `next` of a block that fills the ring up to its very end is the
        // start of the next lap (newer kernels only).
        let (start, len) = if wrap(begin) == wrap(next.wrapping_sub(1)) {
            (index(begin), next.wrapping_sub(begin))
        } else if wrap(begin.wrapping_add(self.size)) == wrap(next) {
            (0, index(next))
        } else {
            return Err("its place in the ring is corrupt".into());
        };
        match len.checked_sub(8) {
            Some(text) if len <= LONGEST_BLOCK => Ok((start + 8, text)),
            _ => Err("its place in the ring is corrupt".into()),
        }
    }
}

/// Reads the ring at `prb`.
pub(super) fn read(read: &Reader<'_>, at: &Offsets, prb: u64) -> Result<Log> {
    let ring = Ring::read(read, at, prb)?;
    let mut log = Log {
        format: LogFormat::Ringbuffer,
        records: Vec::new(),
        damage: Vec::new(),
        dropped: at.fail.and_then(|fail| read_u64(read, prb.wrapping_add(fail)).ok()),
    };
    let mut held = (ring.head_id.wrapping_sub(ring.tail_id) & ID_MASK) + 1;
    if held > ring.count {
        let reason = "the ring's ends are corrupt; all its descriptors are shown".to_owned();
        log.damage.push(Damage { seq: None, reason });
        held = ring.count;
    }
    // Sequence numbers and IDs grow together.
    let mut known: Option<(u64, u64)> = None;
    let (mut untold, mut text) = (0u64, 0);
    for back in (0..held).rev() {
        let id = ring.head_id.wrapping_sub(back) & ID_MASK;
        let expected = known.map(|(seq, of)| seq.wrapping_add(id.wrapping_sub(of) & ID_MASK));
        match read_record(read, at, &ring, id, expected) {
            Ok(Some(record)) => {
                known = Some((record.seq, id));
                text += record.text.len();
                if text > MOST_TEXT {
                    let reason = "its text overlaps that of others; the log ends".to_owned();
                    log.damage.push(Damage { seq: Some(record.seq), reason });
                    break;
                }
                log.records.push(record);
            }
            Ok(None) => {}
            Err(_) if untold >= MOST_UNTOLD => break,
            Err(_) if log.damage.len() >= MOST_DAMAGE => untold += 1,
            Err(reason) => log.damage.push(Damage { seq: expected, reason }),
        }
    }
    if untold > 0 {
        log.damage.push(Damage {
            seq: None,
            reason: format!("{untold} more records, or more, can't be shown"),
        });
    }
    Ok(log)
}

/// The record of descriptor `id`; none for one that is reusable.
fn read_record(
    read: &Reader<'_>,
    at: &Offsets,
    ring: &Ring,
    id: u64,
    expected_seq: Option<u64>,
) -> Result<Option<Record>, String> {
    let index = id % ring.count;
    let mut desc = vec![0; at.desc_size as usize];
    read(ring.descs.wrapping_add(index * at.desc_size), &mut desc)
        .map_err(|e| format!("its descriptor: {e}"))?;
    let state_var = number::<8>(&desc, at.state_var);
    if state_var & ID_MASK != id {
        return Err("its descriptor was being taken for a new record".into());
    }
    let state = match state_var >> 62 {
        0 => RecordState::Reserved,
        1 => RecordState::Committed,
        2 => RecordState::Finalized,
        _ => return Ok(None),
    };
    let mut info = vec![0; at.info_size as usize];
    read(ring.infos.wrapping_add(index * at.info_size), &mut info)
        .map_err(|e| format!("its data: {e}"))?;
    let seq = number::<8>(&info, at.seq);
    if expected_seq.is_some_and(|expected| expected != seq) {
        return Err("its data was being replaced".into());
    }
    let text_len = number::<2>(&info, at.text_len);
    let (text, mut incomplete) = match read_text(read, at, ring, id, &desc, text_len) {
        Ok(found) => found,
        Err(reason) => (String::new(), Some(reason)),
    };
    if state == RecordState::Reserved {
        incomplete.get_or_insert_with(|| "it was being written".into());
    }
    let flags_level = number::<1>(&info, at.facility + 1) as u8;
    let comm = at.comm.map(|comm| text_field(&info, comm, 16));
    let second = at.caller_id2.map(|at| number::<4>(&info, at) as u32);
    let device = LogDevice {
        subsystem: text_field(&info, at.subsystem, at.subsystem_len),
        device: text_field(&info, at.device, at.device_len),
    };
    Ok(Some(Record {
        seq,
        ts_ns: number::<8>(&info, at.ts_nsec),
        level: flags_level >> 5,
        facility: number::<1>(&info, at.facility) as u8,
        flags: flags_level & 0x1f,
        state,
        caller: Some(Caller::of(number::<4>(&info, at.caller_id) as u32, second, comm)),
        text,
        incomplete,
        device: (!device.subsystem.is_empty()).then_some(device),
    }))
}

/// A record's text, and why it may be incomplete.
fn read_text(
    read: &Reader<'_>,
    at: &Offsets,
    ring: &Ring,
    id: u64,
    desc: &[u8],
    text_len: u64,
) -> Result<(String, Option<String>), String> {
    let begin = number::<8>(desc, at.begin);
    let next = number::<8>(desc, at.next);
    if begin & 1 == 1 && next & 1 == 1 {
        return match begin {
            FAILED_LPOS => Err("there was no room for its text".into()),
            _ => Ok((String::new(), None)),
        };
    }
    let used = ring.head_lpos.wrapping_sub(ring.tail_lpos);
    if begin.wrapping_sub(ring.tail_lpos) >= used {
        return Err("its text was overwritten".into());
    }
    let (start, room) = ring.text_place(begin, next)?;
    let block = ring.data.wrapping_add(start - 8);
    let owner = read_u64(read, block).map_err(|e| format!("its text: {e}"))?;
    if owner != id {
        return Err("its text was being replaced".into());
    }
    let mut text = vec![0; text_len.min(room) as usize];
    let mut incomplete =
        (text_len > room).then(|| format!("{text_len} bytes long, room for {room}"));
    if let Err(e) = read(block.wrapping_add(8), &mut text) {
        // The rest may be on a page that the dump has: take what there is.
        let have = readable(read, block.wrapping_add(8), &mut text);
        text.truncate(have);
        incomplete = Some(format!("its text: {e}"));
    }
    Ok((String::from_utf8_lossy(&text).into_owned(), incomplete))
}

/// Reads page by page; how many bytes were there before the first hole.
fn readable(read: &Reader<'_>, addr: u64, buf: &mut [u8]) -> usize {
    let mut done = 0;
    while done < buf.len() {
        let here = addr.wrapping_add(done as u64);
        let end = buf.len().min(done + (4096 - (here & 0xfff)) as usize);
        if read(here, &mut buf[done..end]).is_err() {
            break;
        }
        done = end;
    }
    done
}

#[cfg(test)]
mod tests;
