//! Writes an initramfs: a cpio archive in the "new ASCII" form.
//!
//! Source: Documentation/driver-api/early-userspace/buffer-format.rst of the
//! kernel. A member is a header of 110 characters (a magic number and thirteen
//! fields of eight hexadecimal digits), its name with a NUL, its data; name and
//! data are padded to four bytes. A member named TRAILER!!! ends the archive.

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive being written, owned by root, without times.
#[derive(Debug, Default)]
pub(crate) struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
}

impl Cpio {
    /// Adds a folder; the ones above it must stand already.
    pub(crate) fn directory(&mut self, name: &str) {
        self.member(name, DIRECTORY, (0, 0), &[]);
    }

    /// Adds a file that may be run.
    pub(crate) fn file(&mut self, name: &str, data: &[u8]) {
        self.member(name, EXECUTABLE, (0, 0), data);
    }

    /// Adds a character device.
    pub(crate) fn device(&mut self, name: &str, major: u32, minor: u32) {
        self.member(name, CHARACTER_DEVICE, (major, minor), &[]);
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.member("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn member(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.inode += 1;
        let size = data.len() as u32;
        let name_size = name.len() as u32 + 1;
        let links = 1;
        let fields =
            [self.inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_padded_and_the_trailer_ends() {
        let mut cpio = Cpio::default();
        cpio.directory("dev");
        cpio.device("dev/console", 5, 1);
        cpio.file("init", b"#!/bin/sh");
        let bytes = cpio.finish();
        assert_eq!(bytes.len() % 4, 0);
        let file = bytes.windows(4).position(|window| window == b"init").unwrap();
        let header = std::str::from_utf8(&bytes[file - 110..file]).unwrap();
        assert_eq!(&header[..6], "070701");
        assert_eq!(&header[14..22], "000081ed", "a regular file, rwxr-xr-x");
        assert_eq!(&header[54..62], "00000009", "nine bytes");
        assert_eq!(&header[94..102], "00000005", "a name of five with its NUL");
        assert_eq!(&bytes[file + 6..file + 15], b"#!/bin/sh", "data begins at a multiple of four");
        assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0"));
    }
}
