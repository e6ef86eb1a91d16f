//! Xen's dump-core: written byte by byte after its document, since Xen itself runs in no test.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::single_range_in_vec_init)]

mod common;

use std::sync::Arc;

use kmortem_testkit::mutate::{Mutation, mutations};
use kmortem_testkit::{XenCore, XenVcpu, page};
use kmortem_vmcore::overlay::Overlay;
use kmortem_vmcore::writer::{
    Check, FileOutput, ImageContents, Options, Progress, Stream, WriteError, elf, kdump, raw,
};
use kmortem_vmcore::{Absent, Image, Machine, Source};

const PAGES: u64 = 300;
const ONLINE: u64 = 0x20;
const IN_KERNEL: u64 = 4;

/// A vCPU with a value of its own in every register.
fn vcpu(flags: u64, cs: u16) -> Vec<u8> {
    XenVcpu {
        flags,
        general: std::array::from_fn(|n| 0x100 + n as u64),
        rip: 0x200,
        cs,
        rflags: 0x246,
        rsp: 0x300,
        segments: [0xe02b, 0x41, 0x42, 0x43, 0x44],
        cr: std::array::from_fn(|n| 0x1000 * n as u64),
        fs_base: 0x500,
        gs_base_kernel: 0x600,
        gs_base_user: 0x700,
    }
    .context()
}

#[test]
fn every_page_of_a_pv_guest_and_its_machine_frames() {
    let image = common::open(XenCore::pv(PAGES).build());
    (0..PAGES).for_each(|pfn| common::assert_page(&image, pfn));
    assert_eq!(image.ram(), [0..PAGES << 12]);
    assert_eq!(image.info().kind, "Xen dump-core of a PV guest (Xen 4.17.7)");
    assert_eq!(image.info().machine, Some(Machine::X86_64));
    assert_eq!(image.info().oddities, Vec::<String>::new());
    let done = image.completeness();
    assert_eq!((done.ram, done.stored, done.lost), (Some(PAGES), Some(PAGES), Some(0)));

    let frames = image.machine_frames().unwrap();
    let machine = |pfn| (0x5000 + PAGES - 1 - pfn) << 12;
    for pfn in [0, 17, PAGES - 1] {
        assert_eq!(frames.guest_address(machine(pfn) + 0x123), Some((pfn << 12) + 0x123));
    }
    assert_eq!(image.physical(machine(5)), Some(5 << 12));
    for foreign in [0, machine(0) + 0x1000, u64::MAX] {
        assert_eq!(image.physical(foreign), None);
    }
}

#[test]
fn pages_of_an_hvm_guest_in_any_order_with_holes_and_padding() {
    let mut core = XenCore::hvm(PAGES);
    core.pages.retain(|(pfn, ..)| !(0xa0..0xc0).contains(pfn));
    core.pages.push((1 << 20, 0, page(1 << 20)));
    core.pages.rotate_left(100);
    core.pages.swap(3, 50);
    core.pages.push((u64::MAX, 0, vec![0; 4096]));
    let image = common::open(core.build());
    assert_eq!(image.info().kind, "Xen dump-core of an HVM or PVH guest (Xen 4.17.7)");
    assert!(image.machine_frames().is_none() && image.physical(0x1234) == Some(0x1234));
    for pfn in (0..0xa0).chain(0xc0..PAGES).chain([1 << 20]) {
        common::assert_page(&image, pfn);
    }
    common::assert_absent(&image, 0xa0, &Absent::NotRam);
    let high = 1 << 32;
    assert_eq!(image.ram(), [0..0xa0_000, 0xc0_000..PAGES << 12, high..high + 4096]);
    // Across pages that lie apart in the file.
    let mut buf = vec![0; 3 * 4096];
    image.read(0, &mut buf).unwrap();
    assert!(buf == [page(0), page(1), page(2)].concat());
    image.read_uncached(0x9f_000 - 5, &mut buf[..10]).unwrap();
    assert_eq!(buf[..10], [&page(0x9e)[4091..], &page(0x9f)[..5]].concat());
}

#[test]
fn registers_of_pv_cpus() {
    // The second one never ran, the third one was taken down.
    let never = XenVcpu { flags: ONLINE, ..XenVcpu::default() }.context();
    let vcpus = vec![vcpu(ONLINE | IN_KERNEL, 0xe033), never, vcpu(0, 0xe033)];
    let image = common::open(XenCore { vcpus, ..XenCore::pv(2) }.build());
    let [kernel, user] = image.cpus() else { panic!("two that ran") };
    let status = kernel.prstatus.as_ref().unwrap();
    assert_eq!(status.pid, 1);
    assert_eq!(status.regs[..15], std::array::from_fn::<u64, 15, _>(|n| 0x100 + n as u64));
    // orig_rax, rip, cs, flags, rsp, ss, bases, ds, es, fs, gs: a kernel's selectors as its own
    // frames have them, without their ring.
    let rest =
        [u64::MAX, 0x200, 0xe030, 0x246, 0x300, 0xe028, 0x500, 0x600, 0x42, 0x41, 0x43, 0x44];
    assert_eq!(status.regs[15..], rest);
    assert_eq!(kernel.cr3_and_cr4(), Some((0x3000, 0x4000)));
    assert_eq!(kernel.gs_bases(), [0x600, 0x700]);

    let status = user.prstatus.as_ref().unwrap();
    assert_eq!((status.pid, status.regs[17], status.regs[20]), (3, 0xe033, 0xe02b));
    assert_eq!(status.regs[22], 0x700);
}

#[test]
fn registers_of_hvm_cpus() {
    let vcpus = vec![vcpu(ONLINE, 0x10), vcpu(ONLINE, 0x33)];
    let image = common::open(XenCore { vcpus, ..XenCore::hvm(2) }.build());
    let registers = |n: usize| image.cpus()[n].prstatus.as_ref().unwrap().regs;
    assert_eq!((registers(0)[17], registers(0)[22]), (0x10, 0x600));
    assert_eq!((registers(1)[17], registers(1)[22]), (0x33, 0x700));
}

#[test]
fn what_contradicts_itself_is_told() {
    let odd = |core: XenCore| common::open(core.build()).info().oddities.join("; ");
    let vcpus = vec![vcpu(ONLINE, 0xe033)];
    let core = XenCore { header_vcpus: Some(7), vcpus, ..XenCore::pv(3) };
    assert_eq!(odd(core), "the header counts 7 vCPUs, .xen_prstatus has 1");
    assert!(odd(XenCore { header_pages: Some(2), ..XenCore::pv(3) }).contains("header counts 2"));
    let without = vec![".xen_prstatus"];
    assert!(odd(XenCore { without, ..XenCore::hvm(3) }).contains(".xen_prstatus is missing"));

    // Of two pages of one number, and two frames of one in the machine, the first counts.
    let mut core = XenCore::pv(10);
    core.pages[7].0 = 3;
    core.pages[8].1 = core.pages[1].1;
    let machine = core.pages[1].1 << 12;
    let image = common::open(core.build());
    common::assert_page(&image, 3);
    common::assert_absent(&image, 7, &Absent::NotRam);
    assert_eq!(image.physical(machine), Some(0x1000));
    let oddities = &image.info().oddities;
    assert!(oddities[0].contains("1 frame numbers are in .xen_p2m more than once"), "{oddities:?}");
    assert!(oddities[1].contains("1 machine frames"), "{oddities:?}");

    let mut core = XenCore::hvm(10);
    core.pages[4].0 = 1 << 52;
    assert!(odd(core).contains("beyond all memory"));
}

#[test]
fn what_can_not_be_used_is_refused_by_the_name_of_the_field() {
    let refusal = |core: XenCore| common::refusal(core.build());
    let pv = || XenCore::pv(3);
    assert!(refusal(XenCore { magic: 5, ..pv() }).contains("magic 0x5"));
    assert!(refusal(XenCore { page_size: 0, ..pv() }).contains("pages of 0 bytes"));
    assert!(refusal(XenCore { page_size: 8192, ..pv() }).contains("PV guest has pages of 8192"));
    assert!(refusal(XenCore { header_pages: Some(0), ..pv() }).contains("none of its pages"));
    assert!(refusal(XenCore { machine: 3, ..pv() }).contains("machine 3"));
    for section in [".note.Xen", ".xen_pages", ".xen_p2m"] {
        let text = refusal(XenCore { without: vec![section], ..pv() });
        assert!(text.contains(&format!("without the section {section}")), "{text}");
    }
    // The table of a domain of the other kind.
    let mut file = pv().build();
    let magic = file.windows(4).position(|bytes| bytes == [0xed, 0xeb, 0x0f, 0xf0]).unwrap();
    file[magic] = 0xee;
    assert!(common::refusal(file).contains("without the section .xen_pfn"));
    // An ELF file's own fields.
    let with = |at: usize, value: u16| {
        let mut file = pv().build();
        file[at..at + 2].copy_from_slice(&value.to_le_bytes());
        common::refusal(file)
    };
    assert!(with(58, 40).contains("e_shentsize"));
    assert!(with(60, u16::MAX).contains("e_shnum"));
    assert!(with(62, 99).contains("e_shstrndx 99"));
}

/// Sections that claim to be larger than the file, and tables without pages, cost no memory.
#[test]
fn sizes_beyond_the_file() {
    let core = XenCore { header_pages: Some(u64::MAX), ..XenCore::hvm(3) };
    let sound = core.build();
    let section = |index: u64| 64 + 64 * index as usize;
    let huge = |sections: &[u64]| {
        let mut file = sound.clone();
        for index in sections {
            let at = section(*index) + 32;
            file[at..at + 8].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
        }
        common::try_open(file)
    };
    let image = huge(&[5, 6]).unwrap();
    assert!(image.completeness().incomplete.is_some());
    common::exercise(&image, 100);
    let text = huge(&[1]).expect_err("refused").to_string();
    assert!(text.contains(".shstrtab"), "{text}");
}

#[test]
fn cut_off_at_every_boundary() {
    let vcpus = vec![vcpu(ONLINE, 0xe033)];
    for core in [XenCore { vcpus: vcpus.clone(), ..XenCore::pv(5) }, XenCore::hvm(5)] {
        let file = core.build();
        let bounds = [0, 1, 40, 63, 64, 65, 127, 128, 64 * 8 - 1, 64 * 8, 64 * 8 + 12, 2000, 4096];
        let near_end = (file.len() - 200..file.len()).step_by(7).chain([file.len() - 1]);
        for len in bounds.into_iter().chain(near_end) {
            let text = common::refusal(file[..len].to_vec());
            assert!(text.starts_with("dump: ") && !text.contains('\n'), "{len}: {text}");
            assert!(len < 512 || text.contains("missing"), "{len}: {text}");
        }
    }
}

#[test]
fn ten_thousand_damaged_ones_cost_an_error_at_most() {
    let vcpus = vec![vcpu(ONLINE, 0xe033); 2];
    let mut shuffled = XenCore { vcpus: vcpus.clone(), ..XenCore::pv(40) };
    shuffled.pages.reverse();
    let bases: Vec<Arc<dyn Source>> = [shuffled, XenCore { vcpus, ..XenCore::hvm(40) }]
        .map(|core| common::source(core.build()))
        .into();
    let (mut opened, mut refused, mut pages) = (0, 0, 0);
    for seed in 0..10_000 {
        let base = &bases[seed as usize % bases.len()];
        let mut damaged = Overlay::new(Arc::clone(base));
        for mutation in mutations(seed, base.len(), 600) {
            damaged = match mutation {
                Mutation::Set(at, bytes) => damaged.set(at, &bytes),
                Mutation::Flip(bit) => damaged.flip_bit(bit),
                Mutation::Truncate(len) => damaged.truncate(len),
            };
        }
        match Image::from_sources(vec![("damaged".to_owned(), Arc::new(damaged))]) {
            Ok(image) => {
                opened += 1;
                pages += common::exercise(&image, 20);
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }
    assert!(opened > 2000 && refused > 1000 && pages > 10_000, "{opened} {refused} {pages}");
}

/// A PV guest in other forms keeps what its page tables need; raw memory can't.
#[test]
fn a_pv_guest_in_other_forms() {
    let vcpus = vec![vcpu(ONLINE | IN_KERNEL, 0xe033)];
    let guest = common::open(XenCore { vcpus, ..XenCore::pv(PAGES) }.build());
    let options = Options { threads: 1, ..Options::default() };
    let progress = Progress::default();

    let mut core = Stream::new(Vec::new());
    elf::write(&ImageContents::new(&guest, Check::Pages), &options, &progress, &mut core).unwrap();
    let core = common::open(core.into_inner());
    let path = std::env::temp_dir().join(format!("vmcore-xen-{}", std::process::id()));
    let file = std::fs::File::options().create(true).truncate(true).write(true).open(&path);
    let mut out = FileOutput::new(file.unwrap());
    // From the core: it passes on what it was given.
    kdump::write(
        &ImageContents::new(&core, Check::Index),
        None,
        None,
        &options,
        &progress,
        &mut out,
    )
    .unwrap();
    let dump = Image::open(&[&path]).unwrap();
    std::fs::remove_file(&path).unwrap();
    for image in [&core, &dump] {
        (0..PAGES).for_each(|pfn| common::assert_page(image, pfn));
        assert_eq!(image.machine_frames(), guest.machine_frames());
        let status = image.cpus()[0].prstatus.as_ref();
        assert_eq!(status, guest.cpus()[0].prstatus.as_ref());
        assert_eq!(image.cpus()[0].gs_bases(), [0x600]);
        let mut out = Stream::new(Vec::new());
        let contents = ImageContents::new(image, Check::Pages);
        let error = raw::write(&contents, &options, &progress, &mut out).expect_err("refused");
        assert!(matches!(error, WriteError::Unfit(_)));
        assert!(error.to_string().contains("can't be raw"), "{error}");
    }
}
