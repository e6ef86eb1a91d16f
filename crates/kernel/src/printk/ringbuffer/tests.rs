//! Rings written by hand, the way printk_ringbuffer.c lays them out.

use super::super::LOG_NEWLINE;
use super::*;
use crate::error::Fault;

const PRB: u64 = 0xffff_ffff_8200_0000;
const DESCS: u64 = 0xffff_ffff_8300_0000;
const INFOS: u64 = 0xffff_ffff_8400_0000;
const DATA: u64 = 0xffff_ffff_8500_0000;
const COUNT: u64 = 8;
const SIZE: u64 = 128;

const AT: Offsets = Offsets::v6_1();

/// A ring as a writer leaves it.
struct Writer {
    descs: Vec<u8>,
    infos: Vec<u8>,
    data: Vec<u8>,
    head_id: u64,
    tail_id: u64,
    head_lpos: u64,
    tail_lpos: u64,
    next_seq: u64,
    /// Nothing at or above this address of the data can be read.
    hole: u64,
}

const FINALIZED: u64 = 2;

impl Writer {
    /// The ring at boot: positions and IDs are about to wrap.
    fn new() -> Writer {
        let first = (COUNT + 1).wrapping_neg() & ID_MASK;
        let mut writer = Writer {
            descs: vec![0; (COUNT * 24) as usize],
            infos: vec![0; (COUNT * 88) as usize],
            data: vec![0; SIZE as usize],
            head_id: first,
            tail_id: first,
            head_lpos: SIZE.wrapping_neg(),
            tail_lpos: SIZE.wrapping_neg(),
            next_seq: 0,
            hole: u64::MAX,
        };
        writer.put_desc(first, 3, 1, 1);
        writer
    }

    fn put_desc(&mut self, id: u64, state: u64, begin: u64, next: u64) {
        let at = (id % COUNT * 24) as usize;
        let words = [state << 62 | id, begin, next];
        for (i, word) in words.iter().enumerate() {
            self.descs[at + i * 8..at + i * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
    }

    fn put_info(&mut self, id: u64, text_len: usize) {
        let at = (id % COUNT * 88) as usize;
        let info = &mut self.infos[at..at + 88];
        info.fill(0);
        info[..8].copy_from_slice(&self.next_seq.to_le_bytes());
        info[8..16].copy_from_slice(&(self.next_seq * 1000).to_le_bytes());
        info[16..18].copy_from_slice(&(text_len as u16).to_le_bytes());
        info[18] = 0;
        info[19] = 6 << 5 | 2;
        info[20..24].copy_from_slice(&77u32.to_le_bytes());
        self.next_seq += 1;
    }

    /// Reserves a descriptor; the oldest goes when the ring is full.
    fn take_id(&mut self) -> u64 {
        if self.head_id.wrapping_sub(self.tail_id) & ID_MASK == COUNT - 1 {
            self.tail_id = (self.tail_id + 1) & ID_MASK;
        }
        self.head_id = (self.head_id + 1) & ID_MASK;
        self.head_id
    }

    fn write(&mut self, text: &str) -> u64 {
        let id = self.take_id();
        let len = (8 + text.len() as u64).next_multiple_of(8);
        let begin = self.head_lpos;
        let mut next = begin.wrapping_add(len);
        let mut start = begin % SIZE;
        if begin / SIZE != next.wrapping_sub(1) / SIZE {
            let lap = next / SIZE * SIZE;
            next = lap.wrapping_add(len);
            self.data[start as usize..start as usize + 8].copy_from_slice(&id.to_le_bytes());
            start = 0;
        }
        let start = start as usize;
        self.data[start..start + 8].copy_from_slice(&id.to_le_bytes());
        self.data[start + 8..start + 8 + text.len()].copy_from_slice(text.as_bytes());
        self.head_lpos = next;
        let oldest = next.wrapping_sub(SIZE);
        if next.wrapping_sub(self.tail_lpos) > SIZE {
            self.tail_lpos = oldest;
        }
        self.put_info(id, text.len());
        self.put_desc(id, FINALIZED, begin, next);
        id
    }

    fn head(&self) -> Vec<u8> {
        let mut raw = vec![0; 88];
        let words = [
            (8, DESCS),
            (16, INFOS),
            (24, self.head_id),
            (32, self.tail_id),
            (56, DATA),
            (64, self.head_lpos),
            (72, self.tail_lpos),
            (80, 5),
        ];
        for (at, word) in words {
            raw[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        raw[0] = COUNT.trailing_zeros() as u8;
        raw[48] = SIZE.trailing_zeros() as u8;
        raw
    }

    fn log(&self) -> Log {
        let head = self.head();
        let pieces: [(u64, &[u8]); 4] =
            [(PRB, &head), (DESCS, &self.descs), (INFOS, &self.infos), (DATA, &self.data)];
        let read_at = |addr: u64, buf: &mut [u8]| {
            let end = addr + buf.len() as u64;
            let missing = || Error::Read { addr, fault: Fault::NotMapped };
            if addr >= DATA && end > self.hole {
                return Err(missing());
            }
            let (base, bytes) =
                pieces.iter().rev().find(|(base, _)| addr >= *base).ok_or_else(missing)?;
            let start = (addr - base) as usize;
            buf.copy_from_slice(bytes.get(start..start + buf.len()).ok_or_else(missing)?);
            Ok(())
        };
        read(&read_at, &AT, PRB).expect("a ring")
    }
}

fn texts(log: &Log) -> Vec<(u64, &str)> {
    log.records.iter().map(|r| (r.seq, &*r.text)).collect()
}

#[test]
fn an_empty_ring_has_no_records() {
    let log = Writer::new().log();
    assert!(log.records.is_empty() && log.damage.is_empty());
    assert_eq!(log.dropped, Some(5));
}

#[test]
fn records_come_in_order_with_their_fields() {
    let mut ring = Writer::new();
    ring.write("first");
    ring.write("two\nlines");
    let log = ring.log();
    assert_eq!(texts(&log), [(0, "first"), (1, "two\nlines")]);
    let last = &log.records[1];
    assert_eq!((last.ts_ns, last.level, last.facility, last.flags), (1000, 6, 0, LOG_NEWLINE));
    assert_eq!(last.caller.as_ref().and_then(|c| c.pid), Some(77));
    assert_eq!(last.state, RecordState::Finalized);
    assert_eq!(log.lines().count(), 3);
    assert!(log.damage.is_empty());
}

#[test]
fn the_rings_wrap() {
    let mut ring = Writer::new();
    for n in 0..40 {
        ring.write(&format!("message {n:07}"));
    }
    let log = ring.log();
    // Blocks of 24 bytes: five and a lap's rest fit into 128.
    let last: Vec<_> = log.records.iter().filter(|r| r.incomplete.is_none()).collect();
    assert!(last.len() >= 4, "{:?}", texts(&log));
    for record in last {
        assert_eq!(record.text, format!("message {:07}", record.seq));
    }
    assert_eq!(log.records.last().map(|r| r.seq), Some(39));
    assert_eq!(log.records[0].incomplete.as_deref(), Some("its text was overwritten"));
}

#[test]
fn a_block_that_ends_with_the_ring_is_not_wrapped() {
    let mut ring = Writer::new();
    ring.write(&"x".repeat(56));
    ring.write(&"y".repeat(56));
    assert_eq!(ring.head_lpos, 0);
    assert_eq!(texts(&ring.log()), [(0, &*"x".repeat(56)), (1, &*"y".repeat(56))]);
}

#[test]
fn records_without_a_block_tell_lost_from_empty() {
    let mut ring = Writer::new();
    for lpos in [1, 3] {
        let id = ring.take_id();
        ring.put_info(id, 0);
        ring.put_desc(id, FINALIZED, lpos, lpos);
    }
    let log = ring.log();
    assert_eq!(log.records[0].incomplete.as_deref(), Some("there was no room for its text"));
    assert_eq!((&*log.records[1].text, log.records[1].incomplete.as_deref()), ("", None));
}

#[test]
fn a_record_in_the_middle_of_its_writing_is_marked() {
    let mut ring = Writer::new();
    ring.write("whole");
    let id = ring.write("half");
    let begin = ring.head_lpos.wrapping_sub(16);
    ring.put_desc(id, 0, begin, ring.head_lpos);
    // Taken by a writer that has not come further than the head.
    ring.take_id();
    let log = ring.log();
    assert_eq!(log.records[1].state, RecordState::Reserved);
    assert_eq!(log.records[1].text, "half");
    assert_eq!(log.records[1].incomplete.as_deref(), Some("it was being written"));
    assert_eq!(log.damage.len(), 1);
    assert_eq!(log.damage[0].seq, Some(2));
}

#[test]
fn a_block_of_another_record_is_not_shown() {
    let mut ring = Writer::new();
    ring.write("mine");
    ring.data[0] ^= 1;
    let log = ring.log();
    assert_eq!(&*log.records[0].text, "");
    assert_eq!(log.records[0].incomplete.as_deref(), Some("its text was being replaced"));
}

#[test]
fn a_hole_costs_the_records_in_it() {
    let mut ring = Writer::new();
    ring.write("before");
    ring.write("behind");
    ring.hole = DATA + 20;
    let log = ring.log();
    assert_eq!((&*log.records[0].text, log.records[0].incomplete.as_deref()), ("before", None));
    assert!(log.records[1].incomplete.as_deref().is_some_and(|r| r.contains("can't be read")));
}

#[test]
fn ends_that_contradict_each_other_are_reported() {
    let mut ring = Writer::new();
    ring.write("only");
    ring.tail_id = 12345;
    let log = ring.log();
    assert!(log.records.iter().any(|r| r.text == "only"));
    assert!(log.damage[0].reason.contains("corrupt"));
}

#[test]
fn a_ring_of_a_made_up_size_costs_neither_memory_nor_minutes() {
    let read_at = |addr: u64, buf: &mut [u8]| {
        let word = match addr.wrapping_sub(PRB) {
            at if at == AT.desc_ring + AT.count_bits => u64::from(MOST_COUNT_BITS),
            at if at == AT.desc_ring + AT.head_id => ID_MASK >> 1,
            at if at == AT.text_data_ring + AT.size_bits => 20,
            at if at < 128 => 0,
            _ => return Err(Error::Read { addr, fault: Fault::NotMapped }),
        };
        buf.copy_from_slice(&word.to_le_bytes()[..buf.len()]);
        Ok(())
    };
    let log = read(&read_at, &AT, PRB).expect("a ring");
    assert!(log.records.is_empty());
    assert!(log.damage.len() <= MOST_DAMAGE + 2, "{}", log.damage.len());
}
