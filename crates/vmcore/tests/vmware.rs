//! VMware's states and memory. All are synthetic: built by the test kit after the documents.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use kmortem_testkit::{Vcpu, Vmss, VmssTag, VmssValue, page};
use kmortem_vmcore::Absent;

/// Below the hole and above it, and in the file the other way round.
const REGIONS: [(u64, u64, u64); 2] = [(0, 8, 16), (0x10_0000, 0, 8)];

fn memory() -> Vec<u8> {
    (0x10_0000..0x10_0008).chain(0..16).flat_map(page).collect()
}

fn vcpus() -> [Vcpu; 2] {
    [Vcpu::numbered(0), Vcpu::numbered(1)]
}

fn refusal(vmss: &Vmss, memory: &[u8]) -> String {
    let files = [("a.vmss", vmss.build()), ("a.vmem", memory.to_vec())];
    let files = files.each_ref().map(|(name, bytes)| (*name, bytes.as_slice()));
    common::try_open_named(&files).expect_err("must be refused").to_string()
}

fn check(image: &kmortem_vmcore::Image) {
    (0..16).chain(0x10_0000..0x10_0008).for_each(|pfn| common::assert_page(image, pfn));
    common::assert_absent(image, 16, &Absent::NotRam);
    assert_eq!(image.ram(), [0..16 << 12, 1 << 32..(1 << 32) + (8 << 12)]);
    assert_eq!(image.completeness().incomplete, None);
    common::assert_registers(image, &vcpus());
}

#[test]
fn memory_beside_the_state_in_any_order() {
    let state = Vmss::of(&REGIONS, &vcpus());
    for vmss in [state.clone(), state.with_blocks(&vcpus())] {
        let (state, memory) = (vmss.build(), memory());
        let mut files = [("a.vmss", state.as_slice()), ("a.vmem", memory.as_slice())];
        check(&common::try_open_named(&files).unwrap());
        files.reverse();
        let image = common::try_open_named(&files).unwrap();
        check(&image);
        assert_eq!(image.info().kind, "VMware state, version 2, memory in a.vmem");
    }
}

#[test]
fn memory_in_the_state_of_every_version() {
    for magic in [0xbed2_bed0, 0xbed0_bed0, 0xbad1_bad1, 0xbad2_bad2, 0xbed2_bed2, 0xbed3_bed3] {
        for padding in [0, 77] {
            let vmss = Vmss::of(&REGIONS, &vcpus()).with_memory(padding, memory());
            let vmss = Vmss { magic, ..vmss };
            check(&common::open(vmss.build()));
            // Another file is not needed then.
            let files = [("a", vmss.build()), ("b", memory())];
            let files = files.each_ref().map(|(name, bytes)| (*name, bytes.as_slice()));
            let image = common::try_open_named(&files).unwrap();
            check(&image);
            assert!(image.info().oddities[0].contains("b is not used"));
        }
    }
}

#[test]
fn one_region_is_all_of_the_memory() {
    let memory: Vec<u8> = (0..9).flat_map(page).collect();
    let image = common::open(Vmss::of(&[], &[]).with_memory(3, memory.clone()).build());
    assert_eq!(image.ram().first(), Some(&(0..9 << 12)));
    (0..9).for_each(|pfn| common::assert_page(&image, pfn));
    // Its place in the block may be left out.
    let mut vmss = Vmss::of(&[(2, 0, 9)], &[]).with_memory(0, memory);
    vmss.tags.retain(|tag| tag.name != "regionPageNum");
    assert_eq!(common::open(vmss.build()).ram().first(), Some(&(2 << 12..11 << 12)));
}

#[test]
fn without_its_memory_the_name_of_that_is_told() {
    let text = common::refusal(Vmss::of(&REGIONS, &vcpus()).build());
    assert!(text.contains(".vmem"), "{text}");
    let three = [("a", Vmss::of(&REGIONS, &[]).build()), ("b", memory()), ("c", memory())];
    let three = three.each_ref().map(|(name, bytes)| (*name, bytes.as_slice()));
    let text = common::try_open_named(&three).unwrap_err().to_string();
    assert!(text.starts_with("c: is one file too many"), "{text}");
}

#[test]
fn registers_that_are_not_all_there_are_left_out() {
    let mut vmss = Vmss::of(&REGIONS, &vcpus());
    vmss.tags.retain(|tag| tag.name != "rsi" || tag.indices != [0]);
    let files = [("a", vmss.build()), ("b", memory())];
    let files = files.each_ref().map(|(name, bytes)| (*name, bytes.as_slice()));
    let image = common::try_open_named(&files).unwrap();
    common::assert_registers(&image, &vcpus()[1..]);
    assert!(image.info().oddities[0].contains("CPU 0 are not taken: there is no rsi"));
}

#[test]
fn cut_off_anywhere() {
    let beside = Vmss::of(&REGIONS, &vcpus());
    assert_eq!(common::cut_off_anywhere(&beside.build(), Some(&memory())), 0);
    let within = Vmss::of(&REGIONS, &vcpus()[..1]).with_memory(10, memory()).build();
    // Behind the block's header come padding and memory, and the end of the group.
    let headers = within.len() - 2 - memory().len() - 10;
    assert_eq!(common::cut_off_anywhere(&within[..headers], None), 0);
    for len in (headers..within.len() - 2).step_by(997) {
        let image = common::open(within[..len].to_vec());
        assert!(image.info().incomplete.as_ref().unwrap().contains("before its last region"));
        common::exercise(&image, 30);
    }
    // And the other file.
    for len in [1, 4095, 4096, 50_000, memory().len() - 1] {
        let files = [("a", beside.build()), ("b", memory()[..len].to_vec())];
        let files = files.each_ref().map(|(name, bytes)| (*name, bytes.as_slice()));
        let image = common::try_open_named(&files).unwrap();
        common::assert_absent(&image, 15, &Absent::Lost);
        assert!(image.info().incomplete.is_some(), "{len}");
    }
}

#[test]
fn contradictions_are_named() {
    let with = |change: &dyn Fn(&mut Vmss)| {
        let mut vmss = Vmss::of(&REGIONS, &vcpus()[..1]);
        change(&mut vmss);
        refusal(&vmss, &memory())
    };
    let set = |vmss: &mut Vmss, name: &str, value: u32| {
        let tag = vmss.tags.iter_mut().rfind(|tag| tag.name == name).unwrap();
        tag.value = VmssValue::Plain(value.to_le_bytes().to_vec());
    };
    assert!(with(&|v| set(v, "regionPPN", 4)).contains("regionPPN: region 1 overlaps"));
    assert!(with(&|v| set(v, "regionPageNum", 9)).contains("regionPageNum: region 1 overlaps"));
    assert!(with(&|v| set(v, "regionsCount", 3)).contains("regionPPN of region 2 is missing"));
    assert!(with(&|v| set(v, "regionsCount", 1 << 30)).contains("regionsCount is 1073741824"));
    assert!(
        with(&|v| v.tags.retain(|tag| tag.name != "regionSize")).contains("regionSize of region 0")
    );
    assert!(with(&|v| v.groups.retain(|name| *name != "memory")).contains("no group \"memory\""));
    assert!(with(&|v| v.groups.clear()).contains("for 0 groups"));
    let twice = with(&|v| v.tags.push(VmssTag::memory("regionPPN", &[1], 5)));
    assert!(twice.contains("regionPPN of region 1 is there twice"), "{twice}");
    let far = with(&|v| v.tags.push(VmssTag::memory("regionPPN", &[70_000], 5)));
    assert!(far.contains("of region 70000"), "{far}");
    let huge = with(&|v| {
        let tag = v.tags.iter_mut().rfind(|tag| tag.name == "regionSize").unwrap();
        tag.value = VmssValue::Plain(u64::MAX.to_le_bytes().to_vec());
    });
    assert!(huge.contains("regionSize of region 1 is 0xffff"), "{huge}");

    let mut small = Vmss::of(&REGIONS, &[]).with_memory(0, memory());
    set(&mut small, "regionSize", 9);
    small.tags.retain(|tag| tag.indices != [0] && tag.name != "regionsCount");
    small.tags.push(VmssTag::memory("regionsCount", &[], 2));
    for (name, value) in [("regionPPN", 0), ("regionPageNum", 10), ("regionSize", 15)] {
        small.tags.push(VmssTag::memory(name, &[0], value));
    }
    assert!(common::refusal(small.build()).contains("region 0 goes beyond the 98304 bytes"));

    let mut packed = Vmss::of(&REGIONS, &[]).with_memory(0, memory());
    if let VmssValue::Block { compressed, .. } = &mut packed.tags.last_mut().unwrap().value {
        *compressed = true;
    }
    assert!(common::refusal(packed.build()).contains("compressed (memory/Memory)"));

    // A name of more than one line in a tag that goes beyond everything.
    let value = VmssValue::Block { padding: 0, compressed: false, bytes: Vec::new() };
    let tag = VmssTag { group: "memory", name: "a\nb", indices: Vec::new(), value };
    let mut odd = Vmss::of(&REGIONS, &[]);
    odd.tags.push(tag);
    let mut bytes = odd.build();
    let at = memchr::memmem::find(&bytes, b"a\nb").unwrap() + 3;
    bytes[at..at + 8].fill(0xff);
    assert!(common::refusal(bytes).contains("the tag memory/a?b"));

    // A block that claims all there is, and groups that start in each other's tags.
    let mut bytes = Vmss::of(&REGIONS, &[]).with_memory(0, memory()).build();
    let at = memchr::memmem::find(&bytes, b"Memory").unwrap() + 6 + 8;
    bytes[at..at + 8].fill(0xff);
    assert!(common::refusal(bytes).contains("memory/Memory"));
    let mut bytes = Vmss::of(&REGIONS, &vcpus()).with_memory(0, memory()).build();
    let starts = [12 + 80 + 64, 12 + 160 + 64];
    let memory = bytes[starts[1]..starts[1] + 8].to_vec();
    bytes[starts[0]..starts[0] + 8].copy_from_slice(&memory);
    assert!(common::open(bytes.clone()).cpus().is_empty());
    bytes[starts[1]..starts[1] + 8].fill(0xff);
    assert!(common::refusal(bytes).contains("of a tag of the group memory"));
}
