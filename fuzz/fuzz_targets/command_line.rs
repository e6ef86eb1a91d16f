//! Any text as a command line of crash(8), up to what the command would get.
#![no_main]

use kmortem_shell::{args, line, registry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let words = match line::split(text) {
        Ok(words) => words,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let Some((name, rest)) = words.split_first() else { return };
    if let Err(error) = registry::find(name) {
        assert!(!error.to_string().is_empty());
    }
    for command in registry::COMMANDS {
        if let Ok(args) = args::parse(command.name, command.options, rest) {
            assert!(args.words.len() <= rest.len());
            for letter in args.letters() {
                assert!(args.has(letter) && args.count(letter) > 0);
                let _ = args.value(letter);
            }
        }
    }
});
