//! dom0 behind a hypervisor: the machine's memory and Xen's notes, written byte by byte.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::single_range_in_vec_init)]

mod common;

use std::sync::Arc;

use kmortem_testkit::mutate::{Mutation, mutations};
use kmortem_testkit::{XenHost, page};
use kmortem_vmcore::overlay::Overlay;
use kmortem_vmcore::writer::{Check, ImageContents, Options, Progress, Stream, elf};
use kmortem_vmcore::{Absent, Image, OpenOptions, Source};

/// More than a page of the tree has, and than a page of such pages.
const PAGES: u64 = 700;
const FAR: u64 = 512 * 512 + 7;

fn host() -> XenHost {
    let mut host = XenHost::of(PAGES);
    host.pages.push((FAR, 0x9000, page(FAR)));
    // Another domain's page, one that is no RAM, and one that is not there.
    host.entries = vec![(100, 0x5005 | 1 << 63), (101, 0xa0 | 1 << 62), (102, u64::MAX)];
    host.pages.retain(|(pfn, ..)| !(100..=102).contains(pfn));
    host.others.push((0x8000, page(0x8000)));
    host.vmcoreinfo = Some("OSRELEASE=6.1.0\nPAGESIZE=4096\n".to_owned());
    host.cpus = vec![(std::array::from_fn(|n| n as u64), 0x5000), ([7; 27], 0x6000)];
    host
}

#[test]
fn dom0_is_what_is_opened_and_the_machine_is_behind_it() {
    let image = common::open(host().elf().build());
    for pfn in (0..100).chain(103..PAGES).chain([FAR]) {
        common::assert_page(&image, pfn);
    }
    for pfn in [100, 101, 102, PAGES, 0x8000] {
        common::assert_absent(&image, pfn, &Absent::NotRam);
    }
    let far = FAR << 12;
    assert_eq!(image.ram(), [0..100 << 12, 103 << 12..PAGES << 12, far..far + 4096]);
    assert_eq!(image.present().collect::<Vec<_>>(), image.ram());
    assert_eq!(image.completeness().stored, Some(PAGES - 3 + 1));
    assert_eq!(image.info().kind, "ELF of a Xen host (Xen 4.17.7), dom0's memory");
    assert_eq!(image.info().oddities, Vec::<String>::new());
    assert_eq!(image.vmcoreinfo().unwrap().osrelease(), Some("6.1.0"));
    assert_eq!(image.physical((0x5000 + PAGES - 1 - 5) << 12), Some(5 << 12));
    assert_eq!(image.physical(0x8000 << 12), None);
    // The hypervisor's registers are none of dom0's.
    assert!(image.cpus().is_empty());

    let host = image.xen_host().unwrap();
    assert!(*host.machine().page(0x8000 << 12).unwrap() == *page(0x8000));
    let hypervisor = host.hypervisor();
    assert_eq!((hypervisor.version.as_str(), hypervisor.tainted), ("4.17.7", 0));
    assert_eq!(hypervisor.phys_start, Some(0x1fa0_0000));
    let [first, second] = hypervisor.cpus.as_slice() else { panic!("two CPUs") };
    assert_eq!((first.regs[16], first.cr3), (16, 0x5000));
    assert_eq!((second.regs[16], second.cr3), (7, 0x6000));
}

/// Reads across frames that lie apart in the machine.
#[test]
fn reads_of_many_pages() {
    let image = common::open(host().elf().build());
    let mut buf = vec![0; 4 * 4096];
    for read in [Image::read, Image::read_uncached] {
        read(&image, 4096, &mut buf).unwrap();
        assert!(buf == [page(1), page(2), page(3), page(4)].concat());
        let error = read(&image, 98 << 12, &mut buf).expect_err("there is a hole");
        assert_eq!((error.addr, error.reason), (100 << 12, Absent::NotRam));
    }
}

#[test]
fn an_old_hypervisor_does_not_say_where_it_lies() {
    let image = common::open(XenHost { says_place: false, ..host() }.elf().build());
    assert_eq!(image.xen_host().unwrap().hypervisor().phys_start, None);
    common::assert_page(&image, 5);
}

#[test]
fn the_machine_stays_when_dom0_is_not_to_be_had() {
    for (top, why) in [
        (0x7777, "the top of its list (frame 0x7777)"),
        (u64::MAX, "no frame has this number"),
        // A page whose words lead nowhere.
        (0x8000, "has no frame; is dom0 a PV guest?"),
    ] {
        let image = common::open(XenHost { top: Some(top), ..host() }.elf().build());
        let oddities = image.info().oddities.join("; ");
        assert!(oddities.contains("dom0's memory can't be told") && oddities.contains(why));
        assert_eq!(image.info().kind, "ELF of a Xen host (Xen 4.17.7)");
        assert!(image.xen_host().is_none());
        assert!(*image.page(0x8000 << 12).unwrap() == *page(0x8000));
    }
}

/// A tree that leads into itself is read once.
#[test]
fn a_tree_with_cycles() {
    let mut host = host();
    let words = |word: u64| word.to_le_bytes().repeat(512);
    host.others.push((0x8800, words(0x8800)));
    for top in [0x8800, host.tree] {
        host.pages[3].1 = host.tree;
        host.top = Some(top);
        common::exercise(&common::open(host.elf().build()), 100);
    }
}

#[test]
fn a_conversion_keeps_the_whole_machine() {
    let options = Options { threads: 1, ..Options::default() };
    let whole = OpenOptions { whole_machine: true, ..OpenOptions::default() };
    let sources = vec![("host".to_owned(), common::source(host().elf().build()))];
    let machine = Image::from_sources_with(sources, &whole).unwrap();
    assert!(machine.xen_host().is_none() && machine.machine_frames().is_none());
    assert!(machine.is_xen_host());
    let mut out = Stream::new(Vec::new());
    let contents = ImageContents::new(&machine, Check::Pages);
    elf::write(&contents, &options, &Progress::default(), &mut out).unwrap();
    let image = common::open(out.into_inner());
    common::assert_page(&image, FAR);
    let host = image.xen_host().unwrap();
    assert!(*host.machine().page(0x8000 << 12).unwrap() == *page(0x8000));
    assert_eq!(host.hypervisor().cpus.len(), 2);
}

#[test]
fn damaged_ones_cost_an_error_at_most() {
    let base: Arc<dyn Source> = common::source(host().elf().build());
    let mut domains = 0;
    for seed in 0..3000 {
        let mut damaged = Overlay::new(Arc::clone(&base));
        // Headers and notes, or the tree, which lies behind the page with the version.
        for mutation in mutations(seed, base.len(), [1500, 40_000][seed as usize % 2]) {
            damaged = match mutation {
                Mutation::Set(at, bytes) => damaged.set(at, &bytes),
                Mutation::Flip(bit) => damaged.flip_bit(bit),
                Mutation::Truncate(len) => damaged.truncate(len),
            };
        }
        if let Ok(image) = Image::from_sources(vec![("damaged".to_owned(), Arc::new(damaged))]) {
            domains += u64::from(image.xen_host().is_some());
            common::exercise(&image, 20);
        }
    }
    assert!(domains > 1000, "{domains}");
}
