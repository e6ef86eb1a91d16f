//! Ten thousand damaged dumps: each is refused with a sentence or read, none panics or hangs.

mod common;

use std::sync::Arc;

use kmortem_testkit::mutate::{Mutation, Random, mutations};
use kmortem_testkit::{Compression, Elf, Entry, Kdump, Load, Seekable, flatten, notes, page};
use kmortem_vmcore::overlay::Overlay;
use kmortem_vmcore::{Image, Source};

const MUTATIONS: u64 = 10_000;

fn vmcoreinfo() -> String {
    "OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(init_uts_ns)=ffffffff82000000\n".repeat(20)
}

fn kdump(compression: Compression) -> Vec<u8> {
    let mut dump = Kdump::of((0..400).filter(|pfn| pfn % 5 != 2), 600).compressed(compression);
    dump.pages.insert(500, Entry::Page(vec![0; 4096]));
    dump.vmcoreinfo = vmcoreinfo();
    dump.notes = [notes::prstatus_x86_64(1, &[1; 27]), notes::qemu_cpu(2)].concat();
    dump.build()
}

fn elf() -> Vec<u8> {
    let mut elf = Elf { ehsize: 8, phoff: 192, ..Elf::default() };
    elf.notes = vec![notes::prstatus_x86_64(1, &[1; 27]), notes::vmcoreinfo(&vmcoreinfo())];
    for run in 0..20 {
        let bytes = (run * 10..run * 10 + 6).flat_map(page).collect();
        elf.loads.push(Load { vaddr: 0, paddr: run * 0xa000, mem_len: 0x8000, bytes });
    }
    elf.build()
}

fn overlay(base: &Arc<dyn Source>, seed: u64) -> Overlay {
    // Headers alone, headers with bitmaps and notes, or well into the descriptors.
    let head = [600, 9_000, 30_000][seed as usize % 3];
    mutations(seed, base.len(), head).into_iter().fold(
        Overlay::new(Arc::clone(base)),
        |overlay, mutation| match mutation {
            Mutation::Set(at, bytes) => overlay.set(at, &bytes),
            Mutation::Flip(bit) => overlay.flip_bit(bit),
            Mutation::Truncate(len) => overlay.truncate(len),
        },
    )
}

#[test]
fn damaged_dumps_cost_an_error_at_most() {
    let flat = flatten(&kdump(Compression::Snappy), 3000);
    let bases: Vec<Arc<dyn Source>> =
        [kdump(Compression::Zlib), kdump(Compression::Lzo), kdump(Compression::Zstd), elf(), flat]
            .into_iter()
            .map(common::source)
            .collect();
    let (mut opened, mut refused, mut pages) = (0u64, 0u64, 0usize);
    for seed in 0..MUTATIONS {
        let base = &bases[seed as usize % bases.len()];
        let damaged = overlay(base, seed);
        match Image::from_sources(vec![("damaged".to_owned(), Arc::new(damaged))]) {
            Ok(image) => {
                opened += 1;
                pages += common::exercise(&image, 40);
            }
            Err(error) => {
                refused += 1;
                let text = error.to_string();
                assert!(text.starts_with("damaged: ") && !text.contains('\n'), "{text}");
            }
        }
    }
    // Damage that changes nothing, or everything, would test nothing.
    assert!(opened > MUTATIONS / 4, "{opened} opened");
    assert!(refused > MUTATIONS / 10, "{refused} refused");
    assert!(pages > 10_000, "{pages} pages read");
}

/// Archives of both kinds, the table damaged as often as the frames.
#[test]
fn damaged_archives_cost_an_error_at_most() {
    let foreign = Seekable::of(&kdump(Compression::Raw), 70_000);
    let ours = Seekable {
        text: Some("kmortem archive\nformat=1\n".to_owned()),
        cut_off: true,
        ..Seekable::of(&elf(), 30_000)
    };
    let table = Seekable { checksums: true, ..Seekable::of(&elf(), 5000) };
    let bases = [foreign, ours, table].map(|file| file.build());
    let (mut opened, mut refused, mut pages) = (0, 0, 0);
    for seed in 0..2000u64 {
        let mut damaged = bases[seed as usize % bases.len()].clone();
        let mut random = Random::new(seed);
        for _ in 0..1 + seed % 3 {
            let len = damaged.len() as u64;
            let near_end = random.draw().is_multiple_of(2);
            let at = random.draw() % if near_end { len.min(400) } else { len };
            let at = if near_end { len - 1 - at } else { at } as usize;
            match random.draw() % 4 {
                0 => damaged.truncate(at.max(1)),
                1 => damaged[at] = 0xff,
                _ => damaged[at] ^= 1 << (random.draw() % 8),
            }
        }
        match Image::from_sources(vec![("damaged".to_owned(), common::source(damaged))]) {
            Ok(image) => {
                opened += 1;
                pages += common::exercise(&image, 40);
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }
    assert!(opened > 300, "{opened} opened");
    assert!(refused > 100, "{refused} refused");
    assert!(pages > 2000, "{pages} pages read");
}

#[test]
fn parts_of_which_one_is_damaged() {
    let whole = Kdump::of(0..100, 100).compressed(Compression::Lzo);
    let parts = [0..50, 50..100].map(|pfns| common::source(whole.part(pfns).build()));
    for seed in 0..1000 {
        let damaged: Arc<dyn Source> = Arc::new(overlay(&parts[seed as usize % 2], seed));
        let sound = Arc::clone(&parts[(seed as usize + 1) % 2]);
        if let Ok(image) =
            Image::from_sources(vec![("a".to_owned(), damaged), ("b".to_owned(), sound)])
        {
            common::exercise(&image, 100);
        }
    }
}
