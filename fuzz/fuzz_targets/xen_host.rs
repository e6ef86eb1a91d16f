//! Any bytes as the dump of a Xen host: what has a dom0 is a machine too.
#![no_main]

mod image;

use std::sync::Arc;

use kmortem_vmcore::{Image, OpenOptions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let whole = OpenOptions { whole_machine: true, ..OpenOptions::default() };
    let sources = vec![("fuzz".to_owned(), Arc::new(data.to_vec()) as _)];
    // Layers of compression have a target of their own.
    if !data.starts_with(b"\x7fELF") {
        return;
    }
    match Image::from_sources_with(sources, &whole) {
        Ok(machine) => assert!(machine.xen_host().is_none()),
        Err(_) => return,
    }
    image::check(data.to_vec());
});
