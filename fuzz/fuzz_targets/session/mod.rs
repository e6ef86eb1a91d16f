//! Sessions on the bundled dump.

use kmortem_shell::{CommandError, Output, Session};

use crate::sample::{Head, KERNEL};

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
        rows.assert_rows();
    }
}
