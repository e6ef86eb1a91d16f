//! The kernel's own configuration, if it was built with `CONFIG_IKCONFIG`.
//!
//! kernel/configs.c keeps .config, packed by gzip, between the marks `IKCFG_ST`
//! and `IKCFG_ED`, since v5.1 (13610aa908dc) from `kernel_config_data` to
//! `kernel_config_data_end`.

use std::io::Read;

use flate2::read::GzDecoder;

use crate::Kernel;
use crate::error::{Error, Result};

/// A packed configuration has 30 to 80 KiB, unpacked some 300 KiB.
const LARGEST: u64 = 16 << 20;

impl Kernel {
    /// The text of .config.
    pub fn config(&self) -> Result<String> {
        let start = self.symbol("kernel_config_data").map_err(|_| {
            Error::Unavailable("kernel_config_data does not exist in this kernel".into())
        })?;
        let len = self.symbol("kernel_config_data_end")?.wrapping_sub(start);
        if len > LARGEST {
            return Err(Error::corrupt(format!("a configuration of {len} bytes"), start));
        }
        unpack(&self.read_bytes(start, len)?)
            .ok_or_else(|| Error::corrupt("the packed configuration", start))
    }
}

fn unpack(packed: &[u8]) -> Option<String> {
    let mut text = Vec::new();
    GzDecoder::new(packed).take(LARGEST).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::read::GzEncoder;

    #[test]
    fn what_was_packed_comes_back() {
        let text = "CONFIG_X86_64=y\n# CONFIG_XEN is not set\n".repeat(100);
        let mut packed = Vec::new();
        GzEncoder::new(text.as_bytes(), Compression::default()).read_to_end(&mut packed).unwrap();
        assert_eq!(unpack(&packed).unwrap(), text);
        assert_eq!(unpack(&packed[..packed.len() / 2]), None);
        assert_eq!(unpack(b"not packed"), None);
    }
}
