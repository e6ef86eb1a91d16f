//! The dumps that benchmarks run on.

use std::path::PathBuf;

/// Name and path: the bundled dump, and those of the lab that are there.
pub(crate) fn dumps() -> Vec<(String, PathBuf)> {
    let sample =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../samples/hung-mutex-6.12.vmcore");
    let mut dumps = vec![("sample".to_owned(), sample)];
    let lab = kmortem_lab::Lab::open().ok();
    for name in ["k510-hung", "k61-hung", "k612-hung", "k7x-hung"] {
        // Only those that are there: a benchmark boots nothing.
        let found = lab.as_ref().and_then(|lab| lab.find(name).ok().flatten());
        dumps.extend(found.map(|dump| (name.to_owned(), dump.files[0].clone())));
    }
    dumps
}
