//! A guest of Xen's, as `xl dump-core` would have written it: the bundled dump's memory and
//! registers put into that layout, field by field. No Xen was there. As an HVM guest it is the same
//! memory; as a PV guest it lies elsewhere in the machine, and all page tables hold the frames it
//! has there. Every answer is that of the dump it was made from.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod guest_of_xen;
mod same;

use std::sync::Arc;

use guest_of_xen::{PAGE, general_registers, machine_frame, pages, pv_pages, sample};
use kmortem_kernel::Kernel;
use kmortem_testkit::{XenCore, XenVcpu};
use kmortem_vmcore::{Image, Source};

const ONLINE: u64 = 0x20;
const IN_KERNEL: u64 = 4;

fn open(core: &XenCore) -> Kernel {
    let source: Arc<dyn Source> = Arc::new(core.build());
    Kernel::open(Image::from_sources(vec![("core".to_owned(), source)]).unwrap()).unwrap()
}

/// The vCPUs, from the notes of the dump.
fn vcpus(kernel: &Kernel, cs: u16, flags: u64, cr3: u64) -> Vec<Vec<u8>> {
    let offsets = kernel.per_cpu_offsets().unwrap();
    let five = kernel.space().tables().levels == 5;
    let vcpu = |(index, (_, regs)): (usize, &(u32, kmortem_kernel::arch::Registers))| {
        let get = |name: &str| regs.iter().find(|(n, _)| *n == name).map_or(0, |(_, v)| v);
        let mut cr = [0; 8];
        cr[3] = cr3;
        cr[4] = if five { 1 << 12 } else { 0 };
        XenVcpu {
            flags,
            general: general_registers(regs),
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
    let root = machine_frame(kernel.space().tables().root / PAGE) * PAGE;
    let vcpus = vcpus(kernel, 0xe033, ONLINE | IN_KERNEL, root);
    XenCore { vcpus, pages: pv_pages(kernel), ..XenCore::pv(0) }
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
