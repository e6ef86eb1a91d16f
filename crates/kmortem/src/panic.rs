//! A bug in kmortem, told in one sentence instead of a stack trace.

use std::io::Write;
use std::panic::PanicHookInfo;

/// Replaces the standard library's message. The exit code stays 101.
pub(crate) fn install_hook() {
    std::panic::set_hook(Box::new(report));
}

fn report(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let what = text.unwrap_or("something that can't happen has happened");
    let place = info.location().map(|l| format!("{}:{}", l.file(), l.line()));
    // A closed standard error leaves nobody to tell.
    let _ = writeln!(std::io::stderr(), "{}", message(what, place.as_deref()));
}

/// The sentence.
fn message(what: &str, place: Option<&str>) -> String {
    let what = what.replace('\n', " ");
    let place = place.map_or(String::new(), |place| format!(" at {place}"));
    format!(
        "kmortem: a bug in kmortem {} ({what}{place}); please report it to the project with this \
         line, the command line and what `kmortem info` says of the dump",
        env!("CARGO_PKG_VERSION"),
    )
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn a_bug_is_one_line_that_says_what_to_do() {
        let text = message("index out of\nbounds", Some("src/x.rs:7"));
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("(index out of bounds at src/x.rs:7); please report it"), "{text}");
    }
}
