//! What the tests of whole dumps share.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use kmortem_vmcore::{Absent, Image, OpenError, Source};

pub(crate) fn source(bytes: Vec<u8>) -> Arc<dyn Source> {
    Arc::new(bytes)
}

pub(crate) fn try_open(bytes: Vec<u8>) -> Result<Image, OpenError> {
    Image::from_sources(vec![("dump".to_owned(), source(bytes))])
}

pub(crate) fn open(bytes: Vec<u8>) -> Image {
    try_open(bytes).expect("a sound dump opens")
}

pub(crate) fn open_parts(parts: &[Vec<u8>]) -> Result<Image, OpenError> {
    Image::from_sources(
        parts
            .iter()
            .enumerate()
            .map(|(n, part)| (format!("part{n}"), source(part.clone())))
            .collect(),
    )
}

/// The sentence with which a file is refused.
pub(crate) fn refusal(bytes: Vec<u8>) -> String {
    try_open(bytes).expect_err("must be refused").to_string()
}

/// The page frame `pfn` holds what the test kit put there.
#[track_caller]
pub(crate) fn assert_page(image: &Image, pfn: u64) {
    let page = image.page(pfn * 4096).unwrap_or_else(|why| panic!("page frame {pfn:#x}: {why}"));
    assert!(*page == *kmortem_testkit::page(pfn), "page frame {pfn:#x} has other bytes");
}

#[track_caller]
pub(crate) fn assert_absent(image: &Image, pfn: u64, why: &Absent) {
    match image.page(pfn * 4096) {
        Ok(_) => panic!("page frame {pfn:#x} is there"),
        Err(reason) => assert_eq!(reason, *why, "page frame {pfn:#x}"),
    }
}

/// All that can be asked of an image: nothing of it may panic. Returns the number of pages read.
pub(crate) fn exercise(image: &Image, max_pages: usize) -> usize {
    let mut read = 0;
    let mut asked = 0;
    let mut buf = [0; 5000];
    for run in image.present() {
        assert!(run.start < run.end, "an empty run");
        for addr in run.step_by(image.page_size() as usize) {
            asked += 1;
            read += usize::from(image.page(addr).is_ok());
            if asked >= max_pages {
                break;
            }
        }
        if asked >= max_pages {
            break;
        }
    }
    for addr in [0, 1, 4095, 0x10_0000 - 1, 0xffff_ffff, u64::MAX / 2, u64::MAX - 4096, u64::MAX] {
        let _ = image.page(addr);
        let _ = image.read(addr, &mut buf);
    }
    let mut end = 0;
    for range in image.ram() {
        assert!(range.start >= end && range.start < range.end, "RAM is sorted and merged");
        end = range.end;
    }
    let _ = image.completeness();
    if let Some(info) = image.vmcoreinfo() {
        let _ = (info.symbol("init_uts_ns"), info.number("phys_base"), info.kernel_offset());
    }
    read
}

/// An image of several files, each with its name.
pub(crate) fn try_open_named(files: &[(&str, &[u8])]) -> Result<Image, OpenError> {
    let named = |(name, bytes): &(&str, &[u8])| ((*name).to_owned(), source(bytes.to_vec()));
    Image::from_sources(files.iter().map(named).collect())
}

/// The registers of the image's CPUs are those that the test kit gave them.
#[track_caller]
pub(crate) fn assert_registers(image: &Image, vcpus: &[kmortem_testkit::Vcpu]) {
    assert_eq!(image.cpus().len(), vcpus.len());
    for (found, vcpu) in image.cpus().iter().zip(vcpus) {
        let qemu = found.qemu.as_ref().expect("registers");
        assert_eq!((qemu.gprs, qemu.rip, qemu.rflags), (vcpu.gprs, vcpu.rip, vcpu.rflags));
        assert_eq!(qemu.cr, vcpu.cr);
        let bases = [qemu.es, qemu.cs, qemu.ss, qemu.ds, qemu.fs, qemu.gs, qemu.ldt, qemu.tr];
        let bases = bases.map(|segment| (segment.selector as u16, segment.base));
        assert_eq!(bases, vcpu.segments);
        let tables = [qemu.gdt, qemu.idt].map(|table| (table.limit as u16, table.base));
        assert_eq!(tables, [vcpu.gdt, vcpu.idt]);
        let regs = found.prstatus.as_ref().expect("registers").regs;
        assert_eq!((regs[16], regs[19], regs[0]), (vcpu.rip, vcpu.gprs[6], vcpu.gprs[15]));
        if let Some(base) = qemu.kernel_gs_base {
            assert_eq!(base, vcpu.kernel_gs_base);
        }
    }
}

/// Opens what is left of a state at each length, with the memory beside it, and asks all of it.
/// Returns how many opened.
pub(crate) fn cut_off_anywhere(state: &[u8], memory: Option<&[u8]>) -> usize {
    let mut opened = 0;
    for len in 1..state.len() {
        let mut files = vec![("state", &state[..len])];
        files.extend(memory.map(|memory| ("memory", memory)));
        match try_open_named(&files) {
            Ok(image) => {
                opened += 1;
                exercise(&image, 3);
            }
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
    }
    opened
}
