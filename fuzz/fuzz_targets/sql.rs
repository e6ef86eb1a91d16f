//! Any text as statements of SQL and dot commands, over the bundled dump.
#![no_main]

mod sample;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use kmortem_shell::Outcome;
use kmortem_sql::{Engine, Format, Session};
use libfuzzer_sys::fuzz_target;

use sample::{Head, KERNEL};

/// A statement may run for ever: whoever asks presses Ctrl-C then.
const PATIENCE: Duration = Duration::from_millis(500);

thread_local! {
    // Statements only read: tables that one has filled serve all that follow.
    static ENGINE: Engine<'static> = Engine::new(&KERNEL).expect("SQLite makes the tables");
}

fuzz_target!(|text: &str| ENGINE.with(|engine| {
    for format in [Format::Table, Format::Csv, Format::Json] {
        let (mut data, mut notes) = (Head::default(), Head::default());
        let outcome = within_patience(engine, || {
            Session::new(engine, format, &mut data, &mut notes).run(text)
        });
        match outcome {
            Ok(Outcome::Answered) if format == Format::Json && !text.contains('.') => {
                data.assert_rows();
            }
            Ok(Outcome::Answered) => {}
            Ok(_) => assert!(!notes.0.is_empty(), "no word on why"),
            // The reader has enough.
            Err(_) => {}
        }
    }
}));

fn within_patience<T>(engine: &Engine<'_>, run: impl FnOnce() -> T) -> T {
    let running = engine.interrupt_handle();
    let (done, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if ended.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                running.interrupt();
            }
        });
        let result = run();
        drop(done);
        result
    })
}
