//! Sessions on the bundled dump.

use std::io::{self, Write};
use std::sync::{Arc, LazyLock};

use kmortem_kernel::Kernel;
use kmortem_shell::{CommandError, Output, Session};

static KERNEL: LazyLock<Arc<Kernel>> = LazyLock::new(|| {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../samples/hung-mutex-6.12.vmcore");
    Arc::new(Kernel::open_files(&[sample]).expect("the bundled dump opens"))
});

/// So much of an answer is taken.
const LONGEST: usize = 1 << 18;

/// A reader who has enough at some time, as `head` does.
#[derive(Default)]
struct Head(Vec<u8>);

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

/// Asks a new session, for text and for JSON. Either answers, or says why not.
pub fn ask(question: impl Fn(&mut Session, &mut Output<'_>) -> Result<(), CommandError>) {
    let (mut text, mut rows, mut notes) = (Head::default(), Head::default(), Head::default());
    let done =
        question(&mut Session::new(KERNEL.clone()), &mut Output::text(&mut text, &mut notes));
    if let Err(error) = done {
        assert!(!error.to_string().is_empty());
        return;
    }
    let done =
        question(&mut Session::new(KERNEL.clone()), &mut Output::json(&mut rows, &mut notes));
    if done.is_ok() {
        for row in String::from_utf8(rows.0).expect("JSON is UTF-8").lines() {
            assert!(row.starts_with('{') && row.ends_with('}'), "{row}");
        }
    }
}
