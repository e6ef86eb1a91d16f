//! What a file is that is no dump, for the error message: what it looks like and what to do.

use std::borrow::Cow;

/// Known by their first bytes.
const MAGICS: &[(&[u8], &str)] = &[
    (b"LZIP", "it is compressed with lzip; unpack it first: lzip -d FILE"),
    (b"PK\x03\x04", "it is a zip archive; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7-Zip archive; unpack it first"),
    (b"!<arch>\n", "it is an ar archive or a Debian package"),
    (b"\xed\xab\xee\xdb", "it is an RPM package"),
    (b"QFI\xfb", "it is a qcow2 disk image"),
    (b"KDMV", "it is a VMware disk image"),
    (b"PAGEDU64", "it is a Windows crash dump"),
    (b"PAGEDUMP", "it is a Windows crash dump"),
    (b"MDMP", "it is a Windows minidump"),
    (b"\xd1\xbe\xd2\xbe", "it is a VMware snapshot state of an unknown kind"),
    (b"DISKDUMP", "it is a diskdump of an older kind (RHEL 3 and 4)"),
    (b"\xed\x23\x8f\x61\x73\x01\x19\xa8", "it is a dump of LKCD"),
    (b"\xed\xeb\x0f\xf0", "it is a dump-core of Xen 3.0, before that was ELF"),
    (b"\xee\xeb\x0f\xf0", "it is a dump-core of Xen 3.0, before that was ELF"),
    (b"hsi\x00", "it is a hibernation image"),
    (b"#!", "it is a script"),
    (b"%PDF", "it is a PDF document"),
    (b"\x89PNG", "it is a picture"),
    (b"MZ", "it is a PE executable or a bootable kernel image (vmlinuz)"),
];

/// Whether a file that starts like this may be memory as it is: nothing else is known to.
pub(super) fn may_be_raw(head: &[u8]) -> bool {
    let is_known = MAGICS.iter().any(|(magic, _)| head.starts_with(magic));
    let is_text = std::str::from_utf8(head).is_ok() && !head.contains(&0);
    !is_known && !is_text && head.get(257..262) != Some(b"ustar")
}

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
        assert!(describe(&[0; 4096], 1 << 20).contains("zeros"));
        assert!(describe(b"hello\n", 6).contains("text"));
        assert!(describe(b"[    0.0] Linux version 6.1\n", 28).contains("kernel log"));
        assert!(describe(&[0xff; 4096], 1 << 20).contains("ff ff ff"));
        assert!(describe(&[0xff; 3], 3).contains("3 bytes"));
    }
}
