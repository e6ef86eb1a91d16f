//! Sessions without a terminal: the syntax of lines, files of commands, and
//! crash's own command line.

// A helper of tests: its panic is the failure.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/hung-mutex-6.12.vmcore");
const STATES: &str = "  RU: 4\n  IN: 35\n  ID: 40\n  UN: 3\n";

/// What a run left.
#[derive(Debug)]
struct Done {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs `kmortem` in `dir`, which is its home, too.
fn kmortem_in(dir: &Path, args: &[&str], input: &str) -> Done {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kmortem"))
        .args(args)
        .current_dir(dir)
        .env("HOME", dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading all of it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run(commands: &[&str]) -> Done {
    let dir = tempfile::tempdir().unwrap();
    run_in(dir.path(), commands)
}

fn run_in(dir: &Path, commands: &[&str]) -> Done {
    let mut args = vec!["run", SAMPLE];
    args.extend(commands.iter().flat_map(|command| ["-c", command]));
    kmortem_in(dir, &args, "")
}

#[test]
fn answers_go_through_the_host() {
    assert_eq!(run(&["ps|wc -l"]).stdout.trim(), "83");
    assert_eq!(run(&["ps -S | sort | head -n 1"]).stdout, "  ID: 40\n");
    assert_eq!(run(&["!echo a; echo b | tr b c"]).stdout, "a\nc\n");
    let early = run(&["foreach bt | head -n 1", "log | true"]);
    assert_eq!((early.code, early.stderr.as_str()), (0, ""));
    let failed = run(&["ps | grep nosuchtask", "ps -S"]);
    assert_eq!((failed.code, failed.stdout.as_str()), (1, STATES));
    assert_eq!(failed.stderr, "grep nosuchtask: exit status 1\n");
}

#[test]
fn json_goes_through_pipes_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["run", SAMPLE, "--json", "-c", "ps -S | head -n 1", "-c", "ps -S > out"];
    let done = kmortem_in(dir.path(), &args, "");
    assert_eq!(done.stdout, "{\"command\":\"ps\",\"state\":\"RU\",\"tasks\":4}\n");
    let file = fs::read_to_string(dir.path().join("out")).unwrap();
    assert_eq!(file.lines().count(), 4, "{file}");
}

#[test]
fn answers_go_into_files() {
    let dir = tempfile::tempdir().unwrap();
    let done =
        run_in(dir.path(), &["log > out", "ps -S > out", "ps -S >> out", "ps > no/such/dir"]);
    assert_eq!((done.code, done.stdout.as_str()), (1, ""));
    assert!(done.stderr.starts_with("no/such/dir can't be written: "), "{done:?}");
    assert_eq!(fs::read_to_string(dir.path().join("out")).unwrap(), STATES.repeat(2));
}

#[test]
fn files_hold_commands_or_words() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cmds"), "# states\n\nps \\\n  -S\nnonsense\nps -S\n").unwrap();
    fs::write(dir.path().join("pids"), "1\n# two\n2\n").unwrap();
    let done = run_in(dir.path(), &["< cmds"]);
    assert_eq!((done.code, done.stdout), (2, STATES.repeat(2)));
    let words = run_in(dir.path(), &["ps -H < pids"]);
    assert_eq!((words.code, words.stdout.lines().count()), (0, 2), "{words:?}");
    let lost = run_in(dir.path(), &["< nowhere", "ps < nowhere"]);
    assert_eq!((lost.code, lost.stderr.matches("nowhere can't be read").count()), (1, 2));
    // A file that runs itself.
    fs::write(dir.path().join("self"), "< self\n").unwrap();
    assert_eq!(run_in(dir.path(), &["< self"]).code, 2);
}

#[test]
fn aliases_and_settings_last_through_a_session() {
    let done = run(&["alias states ps -S | head -n 1", "states", "hex", "set radix"]);
    // The pipe belongs to the line that makes the alias, unless it is quoted.
    assert_eq!(done.stdout.matches("RU: 4").count(), 1, "{done:?}");
    assert!(done.stdout.ends_with("output radix: 16 (hex)\noutput radix: 16 (hex)\n"), "{done:?}");
    let quoted = run(&["alias one \"ps -S | head -n 1\"", "one"]);
    assert!(quoted.stdout.ends_with("ps -S | head -n 1 \n  RU: 4\n"), "{quoted:?}");
}

#[test]
fn foreach_filters_tasks() {
    let names = |line: &str| {
        let done = run(&[line]);
        assert_eq!(done.code, 0, "{done:?}");
        let name = |l: &str| l.split_whitespace().last().unwrap_or_default().to_owned();
        done.stdout.lines().skip(1).map(name).collect::<Vec<_>>()
    };
    assert_eq!(names("foreach '^kswap' ps"), ["[kswapd0]"]);
    assert_eq!(names("foreach 2 kthreadd ps"), ["[kthreadd]"]);
    assert_eq!(names("foreach UN ps").len(), 3);
    assert!(names("foreach user ps").iter().all(|name| !name.starts_with('[')));
    assert_eq!(run(&["foreach nosuchtask ps"]).code, 1);
    assert_eq!(run(&["foreach '(' ps"]).code, 2);
}

#[test]
fn commands_come_from_standard_input_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let stdin = kmortem_in(dir.path(), &["run", SAMPLE], "ps -S\nexit\nps -S\n");
    assert_eq!((stdin.code, stdin.stdout.as_str()), (0, STATES));
    let dash = kmortem_in(dir.path(), &["run", SAMPLE, "-", "-c", "ps -S"], "ps -S\n");
    assert_eq!((dash.code, dash.stdout), (0, STATES.repeat(2)));
    fs::write(dir.path().join("cmds"), "ps -S\nbt 99999\n").unwrap();
    let file = kmortem_in(dir.path(), &["run", SAMPLE, "-i", "cmds"], "");
    assert_eq!((file.code, file.stdout.as_str()), (1, STATES));
    assert_eq!(kmortem_in(dir.path(), &["run", SAMPLE], "").code, 2);
    assert_eq!(kmortem_in(dir.path(), &["run", SAMPLE, "-i", "none"], "").code, 1);
}

#[test]
fn crash_is_quiet_when_asked_and_shows_commands_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let silent = kmortem_in(dir.path(), &["crash", "-s", SAMPLE], "ps -S\nnonsense\n");
    assert_eq!((silent.code, silent.stdout.as_str()), (2, STATES));
    let shown =
        kmortem_in(dir.path(), &["crash", SAMPLE, "--kaslr", "auto"], "ps -S | head -n 1\n");
    assert_eq!(shown.code, 0);
    assert!(shown.stdout.contains("\n    DUMPFILE: "), "{shown:?}");
    assert!(shown.stdout.contains("\n         PID: 34\n     COMMAND: "), "{shown:?}");
    assert!(shown.stdout.ends_with("\ncrash> ps -S | head -n 1\n  RU: 4\ncrash> "), "{shown:?}");
}

#[test]
fn crash_reads_a_file_that_grows() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("cmds"),
        "!echo 'ps -S' >> cmds; echo '!echo exit >> cmds' >> cmds\n",
    )
    .unwrap();
    let done = kmortem_in(dir.path(), &["crash", "-s", "-i", "cmds", SAMPLE], "set\n");
    assert_eq!((done.code, done.stdout.as_str()), (0, STATES));
}

#[test]
fn crash_runs_rc_files_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    fs::create_dir(&work).unwrap();
    fs::write(dir.path().join(".crashrc"), "alias st ps -S\nset print_max 1\n").unwrap();
    fs::write(work.join(".crashrc"), "set print_max 2\n").unwrap();
    let crash = |args: &[&str]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kmortem"))
            .args([&["crash", "-s", SAMPLE], args].concat())
            .current_dir(&work)
            .env("HOME", dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"st\nset print_max\n").unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    let with = crash(&[]);
    assert!(with.ends_with(&format!("{STATES}print_max: 2\n")), "{with}");
    assert_eq!(crash(&["--no_crashrc"]), "print_max: 256\n");
}

#[test]
fn crash_tells_what_it_does_not_understand() {
    let dir = tempfile::tempdir().unwrap();
    let crash = |args: &[&str]| kmortem_in(dir.path(), &[&["crash"], args].concat(), "");
    assert_eq!(crash(&["--nonsense", SAMPLE]).code, 2);
    assert_eq!(crash(&["-s"]).code, 2);
    assert_eq!(crash(&["-s", "/no/such/dump"]).code, 1);
    assert_eq!(crash(&["--version"]).stdout, format!("kmortem {}\n", env!("CARGO_PKG_VERSION")));
    assert!(crash(&["-h", "bt"]).stdout.starts_with("bt: "));
    assert!(crash(&["--help"]).stdout.contains("NAMELIST"));
    assert!(crash(&["--osrelease", SAMPLE]).stdout.starts_with("6.12."));
    assert_eq!(crash(&["--build-id", SAMPLE]).stdout.trim().len(), 40);
    assert!(crash(&["-t", SAMPLE]).stdout.contains(" UTC "));
}

#[test]
fn a_kernel_beside_the_dump_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let map = dir.path().join("System.map");
    fs::write(&map, "ffffffff81000000 T _text\nffffffff81000010 T schedule\n").unwrap();
    let map = map.to_string_lossy();
    for args in [["crash", "-s", &map, SAMPLE], ["crash", "-s", SAMPLE, &map]] {
        let done = kmortem_in(dir.path(), &args, "ps -S\n");
        assert_eq!((done.code, done.stdout.as_str()), (0, STATES));
        assert!(done.stderr.contains("does not belong to this dump (schedule lies"), "{done:?}");
    }
}
