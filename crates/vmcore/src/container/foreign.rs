//! What a file is that is no dump, for the error message: what it looks like and what to do.

use std::borrow::Cow;

/// Known by their first bytes.
const MAGICS: &[(&[u8], &str)] = &[
    (b"\x1f\x8b", "it is compressed with gzip; unpack it first: gunzip FILE"),
    (b"\xfd7zXZ\0", "it is compressed with xz; unpack it first: xz -d FILE"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd; unpack it first: zstd -d FILE"),
    (b"BZh", "it is compressed with bzip2; unpack it first: bunzip2 FILE"),
    (b"\x04\x22\x4d\x18", "it is compressed with lz4; unpack it first: lz4 -d FILE"),
    (b"\x89LZO\0\r\n\x1a\n", "it is compressed with lzop; unpack it first: lzop -d FILE"),
    (b"LZIP", "it is compressed with lzip; unpack it first: lzip -d FILE"),
    (b"PK\x03\x04", "it is a zip archive; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7-Zip archive; unpack it first"),
    (b"!<arch>\n", "it is an ar archive or a Debian package"),
    (b"\xed\xab\xee\xdb", "it is an RPM package"),
    (b"QEVM", "it is a QEMU migration stream; dump again with virsh dump --memory-only"),
    (
        b"LibvirtQemudSave",
        "it is a libvirt save image (virsh save); use virsh dump --memory-only instead",
    ),
    (b"QFI\xfb", "it is a qcow2 disk image"),
    (b"KDMV", "it is a VMware disk image"),
    (b"PAGEDU64", "it is a Windows crash dump"),
    (b"PAGEDUMP", "it is a Windows crash dump"),
    (b"MDMP", "it is a Windows minidump"),
    (b"EMiL", "it is a LiME memory image"),
    (b"\xd2\xbe\xd2\xbe", "it is a VMware snapshot state"),
    (b"\xd1\xbe\xd2\xbe", "it is a VMware snapshot state"),
    (b"\xd0\xbe\xd2\xbe", "it is a VMware snapshot state"),
    (b"DISKDUMP", "it is a diskdump of an older kind (RHEL 3 and 4)"),
    (b"\xed\x23\x8f\x61\x73\x01\x19\xa8", "it is a dump of LKCD"),
    (b"hsi\x00", "it is a hibernation image"),
    (b"#!", "it is a script"),
    (b"%PDF", "it is a PDF document"),
    (b"\x89PNG", "it is a picture"),
    (b"MZ", "it is a PE executable or a bootable kernel image (vmlinuz)"),
];

/// What the input looks like.
pub(super) fn describe(head: &[u8], len: u64) -> String {
    if let Some((_, what)) = MAGICS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return (*what).to_owned();
    }
    if head.get(0x202..0x206) == Some(b"HdrS") {
        return "it is a bootable kernel image (vmlinuz)".to_owned();
    }
    if head.get(257..262) == Some(b"ustar") {
        return "it is a tar archive; unpack it first: tar xf FILE".to_owned();
    }
    if head.iter().all(|&byte| byte == 0) {
        return format!("its first {} bytes are zeros", head.len());
    }
    let text: Cow<'_, str> = String::from_utf8_lossy(head);
    let is_text = !text.contains('\u{fffd}') && !head.contains(&0);
    if is_text && text.contains("Linux version ") {
        return "it is text, perhaps a kernel log; a dump of memory is needed".to_owned();
    }
    if is_text {
        return "it is text".to_owned();
    }
    if len < 4096 {
        return format!("it has only {len} bytes, and no kind of dump starts as it does");
    }
    let start: Vec<String> = head.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("no known kind of dump starts with the bytes {}", start.join(" "))
}

#[cfg(test)]
mod tests {
    use super::describe;

    #[test]
    fn each_foreign_file_is_named() {
        assert!(describe(b"\x1f\x8b\x08\0", 4).contains("gzip"));
        assert!(describe(b"QEVM\0\0\0\x03", 1 << 20).contains("migration stream"));
        assert!(describe(&[0; 4096], 1 << 20).contains("zeros"));
        assert!(describe(b"hello\n", 6).contains("text"));
        assert!(describe(b"[    0.0] Linux version 6.1\n", 28).contains("kernel log"));
        assert!(describe(&[0xff; 4096], 1 << 20).contains("ff ff ff"));
        assert!(describe(&[0xff; 3], 3).contains("3 bytes"));
    }
}
