//! The command line itself.

mod common;

use common::kmortem;

#[test]
fn what_is_not_understood_exits_with_2() {
    for args in [
        &["nonsense"][..],
        &["info"],
        &["run", "vmcore"],
        &["run", "-c", "bt"],
        &["info", "--nonsense", "vmcore"],
        &["report"],
        &["report", "--json", "--markdown", "vmcore"],
        &[],
    ] {
        let done = kmortem(args);
        assert_eq!(done.code, 2, "{args:?}: {done:?}");
        assert_eq!(done.stdout, "", "{args:?}");
        assert!(!done.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn help_has_examples() {
    for subcommand in ["report", "info", "run"] {
        let done = kmortem([subcommand, "--help"]);
        assert_eq!(done.code, 0);
        assert!(done.stdout.contains("Examples:\n  kmortem "), "{done:?}");
    }
}

#[test]
fn version() {
    let done = kmortem(["--version"]);
    assert_eq!(done.stdout, format!("kmortem {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(done.code, 0);
}
