//! Flattened streams: makedumpfile's and QEMU's form for pipes.
//!
//! A header of 4096 bytes ("makedumpfile", type 1, version 1), then records of offset, size and
//! data, all numbers 64-bit big-endian, ended by -1, -1.

/// One record of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlatRecord {
    /// Where the data belongs.
    pub offset: i64,
    /// The data.
    pub data: Vec<u8>,
}

/// A stream of the records as they are, with the end mark if `ended`.
pub fn flatten_records(records: &[FlatRecord], ended: bool) -> Vec<u8> {
    let mut stream = b"makedumpfile".to_vec();
    stream.resize(16, 0);
    stream.extend(1i64.to_be_bytes());
    stream.extend(1i64.to_be_bytes());
    stream.resize(4096, 0);
    for record in records {
        stream.extend(record.offset.to_be_bytes());
        stream.extend((record.data.len() as i64).to_be_bytes());
        stream.extend(&record.data);
    }
    if ended {
        stream.extend((-1i64).to_be_bytes());
        stream.extend((-1i64).to_be_bytes());
    }
    stream
}

/// A dump as makedumpfile streams it: a first header that is not final, the contents in records of
/// `record` bytes, and the header once more.
pub fn flatten(dump: &[u8], record: usize) -> Vec<u8> {
    let mut records = vec![FlatRecord { offset: 0, data: vec![0xee; dump.len().min(4096)] }];
    for (index, data) in dump.chunks(record).enumerate() {
        records.push(FlatRecord { offset: (index * record) as i64, data: data.to_vec() });
    }
    records.push(FlatRecord { offset: 0, data: dump[..dump.len().min(4096)].to_vec() });
    flatten_records(&records, true)
}
