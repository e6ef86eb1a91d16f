//! Cloud Hypervisor's snapshots and coredumps. All are synthetic: built by the test kit after its
//! sources.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use kmortem_testkit::{ChForm, CloudHypervisor, Vcpu, ch_coredump, page};
use kmortem_vmcore::{Absent, Image, Machine};

const FORMS: [ChForm; 3] = [ChForm::Named, ChForm::Bytes, ChForm::Text];
const RANGES: [(u64, u64); 3] = [(0, 0xa_0000), (0x10_0000, 0x10_0000), (1 << 32, 0x8000)];
const CONFIG: &[u8] = br#"{"cpus":{"boot_vcpus":2,"max_vcpus":2},"memory":{"size":1048576}}"#;

fn vcpus() -> Vec<Vcpu> {
    (0..11).map(Vcpu::numbered).collect()
}

fn memory() -> Vec<u8> {
    let pages = |(addr, len): &(u64, u64)| addr >> 12..(addr + len) >> 12;
    RANGES.iter().flat_map(pages).flat_map(page).collect()
}

fn state(form: ChForm) -> CloudHypervisor {
    CloudHypervisor { form, ranges: RANGES.to_vec(), vcpus: vcpus() }
}

fn open(state: &[u8], memory: &[u8]) -> Result<Image, String> {
    let files = [("state.json", state), ("config.json", CONFIG), ("memory-ranges", memory)];
    common::try_open_named(&files).map_err(|error| error.to_string())
}

fn check(image: &Image) {
    assert_eq!(image.ram(), RANGES.map(|(addr, len)| addr..addr + len));
    for pfn in [0, 0x9f, 0x100, 0x1ff, 0x10_0000, 0x10_0007] {
        common::assert_page(image, pfn);
    }
    common::assert_absent(image, 0xa0, &Absent::NotRam);
    common::assert_registers(image, &vcpus());
    assert!(image.cpus().iter().all(|cpu| cpu.qemu.as_ref().unwrap().kernel_gs_base.is_some()));
    let info = image.info();
    assert!(info.oddities.is_empty() && info.incomplete.is_none(), "{info:?}");
    assert_eq!(info.machine, Some(Machine::X86_64));
}

#[test]
fn snapshots_of_every_form() {
    for form in FORMS {
        let image = open(&state(form).build(), &memory()).unwrap();
        check(&image);
        assert_eq!(image.info().kind, "Cloud Hypervisor snapshot");
    }
}

#[test]
fn coredump() {
    let image = common::open([ch_coredump(&RANGES, &vcpus()), memory()].concat());
    check(&image);
    assert_eq!(image.info().kind, "ELF (QEMU)");
    let head = ch_coredump(&RANGES, &vcpus()[..1]);
    common::cut_off_anywhere(&head, None);
}

#[test]
fn cut_off_anywhere() {
    for form in FORMS {
        let small = CloudHypervisor { vcpus: vec![Vcpu::numbered(0)], ..state(form) };
        let bytes = small.build();
        assert_eq!(common::cut_off_anywhere(&bytes, Some(&page(0))), 0);
        for len in [1, 4095, 4096, 700_000] {
            let image = open(&bytes, &memory()[..len]).unwrap();
            assert!(image.info().incomplete.as_ref().unwrap().contains("bytes too early"));
            common::assert_absent(&image, 0x1ff, &Absent::Lost);
            common::exercise(&image, 30);
        }
        let text = common::refusal(bytes);
        assert!(text.contains("name that too, or the folder"), "{text}");
    }
}

#[test]
fn contradictions_are_named() {
    let memory = memory();
    for form in FORMS {
        let with = |ranges: &[(u64, u64)]| {
            let state = CloudHypervisor { ranges: ranges.to_vec(), ..state(form) };
            open(&state.build(), &memory).unwrap_err()
        };
        let text = with(&[(0, 0x2000), (0x1000, 0x2000)]);
        assert!(text.contains("memory_ranges 1: 0x2000 bytes at 0x1000 overlap"), "{text}");
        assert!(with(&[(0x1000, u64::MAX)]).contains("memory_ranges 0: 0xffffffffffffffff bytes"));
        assert!(with(&[(0, 0)]).contains("can't be"));
        assert!(with(&[]).contains("memory-manager has 0 memory_ranges"));
        assert!(
            with(&RANGES[..1])
                .contains("has 1736704 bytes, and the state is of a guest with 655360")
        );
        let bytes = String::from_utf8(state(form).build()).unwrap();
        let without = bytes.replace("memory-manager\":", "memory-mangler\":");
        assert!(
            open(without.as_bytes(), &memory).unwrap_err().contains("no section memory-manager")
        );
    }
    let huge = [8u64.to_le_bytes(), [0xff; 8]].concat();
    let numbers: Vec<String> = huge.iter().map(u8::to_string).collect();
    let text = format!(
        "{{\"snapshots\":{{\"memory-manager\":{{\"snapshot_data\":[{}]}}}}}}",
        numbers.join(",")
    );
    assert!(open(text.as_bytes(), &memory).unwrap_err().contains("ends within 8 memory_ranges"));
    // Deeper than anything that is meant.
    let deep = "{\"snapshots\":{\"a\":".repeat(5000);
    assert!(open(deep.as_bytes(), &memory).unwrap_err().contains("recursion limit"));
}

#[test]
fn registers_that_are_none_are_told() {
    let bytes = String::from_utf8(state(ChForm::Text).build()).unwrap();
    let image = open(bytes.replace("\\\"sregs", "\\\"sgers").as_bytes(), &memory()).unwrap();
    assert!(image.cpus().is_empty());
    assert!(image.info().oddities[0].contains("vCPU 0: it has no \"sregs\""));
    assert_eq!(image.info().oddities.last().unwrap(), "no registers are found in the state");
    let image = open(bytes.replace("\\\"cpuid", "cpuid").as_bytes(), &memory()).unwrap();
    assert!(image.info().oddities[0].starts_with("vCPU 0: "));
}
