//! Any text as the lines of a kernel's log: what happened, by its messages.
#![no_main]

use kmortem_diagnose::oops::{LogLine, incidents, panic_message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let line = |(at, text): (usize, &str)| LogLine {
        ts_ns: at as u64,
        caller: (at % 3 == 0).then(|| "T1".to_owned()),
        text: text.to_owned(),
    };
    let log: Vec<LogLine> = text.split('\n').enumerate().map(line).collect();
    for incident in incidents(&log) {
        assert!(incident.lines.0 <= incident.lines.1 && incident.lines.1 <= log.len());
        assert!(!incident.titles.is_empty());
        let _ = (incident.title(), incident.functions().count());
    }
    let _ = panic_message(&log);
});
