//! What the stages of opening and reporting cost, on the bundled dump (a small
//! guest, zstd per page) and, where the lab has made them, on raw ones.
//!
//! `cargo bench -p kmortem`; `scripts/compare-peers` for the same beside peers.

// The group that criterion makes has no place for documentation.
#![allow(clippy::unwrap_used, missing_docs)]

mod dumps;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use kmortem_kernel::Kernel;
use kmortem_vmcore::Image;

fn stages(criterion: &mut Criterion) {
    for (name, path) in dumps::dumps() {
        let paths = [path];
        let open = || Kernel::open_files(&paths).unwrap();
        let mut group = criterion.benchmark_group(&name);
        group.sample_size(20).warm_up_time(Duration::from_secs(1));
        group.bench_function("open the container", |b| {
            b.iter(|| black_box(Image::open(&paths).unwrap()));
        });
        group.bench_function("find the kernel, read kallsyms", |b| b.iter(|| black_box(open())));
        group.bench_function("open, one stack", |b| {
            b.iter(|| {
                let kernel = open();
                let tasks = kernel.tasks().unwrap();
                black_box(kernel.stack(tasks.pid(1).unwrap()))
            });
        });
        group.bench_function("open, report", |b| {
            b.iter(|| {
                let report = kmortem_diagnose::report(&open());
                let options = kmortem_diagnose::TextOptions::default();
                black_box(kmortem_diagnose::render_text(&report, &options))
            });
        });
        // From here on the kernel is open and its pages are in the cache.
        let kernel = open();
        let tasks = kernel.tasks().unwrap();
        group.bench_function("every stack", |b| {
            b.iter(|| tasks.list.iter().map(|t| kernel.stack(t).frames.len()).sum::<usize>());
        });
        group.bench_function("slab caches", |b| b.iter(|| kernel.slab_caches().unwrap().len()));
        group.bench_function("memory", |b| b.iter(|| kernel.memory().unwrap().total));
        group.bench_function("log", |b| b.iter(|| kernel.log().unwrap().records.len()));
        group.bench_function("a symbol by address", |b| {
            let at = kernel.symbol("schedule").unwrap() + 8;
            b.iter(|| kernel.symbol_at(black_box(at)));
        });
        group.finish();
    }
}

criterion_group!(benches, stages);
criterion_main!(benches);
