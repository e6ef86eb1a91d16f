//! Any dump that opens, written in other forms: each is the same memory, absent for the same
//! reasons.
#![no_main]

use std::sync::Arc;

use kmortem_vmcore::writer::{
    Check, Flattened, ImageContents, Options, Progress, Stream, WriteError, elf, kdump,
};
use kmortem_vmcore::{Absent, Codec, Image};
use libfuzzer_sys::fuzz_target;

/// Memory beyond this would be bitmaps of zeros, and headers of nothing.
const END: u64 = 1 << 28;

fn open(bytes: Vec<u8>) -> Option<Image> {
    Image::from_sources(vec![("fuzz".to_owned(), Arc::new(bytes))]).ok()
}

fuzz_target!(|data: &[u8]| {
    let Some(input) = open(data.to_vec()) else { return };
    if input.ram_runs().any(|run| run.end > END) || input.extents().any(|run| run.end > END) {
        return;
    }
    if input.header().is_some_and(|header| header.max_mapnr > END / 4096) {
        return;
    }
    let options = Options { threads: 1, ..Options::default() };
    let progress = Progress::default();

    let contents = ImageContents::new(&input, Check::Index);
    let mut out = Flattened::new(Vec::new());
    if kdump::write(&contents, Some((Codec::Zstd, None)), None, &options, &progress, &mut out)
        .is_ok()
        && let Some(output) = open(out.into_inner())
    {
        compare(&output, &input);
    }

    let mut contents = ImageContents::new(&input, Check::Pages);
    contents.note_lost();
    for _ in 0..2 {
        let mut out = Stream::new(Vec::new());
        match elf::write(&contents, &options, &progress, &mut out) {
            Ok(_) => {
                // A dump without any memory, or of an unknown machine, is none.
                if let Some(output) = open(out.into_inner()) {
                    compare(&output, &input);
                }
                return;
            }
            Err(WriteError::Unreadable { runs, .. }) => contents.set_unreadable(runs),
            Err(_) => return,
        }
    }
    panic!("what could not be read was left out, and still can't be read");
});

fn compare(ours: &Image, theirs: &Image) {
    let size = theirs.page_size().max(ours.page_size());
    for run in theirs.present().take(64) {
        let first = run.start.next_multiple_of(size);
        for addr in (first..run.end.saturating_sub(size - 1)).step_by(size as usize).take(64) {
            let (mut a, mut b) = (vec![0; size as usize], vec![0; size as usize]);
            match (ours.read(addr, &mut a), theirs.read(addr, &mut b)) {
                (Ok(()), Ok(())) => assert_eq!(a, b, "{addr:#x}"),
                (Err(ours), Err(_)) => {
                    let known = matches!(ours.reason, Absent::Lost | Absent::Corrupt { .. });
                    assert!(known, "{addr:#x}: {ours}");
                }
                (a, b) => panic!("{addr:#x}: {a:?}, was {b:?}"),
            }
        }
    }
}
