//! What the commands most used cost in a session whose kernel is open, on the
//! bundled dump (a small guest, zstd per page) and, where the lab has made
//! them, on raw ones. `scripts/measure-commands` starts each of all commands
//! cold.
//!
//! `cargo bench -p kmortem --bench commands`

// The group that criterion makes has no place for documentation.
#![allow(clippy::unwrap_used, missing_docs)]

mod dumps;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use kmortem_kernel::Kernel;
use kmortem_shell::{Outcome, Output, Session};

const LINES: &[&str] = &[
    "sys",
    "bt",
    "bt -a",
    "bt -f 1",
    "foreach bt",
    "foreach UN bt",
    "ps",
    "ps -m",
    "log",
    "log -T",
    "mod",
    "runq",
    "files 1",
    "vm 1",
    "net",
    "mount",
    "irq",
    "timer",
    "kmem -i",
    "kmem -s",
    "kmem -p",
    "kmem init_task",
    "struct task_struct init_task",
    "p init_task.cred->usage.counter + 1",
    "list task_struct.tasks -s task_struct.pid -h init_task",
    "rd -s init_task 64",
    "sym init_task",
    "dis schedule",
    "search -K init_task",
];

fn commands(criterion: &mut Criterion) {
    for (name, path) in dumps::dumps() {
        let kernel = Arc::new(Kernel::open_files(&[path]).unwrap());
        let mut group = criterion.benchmark_group(format!("{name}, commands"));
        group.sample_size(10).warm_up_time(Duration::from_millis(500));
        group.measurement_time(Duration::from_secs(2));
        for line in LINES {
            group.bench_function(*line, |b| {
                b.iter(|| {
                    let (mut data, mut notes) = (io::sink(), io::sink());
                    let mut session = Session::new(kernel.clone());
                    let done = session.run_told(line, &mut Output::text(&mut data, &mut notes));
                    assert_eq!(done.unwrap(), Outcome::Answered, "{name}: {line}");
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, commands);
criterion_main!(benches);
