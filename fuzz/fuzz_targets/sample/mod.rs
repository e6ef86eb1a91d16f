//! The bundled dump, and a reader of what is said of it.

use std::io::{self, Write};
use std::sync::{Arc, LazyLock};

use kmortem_kernel::Kernel;

pub static KERNEL: LazyLock<Arc<Kernel>> = LazyLock::new(|| {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../samples/hung-mutex-6.12.vmcore");
    Arc::new(Kernel::open_files(&[sample]).expect("the bundled dump opens"))
});

/// So much of an answer is taken.
const LONGEST: usize = 1 << 18;

/// A reader who has enough at some time, as `head` does.
#[derive(Default)]
pub struct Head(pub Vec<u8>);

impl Head {
    /// Every line is an object of JSON.
    pub fn assert_rows(self) {
        for row in String::from_utf8(self.0).expect("JSON is UTF-8").lines() {
            assert!(row.starts_with('{') && row.ends_with('}'), "{row}");
        }
    }
}

impl Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.0.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
