//! Any bytes as a QEMU migration stream, or as a guest that libvirt saved.
#![no_main]

mod image;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let magic: &[u8] = if kind % 4 == 0 { b"LibvirtQemudSave" } else { b"QEVM\0\0\0\x03" };
    image::check([magic, rest].concat());
});
