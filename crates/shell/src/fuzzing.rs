//! What `fuzz/` calls of this crate's inside, which no public function takes
//! without doing what a line asks for: running programs, writing files. Built
//! with `--cfg fuzzing` only, as cargo-fuzz does.

use crate::args::{self, Args};
use crate::commands::print;
use crate::error::CommandError;
use crate::line::{self, Destination, Line};
use crate::output::Output;
use crate::registry;
use crate::session::Session;

/// Commands that write files, run programs, wait, or end the session.
const LEFT_OUT: &[&str] = &["exit", "extend", "gcore", "q", "repeat", "trace"];

/// Takes a line apart, up to what each command would get of it.
pub fn line(text: &str) {
    let Ok(Line::Command { text, .. }) = line::parse(text) else { return };
    let mut words = match line::split(&text) {
        Ok(words) => words,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let _ = line::take_input(&mut words, text.len().is_multiple_of(2), |_| true);
    let words: Vec<String> = words.into_iter().map(|word| word.text).collect();
    let Some((name, rest)) = words.split_first() else { return };
    if let Err(error) = registry::find(name) {
        assert!(!error.to_string().is_empty());
    }
    for command in registry::COMMANDS {
        let Ok(args) = args::parse(command.name, command.options, rest) else { continue };
        assert!(args.words.len() <= rest.len());
        for letter in args.letters() {
            assert!(args.has(letter) && args.count(letter) > 0);
            let _ = args.value(letter);
        }
    }
}

/// Runs the command in a line if nothing but `out` would see it.
pub fn command(
    session: &mut Session,
    text: &str,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    let Line::Command { text, output: Destination::Here } = line::parse(text)? else {
        return Ok(());
    };
    let words = line::split(&text)?;
    let Some((name, rest)) = words.split_first() else { return Ok(()) };
    // Other commands' words may name files, too: `rd -r FILE`, `cmd < FILE`.
    let writes = name.text == "rd" && rest.iter().any(|word| word.text.contains('r'));
    if writes || LEFT_OUT.contains(&name.text.as_str()) {
        return Ok(());
    }
    session.run_words(&words, &text, out)
}

/// Prints the value of an expression.
pub fn expression(
    session: &mut Session,
    text: &str,
    out: &mut Output<'_>,
) -> Result<(), CommandError> {
    out.begin(print::COMMAND.name);
    (print::COMMAND.run)(session, &Args::words_as_typed(&[]).with_raw(text), out)
}
