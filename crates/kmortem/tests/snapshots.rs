//! Snapshots of hypervisors that the lab can't run. All of them are synthetic: the memory and the
//! registers of a real guest, which QEMU dumped, put field by field into the documented layout. The
//! report and the stacks must be those of QEMU's dump.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use kmortem_diagnose::{TextOptions, render_text, report};
use kmortem_kernel::Kernel;
use kmortem_lab::dump;
use kmortem_testkit::{
    ChForm, CloudHypervisor, FcEncoding, Firecracker, Sadump, Vcpu, Vmss, ch_coredump,
};
use kmortem_vmcore::{QemuCpuState, QemuSegment};

const GUESTS: [&str; 2] = ["k612-null-host", "k510-hung-host"];
const PAGE: u64 = 4096;

/// A guest that QEMU dumped.
struct Guest {
    kernel: Kernel,
    vcpus: Vec<Vcpu>,
    /// Bytes of its memory, which starts at 0.
    len: u64,
}

impl Guest {
    fn open(name: &str) -> Guest {
        let dump = dump(name).unwrap();
        let kernel = Kernel::open_files(&dump.files).unwrap();
        let image = kernel.image();
        let vcpus = image.cpus().iter().map(|cpu| vcpu(cpu.qemu.as_ref().unwrap())).collect();
        // Beside it are the video memory and the BIOS.
        let len = image.ram().iter().take_while(|run| run.start < 1 << 30).last().unwrap().end;
        Guest { vcpus, len, kernel }
    }

    /// Writes memory into a file, at an offset.
    fn put_memory(&self, file: &File, memory: Range<u64>, offset: u64) {
        let mut page = [0; PAGE as usize];
        file.set_len((offset + memory.end - memory.start).max(file.metadata().unwrap().len()))
            .unwrap();
        for addr in memory.clone().step_by(PAGE as usize) {
            // Devices' memory below 1 MiB is not in QEMU's dump.
            let is_there = self.kernel.image().read(addr, &mut page).is_ok();
            if is_there && page != [0; PAGE as usize] {
                file.write_all_at(&page, offset + addr - memory.start).unwrap();
            }
        }
    }

    /// The cause and all stacks of a dump of this guest are those of QEMU's dump, as is the report.
    fn assert_same(&self, files: &[&Path]) -> Kernel {
        let kernel = Kernel::open_files(files).unwrap_or_else(|error| panic!("{error}"));
        let (ours, theirs) = (told(&kernel), told(&self.kernel));
        assert_eq!(ours, theirs, "{files:?}");
        let tasks = self.kernel.tasks().unwrap();
        assert_eq!(kernel.tasks().unwrap().list, tasks.list);
        for task in &tasks.list {
            let frames = |k: &Kernel| k.stack(task).frames.iter().map(|f| f.pc).collect::<Vec<_>>();
            assert_eq!(frames(&kernel), frames(&self.kernel), "{}", task.comm);
        }
        kernel
    }

    /// The same, and the registers.
    fn assert_same_with_registers(&self, files: &[&Path]) {
        let kernel = self.assert_same(files);
        let found: Vec<Vcpu> =
            kernel.image().cpus().iter().map(|cpu| vcpu(cpu.qemu.as_ref().unwrap())).collect();
        assert_eq!(found, self.vcpus);
        assert!(
            kernel.how_found().contains("page tables of virtual CPU"),
            "{}",
            kernel.how_found()
        );
    }
}

/// The report without what it says of the container.
fn told(kernel: &Kernel) -> String {
    let files = kernel.image().info().files.iter().map(|file| file.name.as_str());
    let files = files.collect::<Vec<_>>().join(" ");
    let text = render_text(&report(kernel), &TextOptions::default()).replace(&files, "FILES");
    text.lines().skip_while(|line| !line.contains("CAUSE")).collect::<Vec<_>>().join("\n")
}

/// Registers as the test kit takes them.
fn vcpu(qemu: &QemuCpuState) -> Vcpu {
    let table = |segment: QemuSegment| (segment.limit as u16, segment.base);
    let segments = [qemu.es, qemu.cs, qemu.ss, qemu.ds, qemu.fs, qemu.gs, qemu.ldt, qemu.tr];
    Vcpu {
        gprs: qemu.gprs,
        rip: qemu.rip,
        rflags: qemu.rflags,
        // CR1 does not exist.
        cr: [qemu.cr[0], 0, qemu.cr[2], qemu.cr[3], qemu.cr[4]],
        segments: segments.map(|segment| (segment.selector as u16, segment.base)),
        gdt: table(qemu.gdt),
        idt: table(qemu.idt),
        kernel_gs_base: qemu.kernel_gs_base.unwrap_or_default(),
    }
}

#[test]
fn vmware() {
    for name in GUESTS {
        let guest = Guest::open(name);
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        // Two regions, the second one first in the file.
        let half = guest.len / 2;
        let pages = |bytes: u64| bytes / PAGE;
        let regions =
            [(0, pages(guest.len - half), pages(half)), (pages(half), 0, pages(guest.len - half))];
        let memory = File::create(path("guest.vmem")).unwrap();
        guest.put_memory(&memory, half..guest.len, 0);
        guest.put_memory(&memory, 0..half, guest.len - half);
        let state = Vmss::of(&regions, &guest.vcpus);
        std::fs::write(path("guest.vmss"), state.build()).unwrap();
        // VMware does not say where the kernel's GS is while a program runs.
        let kernel = guest.assert_same(&[&path("guest.vmss")]);
        for (ours, theirs) in kernel.image().cpus().iter().zip(&guest.vcpus) {
            let ours = vcpu(ours.qemu.as_ref().unwrap());
            assert_eq!(Vcpu { kernel_gs_base: theirs.kernel_gs_base, ..ours }, *theirs);
        }
        assert!(
            kernel.how_found().contains("page tables of virtual CPU"),
            "{}",
            kernel.how_found()
        );
        // Either file names the other; with blocks of registers; without a state.
        guest.assert_same(&[&path("guest.vmem")]);
        let blocks = state.with_blocks(&guest.vcpus);
        std::fs::write(path("guest.vmsn"), blocks.build()).unwrap();
        guest.assert_same(&[&path("guest.vmsn")]);
        // Memory in the state.
        let state = Vmss::of(&regions, &guest.vcpus).with_memory(99, Vec::new());
        let mut bytes = state.build();
        // The block is empty yet: its two sizes are 18 bytes and padding before the end's 2.
        let block = bytes.len() - 2 - 99 - 18;
        bytes[block..block + 8].copy_from_slice(&guest.len.to_le_bytes());
        bytes[block + 8..block + 16].copy_from_slice(&guest.len.to_le_bytes());
        let whole = File::create(path("whole.vmss")).unwrap();
        whole.write_all_at(&bytes, 0).unwrap();
        let start = bytes.len() as u64 - 2;
        whole.write_all_at(&[0, 0], start + guest.len).unwrap();
        guest.put_memory(&whole, half..guest.len, start);
        guest.put_memory(&whole, 0..half, start + guest.len - half);
        guest.assert_same(&[&path("whole.vmss")]);
    }
}

/// A .vmem without its state: no registers, but the same cause.
#[test]
fn memory_alone() {
    let guest = Guest::open(GUESTS[0]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest.vmem");
    guest.put_memory(&File::create(&path).unwrap(), 0..guest.len, 0);
    let kernel = Kernel::open_files(&[&path]).unwrap();
    assert!(kernel.image().cpus().is_empty());
    assert_eq!(report(&kernel).cause.cause, report(&guest.kernel).cause.cause);
}

#[test]
fn firecracker() {
    for name in GUESTS {
        let guest = Guest::open(name);
        let folder = tempfile::tempdir().unwrap();
        let [state, memory] = ["state", "mem"].map(|name| folder.path().join(name));
        guest.put_memory(&File::create(&memory).unwrap(), 0..guest.len, 0);
        let ranges = [(0, guest.len)];
        for encoding in
            [FcEncoding::Versionize(6), FcEncoding::Bincode("3.0.0"), FcEncoding::Bincode("8.0.0")]
        {
            let snapshot = Firecracker::of(encoding, &ranges, &guest.vcpus);
            std::fs::write(&state, snapshot.build()).unwrap();
            guest.assert_same_with_registers(&[&state, &memory]);
        }
    }
}

#[test]
fn cloud_hypervisor() {
    for name in GUESTS {
        let guest = Guest::open(name);
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        // Without the BIOS's part below 1 MiB, where nothing of the kernel is.
        let ranges = [(0, 0x9_f000), (1 << 20, guest.len - (1 << 20))];
        let put = |file: &File, mut offset: u64| {
            for (addr, len) in ranges {
                guest.put_memory(file, addr..addr + len, offset);
                offset += len;
            }
        };
        put(&File::create(path("memory-ranges")).unwrap(), 0);
        std::fs::write(path("config.json"), "{\"cpus\":{\"boot_vcpus\":2}}").unwrap();
        for form in [ChForm::Named, ChForm::Bytes, ChForm::Text] {
            let vcpus = guest.vcpus.clone();
            let state = CloudHypervisor { form, ranges: ranges.to_vec(), vcpus };
            std::fs::write(path("state.json"), state.build()).unwrap();
            // The folder's name is enough.
            guest.assert_same_with_registers(&[folder.path()]);
        }
        let head = ch_coredump(&ranges, &guest.vcpus);
        let core = File::create(path("coredump")).unwrap();
        core.write_all_at(&head, 0).unwrap();
        put(&core, head.len() as u64);
        guest.assert_same_with_registers(&[&path("coredump")]);
    }
}

#[test]
fn sadump() {
    for name in GUESTS {
        let guest = Guest::open(name);
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let pfns = (0..0x9f).chain(0x100..guest.len / PAGE);
        let put = |file: &File, pfns: &[u64], offset: u64| {
            for run in pfns.chunk_by(|before, next| before + 1 == *next) {
                let place = offset
                    + run
                        .first()
                        .map_or(0, |pfn| pfns.partition_point(|before| before < pfn) as u64 * PAGE);
                guest.put_memory(file, run[0] * PAGE..(run[run.len() - 1] + 1) * PAGE, place);
            }
        };
        let all: Vec<u64> = pfns.clone().collect();
        for is_media in [false, true] {
            let dump = Sadump { is_media, ..Sadump::of(pfns.clone(), &guest.vcpus) };
            let head = dump.head();
            let file = File::create(path("sadump")).unwrap();
            file.write_all_at(&head, 0).unwrap();
            put(&file, &all, head.len() as u64);
            let kernel = guest.assert_same(&[&path("sadump")]);
            assert!(kernel.how_found().contains("page tables of virtual CPU"));
        }
        // APIC IDs in another order than the kernel's CPUs, with one that is not there.
        let vcpus = guest.vcpus.iter().rev().cloned().flat_map(|vcpu| [None, Some(vcpu)]).collect();
        let dump = Sadump { vcpus, sub_hdr_size: 2, ..Sadump::of(pfns.clone(), &[]) };
        let head = dump.head();
        let file = File::create(path("apic")).unwrap();
        file.write_all_at(&head, 0).unwrap();
        put(&file, &all, head.len() as u64);
        let kernel = guest.assert_same(&[&path("apic")]);
        let places = |kernel: &Kernel| {
            let all = kernel.cpu_registers().iter();
            all.map(|(cpu, regs)| (*cpu, regs.ip(), regs.sp())).collect::<Vec<_>>()
        };
        assert_eq!(places(&kernel), places(&guest.kernel));
        // Two disks, the second one named first.
        let first = all.len() / 3;
        let set = Sadump { pages_on_disks: vec![first as u64], ..Sadump::of(pfns, &guest.vcpus) };
        let [one, two] = ["disk1", "disk2"].map(path);
        let file = File::create(&one).unwrap();
        let head = set.head();
        file.write_all_at(&head, 0).unwrap();
        put(&file, &all[..first], head.len() as u64);
        let file = File::create(&two).unwrap();
        file.write_all_at(&set.further(2, (all.len() - first) as u64), 0).unwrap();
        put(&file, &all[first..], PAGE);
        guest.assert_same(&[&two, &one]);
    }
}
