//! Every format of the matrix is what its name says. Boots one guest when the
//! cache is empty.

#![allow(clippy::unwrap_used)] // a test that cannot read its dump has failed

use std::fs::File;
use std::io::Read;
use std::path::Path;

use kmortem_lab::{Format, Lab, dump};

const BOOT: &str = "k61-sysrq";

/// Signatures: elf(5); the kdump header's and the flattened header's of
/// makedumpfile (diskdump_mod.h, IMPLEMENTATION).
fn signature(format: Format) -> &'static [u8] {
    match format {
        Format::Elf | Format::FilteredElf => b"\x7fELF",
        Format::QemuZlib | Format::Flattened => b"makedumpfile\0",
        Format::Migration => b"QEVM\0\0\0\x03",
        Format::MigrationZstd => b"\x28\xb5\x2f\xfd",
        _ => b"KDUMP   ",
    }
}

fn start_of(path: &Path) -> Vec<u8> {
    let mut start = vec![0; 16];
    File::open(path).unwrap().read_exact(&mut start).unwrap();
    start
}

fn size(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}

#[test]
fn files_begin_with_the_signature_of_their_format() {
    let lab = Lab::open().unwrap();
    let boots = &lab.matrix().boots;
    let formats = boots.iter().find(|boot| boot.name == BOOT).unwrap().formats.clone();
    assert!(formats.len() >= 8, "the boot that has all formats");
    for format in formats {
        let dump = dump(&format!("{BOOT}.{}", format.name())).unwrap();
        assert_eq!(dump.files.len(), if format == Format::Split { 2 } else { 1 });
        for file in &dump.files {
            assert!(start_of(file).starts_with(signature(format)), "{}", file.display());
        }
    }
}

#[test]
fn a_filter_makes_a_dump_smaller_and_a_cut_smaller_still() {
    let file = |format: Format| {
        let name = format!("{BOOT}.{}", format.name());
        size(&dump(&name).unwrap().files[0])
    };
    let whole = size(&dump(BOOT).unwrap().files[0]);
    assert!(whole > 256 << 20, "all of the guest's memory: {whole}");
    assert!(file(Format::FilteredElf) < whole);
    assert!(file(Format::KdumpRaw) < file(Format::FilteredElf));
    assert!(file(Format::KdumpZlib) < file(Format::KdumpRaw));
    assert!(file(Format::KdumpZstd) < file(Format::KdumpRaw));
    assert!(file(Format::Truncated) < file(Format::KdumpZlib));
}

#[test]
fn facts_and_console_stand_beside_the_dump() {
    let dump = dump(BOOT).unwrap();
    let console = std::fs::read_to_string(&dump.console).unwrap();
    assert!(
        console.contains(&dump.facts.kernel.release),
        "the guest says LAB-READY and its release"
    );
    assert_eq!(dump.facts.console.panic.as_deref(), Some(dump.expect.panic.as_str()));
    assert_eq!(dump.facts.console.comm, dump.expect.comm);
    assert!(dump.facts.console.kernel_offset.is_some_and(|offset| offset % (2 << 20) == 0));
    assert!(dump.crasher.is_file() && dump.kernel_modules.is_dir());
}
