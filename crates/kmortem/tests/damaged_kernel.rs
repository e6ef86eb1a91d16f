//! A kernel whose own structures are damaged: words of tasks, lists, trees,
//! page tables, symbol tables, types and unwind rules are overwritten in a
//! real memory image, and every question is asked all the same: the report's,
//! and every command's.

// A helper of tests: its panic is the failure.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kmortem_kernel::Kernel;
use kmortem_shell::registry::COMMANDS;
use kmortem_shell::{Output, Session};
use kmortem_testkit::mutate::Random;
use kmortem_vmcore::overlay::Overlay;
use kmortem_vmcore::{Image, MappedFile, Source};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

const MUTATIONS: u64 = 1_000;
const TOO_LONG: Duration = Duration::from_secs(20);

/// Physical address -> offset in the file, by the program headers of an ELF64.
struct Elf(Vec<(u64, u64, u64)>);

impl Elf {
    fn of(source: &dyn Source) -> Elf {
        let word = |at: u64, n: usize| {
            source.bytes(at, n).unwrap().iter().rev().fold(0u64, |v, b| v << 8 | u64::from(*b))
        };
        let (phoff, phnum) = (word(32, 8), word(56, 2));
        let headers = (0..phnum).map(|i| phoff + i * 56).filter(|at| word(*at, 4) == 1);
        Elf(headers.map(|at| (word(at + 24, 8), word(at + 8, 8), word(at + 32, 8))).collect())
    }

    fn offset(&self, phys: u64) -> Option<u64> {
        let (start, offset, _) =
            self.0.iter().find(|(start, _, len)| (*start..start + len).contains(&phys))?;
        Some(offset + phys - start)
    }
}

/// Virtual ranges worth damaging.
fn targets(kernel: &Kernel) -> Vec<(u64, u64)> {
    let mut targets = Vec::new();
    let symbol = |name: &str| kernel.symbol(name).ok();
    for name in [
        "init_task",
        "modules",
        "slab_caches",
        "init_pid_ns",
        "init_net",
        "init_css_set",
        "cgrp_dfl_root",
        "super_blocks",
        "tk_core",
        "prb",
        "printk_rb_static",
        "__per_cpu_offset",
        "__cpu_possible_mask",
        "nr_cpu_ids",
        "panic_cpu",
        "page_offset_base",
        "vmemmap_base",
        "node_data",
        "contig_page_data",
    ] {
        targets.extend(symbol(name).map(|at| (at, 512)));
    }
    let between = |from, to| Some((symbol(from)?, symbol(to)? - symbol(from)?));
    targets.extend(between("__start_BTF", "__stop_BTF").map(|(at, _)| (at, 4096)));
    targets.extend(between("__start_BTF", "__stop_BTF"));
    targets.extend(between("__start_orc_unwind", "__stop_orc_unwind"));
    targets.extend(between("__start_orc_unwind_ip", "__stop_orc_unwind_ip"));
    targets.extend(symbol("kallsyms_token_table").map(|at| (at, 2048)));
    targets.extend(symbol("kallsyms_num_syms").map(|at| (at, 64)));
    for task in kernel.tasks().unwrap().list.iter() {
        targets.push((task.addr, 4096));
        targets.push((task.signal, 512));
        targets.push((task.mm, 1024));
        targets.push((task.stack + 12_288, 4096));
    }
    for module in kernel.modules().unwrap() {
        targets.push((module.addr, 1024));
    }
    for cpu in kernel.possible_cpus().unwrap() {
        targets.extend(kernel.per_cpu("runqueues", cpu).ok().map(|at| (at, 2048)));
    }
    for cache in kernel.slab_caches().unwrap() {
        targets.push((cache.addr, 256));
    }
    for mount in kernel.mounts().unwrap().list {
        targets.push((mount.addr, 256));
    }
    for interface in kernel.interfaces().unwrap().list {
        targets.push((interface.addr, 2048));
    }
    for group in kernel.cgroups().unwrap() {
        targets.push((group.addr, 1024));
    }
    targets.retain(|(at, _)| *at != 0);
    targets
}

/// Asked of every damaged kernel.
const LINES: &[&str] = &["ps -t", "bt -a", "foreach bt", "kmem -i", "log", "sys"];

/// Of the others, so many are asked of each.
const MORE: u64 = 12;

/// Commands that write files, run programs, or end the session.
const LEFT_OUT: &[&str] = &["gcore", "trace", "exit", "repeat", "extend", "help"];

/// Every example of every command's help.
fn examples() -> Vec<String> {
    let commands = COMMANDS.iter().filter(|command| !LEFT_OUT.contains(&command.name));
    let lines = commands.flat_map(|command| {
        command.examples.iter().map(|(words, _)| format!("{} {words}", command.name))
    });
    lines.filter(|line| !line.contains(['|', '>', '!'])).collect()
}

/// What took longest on any of the damaged kernels.
#[derive(Default)]
struct Slowest(Mutex<(Duration, String)>);

impl Slowest {
    /// Runs `question`, which `name` tells apart.
    fn time<T>(&self, name: impl FnOnce() -> String, question: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let answer = question();
        let took = start.elapsed();
        let mut slowest = self.0.lock().unwrap();
        if took > slowest.0 {
            *slowest = (took, name());
        }
        answer
    }
}

/// Everything that the report asks, and what the commands do. The answers.
fn ask(kernel: Kernel, lines: &[&str], seed: u64, slowest: &Slowest) -> Vec<u8> {
    let named = |what: &str| format!("{what} (seed {seed})");
    let report = slowest.time(|| named("report"), || kmortem_diagnose::report(&kernel));
    let text = kmortem_diagnose::render_text(&report, &kmortem_diagnose::TextOptions::default());
    let mut answers = text.into_bytes();
    let _ = kernel.cgroups().map(|groups| answers.extend(format!("{groups:?}").bytes()));
    let _ = kernel.wait_graph().map(|graph| answers.extend(format!("{graph:?}").bytes()));
    let mut session = Session::new(kernel);
    let mut remarks = Vec::new();
    let mut out = Output::text(&mut answers, &mut remarks);
    for line in lines {
        slowest.time(|| named(line), || session.run_told(line, &mut out)).unwrap();
    }
    answers
}

#[test]
fn damaged_kernels_answer_what_they_can() {
    let examples = examples();
    for name in ["k510-hung", "k61-cgoom", "k612-hung", "k7x-null"] {
        let dump = kmortem_lab::dump(name).unwrap();
        let base: Arc<dyn Source> = Arc::new(MappedFile::open(&dump.files[0]).unwrap());
        let elf = Elf::of(base.as_ref());
        let sound = Kernel::open_files(&dump.files).unwrap();
        let targets = targets(&sound);
        let whole = ask(Kernel::open_files(&dump.files).unwrap(), LINES, 0, &Slowest::default());
        let slowest = Slowest::default();
        let (opened, changed) = (AtomicU64::new(0), AtomicU64::new(0));
        (0..MUTATIONS / 4).into_par_iter().for_each(|seed| {
            let mut random = Random::new(seed * 31 + name.len() as u64);
            let mut overlay = Overlay::new(Arc::clone(&base));
            for _ in 0..1 + random.below(8) {
                let (at, len) = targets[random.below(targets.len() as u64) as usize];
                let at = at + random.below(len / 8) * 8;
                let somewhere = targets[random.below(targets.len() as u64) as usize].0;
                let value = match random.below(6) {
                    0 => 0,
                    1 => u64::MAX,
                    2 => at,
                    3 => somewhere,
                    4 => random.draw() & 0xffff_ffff,
                    _ => random.draw(),
                };
                let Some(offset) = sound.space().translate(at).ok().and_then(|p| elf.offset(p))
                else {
                    continue;
                };
                overlay = overlay.set(offset, &value.to_le_bytes());
            }
            let mut lines: Vec<&str> = LINES.to_vec();
            let more = (0..MORE).map(|_| random.below(examples.len() as u64) as usize);
            lines.extend(more.map(|i| examples[i].as_str()));
            let start = Instant::now();
            let image =
                Image::from_sources(vec![("damaged".to_owned(), Arc::new(overlay))]).unwrap();
            if let Ok(kernel) = Kernel::open(image) {
                opened.fetch_add(1, Ordering::Relaxed);
                let answers = ask(kernel, &lines, seed, &slowest);
                changed.fetch_add((!answers.starts_with(&whole)).into(), Ordering::Relaxed);
            }
            let took = start.elapsed();
            assert!(took < TOO_LONG, "{name}, seed {seed} took {took:?}: {lines:?}");
        });
        let (took, what) = slowest.0.into_inner().unwrap();
        eprintln!("{name}: the slowest was {what}: {took:?}");
        // Damage that closes the dump, or that nobody sees, would test nothing.
        let (opened, changed) = (opened.into_inner(), changed.into_inner());
        assert!(opened > MUTATIONS / 4 / 2, "{name}: {opened} opened");
        assert!(changed > opened / 4, "{name}: {changed} of {opened} answered otherwise");
    }
}
