//! Any bytes as the records of a flattened stream with a dump's start in them.
#![no_main]

use std::sync::Arc;

use kmortem_vmcore::Image;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|records: &[u8]| {
    // The header of the stream has nothing to find in it; the records have.
    let mut stream = b"makedumpfile\0\0\0\0".to_vec();
    stream.extend(1i64.to_be_bytes());
    stream.extend(1i64.to_be_bytes());
    stream.resize(4096, 0);
    stream.extend(records);
    let Ok(image) = Image::from_sources(vec![("fuzz".to_owned(), Arc::new(stream))]) else {
        return;
    };
    assert!(image.info().flattened);
    let step = image.page_size() as usize;
    for addr in image.present().flat_map(|run| run.step_by(step)).take(64) {
        let _ = image.page(addr);
    }
    let _ = image.completeness();
});
