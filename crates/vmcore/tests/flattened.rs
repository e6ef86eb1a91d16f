//! Flattened streams, whole and cut off, of both containers.

mod common;

use common::{assert_absent, assert_page, open, refusal};
use kmortem_testkit::{Compression, Elf, FlatRecord, Kdump, flatten, flatten_records, page};
use kmortem_vmcore::Absent;

#[test]
fn records_of_any_size() {
    let dump = Kdump::of(0..300, 400).compressed(Compression::Lzo);
    let bytes = dump.build();
    // Small records split headers, descriptors and pages alike.
    for record in [13, 24, 100, 4096, 16384, 1 << 20] {
        let image = open(flatten(&bytes, record));
        assert!(image.info().flattened);
        for pfn in (0..300).step_by(7) {
            assert_page(&image, pfn);
        }
        assert_absent(&image, 300, &Absent::Filtered { level: Some(31) });
        assert_eq!(image.info().incomplete, None);
    }
}

#[test]
fn elf_too() {
    let elf = Elf::default().load(0x1000, (1..9).flat_map(page).collect());
    let image = open(flatten(&elf.build(), 5000));
    (1..9).for_each(|pfn| assert_page(&image, pfn));
}

#[test]
fn a_stream_that_is_cut_off_gives_what_it_has() {
    let bytes = Kdump::of(0..50, 50).build();
    let stream = flatten(&bytes, 4096);
    // The end mark, the header at the end, and the last pages are missing.
    let cut = stream.len() - 16 - (4096 + 16) - 5 * (4096 + 16);
    let image = open(with_first_header(&bytes, &stream[..cut]));
    assert!(image.info().incomplete.as_deref().unwrap().contains("cut off"));
    assert_page(&image, 44);
    (45..50).for_each(|pfn| assert_absent(&image, pfn, &Absent::Lost));
    assert_eq!(image.completeness().lost, Some(5));
}

/// The test kit's first header is not final; makedumpfile's and QEMU's are good enough to read.
fn with_first_header(dump: &[u8], stream: &[u8]) -> Vec<u8> {
    let mut stream = stream.to_vec();
    stream[4096 + 16..4096 + 16 + 4096].copy_from_slice(&dump[..4096]);
    stream
}

#[test]
fn what_no_record_covers_is_lost_and_not_zeros() {
    let bytes = Kdump::of(0..50, 50).build();
    let records: Vec<_> = bytes
        .chunks(4096)
        .enumerate()
        // The page frame 40: the pages fill the end of the file.
        .filter(|(index, _)| *index != bytes.len() / 4096 - 10)
        .map(|(index, data)| FlatRecord { offset: index as i64 * 4096, data: data.to_vec() })
        .collect();
    let image = open(flatten_records(&records, true));
    let lost: Vec<u64> = (0..50).filter(|pfn| image.page(pfn * 4096).is_err()).collect();
    assert_eq!(lost.len(), 2, "a page that no block boundary cuts is in two records: {lost:?}");
    lost.iter().for_each(|&pfn| assert_absent(&image, pfn, &Absent::Lost));
}

#[test]
fn later_records_lie_over_earlier_ones_however_they_overlap() {
    let bytes = Kdump::of(0..20, 20).build();
    let mut random = kmortem_testkit::mutate::Random::new(3);
    // Garbage first, then the dump in records that overlap one another, then some of it again.
    let mut records: Vec<_> = (0..40)
        .map(|_| {
            let offset = random.below(bytes.len() as u64 - 5000) as i64;
            FlatRecord { offset, data: vec![0xaa; 1 + random.below(5000) as usize] }
        })
        .collect();
    for start in (0..bytes.len()).step_by(3000) {
        let end = (start + 4500).min(bytes.len());
        records.push(FlatRecord { offset: start as i64, data: bytes[start..end].to_vec() });
    }
    for _ in 0..40 {
        let start = random.below(bytes.len() as u64) as usize;
        let end = (start + random.below(9000) as usize).min(bytes.len());
        records.push(FlatRecord { offset: start as i64, data: bytes[start..end].to_vec() });
    }
    let image = open(flatten_records(&records, true));
    (0..20).for_each(|pfn| assert_page(&image, pfn));
}

#[test]
fn streams_that_make_no_sense() {
    assert!(refusal(flatten_records(&[], true)).contains("without any data"));
    assert!(refusal(flatten_records(&[], false)).contains("without any data"));
    let mut other = flatten_records(&[], true);
    other[31] = 2;
    assert!(refusal(other).contains("type or version"));
    let record = |offset, data: &[u8]| FlatRecord { offset, data: data.to_vec() };
    assert!(refusal(flatten_records(&[record(0, b"hello")], true)).contains("not a kernel dump"));
    // Claims to be larger than any disk: costs nothing.
    let bytes = Kdump::of(0..20, 20).build();
    let far = flatten_records(&[record(0, &bytes), record(i64::MAX - 4096, b"x")], true);
    let image = open(far);
    (0..20).for_each(|pfn| assert_page(&image, pfn));
    // Negative numbers end the stream.
    let image = open(flatten_records(&[record(0, &bytes), record(-5, b"x")], true));
    assert_page(&image, 19);
    assert!(image.info().incomplete.is_some());
}
