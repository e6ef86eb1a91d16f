//! Ten thousand damaged copies of the bundled dump, laid over the mapped file:
//! each is opened as a dump and read from, or refused with one sentence. None
//! panics (that would fail the test) and none hangs.
//!
//! Finding the kernel and its symbols takes a hundred times as long as opening
//! the dump, the report once more as long: only one copy in [`KERNELS`] is
//! opened to the kernel, one in [`REPORTS`] is reported on.

// A helper of tests: its panic is the failure.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kmortem_kernel::Kernel;
use kmortem_testkit::mutate::{Mutation, mutations};
use kmortem_vmcore::overlay::Overlay;
use kmortem_vmcore::{Image, Source};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

const MUTATIONS: u64 = 10_000;
/// Odd, as `damaged` tells four areas apart by the seed: all get their share.
const KERNELS: u64 = 7;
const REPORTS: u64 = 35;
/// Pages that are read of each dump.
const PAGES: usize = 8;
/// Far above what any of them takes: only a hang is longer.
const TOO_LONG: Duration = Duration::from_secs(20);

/// How far a damaged dump could be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    NoDump(String),
    Dump,
    NoKernel(String),
    Kernel,
    Report,
}

impl Outcome {
    fn refusal(&self) -> Option<&str> {
        match self {
            Outcome::NoDump(sentence) | Outcome::NoKernel(sentence) => Some(sentence),
            _ => None,
        }
    }
}

fn sample() -> Arc<dyn Source> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/hung-mutex-6.12.vmcore");
    Arc::new(kmortem_vmcore::MappedFile::open(&path).unwrap())
}

fn damaged(base: &Arc<dyn Source>, seed: u64) -> Overlay {
    // The headers, the bitmaps, the page descriptors, or anywhere.
    let head = [8 << 10, 64 << 10, 1 << 20, base.len()][seed as usize % 4];
    mutations(seed, base.len(), head).into_iter().fold(
        Overlay::new(Arc::clone(base)),
        |overlay, mutation| match mutation {
            Mutation::Set(at, bytes) => overlay.set(at, &bytes),
            Mutation::Flip(bit) => overlay.flip_bit(bit),
            Mutation::Truncate(len) => overlay.truncate(len),
        },
    )
}

/// Opens it as `kmortem report` does.
fn follow(source: Overlay, seed: u64) -> Outcome {
    let image = match Image::from_sources(vec![("damaged".to_owned(), Arc::new(source))]) {
        Ok(image) => image,
        Err(e) => return Outcome::NoDump(e.to_string()),
    };
    for addr in image.present().flat_map(|run| run.step_by(4 << 20)).take(PAGES) {
        let _ = image.page(addr);
    }
    if !seed.is_multiple_of(KERNELS) {
        return Outcome::Dump;
    }
    let kernel = match Kernel::open(image) {
        Ok(kernel) => kernel,
        Err(e) => return Outcome::NoKernel(e.to_string()),
    };
    if !seed.is_multiple_of(REPORTS) {
        return Outcome::Kernel;
    }
    let report = kmortem_diagnose::report(&kernel);
    let text = kmortem_diagnose::render_text(&report, &kmortem_diagnose::TextOptions::default());
    assert!(!text.trim().is_empty(), "an empty report");
    Outcome::Report
}

#[test]
fn damaged_dumps_are_reported_on_or_refused_with_a_sentence() {
    let base = sample();
    let outcomes: Vec<Outcome> = (0..MUTATIONS)
        .into_par_iter()
        .map(|seed| {
            let start = Instant::now();
            let outcome = follow(damaged(&base, seed), seed);
            assert!(start.elapsed() < TOO_LONG, "seed {seed} took {:?}", start.elapsed());
            outcome
        })
        .collect();
    for sentence in outcomes.iter().filter_map(Outcome::refusal) {
        assert!(!sentence.is_empty() && !sentence.contains('\n'), "{sentence:?}");
    }
    // Damage that changes nothing, or everything, would test nothing.
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|o| wanted(o)).count() as u64;
    let no_dump = count(|o| matches!(o, Outcome::NoDump(_)));
    let no_kernel = count(|o| matches!(o, Outcome::NoKernel(_)));
    let kernels = count(|o| matches!(o, Outcome::Kernel | Outcome::Report));
    let reports = count(|o| matches!(o, Outcome::Report));
    assert!((MUTATIONS / 100..MUTATIONS * 9 / 10).contains(&no_dump), "{no_dump} no dumps");
    assert!(no_kernel > MUTATIONS / KERNELS / 100, "{no_kernel} without a kernel");
    assert!(kernels > MUTATIONS / KERNELS / 5, "{kernels} kernels");
    assert!(reports > MUTATIONS / REPORTS / 5, "{reports} reports");
}
