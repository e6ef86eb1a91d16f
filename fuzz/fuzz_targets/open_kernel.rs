//! Any bytes as a dump with a kernel in it: opened, every question asked, and
//! reported on, or refused with one sentence.
#![no_main]

use std::sync::Arc;

use kmortem_diagnose::{TextOptions, render_markdown, render_text, report};
use kmortem_kernel::Kernel;
use kmortem_vmcore::Image;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let source = Arc::new(data.to_vec());
    let Ok(image) = Image::from_sources(vec![("fuzz".to_owned(), source)]) else { return };
    let kernel = match Kernel::open(image) {
        Ok(kernel) => kernel,
        Err(error) => return assert!(!error.to_string().contains('\n')),
    };
    let _ = (kernel.log(), kernel.tasks(), kernel.modules(), kernel.slab_caches());
    let _ = (kernel.mounts(), kernel.interfaces(), kernel.disks(), kernel.cgroups());
    let report = report(&kernel);
    assert!(!render_text(&report, &TextOptions::default()).is_empty());
    assert!(!render_markdown(&report).is_empty());
});
