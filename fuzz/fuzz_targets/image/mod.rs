//! What must hold of every image that opens, and of every refusal.

use std::sync::Arc;

use kmortem_vmcore::{Image, OpenOptions};

/// Pages that are read of one input: more find nothing new.
const PAGES: usize = 64;
/// Compressed inputs may swell to this.
const MOST_UNPACKED: u64 = 8 << 20;

/// Opens the input and reads from it.
pub fn check(input: Vec<u8>) {
    check_all(vec![input]);
}

/// The same of several files that are one dump.
pub fn check_all(inputs: Vec<Vec<u8>>) {
    let options = OpenOptions { most_unpacked: Some(MOST_UNPACKED), ..OpenOptions::default() };
    let named = |(index, input)| (format!("fuzz{index}"), Arc::new(input) as _);
    let sources = inputs.into_iter().enumerate().map(named).collect();
    let image = match Image::from_sources_with(sources, &options) {
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
}
