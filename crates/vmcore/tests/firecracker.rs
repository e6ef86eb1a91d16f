//! Firecracker's snapshots. All are synthetic: built by the test kit after its sources.

// A test: its panic is the failure.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use kmortem_testkit::{FcEncoding, FcRegion, Firecracker, Vcpu, page};
use kmortem_vmcore::{Absent, Image, Machine};

const MIB: u64 = 1 << 20;
/// Below the window of the devices, which tests make large, and above it.
const RANGES: [(u64, u64); 2] = [(0, 2 * MIB), (1 << 32, MIB)];

const ENCODINGS: [FcEncoding; 6] = [
    FcEncoding::Versionize(1),
    FcEncoding::Versionize(6),
    FcEncoding::Bincode("1.0.0"),
    FcEncoding::Bincode("4.0.0"),
    FcEncoding::Bincode("6.0.0"),
    FcEncoding::Bincode("8.0.0"),
];

fn vcpus() -> [Vcpu; 2] {
    [Vcpu::numbered(0), Vcpu::numbered(1)]
}

/// Pages as they lie in the machine.
fn memory(ranges: &[(u64, u64)]) -> Vec<u8> {
    let pages = |(addr, len): &(u64, u64)| addr >> 12..(addr + len) >> 12;
    ranges.iter().flat_map(pages).flat_map(page).collect()
}

fn open(state: &Firecracker, memory: &[u8]) -> Result<Image, String> {
    let files = [("state", state.build()), ("mem", memory.to_vec())];
    let files = files.each_ref().map(|(name, bytes)| (*name, bytes.as_slice()));
    common::try_open_named(&files).map_err(|error| error.to_string())
}

#[test]
fn all_that_are_decoded() {
    for encoding in ENCODINGS {
        let state = Firecracker::of(encoding.clone(), &RANGES, &vcpus());
        let image = open(&state, &memory(&RANGES)).unwrap();
        assert_eq!(image.ram(), [0..2 * MIB, 1 << 32..(1 << 32) + MIB], "{encoding:?}");
        (0..512).step_by(17).for_each(|pfn| common::assert_page(&image, pfn));
        common::assert_page(&image, (1 << 20) + 255);
        common::assert_absent(&image, 512, &Absent::NotRam);
        common::assert_registers(&image, &vcpus());
        assert!(image.cpus()[0].qemu.as_ref().unwrap().kernel_gs_base.is_some());
        let info = image.info();
        assert!(info.oddities.is_empty() && info.incomplete.is_none(), "{info:?}");
        assert_eq!(info.machine, Some(Machine::X86_64));
        // One region, and in the other order.
        let one = Firecracker::of(encoding, &RANGES[..1], &[]);
        let files = [("mem", memory(&RANGES[..1])), ("state", one.build())];
        let files = files.each_ref().map(|(name, bytes)| (*name, bytes.as_slice()));
        let image = common::try_open_named(&files).unwrap();
        common::assert_page(&image, 511);
        assert_eq!(image.info().oddities, ["no registers are found in Firecracker's state"]);
    }
}

#[test]
fn memory_that_is_not_plugged_in_is_not_there() {
    let mut state = Firecracker::of(FcEncoding::Bincode("8.0.0"), &RANGES, &vcpus());
    let slots = vec![true, false, false, true];
    state.regions.push(FcRegion { addr: 1 << 39, len: 4 * MIB, hotplug: true, slots });
    let plugged: [(u64, u64); 2] = [(1 << 39, MIB), ((1 << 39) + 3 * MIB, MIB)];
    let mut file = memory(&RANGES);
    file.extend(memory(&plugged[..1]));
    file.resize(file.len() + 2 * MIB as usize, 0);
    file.extend(memory(&plugged[1..]));
    let image = open(&state, &file).unwrap();
    let ram = plugged.map(|(addr, len)| addr..addr + len);
    assert_eq!(image.ram()[2..], ram);
    common::assert_page(&image, ((1 << 39) + 3 * MIB) >> 12);
    common::assert_absent(&image, ((1 << 39) + MIB) >> 12, &Absent::NotRam);
}

#[test]
fn columns_of_bitcode() {
    for count in [1, 2, 40] {
        let vcpus: Vec<Vcpu> = (0..count).map(Vcpu::numbered).collect();
        let state = Firecracker::of(FcEncoding::Bitcode("9.0.0"), &RANGES[..1], &vcpus);
        let image = open(&state, &memory(&RANGES[..1])).unwrap();
        common::assert_registers(&image, &vcpus);
        assert!(image.cpus().iter().all(|cpu| cpu.qemu.as_ref().unwrap().kernel_gs_base.is_some()));
        assert_eq!(image.info().kind, "Firecracker snapshot, state 9.0.0");
        common::assert_page(&image, 77);
        assert!(image.info().oddities[0].contains("list of memory regions"));
    }
}

/// Larger than it is.
struct Huge(u64);

impl kmortem_vmcore::Source for Huge {
    fn len(&self) -> u64 {
        self.0
    }

    fn bytes(
        &self,
        offset: u64,
        len: usize,
    ) -> Result<std::borrow::Cow<'_, [u8]>, kmortem_vmcore::SourceError> {
        let page = offset >> 12 << 12;
        Ok(page.to_le_bytes().repeat(len / 8 + 1)[..len].to_vec().into())
    }
}

#[test]
fn memory_without_a_list_lies_as_firecracker_lays_it() {
    const GIB: u64 = 1 << 30;
    let ram = |state: &Firecracker, len: u64| {
        let huge: std::sync::Arc<dyn kmortem_vmcore::Source> = std::sync::Arc::new(Huge(len));
        let sources =
            vec![("state".to_owned(), common::source(state.build())), ("mem".to_owned(), huge)];
        Image::from_sources(sources).unwrap().ram().to_vec()
    };
    let new = Firecracker::of(FcEncoding::Bitcode("9.0.0"), &RANGES, &[]);
    let below = 0..3 * GIB;
    assert_eq!(ram(&new, 3 * GIB), vec![below.clone()]);
    assert_eq!(ram(&new, 5 * GIB), [below.clone(), 4 * GIB..6 * GIB]);
    let ends = [below, 4 * GIB..256 * GIB, 512 * GIB..513 * GIB];
    assert_eq!(ram(&new, 256 * GIB), ends);
    // A list that no longer looks as it did.
    let unknown =
        |encoding| Firecracker { mem_size_mib: 77, ..Firecracker::of(encoding, &RANGES, &[]) };
    let old = unknown(FcEncoding::Bincode("6.0.0"));
    assert_eq!(ram(&old, 4 * GIB), [0..0xd000_0000, 4 * GIB..4 * GIB + 0x3000_0000]);
    assert_eq!(
        ram(&unknown(FcEncoding::Bincode("8.0.0")), 4 * GIB),
        [0..3 * GIB, 4 * GIB..5 * GIB]
    );
    let arm = Firecracker { magic: 0x0710_1984_aaaa_0000, ..new };
    assert_eq!(ram(&arm, GIB), vec![2 * GIB..3 * GIB]);
    assert_eq!(ram(&arm, 255 * GIB), [2 * GIB..256 * GIB, 512 * GIB..513 * GIB]);
}

#[test]
fn aarch64_has_no_registers_yet() {
    let arm = Firecracker {
        magic: 0x0710_1984_aaaa_0000,
        ..Firecracker::of(FcEncoding::Bincode("3.0.0"), &[(2 << 30, 2 * MIB)], &[])
    };
    let image = open(&arm, &memory(&[(2 << 30, 2 * MIB)])).unwrap();
    assert_eq!(image.info().machine, Some(Machine::Aarch64));
    common::assert_page(&image, 2 << 18);
    assert!(image.info().oddities[0].contains("aarch64 are not read"));
}

#[test]
fn cut_off_anywhere() {
    let vcpus = &vcpus()[..1];
    let file = memory(&[(0, MIB)]);
    let encodings =
        [FcEncoding::Versionize(2), FcEncoding::Bincode("8.0.0"), FcEncoding::Bitcode("9.0.0")];
    for encoding in encodings {
        let state = Firecracker::of(encoding, &[(0, MIB)], vcpus);
        let bytes = state.build();
        for len in (1..bytes.len()).filter(|len| *len < 200 || len % 211 == 0) {
            let files = [("state", &bytes[..len]), ("mem", file.as_slice())];
            match common::try_open_named(&files) {
                Ok(image) => {
                    assert!(image.info().oddities[0].contains("checksum"), "{len}");
                    common::exercise(&image, 3);
                }
                Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
            }
        }
        // And the memory.
        let is_listed = !matches!(state.encoding, FcEncoding::Bitcode(_));
        for len in [1, 4095, 4096, 300_000].into_iter().filter(|_| is_listed) {
            let image = open(&state, &file[..len]).unwrap();
            common::assert_absent(&image, 255, &Absent::Lost);
            assert!(image.info().incomplete.as_ref().unwrap().contains("bytes too early"));
        }
        let text = common::refusal(bytes);
        assert!(text.contains("its memory is in a file of its own"), "{text}");
    }
}

#[test]
fn contradictions_are_named() {
    let state = Firecracker::of(ENCODINGS[3].clone(), &RANGES, &vcpus());
    let file = memory(&RANGES);
    let with = |change: &dyn Fn(&mut Firecracker)| {
        let mut state = state.clone();
        change(&mut state);
        open(&state, &file)
    };
    let more = open(&state, &[file.clone(), vec![0; 4096]].concat()).unwrap_err();
    assert!(more.contains("has 3149824 bytes, and the state is of a guest with 3145728"), "{more}");
    assert!(with(&|s| s.mem_size_mib = 0).unwrap_err().contains("mem_size_mib is 0"));
    assert!(with(&|s| s.mem_size_mib = u64::MAX).unwrap_err().contains("mem_size_mib is 1844"));
    let wrong = with(&|s| s.wrong_by = 1).unwrap();
    assert!(wrong.info().oddities[0].contains("checksum of Firecracker's state is wrong"));
    // Lists of regions that can't be such.
    let unknown = |change: &dyn Fn(&mut Firecracker)| {
        with(change).unwrap().info().oddities[0].contains("has none that is known")
    };
    assert!(unknown(&|s| s.regions[1].addr = MIB));
    assert!(unknown(&|s| s.regions[1].addr = u64::MAX - 4095));
    assert!(unknown(&|s| s.regions[0].len = 5));
    let text = {
        let files = [("a", state.build()), ("b", file.clone()), ("c", file.clone())];
        let files = files.each_ref().map(|(name, bytes)| (*name, bytes.as_slice()));
        common::try_open_named(&files).unwrap_err().to_string()
    };
    assert!(text.starts_with("c: is one file too many: Firecracker has"), "{text}");
}

#[test]
fn a_cpu_that_never_ran_is_left_out() {
    let mut vcpus = vcpus().to_vec();
    // In real mode, waiting to be started: EFER, CR0 and CR4 say so.
    vcpus[0].cr = [0x6000_0010, 0, 0, 0, 0];
    let state = Firecracker::of(ENCODINGS[4].clone(), &RANGES, &vcpus);
    let mut bytes = state.build();
    let efer = [0u8, 0, 0, 0, 0, 0, 0, 0, 0x01, 0x0d];
    let at = memchr::memmem::find(&bytes, &efer).unwrap() + 8;
    bytes[at..at + 2].fill(0);
    let files = [("state", bytes), ("mem", memory(&RANGES))];
    let files = files.each_ref().map(|(name, bytes)| (*name, bytes.as_slice()));
    let image = common::try_open_named(&files).unwrap();
    common::assert_registers(&image, &vcpus[1..]);
}
