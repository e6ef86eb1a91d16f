//! Any bytes as an archive: frames, a seek table, or what is left of one.
//!
//! The input is frames and table, behind the text of an archive of ours if its first bit is set.
#![no_main]

use std::sync::Arc;

use kmortem_vmcore::Image;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let mut file = Vec::new();
    if first & 1 == 1 {
        let text = b"kmortem archive\nformat=1\n";
        file.extend(0x184d_2a50u32.to_le_bytes());
        file.extend((text.len() as u32).to_le_bytes());
        file.extend(text);
    }
    file.extend(rest);
    let Ok(image) = Image::from_sources(vec![("fuzz".to_owned(), Arc::new(file))]) else {
        return;
    };
    let step = image.page_size() as usize;
    for addr in image.present().flat_map(|run| run.step_by(step)).take(64) {
        let again = image.page(addr).map(|page| page.to_vec());
        assert_eq!(image.page(addr).map(|page| page.to_vec()), again);
    }
    let _ = image.completeness();
});
