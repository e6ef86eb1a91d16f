//! Any bytes as a dump: opened and read, or refused, within bounds.
#![no_main]

use std::sync::Arc;

use kmortem_vmcore::Image;
use libfuzzer_sys::fuzz_target;

/// Pages that are read of one input: more find nothing new.
const PAGES: usize = 64;

fuzz_target!(|data: &[u8]| {
    let source = Arc::new(data.to_vec());
    let image = match Image::from_sources(vec![("fuzz".to_owned(), source)]) {
        Ok(image) => image,
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "an error is one sentence");
            return;
        }
    };
    let step = image.page_size() as usize;
    for addr in image.present().flat_map(|run| run.step_by(step)).take(PAGES) {
        if let Ok(page) = image.page(addr) {
            assert_eq!(page.len(), step);
            let mut copy = vec![0; step];
            image.read(addr, &mut copy).expect("a page that is there can be read");
            assert_eq!(*page, *copy);
        }
    }
    let mut end = 0;
    for range in image.ram() {
        assert!(range.start >= end && range.start < range.end);
        end = range.end;
    }
    let _ = image.completeness();
    let _ = image.read(u64::MAX - 10, &mut [0; 100]);
});
