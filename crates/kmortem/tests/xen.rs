//! A guest of Xen's, as `xl dump-core` would have written it: the bundled dump's memory and
//! registers put into that layout, field by field. No Xen was there. As an HVM guest it is the same
//! memory; as a PV guest it lies elsewhere in the machine, and all page tables hold the frames it
//! has there. Every answer is that of the dump it was made from.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod same;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kmortem_kernel::Kernel;
use kmortem_testkit::{XenCore, XenVcpu};
use kmortem_vmcore::{Image, Source};

const PAGE: u64 = 4096;
const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const ONLINE: u64 = 0x20;
const IN_KERNEL: u64 = 4;

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/hung-mutex-6.12.vmcore")
}

fn open(core: &XenCore) -> Kernel {
    let source: Arc<dyn Source> = Arc::new(core.build());
    Kernel::open(Image::from_sources(vec![("core".to_owned(), source)]).unwrap()).unwrap()
}

/// Page frames that the dump has.
fn pages(image: &Image) -> BTreeMap<u64, Vec<u8>> {
    let addresses = image.present().flat_map(|run| run.step_by(PAGE as usize));
    addresses.filter_map(|addr| Some((addr / PAGE, image.page(addr).ok()?.to_vec()))).collect()
}

/// Where a frame is in the machine: large pages stay whole, their order does not.
fn machine_frame(frame: u64) -> u64 {
    const IN_LARGE: u64 = 512;
    // A prime beyond the count of the sample's large pages.
    const LARGE_PAGES: u64 = 8191;
    let (large, rest) = (frame / IN_LARGE, frame % IN_LARGE);
    let moved = if large < LARGE_PAGES { (large * 7 + 3) % LARGE_PAGES } else { large };
    (moved + 16) * IN_LARGE + rest
}

/// Puts machine frames into a table of page tables and all below it.
fn to_machine(pages: &mut BTreeMap<u64, Vec<u8>>, done: &mut BTreeSet<u64>, table: u64, level: u8) {
    if !done.insert(table) {
        return;
    }
    let Some(mut bytes) = pages.remove(&table) else { return };
    for entry in bytes.chunks_exact_mut(8) {
        let value = u64::from_le_bytes(entry.try_into().unwrap());
        if value & PRESENT == 0 {
            continue;
        }
        let is_page = level == 1 || value & LARGE != 0;
        assert!(level < 3 || !is_page, "pages of 1 GiB do not stay whole");
        // The lowest bit of the address of a large page is a flag.
        let flag = if level == 2 && is_page { value & PAGE } else { 0 };
        let frame = (value & ADDRESS & !flag) / PAGE;
        let machine = value & !ADDRESS | flag | (machine_frame(frame) * PAGE);
        entry.copy_from_slice(&machine.to_le_bytes());
        if !is_page {
            to_machine(pages, done, frame, level - 1);
        }
    }
    pages.insert(table, bytes);
}

/// The vCPUs, from the notes of the dump.
fn vcpus(kernel: &Kernel, cs: u16, flags: u64, cr3: u64) -> Vec<Vec<u8>> {
    let offsets = kernel.per_cpu_offsets().unwrap();
    let five = kernel.space().tables().levels == 5;
    let vcpu = |(index, (_, regs)): (usize, &(u32, kmortem_kernel::arch::Registers))| {
        let get = |name: &str| regs.iter().find(|(n, _)| *n == name).map_or(0, |(_, v)| v);
        let names = [
            "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx",
            "rdx", "rsi", "rdi",
        ];
        let mut cr = [0; 8];
        cr[3] = cr3;
        cr[4] = if five { 1 << 12 } else { 0 };
        XenVcpu {
            flags,
            general: names.map(get),
            rip: get("rip"),
            cs,
            rflags: get("rflags"),
            rsp: get("rsp"),
            cr,
            // Not in the order of the CPUs: the base of GS tells which it is.
            gs_base_kernel: offsets[index].1,
            ..XenVcpu::default()
        }
        .context()
    };
    kernel.cpu_registers().iter().enumerate().rev().map(vcpu).collect()
}

fn hvm(kernel: &Kernel) -> XenCore {
    let mut pages: Vec<_> =
        pages(kernel.image()).into_iter().map(|(frame, page)| (frame, 0, page)).collect();
    let middle = pages.len() / 3;
    pages.rotate_left(middle);
    let vcpus = vcpus(kernel, 0x10, ONLINE, kernel.space().tables().root);
    XenCore { vcpus, pages, ..XenCore::hvm(0) }
}

fn pv(kernel: &Kernel) -> XenCore {
    let tables = kernel.space().tables();
    let mut pages = pages(kernel.image());
    let mut done = BTreeSet::new();
    to_machine(&mut pages, &mut done, tables.root / PAGE, tables.levels);
    for task in &kernel.tasks().unwrap().list {
        let mm = kernel.object_at("mm_struct", task.mm);
        let Ok(pgd) = mm.and_then(|mm| mm.field("pgd")?.u64()) else { continue };
        let root = kernel.space().translate(pgd).unwrap();
        to_machine(&mut pages, &mut done, root / PAGE, tables.levels);
    }
    let root = machine_frame(tables.root / PAGE) * PAGE;
    let vcpus = vcpus(kernel, 0xe033, ONLINE | IN_KERNEL, root);
    let pages = pages.into_iter().map(|(frame, page)| (frame, machine_frame(frame), page));
    XenCore { vcpus, pages: pages.collect(), ..XenCore::pv(0) }
}

#[track_caller]
fn same_answers(theirs: &Kernel, core: &XenCore, how: &str) {
    let ours = open(core);
    assert!(ours.how_found().contains(how), "{}", ours.how_found());
    let (a, b) = (same::told(&ours).unwrap(), same::told(theirs).unwrap());
    let diff = similar::TextDiff::from_lines(&b, &a);
    assert!(a == b, "{}", diff.unified_diff());
    // Memory of processes: what the dump lacks is no page of the guest any more.
    let mut there = 0;
    for task in theirs.tasks().unwrap().list.iter().filter(|task| task.mm != 0) {
        for member in ["arg_start", "start_code", "context.vdso"] {
            let mm = theirs.object_at("mm_struct", task.mm).unwrap();
            let addr = mm.field(member).unwrap().u64().unwrap();
            let place = |kernel: &Kernel| kernel.user_space(task)?.translate(addr);
            let Ok(phys) = place(theirs) else { continue };
            let is_there = theirs.image().page(phys).is_ok();
            there += u64::from(is_there);
            match place(&ours) {
                Ok(ours) => assert_eq!(ours, phys, "{} {member}", task.comm),
                Err(error) => assert!(!is_there, "{} {member}: {error}", task.comm),
            }
        }
    }
    assert!(there > 0, "no memory of a process");
    let modules = |kernel: &Kernel| {
        kernel.modules().unwrap().iter().map(|m| m.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(modules(&ours), modules(theirs));
}

#[test]
fn an_hvm_guest() {
    let kernel = Kernel::open_files(&[sample()]).unwrap();
    let mut core = hvm(&kernel);
    same_answers(&kernel, &core, "page tables of virtual CPU 0");
    // Without registers the kernel is found by what it keeps in memory.
    core.vcpus.clear();
    assert!(open(&core).how_found().contains("VMCOREINFO found in memory"));
}

#[test]
fn a_pv_guest() {
    let kernel = Kernel::open_files(&[sample()]).unwrap();
    let mut core = pv(&kernel);
    same_answers(&kernel, &core, "page tables of virtual CPU 0");
    core.vcpus = vcpus(&kernel, 0xe033, ONLINE | IN_KERNEL, 0);
    same_answers(&kernel, &core, "VMCOREINFO found in memory");
}
